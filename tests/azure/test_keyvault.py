"""agent/azure/keyvault: versions of the API, tokens that are refused, every documented refusal, and whom the token goes to."""

import base64
import json
import time

import pytest
from conftest import CLOSED, Probe

IMDS = "http://169.254.169.254/metadata/identity"
URL = "https://shop.vault.azure.net/secrets/web"
SYSTEM = "5e29463d-0000-4000-8000-000000000001"
PEM = "application/x-pem-file"
PFX = "application/x-pkcs12"


def get(probe, url=URL, how="pem", identity="-", *suffixes):
    return probe.ask("vault", url, IMDS, identity, how, *suffixes)


def asked(platform):
    return [(request["path"], request["query"], request["status"]) for request in platform.requests("vault")]


def tokens(platform):
    return platform.requests("imds", "/metadata/identity")


def test_plain_secret(platform, probe):
    version = platform.put_secret("shop", "web", "pass\nword ü", content_type="text/plain", nbf=10, exp=4000000000)
    answer = get(probe, how="raw")
    assert answer.pop("created") > 1700000000
    assert answer == {"status": 200, "length": 12, "enabled": True, "notBefore": 10, "expires": 4000000000,
                      "value": "pass\nword ü", "version": version, "contentType": "text/plain", "who": f"client id {SYSTEM}"}
    assert asked(platform) == [("/secrets/web", {"api-version": "7.4"}, 200)]
    [request] = platform.requests("vault")
    assert request["headers"]["host"] == "shop.vault.azure.net" and request["headers"]["authorization"].startswith("Bearer ")
    assert [request["query"]["resource"] for request in tokens(platform)] == ["https://vault.azure.net"]


def test_pinned_version(platform, probe):
    first = platform.put_secret("shop", "web", "1")
    second = platform.put_secret("shop", "web", "2")
    assert get(probe, how="raw")["version"] == second
    answer = get(probe, f"{URL}/{first}", how="raw")
    assert (answer["version"], answer["value"]) == (first, "1")
    assert asked(platform)[-1][0] == f"/secrets/web/{first}"


def test_converts(platform, probe):
    made = platform.make_certificate("shop.example")
    platform.put_secret("shop", "web", made["pfx_base64"], content_type=PFX)
    answer = get(probe)
    assert answer["contentType"] == PEM and answer["value"].startswith("-----BEGIN PRIVATE KEY-----")
    assert asked(platform) == [("/secrets/web", {"api-version": "2025-07-01", "outContentType": PEM}, 200)]


def test_older_cloud(platform, probe):
    """It gives the PFX as it is, and says so."""
    value = base64.b64encode(b"pretend").decode()
    platform.put_secret("shop", "web", value, content_type=PFX)
    platform.set_vault("shop", newest_api_version="7.4")
    answer = get(probe)
    assert (answer["status"], answer["contentType"], answer["value"]) == (200, PFX, value)
    assert [(query, status) for _, query, status in asked(platform)] == [
        ({"api-version": "2025-07-01", "outContentType": PEM}, 400), ({"api-version": "7.4"}, 200)]
    assert len(tokens(platform)) == 1


def test_cannot_be_converted(platform, probe):
    platform.put_secret("shop", "web", "no certificate", content_type="text/plain")
    answer = get(probe)
    assert (answer["value"], answer["contentType"]) == ("no certificate", "text/plain")


def test_bad_request_twice(platform, probe):
    platform.set_fault("vault", "/secrets", status=400, body=json.dumps(
        {"error": {"code": "BadParameter", "message": "The request URI contains an invalid name"}}))
    answer = get(probe)
    assert (answer["status"], answer["class"]) == (400, "user") and "invalid name" in answer["message"]
    assert len(asked(platform)) == 2
    assert get(probe, how="raw")["status"] == 400 and len(asked(platform)) == 3


def test_revoked_token(platform, probe):
    platform.put_secret("shop", "web", "value")
    assert get(probe, how="raw")["value"] == "value"
    platform.revoke_tokens()
    assert get(probe, how="raw")["value"] == "value"
    assert [status for _, _, status in asked(platform)] == [200, 401, 200]
    assert tokens(platform)[-1]["query"]["bypass_cache"] == "true"
    assert get(probe, how="raw")["value"] == "value" and len(asked(platform)) == 4


