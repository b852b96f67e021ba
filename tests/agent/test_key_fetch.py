"""What comes out of vaults, by the built program: every shape of certificate, every refusal, few connections, PKCS#12 files."""

import json
import os
import stat
import subprocess
import time

import pytest
from keys import HOME, PEM, RECORDS, SECRETS, VAULT_NAME
from vectors import Vectors, openssl
from vm import me, wait_until

PFX = "application/x-pkcs12"


@pytest.fixture
def platform(fresh_platform):
    return fresh_platform


@pytest.fixture
def vm(keys_vm):
    return keys_vm


@pytest.fixture
def vectors(tmp_path, vm):
    vectors = Vectors(tmp_path / "vectors")
    vm.made += [{"key": key} for key in vectors.keys()]
    return vectors


def install_all(vm, wanted):
    """{name: (value, chain, key)} in the vault is installed as that."""
    vm.refresh(*({"name": name} for name in wanted))
    vm.start()
    for name, (_, chain, key) in wanted.items():
        vm.wait_says(f"keyRefresh/{name}", "success", "thumbprint", 40)
        assert vm.set_of(name) == {"fullchain.pem": chain.encode(), "privkey.pem": key.encode()}, name
    vm.wait_top("success")


def test_pem_in_every_shape(vm, platform, vectors):
    wanted = vectors.pems()
    for name, (value, _, _) in wanted.items():
        platform.put_secret(VAULT_NAME, name, value, content_type=PEM)
    install_all(vm, wanted)
    assert vectors.ec.thumbprint in vm.say("shuffled")


@pytest.mark.parametrize("older", [True, False], ids=["older-cloud", "converted"])
def test_pkcs12_in_every_shape(vm, platform, vectors, older):
    """By our own reader, where the vault is too old to convert; else as PEM."""
    wanted = vectors.pfxs()
    if older:
        platform.set_vault(VAULT_NAME, newest_api_version="7.4")
    else:
        wanted = {name: wanted[name] for name in ("pfx-key-vault", "pfx-rc2", "pfx-ec")}
    for name, (value, _, _) in wanted.items():
        platform.put_secret(VAULT_NAME, name, value, content_type=PFX)
    if older:
        # Somebody put it there by hand, and did not say what it is.
        value, _, _ = wanted["untold"] = wanted["pfx-pbes2"]
        platform.put_secret(VAULT_NAME, "untold", value)
        # Or something else than it is.
        wanted["odd"] = wanted["pfx-pbes2"]
        platform.put_secret(VAULT_NAME, "odd", "\r\n" + value, content_type="application/octet-stream")
        wanted["converted"] = vectors.pems()["with-text"]
        platform.put_secret(VAULT_NAME, "converted", wanted["converted"][0], content_type=PFX)
    install_all(vm, wanted)
    versions = [request["query"]["api-version"] for request in platform.requests("vault", "/secrets")]
    assert versions.count("2025-07-01") <= 4 if older else set(versions) == {"2025-07-01"}


def test_pkcs12_without_the_legacy_provider(vm, platform, vectors):
    platform.set_vault(VAULT_NAME, newest_api_version="7.4")
    wanted = vectors.pfxs()
    for name in ("pfx-rc2", "pfx-key-vault"):
        platform.put_secret(VAULT_NAME, name, wanted[name][0], content_type=PFX)
    vm.refresh({"name": "pfx-rc2"}, {"name": "pfx-key-vault"})
    vm.start_daemon(binary=vm.binary, OPENSSL_MODULES="/nonexistent")
    said = vm.wait_says("keyRefresh/pfx-rc2", "transitioning", "Not installed yet: ")
    assert "pbeWithSHA1And40BitRC2-CBC" in said and "openssl-provider-legacy" in said
    vm.wait_says("keyRefresh/pfx-key-vault", "success")
    # With the provider it is as any other.
    vm.stop_daemon()
    vm.start()
    vm.wait_says("keyRefresh/pfx-rc2", "success")


