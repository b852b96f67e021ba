"""agent/azure/identity: which identity, the cache and its renewal, retries inside a deadline, Arc's challenge."""

import os
import time

import pytest

IMDS = "http://169.254.169.254/metadata/identity"
VAULT = "https://vault.azure.net"
PATH = "/metadata/identity/oauth2/token"
ONE = {"client_id": "11111111-0000-4000-8000-000000000001", "object_id": "11111111-0000-4000-8000-000000000002",
       "resource_id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/one"}
TWO = {"client_id": "22222222-0000-4000-8000-000000000001", "object_id": "22222222-0000-4000-8000-000000000002",
       "resource_id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/two"}
SYSTEM = "5e29463d-0000-4000-8000-000000000001"


def token(probe, identity="-", how="cached", milliseconds=10000, endpoint=IMDS, resource=VAULT):
    return probe.ask("token", endpoint, resource, identity, how, milliseconds, 1)


def asked(platform):
    return [request["query"] for request in platform.requests("imds", PATH)]


@pytest.mark.parametrize("endpoint", [IMDS, IMDS + "/", IMDS + "/oauth2/token", IMDS + "/oauth2/token/"])
def test_system_assigned(platform, probe, endpoint):
    answer = token(probe, endpoint=endpoint)
    assert answer["given"] and answer["token"].count(".") == 2 and answer["who"] == f"client id {SYSTEM}"
    [request] = platform.requests("imds")
    assert request["path"] == PATH and request["query"] == {"api-version": "2018-02-01", "resource": VAULT}
    assert request["headers"]["metadata"] == "true"


@pytest.mark.parametrize("choice, name, value", [
    (f"clientId={TWO['client_id']}", "client_id", TWO["client_id"]),
    (f"objectId={TWO['object_id']}", "object_id", TWO["object_id"]),
    (f"resourceId={TWO['resource_id']}", "msi_res_id", TWO["resource_id"]),
], ids=["client", "object", "resource"])
def test_user_assigned(platform, probe, choice, name, value):
    platform.set_identity({"user": [ONE, TWO]})
    assert token(probe, choice)["who"] == f"client id {TWO['client_id']}"
    assert asked(platform) == [{"api-version": "2018-02-01", "resource": VAULT, name: value}]


def test_cache(platform, probe):
    first = token(probe)
    assert token(probe)["token"] == first["token"] and len(asked(platform)) == 1
    assert token(probe, resource="https://storage.azure.com")["token"] != first["token"]
    platform.set_identity({"system": {"client_id": SYSTEM, "object_id": "o"}, "user": [ONE]})
    assert token(probe, f"clientId={ONE['client_id']}")["who"] == f"client id {ONE['client_id']}"
    assert len(asked(platform)) == 3
    assert token(probe)["token"] == first["token"] and len(asked(platform)) == 3


def test_cache_has_a_limit(platform, probe):
    for n in range(70):
        assert token(probe, f"objectId={n}")["code"] == "EINVAL"
    assert token(probe)["given"]


def test_joined(platform, probe):
    platform.set_fault("imds", PATH, delay_in_seconds=0.2, times=1)
    probe.start("token", IMDS, VAULT, "-", "cached", 10000, 100)
    answers = [probe.read() for _ in range(100)]
    assert len({answer["token"] for answer in answers}) == 1 and len(asked(platform)) == 1
    platform.set_token(error={"status": 400, "error": "invalid_request", "error_description": "no"})
    probe.start("token", IMDS, "https://vault.azure.cn", "-", "cached", 10000, 100)
    assert {probe.read()["given"] for _ in range(100)} == {False}
    assert len(asked(platform)) == 2


def test_too_many_at_once(platform, probe):
    platform.set_fault("imds", PATH, delay_in_seconds=0.3)
    probe.start("token", IMDS, "https://r*", "-", "cached", 10000, 65)
    refused = probe.read()
    assert refused["refused"] and (refused["code"], refused["class"]) == ("EBUSY", "transient")
    platform.clear_faults()
    assert token(probe)["given"]


