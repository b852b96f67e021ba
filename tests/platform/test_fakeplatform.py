"""The fake platform must be as strict as the real one: what it lets pass, an agent may get wrong unnoticed."""

import base64
import email.utils
import http.client
import json
import pathlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from urllib.parse import quote
from xml.etree import ElementTree

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


def ask(address, target, method="GET", body=None, headers=None, ca_file=None):
    if ca_file:
        context = ssl.create_default_context(cafile=ca_file)
        connection = http.client.HTTPSConnection(*address.split(":"), timeout=10, context=context)
    else:
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
    old = imds(platform, "/metadata/instance/compute?api-version=2018-02-01").json()
    assert "name" in old and not {"resourceId", "userData", "storageProfile"} & set(old)


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
    assert imds(platform, TOKEN).status == 200


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


def test_arc_challenge(platform, tmp_path):
    platform.set_arc(str(tmp_path), realm="/var/opt/azcmagent/tokens")
    target = TOKEN.replace("2018-02-01", "2020-06-01")
    challenge = imds(platform, target)
    realm = pathlib.PurePath(challenge.headers["www-authenticate"].removeprefix("Basic realm="))
    assert challenge.status == 401 and str(realm.parent) == "/var/opt/azcmagent/tokens" and realm.suffix == ".key"
    key = (tmp_path / realm.name).read_text()
    assert imds(platform, target, Authorization="Basic wrong").status == 401
    assert "access_token" in imds(platform, target, Authorization=f"Basic {key}").json()
    assert imds(platform, target, Authorization=f"Basic {key}").status == 401  # good for one token
    platform.set_arc()
    assert imds(platform, TOKEN).status == 200


# Key Vault

HOST = "shop.vault.azure.net"


def vault(platform, target, token=None, host=HOST, method="GET"):
    headers = {"Host": host} | ({"Authorization": f"Bearer {token}"} if token else {})
    return ask(platform.addresses["vault"], target, method, None, headers, platform.addresses["caFile"])


def get_token(platform, resource="https://vault.azure.net", more=""):
    target = f"/metadata/identity/oauth2/token?api-version=2018-02-01&resource={quote(resource, safe='')}{more}"
    return imds(platform, target).json()["access_token"]


def error(answer):
    code = answer.json()["error"]
    return answer.status, code["code"], code.get("innererror", {}).get("code")


def test_vault_challenge_and_tokens(platform):
    platform.put_secret("shop", "name", "value")
    target = "/secrets/name?api-version=7.4"
    answer = vault(platform, target)
    assert answer.status == 401 and "AKV10000" in answer.json()["error"]["message"]
    assert answer.headers["www-authenticate"] == (
        'Bearer authorization="https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee", '
        'resource="https://vault.azure.net"')
    assert 'resource="https://vault.azure.cn"' in vault(platform, target, host="shop.vault.azure.cn").headers["www-authenticate"]

    token = get_token(platform)
    assert vault(platform, target, token).json()["value"] == "value"
    assert "AKV10022" in vault(platform, target, token, "shop.vault.azure.cn").json()["error"]["message"]
    assert "AKV10022" in vault(platform, target, get_token(platform, "https://vault.azure.net/")).json()["error"]["message"]
    assert "AKV10046" in vault(platform, target, token[:-2] + "AA").json()["error"]["message"]
    assert vault(platform, target, "nonsense").status == 401
    platform.set_vault("shop", tenant="another")
    assert "AKV10032" in vault(platform, target, token).json()["error"]["message"]
    platform.set_vault("shop")

    platform.revoke_tokens()
    assert vault(platform, target, get_token(platform)).status == 401  # still the cached one
    assert vault(platform, target, get_token(platform, more="&bypass_cache=true")).status == 200
    platform.set_token(lifetime_in_seconds=-1)
    assert vault(platform, target, get_token(platform)).status == 401


