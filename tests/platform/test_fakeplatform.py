"""The fake platform must be as strict as the real one: what it lets pass, an agent may get wrong unnoticed."""

import email.utils
import http.client
import json
import pathlib
import subprocess
import sys
import time
from urllib.parse import quote

import pytest
from fakeplatform import Client, Platform, PlatformError

HERE = pathlib.Path(__file__).resolve().parent
EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
TOKEN = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"


@pytest.fixture
def platform():
    with Platform() as platform:
        yield platform
        assert platform.problems() == []


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self):
        return json.loads(self.body)


def ask(address, target, method="GET", body=None, headers=None):
    connection = http.client.HTTPConnection(*address.split(":"), timeout=10)
    try:
        connection.request(method, target, body, headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def imds(platform, target, method="GET", body=None, **headers):
    return ask(platform.addresses["imds"], target, method, body, {"Metadata": "true", **headers})


# IMDS

@pytest.mark.parametrize("target, method, headers, status, word", [
    ("/metadata/instance?api-version=2021-02-01", "GET", {"Metadata": ""}, 400, "Required metadata header"),
    ("/metadata/instance?api-version=2021-02-01", "GET", {"Metadata": "false"}, 400, "Required metadata header"),
    ("/metadata/instance?api-version=2021-02-01", "GET", {"X-Forwarded-For": "10.0.0.1"}, 400, "X-Forwarded-For"),
    ("/metadata/instance", "GET", {}, 400, "newest-versions"),
    ("/metadata/instance?api-version=2021-02-30", "GET", {}, 400, "newest-versions"),
    ("/metadata/instance?api-version=2021-02-01&api-version=2021-02-01", "GET", {}, 400, "more than once"),
    ("/metadata/instance/compute/name?api-version=2021-02-01", "GET", {}, 400, "format=text"),
    ("/metadata/instance/compute/nothing?api-version=2021-02-01", "GET", {}, 404, "Not found"),
    ("/metadata/instance/compute/userData?api-version=2020-12-01&format=text", "GET", {}, 404, "Not found"),
    ("/metadata/instance?api-version=2021-02-01", "POST", {}, 405, "not allowed"),
    ("/metadata/nothing?api-version=2021-02-01", "GET", {}, 404, "Not found"),
    ("/metadata/scheduledevents?api-version=2021-02-01", "GET", {}, 400, "2020-07-01"),
    ("/metadata/scheduledevents?api-version=2020-07-01", "PUT", {}, 405, "not allowed"),
    ("/metadata/identity/info", "GET", {}, 400, "newest-versions"),
    ("/metadata/loadbalancer?api-version=2021-02-01", "GET", {}, 404, "load balancer"),
])
def test_imds_refuses(platform, target, method, headers, status, word):
    answer = imds(platform, target, method, **headers)
    assert (answer.status, word in answer.body.decode()) == (status, True), answer.body


def test_imds_instance(platform):
    platform.set_instance(name="web_3", vm_id="11111111-2222-3333-4444-555555555555", scale_set="web")
    compute = imds(platform, "/metadata/instance?api-version=2021-02-01").json()["compute"]
    assert (compute["name"], compute["vmScaleSetName"]) == ("web_3", "web")
    leaf = imds(platform, "/metadata/instance/compute/vmId?api-version=2021-02-01&format=text")
    assert leaf.body == b"11111111-2222-3333-4444-555555555555"
    # Every primitive of the instance document is a string, whatever it means.
    def leaves(node):
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from leaves(child)
        if not isinstance(node, (dict, list)):
            yield node
    assert all(isinstance(leaf, str) for leaf in leaves(compute))
    mac = "/metadata/instance/network/interface/0/macAddress?api-version=2021-02-01&format=text"
    assert imds(platform, mac).body == b"0022480A0B0C"


def test_imds_user_data(platform):
    target = "/metadata/instance/compute/userData?api-version=2021-01-01&format=text"
    assert (imds(platform, target).status, imds(platform, target).body) == (200, b"")
    platform.set_user_data(b"#!/bin/sh\nexit 0\n")
    assert imds(platform, target).body == b"IyEvYmluL3NoCmV4aXQgMAo="
    platform.set_user_data(None)
    assert imds(platform, target).body == b""


def test_imds_rate_limit(platform):
    platform.set_rate_limit(2)
    assert [imds(platform, EVENTS).status for _ in range(3)] == [200, 200, 429]


# Scheduled Events

def document(platform, version="2020-07-01"):
    return imds(platform, f"/metadata/scheduledevents?api-version={version}").json()


def acknowledge(platform, *ids):
    return imds(platform, EVENTS, "POST", json.dumps({"StartRequests": [{"EventId": one} for one in ids]}))


def test_event_life(platform):
    platform.set_event_timing(ack_to_started_in_seconds=0.1, started_to_removed_in_seconds=0.1)
    empty = document(platform)
    assert empty["Events"] == []
    event_id = platform.add_event("Reboot", not_before_in_seconds=600, duration_in_seconds=9, description="why")
    scheduled = document(platform)
    assert scheduled["DocumentIncarnation"] != empty["DocumentIncarnation"]
    [event] = scheduled["Events"]
    assert event["EventStatus"] == "Scheduled" and event["Resources"] == ["vm"] and event["DurationInSeconds"] == 9
    notice = email.utils.parsedate_to_datetime(event["NotBefore"]).timestamp() - time.time()
    assert 598 < notice < 602
    assert document(platform) == scheduled

    assert acknowledge(platform, event_id.lower()).status == 200
    assert acknowledge(platform, event_id).status == 200
    assert [entry["ids"] for entry in platform.acknowledgements()] == [[event_id.lower()], [event_id]]
    time.sleep(0.12)
    started = document(platform)
    assert (started["Events"][0]["EventStatus"], started["Events"][0]["NotBefore"]) == ("Started", "")
    assert started["DocumentIncarnation"] != scheduled["DocumentIncarnation"]
    time.sleep(0.12)
    removed = document(platform)
    assert removed["Events"] == [] and removed["DocumentIncarnation"] != started["DocumentIncarnation"]


def test_event_starts_at_not_before(platform):
    platform.add_event("Preempt", not_before_in_seconds=0.05)
    assert document(platform)["Events"][0]["EventStatus"] == "Scheduled"
    time.sleep(1.05)
    assert document(platform)["Events"][0]["EventStatus"] == "Started"


def test_event_waits_without_auto_start(platform):
    platform.set_event_timing(ack_to_started_in_seconds=0, auto_start=False)
    event_id = platform.add_event("Freeze", resources=["other"], not_before_in_seconds=60)
    assert acknowledge(platform, event_id).status == 200
    assert platform.events()[0]["EventStatus"] == "Scheduled"
    platform.start_event(event_id)
    assert platform.events()[0]["EventStatus"] == "Started"
    platform.remove_event(event_id)
    assert platform.events() == []
    with pytest.raises(KeyError):
        platform.remove_event(event_id)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"nonsense", b'{"StartRequests":[]}', b'{"StartRequests":[{}]}',
                                  b'{"StartRequests":[{"EventId":7}]}', b'{"StartRequests":[{"EventId":"unknown"}]}'])