def test_fresh(platform, probe):
    first = token(probe)["token"]
    platform.revoke_tokens()
    assert token(probe)["token"] == first
    fresh = token(probe, how="fresh")["token"]
    assert fresh != first and asked(platform)[-1]["bypass_cache"] == "true"
    assert token(probe)["token"] == fresh
    # Whoever else was refused with the old one gets the new one too, without another request.
    count = len(asked(platform))
    assert token(probe, how="fresh")["token"] == fresh and len(asked(platform)) == count


def test_fresh_overtakes(platform, probe):
    """A request that is on its way may bring what the service has cached."""
    old = token(probe)["token"]
    platform.set_token(lifetime_in_seconds=1)
    other = token(probe, resource="https://storage.azure.com")["token"]
    time.sleep(1.1)
    assert token(probe, resource="https://storage.azure.com", how="fresh")["token"] not in (old, other)


def test_renewed_at_half_life(platform, probe):
    platform.set_token(lifetime_in_seconds=4)
    first = token(probe)["token"]
    time.sleep(1)
    assert token(probe)["token"] == first and len(asked(platform)) == 1
    time.sleep(2.1)  # past the half, and past that of the service's own cache, which counts whole seconds
    assert token(probe)["token"] != first and len(asked(platform)) == 2


@pytest.mark.parametrize("quoted", ['"%d"', "%d"], ids=["text", "number"])
def test_renewed_when_the_answer_says_so(platform, probe, quoted):
    """Sooner than at the half; the service may write numbers either way."""
    body = '{"access_token": "t%d", "expires_in": ' + quoted % 3600 + ', "refresh_in": ' + quoted % 1 + "}"
    platform.set_fault("imds", PATH, body=body % 1, times=1)
    assert token(probe)["token"] == "t1"
    time.sleep(1.1)
    platform.set_fault("imds", PATH, body=body % 2, times=1)
    assert token(probe)["token"] == "t2" and len(asked(platform)) == 2


def test_a_late_refresh_is_no_excuse(platform, probe):
    """What is to be renewed after its end is renewed at the half."""
    platform.set_fault("imds", PATH, body=b'{"access_token": "t1", "expires_in": 3, "refresh_in": 3600}', times=1)
    assert token(probe)["token"] == "t1"
    time.sleep(1.7)
    assert token(probe)["token"] != "t1"


def test_renewal_that_fails(platform, probe):
    """The token at hand is good for a while; after that there is none."""
    platform.set_token(lifetime_in_seconds=4)
    first = token(probe)["token"]
    platform.set_fault("imds", PATH, status=500)
    time.sleep(2.2)
    started = time.monotonic()
    assert token(probe)["token"] == first and time.monotonic() - started < 0.5
    assert len(asked(platform)) == 2
    assert token(probe)["token"] == first and len(asked(platform)) == 2  # and it is not asked for at every use
    time.sleep(2)
    answer = token(probe, milliseconds=100)
    assert not answer["given"] and "500" in answer["message"]


@pytest.mark.parametrize("fault, requests", [
    ({"status": 500, "times": 2}, 3), ({"status": 429, "headers": {"Retry-After": "1"}, "times": 1}, 2),
    ({"status": 404, "times": 2}, 3), ({"status": 408, "times": 1}, 2), ({"status": 410, "times": 1}, 2), ({"drop": True, "times": 1}, 2),
    ({"cut_after_bytes": 20, "times": 1}, 2), ({"garbage": True, "times": 1}, 2), ({"garbage": "http", "times": 1}, 2),
    ({"body": b'{"access_token": "a b"}', "times": 1}, 2), ({"body": b'{"access_token": "t"}', "times": 1}, 2),
    ({"body": b'{"access_token": "t", "expires_in": "60", "token_type": "PoP"}', "times": 1}, 2),
    ({"body": b"x" * 20000, "times": 1}, 2),
], ids=lambda value: "-".join(map(str, value))[:20] if isinstance(value, dict) else None)
def test_retries(platform, probe, fault, requests):
    platform.set_fault("imds", PATH, **fault)
    assert token(probe)["given"]
    assert len(asked(platform)) == requests


