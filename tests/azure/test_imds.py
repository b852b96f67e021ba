"""agent/azure/imds: requests as the service wants them, and every way in which it fails."""

import base64
import email.utils
import json
import os
import shutil
import socket
import subprocess
import time

import pytest
from conftest import PROBE, Probe

VERSION = "2020-07-01"


def test_instance(platform, probe):
    platform.set_instance(name="vmss_85", vm_id="02aab8a4-74ef-476e-8182-f6d2ba4166a6", scale_set="web")
    answer = probe.ask("instance")
    assert answer["resourceId"].endswith("/vmss_85")
    assert {key: answer[key] for key in answer if key != "resourceId"} == {
        "status": 200, "name": "vmss_85", "vmId": "02aab8a4-74ef-476e-8182-f6d2ba4166a6", "location": "westeurope",
        "environment": "AzurePublicCloud", "scaleSet": "web", "vmSize": "Standard_D2s_v5"}
    [request] = platform.requests("imds")
    assert request["headers"]["metadata"] == "true" and "x-forwarded-for" not in request["headers"]
    assert request["headers"]["host"] == "169.254.169.254"


def test_instance_incomplete(platform, probe):
    platform.set_instance(compute={"name": ""})
    answer = probe.ask("instance")
    assert (answer["status"], answer["class"]) == (200, "transient") and "incomplete" in answer["message"]
    platform.set_fault("imds", body=b'{"network": {}}', times=1)
    assert "incomplete" in probe.ask("instance")["message"]
    platform.set_fault("imds", body=b'{"compute": {"name": "vm"}}', times=1)
    assert probe.ask("instance")["vmId"] == ""
    platform.set_fault("imds", body=b'{"compute": {"name": 5}}', times=1)
    answer = probe.ask("instance")
    assert (answer["status"], answer["class"]) == (200, "platform") and "compute.name" in answer["message"]


@pytest.mark.parametrize("data", [b"#!/bin/sh\necho \x01\x02\n", b"x" * 65536, b""], ids=["script", "largest", "none"])
def test_user_data(platform, probe, data):
    platform.set_user_data(data)
    answer = probe.ask("userdata")
    assert (answer["status"], answer["length"]) == (200, len(data))
    assert answer["body"] == data.decode()
    [request] = platform.requests("imds")
    assert request["query"] == {"api-version": "2021-01-01", "format": "text"}


def test_user_data_with_line_breaks(platform, probe):
    platform.set_fault("imds", body=base64.encodebytes(b"hello " * 100))
    assert probe.ask("userdata")["body"] == "hello " * 100


@pytest.mark.parametrize("body, word", [
    (b"not base64!", "not base64"),
    (b"QUJ", "not base64"),
    (base64.b64encode(b"x" * 65537), "larger than 65536 bytes"),
    (base64.b64encode(b"x" * 200000), "too large"),
], ids=["text", "padding", "large", "huge"])
def test_user_data_unusable(platform, probe, body, word):
    platform.set_fault("imds", body=body)
    answer = probe.ask("userdata")
    assert (answer["status"], answer["class"]) == (200, "platform")
    assert word in answer["message"] and answer["message"].startswith("user data: ")


def test_events(platform, probe):
    event_id = platform.add_event("Freeze", not_before_in_seconds=600)
    answer = probe.ask("events", VERSION, 5000)
    assert [event["EventId"] for event in json.loads(answer["body"])["Events"]] == [event_id]
    assert probe.ask("ack", VERSION, event_id)["status"] == 200
    assert platform.acknowledgements()[-1]["ids"] == [event_id]
    request = platform.requests("imds")[-1]
    assert (request["method"], request["query"]) == ("POST", {"api-version": VERSION})
    assert request["headers"]["metadata"] == "true"


def test_etag_only_where_offered(platform, probe):
    answer = probe.ask("events", VERSION, 5000)
    assert answer["status"] == 200 and answer["etag"] is None
    assert "if-none-match" not in platform.requests("imds")[-1]["headers"]
    platform.set_event_document(etag=True)
    try:
        etag = probe.ask("events", VERSION, 5000)["etag"]
        assert probe.ask("events", VERSION, 5000, etag) == {"status": 304}
        platform.add_event("Freeze", not_before_in_seconds=600)
        answer = probe.ask("events", VERSION, 5000, etag)
        assert answer["status"] == 200 and answer["etag"] not in (etag, None)
    finally:
        platform.set_event_document(etag=False)
    # 304 without having been asked for is no answer, and what is no header is not sent back
    platform.set_fault("imds", status=304, times=1)
    assert probe.ask("events", VERSION, 5000)["status"] == 304
    for etag in ("x" * 300, '"two words"'):
        platform.set_fault("imds", body=b"{}", headers={"ETag": etag}, times=1)
        assert probe.ask("events", VERSION, 5000)["etag"] is None


def test_acknowledges_several(platform, probe):
    ids = [platform.add_event("Freeze", not_before_in_seconds=600, event_id=name) for name in ('a"b\\c', "x", "ü")]
    assert probe.ask("ack", VERSION, *ids) == {"status": 200, "length": 0, "body": ""}
    assert platform.acknowledgements()[-1]["ids"] == ids
    answer = probe.ask("ack", VERSION, "unknown")
    assert (answer["status"], answer["class"]) == (400, "platform")
    assert answer["message"].startswith("acknowledgement: 169.254.169.254 answered 400: ")
    assert "unknown event" in answer["message"]


def test_api_version(probe):
    answer = probe.ask("events", "2099-01-01", 5000)
    assert (answer["status"], answer["newest"]) == (400, VERSION)
    assert f"the newest api-version here is {VERSION}" in answer["message"]
    assert probe.ask("events", "&x=y", 5000)["status"] == 400  # encoded, not another parameter


