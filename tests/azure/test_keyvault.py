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


def get(probe, url=URL, how="pem", identity="-", *suffixes, known=()):
    return probe.ask("vault", url, IMDS, identity, how, *suffixes, *(["known", *known] if known else []))


def asked(platform):
    return [(request["path"], request["query"], request["status"]) for request in platform.requests("vault")]


def tokens(platform):
    return platform.requests("imds", "/metadata/identity")


def test_plain_secret(platform, probe):
    version = platform.put_secret("shop", "web", "pass\nword ü", content_type="text/plain", nbf=10, exp=4000000000)
    answer = get(probe, how="raw")
    assert answer.pop("created") > 1700000000
    assert answer == {"status": 200, "length": 12, "enabled": True, "newestDisabled": False, "previous": "", "notBefore": 10, "expires": 4000000000,
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
    platform.put_secret("mill", "web", "value")
    platform.set_vault("mill", newest_api_version="7.4")
    # Another vault: what it speaks is not known yet.
    assert get(probe, URL.replace("shop", "mill"))["value"] == "value"
    assert [status for _, _, status in asked(platform)[2:]] == [401, 400, 200]


def test_older_cloud_is_remembered(platform, probe):
    platform.put_secret("shop", "web", "value", content_type="text/plain")
    platform.put_secret("shop", "other", "value")
    platform.put_secret("mill", "web", "value")
    for vault in ("shop", "mill"):
        platform.set_vault(vault, newest_api_version="7.4")
    for _ in range(3):
        assert get(probe)["value"] == "value"
    assert get(probe, URL.replace("web", "other"))["value"] == "value"
    assert [status for _, _, status in asked(platform)] == [400, 200, 200, 200, 200]
    assert get(probe, URL.replace("shop", "mill"))["value"] == "value"
    assert [status for _, _, status in asked(platform)[5:]] == [400, 200]


def test_a_secret_that_cannot_be_converted_makes_no_vault_old(platform, probe):
    platform.put_secret("shop", "word", "value", content_type="text/plain")
    platform.put_secret("shop", "web", platform.make_certificate("shop.example", key="ec")["pfx_base64"], content_type=PFX)
    assert get(probe, URL.replace("web", "word"))["value"] == "value"
    assert get(probe)["contentType"] == PEM
    assert [status for _, _, status in asked(platform)] == [400, 200, 200]


def test_an_older_cloud_that_is_down_is_not_remembered(platform, probe):
    platform.put_secret("shop", "web", "value")
    platform.set_vault("shop", newest_api_version="7.4")
    platform.set_fault("vault", "/secrets/web?api-version=7.4", status=503)
    assert get(probe)["status"] == 503
    platform.clear_faults()
    assert get(probe)["value"] == "value"
    assert [status for _, _, status in asked(platform)] == [400, 503, 400, 200]


def test_unauthorized_for_good(platform, probe):
    platform.set_fault("vault", "/secrets", status=401)
    answer = get(probe)
    assert (answer["status"], answer["class"]) == (401, "platform") and "nor a fresh one" in answer["message"]
    assert len(asked(platform)) == 2 and len(tokens(platform)) == 2


def test_a_challenge_chooses_nothing(platform, probe):
    """Neither where the token comes from nor for whom: both follow from the settings."""
    platform.put_secret("shop", "web", "value")
    platform.set_fault("vault", "/secrets", status=401, times=1, headers={
        "WWW-Authenticate": 'Bearer authorization="https://evil.example/tenant", resource="https://evil.example"'})
    assert get(probe, how="raw")["value"] == "value"
    assert [request["query"]["resource"] for request in tokens(platform)] == ["https://vault.azure.net"] * 2
    assert tokens(platform)[1]["query"]["bypass_cache"] == "true"


@pytest.mark.parametrize("id", [
    "https://mill.vault.azure.net/secrets/web/" + "1" * 32, "https://shop.vault.azure.net/secrets/other/" + "1" * 32,
    "https://shop.vault.azure.net/keys/web/" + "1" * 32, "secrets/web/" + "1" * 32])
def test_answers_about_others(platform, probe, id):
    platform.set_fault("vault", "/secrets/web", body=json.dumps({"value": "hush", "id": id}))
    answer = get(probe)
    assert (answer["status"], answer["class"]) == (200, "platform") and "about another secret" in answer["message"]
    assert "hush" not in answer["message"]


def test_answers_in_other_letters(platform, probe):
    """Names know no case; a pinned version is that version."""
    body = {"value": "value", "id": "https://SHOP.vault.azure.net:443/secrets/WEB/" + "a" * 32}
    platform.set_fault("vault", "/secrets/web", body=json.dumps(body))
    assert get(probe)["value"] == "value"
    assert get(probe, URL + "/" + "A" * 32)["value"] == "value"
    assert "another version" in get(probe, URL + "/" + "b" * 32)["message"]


def test_slow_body(platform, probe):
    platform.put_secret("shop", "web", "x" * 20000)
    platform.set_fault("vault", "/secrets", bytes_per_second=20000)
    started = time.monotonic()
    assert get(probe, how="raw")["length"] == 20000 and time.monotonic() - started > 0.5


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


# The newest version is disabled

def put_many(platform, count, disabled):
    """Versions, oldest first; these of them are disabled."""
    versions = [platform.put_secret("shop", "web", f"value {n}") for n in range(count)]
    for n in disabled:
        platform.disable_version("shop", "web", versions[n])
    return versions


@pytest.mark.parametrize("count, disabled, wanted", [(3, [2], 1), (3, [1, 2], 0), (60, [59], 58), (60, range(1, 60), 0)])
def test_newest_is_disabled(platform, probe, count, disabled, wanted):
    """By the time they were made, which is not the order of the list."""
    versions = put_many(platform, count, disabled)
    answer = get(probe, how="raw")
    assert (answer["value"], answer["version"], answer["newestDisabled"]) == (f"value {wanted}", versions[wanted], True)
    requests = platform.requests("vault")
    pages = (count + 24) // 25
    assert [request["path"] for request in requests] == ["/secrets/web"] + ["/secrets/web/versions"] * pages + [
        f"/secrets/web/{versions[wanted]}"]
    assert all(request["headers"]["host"] == "shop.vault.azure.net" for request in requests)
    assert len(tokens(platform)) == 1
    platform.disable_version("shop", "web", enabled=True)
    answer = get(probe, how="raw")
    assert (answer["version"], answer["newestDisabled"]) == (versions[-1], False)


def test_all_are_disabled(platform, probe):
    put_many(platform, 30, range(30))
    answer = get(probe)
    assert (answer["status"], answer["disabled"], answer["class"]) == (403, True, "platform")
    assert answer["message"] == "shop.vault.azure.net/secrets/web: all of its versions are disabled; enable one, or add a new one"


def test_pinned_and_disabled(platform, probe):
    """Nobody asked for another one."""
    versions = put_many(platform, 3, [1])
    answer = get(probe, f"{URL}/{versions[1]}")
    assert (answer["status"], answer["disabled"]) == (403, True)
    assert "this version is disabled; enable it" in answer["message"] and len(asked(platform)) == 1


def test_disabled_and_not_to_be_listed(platform, probe):
    versions = put_many(platform, 4, [3])
    platform.set_vault("shop", listing=False)
    answer = get(probe)
    assert (answer["status"], answer["disabled"], answer["class"]) == (403, True, "platform")
    assert "its newest version is disabled" in answer["message"] and "(403 AccessDenied)" in answer["message"]
    assert "let the identity list secrets" in answer["message"] and f"client id {SYSTEM}" in answer["message"]
    # What is known from before is tried, in turn.
    answer = get(probe, known=[versions[2], versions[1]])
    assert (answer["version"], answer["newestDisabled"]) == (versions[2], True)
    platform.disable_version("shop", "web", versions[2])
    answer = get(probe, known=["0" * 32, versions[2], "../x", versions[1], versions[0]])
    assert (answer["version"], answer["newestDisabled"]) == (versions[1], True)
    answer = get(probe, known=[versions[2], "0" * 32])
    assert (answer["status"], answer["disabled"]) == (403, True) and "(403 AccessDenied)" in answer["message"]
    # Who may list does not guess.
    platform.set_vault("shop")
    assert get(probe, known=[versions[0]])["version"] == versions[1]


def test_previous_version_is_told(platform, probe):
    versions = put_many(platform, 2, [])
    assert get(probe, how="raw")["previous"] == ""
    platform.put_secret("shop", "word", "first")
    last = platform.put_secret("shop", "word", "second", content_type=PEM)
    answer = get(probe, URL.replace("web", "word"))
    assert answer["version"] == last and len(answer["previous"]) == 32 and answer["previous"] not in versions


@pytest.mark.parametrize("link", [
    "https://evil.example/secrets/web/versions?a=b", "https://shop.vault.azure.net.evil.example/secrets/web/versions?a=b",
    "http://shop.vault.azure.net/secrets/web/versions?a=b", "https://shop.vault.azure.net:8443/secrets/web/versions?a=b",
    "https://shop.vault.azure.net/secrets/other/versions?a=b", "https://shop.vault.azure.net/secrets/web/versions",
    "https://me@shop.vault.azure.net/secrets/web/versions?a=b", "//evil.example/x?a=b", "nonsense"])
def test_links_that_lead_elsewhere(platform, probe, link):
    put_many(platform, 2, [1])
    platform.set_fault("vault", "/secrets/web/versions", body=json.dumps({"value": [], "nextLink": link}))
    answer = get(probe, how="raw")
    assert (answer["status"], answer["class"]) == (200, "platform") and "nextLink leads elsewhere" in answer["message"]
    assert "a=b" not in answer["message"]
    assert [path for path, _, _ in asked(platform)] == ["/secrets/web", "/secrets/web/versions"]


def test_lists_without_end(platform, probe):
    put_many(platform, 2, [1])
    platform.set_fault("vault", "/secrets/web/versions", body=json.dumps(
        {"value": [], "nextLink": "https://shop.vault.azure.net:443/secrets/web/versions?api-version=7.4&$skiptoken=MA%3D%3D"}))
    answer = get(probe)
    assert (answer["status"], answer["class"]) == (200, "platform") and "more than 100 pages" in answer["message"]
    assert len(platform.requests("vault", "/secrets/web/versions")) == 100


@pytest.mark.parametrize("fault, status, error_class", [
    ({"status": 429, "headers": {"Retry-After": "7"}}, 429, "transient"), ({"status": 503}, 503, "transient"),
    ({"drop": True}, 0, "transient"), ({"garbage": True}, 200, "platform"), ({"body": b"x" * 600000}, 200, "platform"),
    ({"body": b'{"value": [{"id": 5}]}'}, 200, "platform")])
def test_lists_that_fail(platform, probe, fault, status, error_class):
    put_many(platform, 2, [1])
    platform.set_fault("vault", "/secrets/web/versions", **fault)
    answer = get(probe)
    assert (answer["status"], answer["class"]) == (status, error_class)
    assert answer["retryAfter"] == (7 if status == 429 else 0)


def test_revoked_token_while_listing(platform, probe):
    versions = put_many(platform, 2, [1])
    platform.set_fault("vault", "/secrets/web/versions", status=401, times=1)
    assert get(probe, how="raw")["version"] == versions[0]
    assert [status for _, _, status in asked(platform)] == [403, 401, 200, 200]


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