def test_retries_end_with_the_deadline(platform, probe):
    platform.set_fault("imds", PATH, status=503)
    started = time.monotonic()
    answer = token(probe, milliseconds=4500)
    # 1 and 2 s; the next wait would be 4 s, so nobody waits for it
    assert 2.5 < time.monotonic() - started < 4 and len(asked(platform)) == 3
    assert (answer["code"], answer["class"], answer["who"]) == ("EREMOTEIO", "transient", "system-assigned")
    assert "answered 503" in answer["message"]


def test_silence(platform, probe):
    platform.set_fault("imds", PATH, delay_in_seconds=5)
    started = time.monotonic()
    answer = token(probe, milliseconds=500)
    assert 0.4 < time.monotonic() - started < 2
    assert (answer["given"], answer["code"], answer["class"]) == (False, "ETIMEDOUT", "transient")
    platform.clear_faults()
    assert token(probe)["given"]


def test_abandoned(platform, probe):
    platform.set_fault("imds", PATH, status=500)
    assert probe.ask("abandon", IMDS, VAULT, "-", "cached", 30000, 5) == {"abandoned": True}
    time.sleep(1.5)
    assert len(asked(platform)) <= 1  # nobody waits, so nothing is tried again
    platform.clear_faults()
    assert token(probe)["given"]


@pytest.mark.parametrize("identity, choice, word", [
    ({}, "-", "assign it to the VM"),
    ({"user": [ONE]}, "clientId=33333333-0000-4000-8000-000000000001", "assign it to the VM"),
    ({"user": [ONE, TWO]}, "-", "name one in the settings (identity.clientId)"),
], ids=["none", "unknown", "several"])
def test_no_identity(platform, probe, identity, choice, word):
    platform.set_identity(identity)
    answer = token(probe, choice)
    assert (answer["given"], answer["class"]) == (False, "platform") and word in answer["message"]
    assert "invalid_request" in answer["message"] and "it says: " in answer["message"]
    assert len(asked(platform)) == 1  # it will be the same in a second
    assert answer["who"] == ("system-assigned" if choice == "-" else choice.replace("clientId=", "client id "))


def test_wrong_resource(platform, probe):
    answer = token(probe, resource="https://vault.example")
    assert "another cloud" in answer["message"] and "AADSTS500011" in answer["message"]


@pytest.mark.parametrize("status", [401, 403, 405])
def test_refused(platform, probe, status):
    platform.set_fault("imds", PATH, status=status, headers={"WWW-Authenticate": "Basic realm=/etc/shadow"})
    answer = token(probe)
    assert (answer["given"], answer["class"]) == (False, "platform") and f"answered {status}" in answer["message"]
    assert len(asked(platform)) == 1


def test_expired_on_arrival(platform, probe):
    platform.set_token(lifetime_in_seconds=-1)
    answer = token(probe, milliseconds=500)
    assert (answer["code"], answer["class"]) == ("EKEYEXPIRED", "transient")


def test_expires_on(platform, probe):
    body = b'{"access_token": "t", "expires_on": "%d"}' % (time.time() + 3600)
    platform.set_fault("imds", PATH, body=body)
    assert token(probe)["who"] == "system-assigned"
    assert token(probe)["token"] == "t" and len(asked(platform)) == 1


@pytest.mark.parametrize("endpoint", ["http://10.0.0.1/metadata/identity", "http://metadata.example/identity",
                                      IMDS + "?x=y", "ftp://169.254.169.254/"])
def test_endpoint(probe, endpoint):
    answer = token(probe, endpoint=endpoint)
    assert answer["refused"] and answer["code"] == "EINVAL" and "identity endpoint" in answer["message"]


# Azure Arc

@pytest.fixture
def arc(platform, tmp_path):
    directory = tmp_path / "var/opt/azcmagent/tokens"
    directory.mkdir(parents=True)
    platform.set_arc(str(directory), realm="/var/opt/azcmagent/tokens")
    return f"http://{platform.addresses['imds'].replace('127.0.0.1', 'localhost')}/metadata/identity"