def test_acknowledgement_refused(platform, body):
    platform.add_event("Freeze", not_before_in_seconds=60)
    assert imds(platform, EVENTS, "POST", body).status == 400
    assert platform.acknowledgements() == []


def test_event_fields_by_version(platform):
    platform.add_event("Freeze", not_before_in_seconds=60, description="d")
    assert document(platform, "2017-03-01")["Events"][0]["Resources"] == ["_vm"]
    assert "Description" not in document(platform, "2019-01-01")["Events"][0]
    middle = document(platform, "2019-08-01")["Events"][0]
    assert "EventSource" in middle and "DurationInSeconds" not in middle


def test_event_document_options(platform):
    platform.set_event_document(etag=True, date_format="iso8601")
    platform.add_event("Freeze", not_before_in_seconds=60)
    first = imds(platform, EVENTS)
    assert first.json()["Events"][0]["NotBefore"].endswith("Z")
    assert imds(platform, EVENTS, **{"If-None-Match": first.headers["etag"]}).status == 304
    platform.add_event("Freeze", not_before_in_seconds=90)
    assert imds(platform, EVENTS, **{"If-None-Match": first.headers["etag"]}).status == 200
    platform.restart_events_service()
    assert document(platform)["DocumentIncarnation"] == 1


def test_first_get_is_delayed(platform):
    platform.set_event_timing(first_get_delay_in_seconds=0.3)
    took = []
    for _ in range(2):
        started = time.monotonic()
        document(platform)
        took.append(time.monotonic() - started)
    assert took[0] >= 0.3 > took[1]


# Identity

ONE = {"client_id": "c1", "object_id": "o1", "resource_id": "/subscriptions/s/one"}
TWO = {"client_id": "c2", "object_id": "o2", "resource_id": "/subscriptions/s/two"}


@pytest.mark.parametrize("identity, selector, expected", [
    ({"system": ONE}, "", "c1"),
    ({"system": ONE, "user": [TWO]}, "", "c1"),
    ({"system": ONE, "user": [TWO]}, "&client_id=C2", "c2"),
    ({"user": [TWO]}, "", "c2"),
    ({"user": [ONE, TWO]}, "", "Multiple user assigned identities exist"),
    ({"user": [ONE, TWO]}, "&object_id=o1", "c1"),
    ({"user": [ONE, TWO]}, "&msi_res_id=" + quote(TWO["resource_id"], safe=""), "c2"),
    ({"user": [ONE, TWO]}, "&client_id=c1&object_id=o1", "mutually exclusive"),
    ({"user": [ONE]}, "&client_id=c9", "Identity not found"),
    ({}, "", "Identity not found"),
])
def test_identity_choice(platform, identity, selector, expected):
    platform.set_identity(identity)
    answer = imds(platform, TOKEN + selector)
    if answer.status == 200:
        assert answer.json()["client_id"] == expected
        assert all(isinstance(value, str) for value in answer.json().values())
    else:
        assert answer.status == 400 and expected in answer.json()["error_description"]