@pytest.mark.parametrize("status, error_class, code, word", [
    (400, "platform", "EINVAL", "does not understand"),
    (401, "platform", "EACCES", "refuse this program"),
    (403, "platform", "EACCES", "refuse this program"),
    (404, "platform", "ENOENT", "not yet"),
    (405, "platform", "EPROTO", "answered 405"),
    (410, "transient", "EAGAIN", "70 s"),
    (429, "transient", "EAGAIN", "5 times per second"),
    (500, "transient", "EREMOTEIO", "platform's side"),
    (503, "transient", "EREMOTEIO", "platform's side"),
    (302, "platform", "EPROTO", "answered 302"),
    (204, "platform", "EPROTO", "answered 204"),
])
@pytest.mark.parametrize("command, subject", [
    (("instance",), "instance metadata"), (("userdata",), "user data"), (("events", VERSION, 5000), "scheduled events"),
    (("ack", VERSION, "x"), "acknowledgement")])
def test_status(platform, probe, command, subject, status, error_class, code, word):
    platform.set_fault("imds", status=status)
    answer = probe.ask(*command)
    assert (answer["status"], answer["class"], answer["code"]) == (status, error_class, code)
    assert answer["message"].startswith(f"{subject}: 169.254.169.254 answered {status}: ") and word in answer["message"]


def test_service_words(platform, probe):
    platform.set_fault("imds", status=500, body=b'{"error": "first line\\r\\nsecond\\u0007 line"}', times=1)
    assert probe.ask("userdata")["message"].endswith("it says: first line second line")
    platform.set_fault("imds", status=500, body=b"<html>\xff oops</html>", times=1)
    assert "it says: <html>\ufffd oops</html>" in probe.ask("userdata")["message"]
    platform.set_fault("imds", status=500, body=json.dumps({"error": "ü" * 3000}).encode(), times=1)
    assert len(probe.ask("userdata")["message"].encode()) < 500
    platform.set_fault("imds", status=500, body=b"", times=1)
    assert "it says" not in probe.ask("userdata")["message"]


def test_retry_after(platform, probe):
    platform.set_fault("imds", status=429, headers={"Retry-After": "3"}, times=1)
    assert probe.ask("events", VERSION, 5000)["retryAfter"] == 3
    platform.set_fault("imds", status=429, headers={"Retry-After": email.utils.formatdate(time.time() + 100, usegmt=True)},
                       times=1)
    assert 90 < probe.ask("events", VERSION, 5000)["retryAfter"] <= 100
    platform.set_fault("imds", status=429, headers={"Retry-After": "soon"}, times=1)
    assert probe.ask("events", VERSION, 5000)["retryAfter"] == 0


@pytest.mark.parametrize("command", [("instance",), ("userdata",), ("events", VERSION, 5000)])
def test_no_whole_answer(platform, probe, command):
    platform.set_user_data(b"data")
    platform.set_fault("imds", cut_after_bytes=2, times=1)
    cut = probe.ask(*command)
    assert (cut["status"], cut["class"]) == (0, "transient") and "169.254.169.254" in cut["message"]
    platform.set_fault("imds", garbage="http", times=1)
    assert probe.ask(*command)["status"] == 0
    platform.set_fault("imds", drop=True, times=2)  # a kept connection is tried again by itself
    assert probe.ask(*command)["status"] == 0
    platform.clear_faults()
    assert "code" not in probe.ask(*command)  # and it goes on


def test_garbage(platform, probe):
    platform.set_fault("imds", garbage=True)
    answer = probe.ask("instance")
    assert (answer["status"], answer["class"]) == (200, "platform")
    assert probe.ask("userdata")["class"] == "platform"
    assert probe.ask("events", VERSION, 5000)["status"] == 200  # what it means is for the reader of the document


def test_too_large(platform, probe):
    platform.set_fault("imds", body=b" " * 300000)
    for command in (("instance",), ("events", VERSION, 5000)):
        answer = probe.ask(*command)
        assert (answer["status"], answer["code"], answer["class"]) == (200, "EFBIG", "platform")


def test_timeout(platform, probe):
    platform.set_fault("imds", delay_in_seconds=3)
    started = time.monotonic()
    answer = probe.ask("events", VERSION, 300)
    assert time.monotonic() - started < 2
    assert (answer["status"], answer["code"], answer["class"]) == (0, "ETIMEDOUT", "transient")
    assert "primary network interface" in answer["message"]


def test_nobody_listens(platform, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % unused.getsockname()[1]
        probe = Probe(platform, tmp_path, imds=address)
        answer = probe.ask("instance")
        assert (answer["status"], answer["code"]) == (0, "ECONNREFUSED")
        probe.end()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"),
                    reason="needs root, ip and unshare")
@pytest.mark.parametrize("route, code, word", [
    ("ip route add prohibit 169.254.169.254", "EACCES", "must be let through"),
    ("true", "ENETUNREACH", "DHCP"),
], ids=["prohibited", "none"])
def test_no_way(platform, route, code, word):
    """In a network of its own: metadata access locked by a route, as systemd does it, and a network that is not there yet."""
    script = f'ip link set lo up && {route} && exec "$0" "" "$1" /'
    done = subprocess.run(["unshare", "-n", "sh", "-c", script, PROBE, platform.addresses["caFile"]], input="instance\n",
                          stdout=subprocess.PIPE, text=True, timeout=30, check=True)
    answer = json.loads(done.stdout)
    assert (answer["status"], answer["code"]) == (0, code) and word in answer["message"]