def test_revoked_token_and_older_cloud(platform, probe):
    platform.put_secret("shop", "web", "value")
    platform.set_vault("shop", newest_api_version="7.4")
    get(probe)
    platform.revoke_tokens()
    assert get(probe)["value"] == "value"
    assert [status for _, _, status in asked(platform)[2:]] == [401, 400, 200]


def test_unauthorized_for_good(platform, probe):
    platform.set_fault("vault", "/secrets", status=401)
    answer = get(probe)
    assert (answer["status"], answer["class"]) == (401, "platform") and "nor a fresh one" in answer["message"]
    assert len(asked(platform)) == 2 and len(tokens(platform)) == 2


def test_wrong_audience(platform, probe):
    platform.put_secret("shop", "web", "value")
    platform.set_fault("vault", "/secrets", status=401, body=json.dumps({"error": {
        "code": "Unauthorized", "message": "AKV10022: Invalid audience. Expected https://vault.usgovcloudapi.net, found: "
        "https://vault.azure.net."}}))
    answer = get(probe)
    assert (answer["status"], answer["class"]) == (401, "user")
    assert "another cloud" in answer["message"] and "AKV10022" in answer["message"]


def test_other_tenant(platform, probe):
    platform.put_secret("shop", "web", "value")
    platform.set_vault("shop", tenant="another")
    answer = get(probe)
    assert (answer["status"], answer["class"]) == (401, "user") and "another tenant" in answer["message"]


def test_other_cloud(platform, probe):
    platform.put_secret("shop", "web", "value")
    assert get(probe, "https://shop.vault.azure.cn/secrets/web", "raw")["value"] == "value"
    assert tokens(platform)[-1]["query"]["resource"] == "https://vault.azure.cn"


def test_added_suffix(platform, tmp_path):
    platform.set_tls_certificate("good", ["*.vault.example"])
    platform.set_token(audiences=["https://vault.example"])
    probe = Probe(platform, tmp_path)
    platform.put_secret("shop", "web", "value")
    url = "https://shop.vault.example/secrets/web"
    refused = get(probe, url, "raw")
    assert refused["refused"] and refused["code"] == "EINVAL" and "vaultSuffixes" in refused["message"]
    assert platform.requests("vault") == [] and platform.requests("imds") == []
    assert get(probe, url, "raw", "-", ".vault.example")["value"] == "value"
    probe.end()


@pytest.mark.parametrize("rules, inner, word", [
    ({"allowed": []}, "ForbiddenByRbac", "Key Vault Secrets User"),
    ({"firewall": True}, "ForbiddenByFirewall", "allow its subnet"),
], ids=["rbac", "firewall"])
def test_forbidden(platform, probe, rules, inner, word):
    platform.put_secret("shop", "web", "value")
    platform.set_vault("shop", **rules)
    answer = get(probe)
    assert (answer["status"], answer["class"], answer["disabled"]) == (403, "platform", False)
    assert inner in answer["message"] and word in answer["message"] and f"client id {SYSTEM}" in answer["message"]
    assert answer["message"].startswith("shop.vault.azure.net/secrets/web: answered 403")
    assert len(asked(platform)) == 1


@pytest.mark.parametrize("inner, word", [("AccessDenied", "access policies"), ("ForbiddenByPolicy", "access policies"),
                                         ("SomethingNew", "forbids")])
def test_forbidden_otherwise(platform, probe, inner, word):
    platform.set_fault("vault", "/secrets", status=403, body=json.dumps({"error": {
        "code": "Forbidden", "message": "does not have secrets get permission", "innererror": {"code": inner}}}))
    answer = get(probe)
    assert answer["status"] == 403 and inner in answer["message"] and word in answer["message"]
    assert answer["message"].endswith("it says: does not have secrets get permission")


def test_disabled(platform, probe):
    platform.put_secret("shop", "web", "value")
    platform.disable_version("shop", "web")
    answer = get(probe)
    assert (answer["status"], answer["disabled"]) == (403, True) and "enable it" in answer["message"]


@pytest.mark.parametrize("url", [URL, URL + "/" + "0" * 32])
def test_not_found(platform, probe, url):
    if url != URL:
        platform.put_secret("shop", "web", "value")
    answer = get(probe, url)
    assert (answer["status"], answer["class"], answer["code"]) == (404, "user", "ENOENT")
    assert "no such secret" in answer["message"] and "SecretNotFound" in answer["message"]