def test_vault_refuses(platform):
    platform.put_secret("shop", "name", "value")
    token = get_token(platform)
    assert error(vault(platform, "/secrets/name", token))[:2] == (400, "BadParameter")
    unknown = vault(platform, "/secrets/name?api-version=7.9", token)
    assert unknown.status == 400 and "not recognized" in unknown.json()["error"]["message"]
    assert error(vault(platform, "/secrets/na_me?api-version=7.4", token))[:2] == (400, "BadParameter")
    assert error(vault(platform, "/secrets/other?api-version=7.4", token))[:2] == (404, "SecretNotFound")
    assert error(vault(platform, "/secrets/name/" + "0" * 32 + "?api-version=7.4", token))[:2] == (404, "SecretNotFound")
    assert error(vault(platform, "/certificates/name?api-version=7.4", token))[:2] == (404, "NotFound")
    assert vault(platform, "/secrets/name?api-version=7.4", token, method="PUT").status == 405
    platform.set_vault("shop", allowed=["someone-else"])
    assert error(vault(platform, "/secrets/name?api-version=7.4", token)) == (403, "Forbidden", "ForbiddenByRbac")
    platform.set_vault("shop", firewall=True)
    assert error(vault(platform, "/secrets/name?api-version=7.4", token)) == (403, "Forbidden", "ForbiddenByFirewall")
    platform.set_vault("shop")
    platform.disable_version("shop", "name")
    assert error(vault(platform, "/secrets/name?api-version=7.4", token)) == (403, "Forbidden", "SecretDisabled")
    platform.set_fault("vault", "/secrets", status=429, headers={"Retry-After": "7"})
    limited = vault(platform, "/secrets/name?api-version=7.4", token)
    assert error(limited)[:2] == (429, "Throttled") and limited.headers["retry-after"] == "7"
    for name, value in (("na_me", "x"), ("name", "x" * 25601)):
        with pytest.raises(ValueError):
            platform.put_secret("shop", name, value)


def test_vault_versions(platform):
    token = get_token(platform)
    first = platform.put_secret("shop", "Name", "1", exp=1, nbf=2, tags={"a": "b"})
    second = platform.put_secret("shop", "name", "2")
    # The forms that Microsoft's own clients use: a trailing slash, percent-encoded names of parameters.
    newest = vault(platform, "/secrets/NAME/?api%2Dversion=2025-07-01", token).json()
    assert newest["value"] == "2" and newest["previousVersion"] == first and newest["id"].endswith(second)
    old = vault(platform, f"/secrets/name/{first}?api-version=7.4", token).json()
    assert old["id"] == f"https://{HOST}/secrets/Name/{first}" and old["tags"] == {"a": "b"}
    assert (old["attributes"]["exp"], old["attributes"]["nbf"]) == (1, 2) and "previousVersion" not in old
    assert newest["attributes"]["created"] > old["attributes"]["created"]


def test_vault_version_pages(platform):
    token = get_token(platform)
    made = {platform.put_secret("shop", "name", str(number)) for number in range(5)}
    target, listed, pages = "/secrets/name/versions?api-version=7.4&maxresults=2", [], 0
    while target:
        page = vault(platform, target, token).json()
        assert all("value" not in item for item in page["value"])
        listed += [item["id"].rpartition("/")[2] for item in page["value"]]
        pages += 1
        following = page["nextLink"]
        assert following is None or following.startswith(f"https://{HOST}:443/secrets/name/versions?")
        target = following and following.removeprefix(f"https://{HOST}:443")
    assert (pages, len(listed), set(listed)) == (3, 5, made)
    for size in ("0", "26", "x"):
        assert vault(platform, f"/secrets/name/versions?api-version=7.4&maxresults={size}", token).status == 400