def test_what_is_no_bundle_is_told(vm, platform, vectors):
    platform.set_vault(VAULT_NAME, newest_api_version="7.4")
    bad = vectors.bad()
    for name, (value, content_type, _) in bad.items():
        platform.put_secret(VAULT_NAME, name, value, content_type=content_type)
    platform.put_secret(VAULT_NAME, "incomplete", vectors.ec.key + vectors.ec.pem + vectors.root.pem, content_type=PEM)
    vm.refresh(*({"name": name} for name in [*bad, "incomplete"]))
    vm.start()
    for name, (_, _, words) in bad.items():
        said = vm.wait_says(f"keyRefresh/{name}", "transitioning", "Not installed yet: ")
        assert words in said and "next try in" in said, (name, said)
        assert not vm.file(f"{HOME}/{name}").exists()
    vm.wait_says("keyRefresh/incomplete", "warning", "the chain is incomplete")
    assert vm.top() == "transitioning"


def test_every_refusal_has_its_words(vm, platform):
    def refusal(status, code, message, inner=None):
        error = {"code": code, "message": message, **({"innererror": {"code": inner}} if inner else {})}
        return {"status": status, "body": json.dumps({"error": error})}

    forbidden = "Caller is not authorized to perform action on resource."
    cases = {
        "audience": (refusal(401, "Unauthorized", "AKV10022: Invalid audience. Expected a, found: b."), "another cloud"),
        "tenant": (refusal(401, "Unauthorized", "AKV10032: Invalid issuer."), "another tenant"),
        "token": (refusal(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token."), "nor a fresh one"),
        "rbac": (refusal(403, "Forbidden", forbidden, "ForbiddenByRbac"), "Key Vault Secrets User"),
        "access": (refusal(403, "Forbidden", "does not have secrets get permission", "AccessDenied"), "access policies"),
        "policy": (refusal(403, "Forbidden", "does not have secrets get permission", "ForbiddenByPolicy"), "access policies"),
        "firewall": (refusal(403, "Forbidden", "Client address is not authorized", "ForbiddenByFirewall"), "allow its subnet"),
        "strange": (refusal(403, "Forbidden", forbidden, "SomethingNew"), "the vault forbids it"),
        "absent": (refusal(404, "SecretNotFound", "A secret with (name/id) absent was not found"), "no such secret"),
        "parameter": (refusal(400, "BadParameter", "The request URI contains an invalid name"), "check the url"),
        "late": ({"status": 408}, "gave up waiting"),
        "throttled": ({"status": 429}, "too many requests"),
        "broken": ({"status": 500}, "passes"),
        "gateway": ({"status": 502}, "passes"),
        "moved": ({"status": 302, "headers": {"Location": "https://evil.example/"}}, "answered 302"),
        "dropped": ({"drop": True}, "secrets/dropped: "),
        "cut": ({"cut_after_bytes": 30}, "secrets/cut: "),
        "garbage": ({"garbage": True}, "secret: "),
        "other": ({"body": json.dumps({"value": "hush", "id": f"https://{VAULT_NAME}.vault.azure.net/secrets/web/{'1' * 32}"})},
                  "about another secret"),
        "elsewhere": ({"body": json.dumps({"value": "hush", "id": f"https://evil.vault.azure.net/secrets/elsewhere/{'1' * 32}"})},
                      "about another secret"),
        "number": ({"body": json.dumps({"value": 17, "id": "x"})}, "secret: value: "),
    }
    certificate = vm.make()
    for name, (fault, _) in cases.items():
        vm.put(certificate, name)
        platform.set_fault("vault", f"/secrets/{name}?", **fault)
    vm.put(certificate, "good")
    vm.refresh(*({"name": name} for name in [*cases, "good"]))
    vm.start()
    for name, (fault, words) in cases.items():
        said = vm.wait_says(f"keyRefresh/{name}", "transitioning", "Not installed yet: ")
        assert words in said and "next try in" in said and "hush" not in said, (name, said)
        if fault.get("status", 0) in (401, 403):
            assert "client id 5e29463d" in said
    vm.wait_says("keyRefresh/good", "success")
    assert all(request["headers"]["host"].startswith(VAULT_NAME) for request in platform.requests("vault"))
    # When it is over, it is over.
    platform.clear_faults()
    vm.refresh(*({"name": name, "keepVersions": 3} for name in [*cases, "good"]))
    vm.reload()
    for name in cases:
        vm.wait_says(f"keyRefresh/{name}", "success", "Version", 40)
    vm.wait_top("success")


def test_challenge_once(vm, platform):
    version = vm.put(vm.make())
    platform.set_fault("vault", "/secrets", status=401, times=1)
    vm.refresh({"name": "web"})
    vm.start()
    vm.wait_installed(version)
    assert [request["status"] for request in platform.requests("vault")] == [401, 200]
    assert platform.requests("imds", "/metadata/identity")[-1]["query"]["bypass_cache"] == "true"


def test_retry_after_is_obeyed(vm, platform):
    version = vm.put(vm.make())
    platform.set_fault("vault", "/secrets", status=429, headers={"Retry-After": "3"}, times=1)
    vm.refresh({"name": "web"})
    vm.start()
    vm.wait_installed(version)
    assert "answered 429" in vm.log_text()
    first, second = (request["time"] for request in platform.requests("vault", "/secrets"))
    assert 3 <= second - first < 20


def test_a_slow_vault_keeps_nobody_waiting(vm, platform):
    version = vm.put(vm.make(), "slow")
    fast = vm.put(vm.make(), "fast")
    platform.set_fault("vault", "/secrets/slow", bytes_per_second=700)
    vm.refresh({"name": "slow"}, {"name": "fast"})
    vm.start()
    vm.wait_installed(fast, "fast")
    vm.wait_installed(version, "slow")
    log = vm.log_text()
    assert log.index("fast: version") < log.index("slow: version")


def test_many_over_few_connections(vm, platform):
    names = [f"item{n}" for n in range(40)]
    certificate = vm.make()
    versions = {name: vm.put(certificate, name) for name in names}
    vm.refresh(*({"name": name} for name in names), pollingIntervalInSeconds=3600)
    vm.start()
    for name in names:
        vm.wait_installed(versions[name], name, limit=60)
    requests = platform.requests("vault", "/secrets")
    assert len(requests) == len(names)
    assert len({tuple(request["client"]) for request in requests}) <= 4
    assert len(platform.requests("imds", "/metadata/identity")) == 1
    # A poll that finds nothing new: the same, and nothing is written.
    platform.clear_requests()
    vm.restart()
    wait_until("a poll", lambda: len(platform.requests("vault", "/secrets")) >= len(names), 30)
    requests = platform.requests("vault", "/secrets")
    assert len(requests) == len(names) and len({tuple(request["client"]) for request in requests}) <= 4


# The newest version is disabled

def test_a_disabled_newest_version_gives_way(vm, platform):
    old, new = vm.make(), vm.make()
    old_version, new_version = vm.put(old), vm.put(new)
    platform.disable_version(VAULT_NAME, "web")
    vm.refresh({"name": "web"})
    vm.start()
    said = vm.wait_installed(old_version, level="warning")
    assert "the newest version in the vault is disabled" in said and "cannot be refreshed" not in said
    assert vm.set_of()["privkey.pem"] == old["key"].encode()
    vm.wait_top("success")
    assert vm.log_text().count("the newest version in the vault is disabled") == 1
    platform.disable_version(VAULT_NAME, "web", enabled=True)
    vm.restart()
    assert "disabled" not in vm.wait_installed(new_version)
    # What is installed stays, whatever is done to it in the vault: the older one is no better.
    platform.disable_version(VAULT_NAME, "web")
    vm.restart()
    said = vm.wait_says("keyRefresh/web", "warning", "is disabled")
    assert said.startswith(f"Version {new_version}") and "is older than the one installed" in said
    assert vm.set_of()["privkey.pem"] == new["key"].encode()


def test_a_disabled_version_where_none_may_be_listed(vm, platform):
    version = vm.put(vm.make())
    platform.set_vault(VAULT_NAME, listing=False)
    vm.refresh({"name": "web"})
    vm.start()
    vm.wait_installed(version)
    vm.put(vm.make())
    platform.disable_version(VAULT_NAME, "web")
    vm.restart()
    # That what is installed is still good is known without a list.
    said = vm.wait_installed(version, level="warning")
    assert "the newest version in the vault is disabled" in said and "cannot be refreshed" not in said
    # Where nothing is installed, nothing is known.
    vm.put(vm.make(), "other")
    platform.disable_version(VAULT_NAME, "other")
    vm.refresh({"name": "web"}, {"name": "other"})
    vm.reload()
    said = vm.wait_says("keyRefresh/other", "transitioning", "Not installed yet: ")
    assert "its newest version is disabled" in said and "let the identity list secrets" in said
    platform.set_vault(VAULT_NAME)


# The two newest versions in the stores of the Key Vault extension

STORE = "/var/lib/waagent/Microsoft.Azure.KeyVault.Store"


def in_store(vm, version, name=f"{VAULT_NAME}.web", store=STORE):
    """{kind: text} of a version's files, which only their owner may read."""
    found = {}
    for path in vm.file(store).glob(f"{name}.{version}.*"):
        assert not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o600
        found[path.name.split(".")[3] if path.suffix != ".PEM" else "PEM"] = path.read_text()
    return found


def test_a_new_store_has_the_two_newest_versions(vm, platform):
    made = [vm.make(not_before=time.time() - 7200 + n) for n in range(3)]
    versions = [vm.put(one) for one in made]
    vm.configure(secretsManagementSettings={"observedCertificates": [{"url": f"{SECRETS}/web"}]})
    vm.start()
    vm.wait_installed(versions[2], f"{VAULT_NAME}.web")
    vm.wait_top("success")
    for n in (1, 2):
        assert in_store(vm, versions[n]) == {"keyid": made[n]["key"], "pem": made[n]["leaf"] + "".join(made[n]["issuers"])}
    assert in_store(vm, versions[0]) == {}
    assert versions[2] in os.readlink(vm.file(f"{STORE}/{VAULT_NAME}.web.pem"))
    assert versions[2] in os.readlink(vm.file(f"{STORE}/{VAULT_NAME}.web.keyid"))
    assert versions[2] in vm.file(f"{STORE}/{VAULT_NAME}.web.luma").read_text()
    # Once is enough: later versions come one after the other.
    platform.clear_requests()
    newest = vm.make(not_before=time.time() - 7000)
    versions.append(vm.put(newest))
    vm.restart()
    vm.wait_installed(versions[3], f"{VAULT_NAME}.web")
    wait_until("the third newest to go", lambda: in_store(vm, versions[1]) == {}, 10)
    assert in_store(vm, versions[2]) and in_store(vm, versions[3])["keyid"] == newest["key"]
    assert [request["path"] for request in platform.requests("vault")] == ["/secrets/web"]


def test_the_one_before_is_no_duty(vm, platform):
    """It is disabled, or no certificate at all: the newest is installed without it."""
    stores = {"disabled": vm.make(), "word": {"pem": "no certificate"}, "first": None}
    for name, before in stores.items():
        if before:
            vm.put(before, name)
    platform.disable_version(VAULT_NAME, "disabled")
    versions = {name: vm.put(vm.make(), name) for name in stores}
    vm.configure(secretsManagementSettings={"observedCertificates": [
        {"url": f"{SECRETS}/{name}", "certificateStoreLocation": "/etc/tls", "customSymbolicLinkName": name} for name in stores]})
    vm.start()
    for name, version in versions.items():
        vm.wait_installed(version, f"{VAULT_NAME}.{name}")
        assert vm.file(f"/etc/tls/{name}").exists()
    vm.wait_top("success")
    assert len(list(vm.file("/etc/tls").glob("*.PEM"))) == 3
    log = vm.log_text()
    assert log.count("the version before the newest is not put beside it") == 2 and "is disabled" in log and "no private key" in log


def test_the_store_of_version_3_has_both_too(vm, platform):
    old, new = vm.make(chain=1), vm.make(chain=1)
    versions = [vm.put(old), vm.put(new)]
    vm.configure(secretsManagementSettings={"observedCertificates": [
        {"url": f"{SECRETS}/web", "certificateStoreLocation": "/etc/tls", "customSymbolicLinkName": "site"}]})
    vm.start()
    vm.wait_installed(versions[1], f"{VAULT_NAME}.web")
    for version, made in zip(versions, (old, new)):
        assert in_store(vm, version, store="/etc/tls") == {"PEM": made["leaf"] + made["issuers"][0] + made["key"]}
    assert vm.file("/etc/tls/site").read_text().endswith(new["key"])


# PKCS#12 files

def read_p12(path, password):
    text = subprocess.run(["openssl", "pkcs12", "-in", path, "-nodes", "-passin", "stdin"], input=password + "\n", capture_output=True,
                          text=True)
    assert text.returncode == 0, text.stderr
    return text.stdout


def test_pkcs12_file(vm, platform):
    certificate = vm.make()
    version = vm.put(certificate)
    names = {"pkcs12": "web.p12", "fullchain": "fullchain.pem"}
    word = "correct horse \u00fc battery"

    def secrets(password):
        path = vm.file("/etc/evenkeel/secrets.json")
        path.parent.mkdir(exist_ok=True)
        path.touch(0o600)
        path.write_text(json.dumps({"secrets": {"p": password}}))

    vm.refresh({"name": "web", "mode": "0640", "files": names})
    vm.start()
    vm.wait_installed(version)
    path = vm.file(f"{HOME}/web/web.p12")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640 and vm.file(f"{HOME}/web/fullchain.pem").exists()
    text = read_p12(path, "")
    assert certificate["key"] in text and "friendlyName: web" in text
    for one in (certificate["leaf"], *certificate["issuers"]):
        assert one in text
    info = subprocess.run(["openssl", "pkcs12", "-in", path, "-info", "-noout", "-passin", "pass:"], capture_output=True, text=True).stderr
    assert "MAC: sha256" in info and info.count("PBES2, PBKDF2, AES-256-CBC") == 2, info
    # With a password; with another one; nothing of it is told, and the name of the set gives nobody a way to try.
    shapes = set()
    for password in (word, "word of another"):
        secrets(password)
        before = path.read_bytes()
        vm.refresh({"name": "web", "mode": "0640", "files": names, "pkcs12Password": {"secretRef": "p"}})
        vm.reload()
        wait_until("another file", lambda: path.exists() and path.read_bytes() != before, 20)
        vm.wait_installed(version)
        assert certificate["key"] in read_p12(path, password)
        shapes.add(os.readlink(vm.file(f"{HOME}/web/current")))
        assert password not in vm.log_text() + str(vm.status())
        assert not [one for one in vm.root.rglob("*") if one.is_file() and one.name != "secrets.json" and password.encode() in
                    one.read_bytes()]
    assert len(shapes) == 2
    # The same password after a restart is no change.
    before = path.read_bytes()
    platform.clear_requests()
    vm.restart()
    platform.wait_for_requests("vault", "/secrets/web", 1)
    vm.wait_installed(version)
    wait_until("jobs to end", lambda: not list((vm.root / "var/lib/evenkeel/jobs").glob("key-*")), 10)
    assert path.read_bytes() == before
    # Another machine names the same set otherwise.
    vm.stop_daemon()
    vm.file(f"{RECORDS}/web.json").unlink()
    vm.start()
    wait_until("another set", lambda: os.readlink(vm.file(f"{HOME}/web/current")) not in shapes, 20)
    assert certificate["key"] in read_p12(path, "word of another")


def test_pkcs12_in_and_out(vm, platform, vectors):
    """What came with the algorithms of 1999 goes on with those of today."""
    platform.set_vault(VAULT_NAME, newest_api_version="7.4")
    version = platform.put_secret(VAULT_NAME, "web", vectors.pfxs()["pfx-rc2"][0], content_type=PFX)
    user, group = me()
    vm.refresh({"name": "web", "files": {"pkcs12": "web.p12", "combined": "all.pem"}, "owner": user, "group": group})
    vm.start()
    vm.wait_installed(version)
    chain = vectors.rsa.pem + vectors.inter.pem + vectors.root.pem
    assert vm.set_of()["all.pem"].decode() == chain + vectors.rsa.key
    assert openssl("pkcs12", "-in", vm.file(f"{HOME}/web/web.p12"), "-nocerts", "-nodes", "-passin", "pass:").decode().endswith(
        vectors.rsa.key)