def test_throttled(platform, probe):
    platform.set_fault("vault", "/secrets", status=429, headers={"Retry-After": "7"})
    answer = get(probe)
    assert (answer["status"], answer["retryAfter"], answer["class"]) == (429, 7, "transient")
    assert len(asked(platform)) == 1  # trying again is the caller's


@pytest.mark.parametrize("status, error_class", [(500, "transient"), (503, "transient"), (408, "transient"),
                                                 (302, "platform"), (204, "platform"), (418, "platform")])
def test_other_status(platform, probe, status, error_class):
    platform.set_fault("vault", "/secrets", status=status, headers={"Location": "https://evil.example/secrets/web"})
    answer = get(probe)
    assert (answer["status"], answer["class"]) == (status, error_class)
    assert len(asked(platform)) == 1


def test_request_id_and_length(platform, probe):
    platform.set_fault("vault", "/secrets", status=403, headers={"x-ms-request-id": "4711"}, body=json.dumps(
        {"error": {"code": "Forbidden", "message": "long " * 500, "innererror": {"code": "ForbiddenByRbac"}}}))
    answer = get(probe, "https://shop.vault.azure.net/secrets/" + "a" * 127)
    assert "(request 4711)" in answer["message"] and "Key Vault Secrets User" in answer["message"]
    assert len(answer["message"]) < 500


@pytest.mark.parametrize("fault, status", [
    ({"cut_after_bytes": 20}, 0), ({"drop": True}, 0), ({"garbage": "http"}, 0), ({"garbage": True}, 200),
    ({"body": b"{}"}, 200), ({"body": b"x" * 200000}, 200), ({"body": b'{"value": "hush", "id": "x"}'}, 200)],
    ids=["cut", "drop", "no-http", "garbage", "empty", "large", "no-version"])
def test_unusable_answers(platform, probe, fault, status):
    platform.put_secret("shop", "web", "value")
    platform.set_fault("vault", "/secrets", **fault)
    answer = get(probe)
    assert answer["status"] == status and answer["message"].startswith("shop.vault.azure.net/secrets/web: ")
    assert answer["class"] == ("transient" if status == 0 else "platform") and "hush" not in answer["message"]
    platform.clear_faults()
    assert get(probe)["value"] == "value"


@pytest.mark.parametrize("kind", ["expired", "untrusted", "wrong-name"])
def test_tls(platform, tmp_path, kind):
    platform.set_tls_certificate(kind)
    platform.put_secret("shop", "web", "value")
    probe = Probe(platform, tmp_path)
    answer = get(probe)
    assert (answer["status"], answer["code"]) == (0, "EKEYREJECTED") and "network.caFile" in answer["message"]
    assert platform.requests("vault") == []  # no token was sent
    probe.end()


def test_nobody_listens(platform, probe):
    answer = get(probe, f"https://{CLOSED}/secrets/web")
    assert (answer["status"], answer["code"], answer["class"]) == (0, "ECONNREFUSED", "transient")
    assert answer["message"].startswith(f"{CLOSED}/secrets/web: ") and "network.proxy" in answer["message"]


def test_no_token(platform, probe):
    platform.set_identity({})
    answer = get(probe)
    assert (answer["status"], answer["who"]) == (0, "system-assigned")
    assert answer["message"].startswith("shop.vault.azure.net/secrets/web: managed identity (system-assigned): ")
    assert platform.requests("vault") == []


def test_identities_are_kept_apart(platform, probe):
    ids = [f"{n}{n}{n}{n}{n}{n}{n}{n}-0000-4000-8000-000000000001" for n in range(1, 3)]
    platform.set_identity({"user": [{"client_id": client_id} for client_id in ids]})
    platform.put_secret("shop", "web", "value")
    platform.set_vault("shop", allowed=[ids[0]])
    assert get(probe, identity=f"clientId={ids[0]}")["who"] == f"client id {ids[0]}"
    refused = get(probe, identity=f"clientId={ids[1]}")
    assert (refused["status"], refused["who"]) == (403, f"client id {ids[1]}")


def test_many(platform, probe):
    platform.put_secret("shop", "web", "value")
    started = time.monotonic()
    for _ in range(50):
        assert get(probe, how="raw")["value"] == "value"
    assert len(tokens(platform)) == 1 and time.monotonic() - started < 10