@pytest.mark.parametrize("key, chain, pfx", [("ec", 0, "keyvault"), ("rsa2048", 2, "aes256"), ("ec", 1, "rc2-40")])
def test_vault_converts(platform, key, chain, pfx):
    token = get_token(platform)
    made = platform.make_certificate("www.shop.example", days=10, key=key, chain=chain, pfx=pfx)
    assert made["pem"].startswith("-----BEGIN PRIVATE KEY-----") and made["pem"].count("BEGIN CERTIFICATE") == chain + 1
    assert abs(made["notAfter"] - time.time() - 10 * 86400) < 5
    platform.put_secret("shop", "tls", made["pfx_base64"], "application/x-pkcs12")
    plain = vault(platform, "/secrets/tls?api-version=7.4", token).json()
    assert (plain["value"], plain["contentType"], plain["managed"]) == (made["pfx_base64"], "application/x-pkcs12", True)
    convert = "&outContentType=application%2Fx-pem-file"
    converted = vault(platform, "/secrets/tls?api-version=2025-07-01" + convert, token).json()
    assert (converted["value"], converted["contentType"]) == (made["pem"], "application/x-pem-file")
    assert vault(platform, "/secrets/tls?api-version=7.4" + convert, token).status == 400
    assert vault(platform, "/secrets/tls?api-version=2025-07-01&outContentType=text/plain", token).status == 400
    platform.set_vault("shop", newest_api_version="7.6")
    assert vault(platform, "/secrets/tls?api-version=2025-07-01" + convert, token).status == 400


def test_short_lived_certificates(platform):
    soon = platform.make_certificate("soon.example", key="ec", lifetime_in_seconds=30)
    assert 25 < soon["notAfter"] - time.time() <= 30 and soon["notBefore"] < time.time()
    assert platform.make_certificate("over.example", key="ec", lifetime_in_seconds=-5)["notAfter"] < time.time()


@pytest.mark.parametrize("kind, word", [("expired", "expired"), ("untrusted", "self-signed"), ("wrong-name", "match|valid for")])
def test_vault_bad_tls(platform, kind, word):
    platform.set_tls_certificate(kind)
    with pytest.raises(ssl.SSLCertVerificationError, match=word):
        vault(platform, "/")
    platform.set_tls_certificate()
    assert vault(platform, "/").status == 401


def test_vault_of_another_cloud(platform):
    platform.put_secret("shop", "name", "value")
    platform.set_token(audiences=["https://vault.stack.example"])
    host = "shop.vault.stack.example"
    token = get_token(platform, "https://vault.stack.example")
    assert vault(platform, "/secrets/name?api-version=7.4", token, host).json()["value"] == "value"
    platform.set_tls_certificate(names=["*.vault.stack.example"])
    context = ssl.create_default_context(cafile=platform.addresses["caFile"])
    with socket.create_connection(platform.addresses["vault"].split(":")) as plain:
        with context.wrap_socket(plain, server_hostname=host) as secured:
            assert ("DNS", "*.vault.stack.example") in secured.getpeercert()["subjectAltName"]


# Blobs

def blob(platform, target, method="GET", body=None, **headers):
    return ask(platform.addresses["blob"], target, method, body, {name.replace("_", "-"): value for name, value in headers.items()})


def xml_code(answer):
    return answer.status, ElementTree.fromstring(answer.body.decode("utf-8-sig")).findtext("Code")


