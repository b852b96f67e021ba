"""The official JavaScript client of Key Vault as the judge of our fake vault: what it makes of the answers is what every
client in the field makes of them. It runs as in life; only the name of the vault leads to loopback."""

import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

import node  # noqa: E402
from fakeplatform import Platform  # noqa: E402

PEM = "application/x-pem-file"
PFX = "application/x-pkcs12"
HOST = "shop.vault.azure.net"


@pytest.fixture(scope="module")
def sdk():
    node.module("@azure/keyvault-secrets")


@pytest.fixture
def platform(sdk):
    with Platform() as platform:
        yield platform
        assert platform.problems() == []


def ask(platform, *calls):
    """(outcomes, tokens that were asked for) of these calls, one after the other."""
    ports = [platform.addresses[name].rpartition(":")[2] for name in ("vault", "imds")]
    done = subprocess.run(node.command(HERE / "vault_sdk.js", *ports), input=json.dumps(calls), capture_output=True, text=True,
                          timeout=100, env={**node.environment(), "NODE_EXTRA_CA_CERTS": platform.addresses["caFile"]})
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer["outcomes"], answer["asked"]


def one(platform, **call):
    [outcome], _ = ask(platform, {"call": "get", "name": "web", **call})
    return outcome


def test_a_secret_and_its_challenge(platform):
    version = platform.put_secret("shop", "web", "value", content_type="text/plain", exp=1900000000, nbf=1700000000,
                                  tags={"team": "shop"})
    outcomes, asked = ask(platform, {"call": "get", "name": "web"}, {"call": "get", "name": "WEB", "version": version})
    answer = outcomes[0]["answer"]
    assert answer["value"] == "value" and answer["name"] == "web"
    properties = answer["properties"]
    assert properties["version"] == version and properties["vaultUrl"] == f"https://{HOST}"
    assert properties["contentType"] == "text/plain" and properties["tags"] == {"team": "shop"} and properties["enabled"] is True
    assert properties["expiresOn"].startswith("2030-03-17") and properties["notBefore"].startswith("2023-11-14")
    assert properties["createdOn"] and properties["updatedOn"] and properties["recoveryLevel"] and "managed" not in properties
    assert outcomes[1]["answer"]["properties"]["version"] == version
    # Without a token first; then for the resource and in the tenant of the challenge, once for both.
    assert [(request["status"], "authorization" in request["headers"]) for request in platform.requests("vault")] == [
        (401, False), (200, True), (200, True)]
    assert [token["scope"] for token in asked] == ["https://vault.azure.net/.default"]
    assert asked[0]["tenant"] and len(asked[0]["tenant"]) == 36


def test_a_certificate_s_secret(platform):
    made = platform.make_certificate("web.example", key="ec", chain=1)
    first = platform.put_secret("shop", "web", made["pem"], content_type=PEM)
    second = platform.put_secret("shop", "web", made["pfx_base64"], content_type=PFX)
    outcomes, _ = ask(platform, {"call": "get", "name": "web"}, {"call": "get", "name": "web", "version": first})
    newest, older = (outcome["answer"] for outcome in outcomes)
    assert newest["value"] == made["pfx_base64"] and newest["properties"]["contentType"] == PFX
    assert newest["properties"]["managed"] is True and newest["properties"]["certificateKeyId"].endswith(f"/keys/web/{second}")
    assert older["value"] == made["pem"] and older["properties"]["contentType"] == PEM


def test_versions_come_in_pages(platform):
    made = {platform.put_secret("shop", "web", f"value {n}") for n in range(60)}
    disabled = next(iter(made))
    platform.disable_version("shop", "web", disabled)
    outcomes, _ = ask(platform, {"call": "list", "name": "web"}, {"call": "list", "name": "web", "pageSize": 10})
    for outcome, sizes in zip(outcomes, ([25, 25, 10], [10] * 6)):
        pages = outcome["answer"]
        assert [len(page) for page in pages] == sizes
        versions = {entry["version"]: entry for page in pages for entry in page}
        assert set(versions) == made
        assert not versions[disabled]["enabled"] and sum(not entry["enabled"] for entry in versions.values()) == 1
        created = [entry["createdOn"] for page in pages for entry in page]
        assert created != sorted(created) and created != sorted(created, reverse=True)


def test_refusals_are_understood(platform):
    outcome = one(platform)
    assert (outcome["error"]["status"], outcome["error"]["code"]) == (404, "SecretNotFound")
    assert "A secret with (name/id) web was not found in this key vault" in outcome["error"]["message"]
    [outcome], _ = ask(platform, {"call": "list", "name": "web"})
    assert (outcome["error"]["status"], outcome["error"]["code"]) == (404, "SecretNotFound")
    version = platform.put_secret("shop", "web", "value")
    outcome = one(platform, version="0" * 32)
    assert (outcome["error"]["status"], outcome["error"]["code"]) == (404, "SecretNotFound")
    platform.disable_version("shop", "web")
    for outcome in (one(platform), one(platform, version=version)):
        assert (outcome["error"]["status"], outcome["error"]["code"]) == (403, "Forbidden")
        assert outcome["error"]["message"] == "Operation get is not allowed on a disabled secret."
    platform.disable_version("shop", "web", enabled=True)
    for rules, words in (({"allowed": []}, "Caller is not authorized"), ({"firewall": True}, "Client address is not authorized")):
        platform.set_vault("shop", **rules)
        outcome = one(platform)
        assert (outcome["error"]["status"], outcome["error"]["code"]) == (403, "Forbidden") and words in outcome["error"]["message"]
    platform.set_vault("shop", newest_api_version="7.0")
    outcome = one(platform)
    assert (outcome["error"]["status"], outcome["error"]["code"]) == (400, "BadParameter")
    assert one(platform, serviceVersion="7.0")["answer"]["value"] == "value"


def test_throttling_and_trouble_pass(platform):
    platform.put_secret("shop", "web", "value")
    platform.set_fault("vault", "/secrets", status=429, headers={"Retry-After": "1"}, times=2)
    outcome = one(platform)
    assert outcome["answer"]["value"] == "value" and 1.9 <= outcome["took"] < 30
    platform.set_fault("vault", "/secrets", status=503, times=1)
    assert one(platform)["answer"]["value"] == "value"
    # Without a time it is not tried again, and the error is one that the client can read.
    platform.set_fault("vault", "/secrets", status=429, times=8)
    outcome = one(platform)
    assert (outcome["error"]["status"], outcome["error"]["code"]) == (429, "Throttled")


def test_a_token_that_is_not_for_this_vault(platform):
    """The challenge of another cloud leads to its resource; one that names a foreign resource is refused by the client."""
    platform.put_secret("shop", "web", "value")
    [outcome], asked = ask(platform, {"call": "get", "name": "web", "host": "shop.vault.azure.cn"})
    assert asked[0]["scope"] == "https://vault.azure.cn/.default" and outcome["answer"]["value"] == "value"
    platform.set_tls_certificate(names=("shop.vault.example",))
    [outcome], asked = ask(platform, {"call": "get", "name": "web", "host": "shop.vault.example"})
    assert asked[0]["scope"] == "https://vault.example/.default"
    # The client does not take a token elsewhere; nor would a fake that names the wrong resource be taken for a vault.
    platform.set_fault("vault", "/secrets", status=401, headers={
        "WWW-Authenticate": 'Bearer authorization="https://login.microsoftonline.com/x", resource="https://vault.evil.example"'},
        times=1)
    outcome = one(platform)
    assert "does not match the requested domain" in outcome["error"]["message"]