def test_arc(platform, probe, arc):
    answer = token(probe, endpoint=arc)
    assert answer["who"] == f"client id {SYSTEM}"
    assert [request["status"] for request in platform.requests("imds")] == [401, 200]
    assert all(query["api-version"] == "2020-06-01" for query in asked(platform))
    assert token(probe, endpoint=arc)["token"] == answer["token"] and len(asked(platform)) == 2
    platform.revoke_tokens()
    assert token(probe, endpoint=arc, how="fresh")["given"]
    assert "bypass_cache" not in asked(platform)[-1]


def test_arc_key_with_line_end(platform, probe, arc, tmp_path):
    (tmp_path / "var/opt/azcmagent/tokens/mine.key").write_text("0123\n")
    platform.set_fault("imds", PATH, status=401, times=1,
                       headers={"WWW-Authenticate": 'basic realm="/var/opt/azcmagent/tokens/mine.key"'})
    answer = token(probe, endpoint=arc)
    key = platform.requests("imds")[1]["headers"]["authorization"]
    assert key == "Basic sha256:" + platform.token_hash("0123")
    assert not answer["given"] and "answered 401" in answer["message"]  # that key is no key of the platform's


@pytest.mark.parametrize("challenge, word", [
    (None, "names no key file"),
    ("Bearer authorization=x", "names no key file"),
    ("Basic realm=/etc/shadow", "no key below"),
    ("Basic realm=/var/opt/azcmagent/tokens/../../../etc/x.key", "no key below"),
    ("Basic realm=/var/opt/azcmagent/tokens/sub/x.key", "no key below"),
    ("Basic realm=/var/opt/azcmagent/tokens/x.txt", "no key below"),
    ("Basic realm=/var/opt/azcmagent/tokens/.key", "no key below"),
    ("Basic realm=/var/opt/azcmagent/tokensx/y.key", "no key below"),
    ("Basic realm=/var/opt/azcmagent/tokens/missing.key", "No such file"),
    ("Basic realm=/var/opt/azcmagent/tokens/link.key", "link.key"),
    ("Basic realm=/var/opt/azcmagent/tokens/large.key", "larger than 4096"),
    ("Basic realm=/var/opt/azcmagent/tokens/empty.key", "holds no key"),
    ("Basic realm=/var/opt/azcmagent/tokens/lines.key", "holds no key"),
    ("Basic realm=/var/opt/azcmagent/tokens/binary.key", "holds no key"),
    ("Basic realm=/var/opt/azcmagent/tokens/pipe.key", "pipe.key"),
    ("Basic realm=/var/opt/azcmagent/tokens/directory.key", "directory.key"),
])
def test_arc_challenge_refused(platform, probe, arc, tmp_path, challenge, word):
    directory = tmp_path / "var/opt/azcmagent/tokens"
    (tmp_path / "secret").write_text("secret")
    (directory / "link.key").symlink_to(tmp_path / "secret")
    (directory / "large.key").write_text("x" * 4097)
    (directory / "empty.key").write_text("")
    (directory / "lines.key").write_text("one\ntwo\nthree\n")
    (directory / "binary.key").write_bytes(b"a\x01b")
    (directory / "x.txt").write_text("secret")
    os.mkfifo(directory / "pipe.key")
    (directory / "directory.key").mkdir()
    platform.set_fault("imds", PATH, status=401, headers={"WWW-Authenticate": challenge} if challenge else None)
    answer = token(probe, endpoint=arc)
    assert (answer["given"], answer["class"] in ("platform", "system")) == (False, True)
    assert word in answer["message"] and "group himds" in answer["message"]
    assert len(asked(platform)) == 1 and "authorization" not in platform.requests("imds")[0]["headers"]


def test_no_challenge_outside_arc(platform, probe, arc):
    """The metadata service of a VM never asks for a file, so none is sent to it."""
    answer = token(probe)
    assert not answer["given"] and "answered 401" in answer["message"]
    assert len(asked(platform)) == 1