def test_token_cache_and_errors(platform):
    first = imds(platform, TOKEN).json()
    assert imds(platform, TOKEN).json()["access_token"] == first["access_token"]
    assert imds(platform, TOKEN + "&bypass_cache=true").json()["access_token"] != first["access_token"]
    unknown = imds(platform, TOKEN.replace("vault.azure.net", "vault.example"))
    assert (unknown.status, unknown.json()["error"]) == (400, "invalid_resource")
    assert imds(platform, TOKEN.partition("&")[0]).json()["error"] == "invalid_request"
    platform.set_token(error={"status": 500, "error": "server_error", "error_description": "later"})
    assert imds(platform, TOKEN).status == 500
    platform.set_token(lifetime_in_seconds=60)
    assert imds(platform, TOKEN).json()["expires_in"] == "60"


# Faults and the journal

def test_faults(platform):
    platform.set_fault("imds", "/metadata/scheduledevents", status=429, headers={"Retry-After": "3"}, times=1)
    limited = imds(platform, EVENTS)
    assert (limited.status, limited.headers["retry-after"]) == (429, "3")
    assert imds(platform, EVENTS).status == 200

    platform.set_fault("imds", cut_after_bytes=5)
    with pytest.raises(http.client.IncompleteRead) as cut:
        imds(platform, EVENTS)
    assert len(cut.value.partial) == 5
    platform.set_fault("imds", garbage=True)
    with pytest.raises(ValueError):
        imds(platform, EVENTS).json()
    platform.set_fault("imds", garbage="http")
    with pytest.raises(http.client.BadStatusLine):
        imds(platform, EVENTS)
    platform.set_fault("imds", drop=True)
    with pytest.raises(http.client.RemoteDisconnected):
        imds(platform, EVENTS)
    platform.set_fault("imds", delay_in_seconds=0.2, body="mine")
    started = time.monotonic()
    assert imds(platform, EVENTS).body == b"mine" and time.monotonic() - started >= 0.2
    platform.set_fault("imds", bytes_per_second=500, body=b"x" * 100)
    started = time.monotonic()
    assert len(imds(platform, EVENTS).body) == 100 and time.monotonic() - started >= 0.15
    platform.clear_faults()
    assert imds(platform, EVENTS).status == 200


def test_journal_hides_credentials(platform):
    imds(platform, EVENTS, Authorization="Bearer hush")
    [entry] = platform.requests("imds")
    assert entry["headers"]["authorization"] == "Bearer sha256:" + platform.token_hash("hush")
    assert (entry["path"], entry["query"]["api-version"]) == ("/metadata/scheduledevents", "2020-07-01")
    assert "hush" not in (pathlib.Path(platform.state_dir) / "requests.jsonl").read_text()
    platform.clear_requests()
    assert platform.requests() == []


def test_connections_are_kept(platform):
    connection = http.client.HTTPConnection(*platform.addresses["imds"].split(":"), timeout=10)
    sockets = set()
    for _ in range(3):
        connection.request("GET", EVENTS, headers={"Metadata": "true"})
        assert Answer(connection.getresponse()).status == 200
        sockets.add(connection.sock)
    assert len(sockets) == 1 and connection.sock
    connection.close()


# Served and steered from outside

def test_serve_and_client(tmp_path):
    server = subprocess.Popen([sys.executable, HERE / "serve.py", "--state-dir", tmp_path, "--stop-with-stdin"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        addresses = json.loads(server.stdout.readline())
        client = Client(addresses["control"])
        assert client.addresses == addresses
        client.set_user_data(b"\x00\xff")
        target = "/metadata/instance/compute/userData?api-version=2021-01-01&format=text"
        assert ask(addresses["imds"], target, headers={"Metadata": "true"}).body == b"AP8="
        event_id = client.add_event("Freeze", not_before_in_seconds=60)
        assert [event["EventId"] for event in client.events()] == [event_id]
        with pytest.raises(PlatformError, match="no such event"):
            client.start_event("unknown")
        with pytest.raises(TypeError):
            client.add_event("Freeze", not_before=60)
        assert client.requests("imds", path_prefix="/metadata/instance")[0]["status"] == 200
        assert client.requests("control") == []
        assert ask(addresses["control"], "/control/nothing", "POST", "{}").status == 404
    finally:
        server.stdin.close()
        assert server.wait(5) == 0
        server.stdout.close()