def test_blob_reads(platform):
    platform.put_blob("/c/data", bytes(range(100)))
    whole = blob(platform, "/c/data")
    assert (whole.status, whole.body, whole.headers["content-length"]) == (200, bytes(range(100)), "100")
    part = blob(platform, "/c/data", Range="bytes=10-19")
    assert (part.status, part.body, part.headers["content-range"]) == (206, bytes(range(10, 20)), "bytes 10-19/100")
    assert blob(platform, "/c/data", Range="bytes=90-").body == bytes(range(90, 100))
    assert blob(platform, "/c/data", Range="bytes=90-", If_Match=whole.headers["etag"]).status == 206
    assert xml_code(blob(platform, "/c/data", Range="bytes=100-")) == (416, "InvalidRange")
    head = blob(platform, "/c/data", "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "100")
    platform.put_blob("/c/data", b"new")
    assert xml_code(blob(platform, "/c/data", If_Match=whole.headers["etag"])) == (412, "ConditionNotMet")
    assert xml_code(blob(platform, "/c/none")) == (404, "BlobNotFound")
    secure = ask(platform.addresses["blobtls"], "/c/data", ca_file=platform.addresses["caFile"])
    assert secure.body == b"new"


def test_blob_sas(platform):
    platform.put_blob("/c/secret", b"data", access="sas")
    assert xml_code(blob(platform, "/c/secret")) == (404, "ResourceNotFound")
    assert blob(platform, "/c/secret?" + platform.make_sas("/c/secret")).body == b"data"
    for wrong in (platform.make_sas("/c/other"), platform.make_sas("/c/secret", expires_in_seconds=-5),
                  platform.make_sas("/c/secret").replace("sp=r", "sp=rw"), "sig=x", platform.make_sas("/c/secret") + "&sp=r"):
        assert xml_code(blob(platform, "/c/secret?" + wrong)) == (403, "AuthenticationFailed")
    assert xml_code(blob(platform, "/c/secret?" + platform.make_sas("/c/secret", "w"))) == (403, "AuthorizationPermissionMismatch")
    platform.set_storage(public_access=False)
    assert xml_code(blob(platform, "/c/secret")) == (409, "PublicAccessNotPermitted")
    platform.set_storage(key="AAAA")
    assert blob(platform, "/c/secret?" + platform.make_sas("/c/secret")).status == 200


def test_blob_token(platform):
    platform.put_blob("/c/secret", b"data", access="token")
    token = get_token(platform, "https://storage.azure.com")
    good = {"Authorization": f"Bearer {token}", "x-ms-version": "2019-12-12"}
    assert blob(platform, "/c/secret", **good).body == b"data"
    assert xml_code(blob(platform, "/c/secret", Authorization=f"Bearer {token}")) == (403, "AuthenticationFailed")
    wrong = good | {"Authorization": "Bearer " + get_token(platform)}
    assert xml_code(blob(platform, "/c/secret", **wrong)) == (401, "InvalidAuthenticationInfo")
    platform.set_storage(allowed=[])
    assert xml_code(blob(platform, "/c/secret", **good)) == (403, "AuthorizationPermissionMismatch")


def test_blob_appends(platform):
    sas = platform.make_sas("/logs/out", "acw")
    assert xml_code(blob(platform, "/logs/out", "PUT", b"", x_ms_blob_type="AppendBlob")) == (401, "NoAuthenticationInformation")
    assert xml_code(blob(platform, f"/logs/out?comp=appendblock&{sas}", "PUT", b"x")) == (404, "BlobNotFound")
    assert xml_code(blob(platform, f"/logs/out?{sas}", "PUT", b"")) == (400, "MissingRequiredHeader")
    assert blob(platform, f"/logs/out?{sas}", "PUT", b"", x_ms_blob_type="AppendBlob").status == 201
    offsets = [blob(platform, f"/logs/out?comp=appendblock&{sas}", "PUT", text).headers["x-ms-blob-append-offset"]
               for text in (b"one ", b"two")]
    assert offsets == ["0", "4"] and platform.get_blob("/logs/out") == b"one two"
    stale = blob(platform, f"/logs/out?comp=appendblock&{sas}", "PUT", b"x", x_ms_blob_condition_appendpos="4")
    assert xml_code(stale) == (412, "AppendPositionConditionNotMet")
    assert xml_code(blob(platform, f"/logs/out?comp=appendblock&{sas}", "PUT", b"x" * ((4 << 20) + 1))) == (413, "RequestBodyTooLarge")
    assert xml_code(blob(platform, f"/logs/out?{sas}", "PUT", b"", x_ms_blob_type="AppendBlob", If_None_Match="*")) == (
        409, "BlobAlreadyExists")


# WireServer and HostGAPlugin, with the agent's part played here

WIRE = {"x-ms-version": "2012-11-30", "x-ms-agent-name": "WALinuxAgent"}


def wire(platform, target, method="GET", body=None, **headers):
    return ask(platform.addresses["wire"], target, method, body, WIRE | headers)


def configuration(platform):
    """The goal state's incarnation and its documents by element name, fetched by the URLs that it gives."""
    goal = ElementTree.fromstring(wire(platform, "/machine/?comp=goalstate").body)
    documents = {}
    for element in goal.find(".//Configuration"):
        if (element.text or "").startswith("http://"):
            documents[element.tag] = element.text.removeprefix("http://" + platform.addresses["wire"])
    return int(goal.findtext("Incarnation")), documents


@pytest.fixture
def package(tmp_path):
    path = tmp_path / "package.zip"
    path.write_bytes(b"PK not quite")
    return path


def test_wire_goal_state(platform, package):
    assert "2012-11-30" in ask(platform.addresses["wire"], "/?comp=versions").body.decode()
    assert ask(platform.addresses["wire"], "/machine/?comp=goalstate").status == 400
    platform.publish_extension("Pub.Ext", "1.0.0", package)
    before, _ = configuration(platform)
    incarnation = platform.set_goal_state([{
        "name": "Pub.Ext", "version": "1.0.0", "seq_no": 3, "public_settings": {"a": "<&\"'"},
        "protected_settings": {"b": 1}, "depends_on_level": 1}])
    shown, documents = configuration(platform)
    assert shown == incarnation != before
    extensions = ElementTree.fromstring(wire(platform, documents["ExtensionsConfig"]).body)
    assert extensions.find("InVMGoalStateMetaData").get("inSvdSeqNo") == str(incarnation)
    plugin = extensions.find("Plugins/Plugin")
    assert (plugin.get("name"), plugin.get("version"), plugin.get("state")) == ("Pub.Ext", "1.0.0", "enabled")
    assert extensions.find("PluginSettings/Plugin/DependsOn").get("dependencyLevel") == "1"
    runtime = extensions.find("PluginSettings/Plugin/RuntimeSettings")
    settings = json.loads(runtime.text)["runtimeSettings"][0]["handlerSettings"]
    assert runtime.get("seqNo") == "3" and settings["publicSettings"] == {"a": "<&\"'"}

    base = "http://" + platform.addresses["wire"]
    manifest = ElementTree.fromstring(wire(platform, plugin.get("location").removeprefix(base)).body)
    assert [one.text for one in manifest.iter("Version")] == ["1.0.0"]
    [uri] = [one.text for one in manifest.iter("Uri")]
    assert wire(platform, uri.removeprefix(base)).body == package.read_bytes()

    platform.set_goal_state([])
    assert wire(platform, documents["ExtensionsConfig"]).status == 410
    for bad in ([{"name": "Pub.Ext", "version": "9"}], [{"name": "Pub.Ext", "version": "1.0.0", "sequence": 1}]):
        with pytest.raises(ValueError):
            platform.set_goal_state(bad)


@pytest.mark.parametrize("cipher, transport", [("des3", "DES_EDE3_CBC"), ("aes256", "AES128_CBC")])
def test_wire_protected_settings(platform, package, tmp_path, cipher, transport):
    """As the agent: a transport pair, the tenant's pair by it, the settings by that."""
    def openssl(*arguments, stdin=b""):
        return subprocess.run(["openssl", *arguments], input=stdin, check=True, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, cwd=tmp_path).stdout

    openssl("req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=LinuxTransport", "-days", "10",
            "-keyout", "transport.key", "-out", "transport.pem")
    platform.publish_extension("Pub.Ext", "1.0.0", package)
    plugin = {"name": "Pub.Ext", "version": "1.0.0", "seq_no": 0, "protected_settings": {"secret": "é"}}
    platform.set_goal_state([plugin], cipher=cipher)

    def fetch():
        _, documents = configuration(platform)
        header = "".join((tmp_path / "transport.pem").read_text().splitlines()[1:-1])
        assert wire(platform, documents["Certificates"]).status == 400
        answer = wire(platform, documents["Certificates"], **{"x-ms-guest-agent-public-x509-cert": header,
                                                              "x-ms-cipher-name": transport})
        data = base64.b64decode(ElementTree.fromstring(answer.body).findtext("Data"))
        (tmp_path / "tenant.pfx").write_bytes(openssl("cms", "-decrypt", "-inform", "DER", "-inkey", "transport.key",
                                                      "-recip", "transport.pem", stdin=data))
        (tmp_path / "tenant.pem").write_bytes(openssl("pkcs12", "-nodes", "-password", "pass:", "-in", "tenant.pfx"))
        extensions = ElementTree.fromstring(wire(platform, documents["ExtensionsConfig"]).body)
        settings = json.loads(extensions.findtext(".//RuntimeSettings"))["runtimeSettings"][0]["handlerSettings"]
        fingerprint = openssl("x509", "-in", "tenant.pem", "-noout", "-fingerprint", "-sha1").decode()
        assert settings["protectedSettingsCertThumbprint"] == fingerprint.strip().partition("=")[2].replace(":", "")
        return openssl("cms", "-decrypt", "-inform", "DER", "-inkey", "tenant.pem", "-recip", "tenant.pem",
                       stdin=base64.b64decode(settings["protectedSettings"]))

    assert json.loads(fetch()) == {"secret": "é"}
    old = platform.tenant_certificate()["thumbprint"]
    assert platform.rotate_tenant_certificate()["thumbprint"] != old
    assert json.loads(fetch()) == {"secret": "é"}


def status_blob(incarnation, *entries):
    return {"version": "1.1", "aggregateStatus": {
        "handlerAggregateStatus": list(entries),
        "vmArtifactsAggregateStatus": {"goalStateAggregateStatus": {"inSvdSeqNo": str(incarnation)}}}}


def report(platform, status, **changed):
    incarnation, documents = configuration(platform)
    uri = ElementTree.fromstring(wire(platform, documents["ExtensionsConfig"]).body).findtext("StatusUploadBlob")
    envelope = {"requestUri": uri, "headers": [{"headerName": "x-ms-blob-type", "headerValue": "BlockBlob"}],
                "content": base64.b64encode(json.dumps(status).encode()).decode()}
    headers = {"x-ms-version": "2015-09-01", "x-ms-containerid": "c6d5526c-5ac2-4200-b6e2-56f2b70c5ab2",
               "x-ms-host-config-name": "dep.1.dep.1._vm.1.xml"} | changed
    return ask(platform.addresses["hostga"], "/status", "PUT", json.dumps(envelope), headers).status


def test_hostga_status(platform):
    assert platform.latest_handler_status("Pub.Ext") is None and platform.next_status(timeout=0.01) is None
    ready = {"handlerName": "Pub.Ext", "handlerVersion": "1.0.0", "status": "Ready"}
    assert report(platform, status_blob(1), **{"x-ms-version": "2014-01-01"}) == 400
    assert report(platform, status_blob(1), **{"x-ms-containerid": "other"}) == 410
    assert report(platform, {"no": "status"}) == 400
    assert platform.statuses() == []
    later = threading.Timer(0.1, lambda: [report(platform, status_blob(2)), report(platform, status_blob(3, ready))])
    assert report(platform, status_blob(2, ready)) == 200
    later.start()
    client = Client(platform.addresses["control"])
    assert client.wait_for_status("pub.ext", lambda entry: entry and entry["status"] == "Ready", 5) == ready
    assert platform.wait_for_status("Pub.Ext", lambda entry: entry is None, 5) is None
    assert client.wait_for_status("Pub.Ext", lambda entry: entry, 5, incarnation=3) == ready
    later.join()
    assert platform.latest_handler_status("Pub.Ext") == ready
    assert [entry["incarnation"] for entry in client.statuses()] == [2, 2, 3]
    with pytest.raises(TimeoutError, match="Ready"):
        platform.wait_for_status("Pub.Ext", lambda entry: False, 0.05)


def test_wire_takes_reports_and_direct_status(platform):
    assert wire(platform, "/machine?comp=health", "POST", b"<Health/>").status == 200
    assert wire(platform, "/machine?comp=telemetrydata", "POST", b"<TelemetryData/>").status == 200
    assert wire(platform, "/HealthService", "POST", b"{}").status == 200
    assert platform.reports() == {"health": ["<Health/>"], "telemetry": ["<TelemetryData/>"]}
    direct = json.dumps(status_blob(1))
    assert wire(platform, "/status/x?sig=fake", "PUT", direct).status == 400
    assert wire(platform, "/status/x?sig=fake", "PUT", direct, **{"x-ms-blob-type": "BlockBlob"}).status == 201
    assert len(platform.statuses()) == 1
    assert wire(platform, "/machine?comp=nothing").status == 404 and wire(platform, "/elsewhere").status == 404


def test_hostga_artifacts(platform, package):
    platform.publish_extension("Pub.Ext", "1.0.0", package)
    hostga = platform.addresses["hostga"]
    assert ask(hostga, "/versions").json() == ["2015-09-01"] and ask(hostga, "/health").status == 200
    headers = {"x-ms-version": "2015-09-01", "x-ms-containerid": "c6d5526c-5ac2-4200-b6e2-56f2b70c5ab2",
               "x-ms-host-config-name": "dep.1.dep.1._vm.1.xml"}
    assert ask(hostga, "/vmSettings", headers=headers).status == 404
    location = {"x-ms-artifact-location": "http://168.63.129.16/extensions/Pub.Ext/1.0.0.zip"}
    assert ask(hostga, "/extensionArtifact", headers=headers | location).body == package.read_bytes()
    assert ask(hostga, "/extensionArtifact", headers=location).status == 400
    assert ask(hostga, "/extensionArtifact", headers=headers).status == 404


# Waiting

def test_waits(platform):
    event_id = platform.add_event("Freeze", not_before_in_seconds=60)
    threading.Timer(0.05, lambda: acknowledge(platform, event_id)).start()
    client = Client(platform.addresses["control"])
    assert client.wait_for_acknowledgement(event_id, 5)["ids"] == [event_id]
    assert [entry["method"] for entry in platform.wait_for_requests("imds", "/metadata/scheduledevents", timeout=1)] == ["POST"]
    with pytest.raises(TimeoutError):
        client.wait_for_requests("imds", count=2, timeout=0.05)


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
    platform.set_fault("blob", "/logs/lost", lose=True)
    with pytest.raises(http.client.RemoteDisconnected):
        blob(platform, "/logs/lost?" + platform.make_sas("/logs/lost", "c"), "PUT", x_ms_blob_type="AppendBlob")
    assert platform.get_blob("/logs/lost") == b""
    platform.set_fault("imds", delay_in_seconds=0.2, body="mine")
    started = time.monotonic()
    assert imds(platform, EVENTS).body == b"mine" and time.monotonic() - started >= 0.2
    platform.set_fault("imds", bytes_per_second=500, body=b"x" * 100)
    started = time.monotonic()
    assert len(imds(platform, EVENTS).body) == 100 and time.monotonic() - started >= 0.15
    platform.clear_faults()
    assert imds(platform, EVENTS).status == 200
    with pytest.raises(ValueError):
        platform.set_fault("idms", status=500)


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
