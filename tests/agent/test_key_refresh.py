"""Key refresh by the built program: what lies on disk, what is told, and what it makes of vaults and identities that fail."""

import os
import re
import shutil
import ssl
import stat
import subprocess
import time

import pytest
from keys import HOME, RECORDS, SECRETS, VAULT_NAME
from vm import me, wait_until

@pytest.fixture
def platform(fresh_platform):
    return fresh_platform


@pytest.fixture
def vm(keys_vm):
    return keys_vm


def pem_of(data):
    return [block + b"-----END CERTIFICATE-----\n" for block in data.split(b"-----END CERTIFICATE-----\n")[:-1]]


def test_installed_whole_and_told(vm, platform):
    certificate = vm.make()
    version = vm.put(certificate)
    vm.refresh({"name": "web", "mode": "0640", "files": {
        "fullchain": "fullchain.pem", "certificate": "cert.pem", "chain": "chain.pem", "key": "privkey.pem",
        "combined": "all.pem"}})
    vm.start()
    said = vm.wait_installed(version)
    assert f"thumbprint {certificate['thumbprint']}" in said
    assert time.strftime("valid until %Y-%m-%dT%H:%M:%SZ", time.gmtime(certificate["notAfter"])) in said
    assert "read as client id 5e29463d-0000-4000-8000-000000000001" in said
    vm.wait_top("success")
    files = vm.set_of()
    leaf, issuers = certificate["leaf"].encode(), [issuer.encode() for issuer in certificate["issuers"]]
    assert pem_of(files["fullchain.pem"]) == [leaf, *issuers]
    assert files["cert.pem"] == leaf
    assert files["chain.pem"] == b"".join(issuers)
    assert files["privkey.pem"] == certificate["key"].encode()
    assert files["all.pem"] == files["fullchain.pem"] + files["privkey.pem"]
    for name in files:
        mode = stat.S_IMODE((vm.file(f"{HOME}/web") / name).stat().st_mode)
        assert mode == (0o640 if name in ("privkey.pem", "all.pem") else 0o644)
    # A server could use the pair as it is.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(vm.file(f"{HOME}/web/fullchain.pem"), vm.file(f"{HOME}/web/privkey.pem"))
    # Nothing of the job is left.
    assert not list((vm.root / "var/lib/evenkeel/jobs").glob("*"))


def test_nothing_is_written_when_nothing_changed(vm, platform):
    version = vm.put(vm.make())
    vm.refresh({"name": "web"})
    vm.start()
    vm.wait_installed(version)
    before = os.lstat(vm.file(f"{HOME}/web/current")).st_ctime_ns, os.lstat(vm.file(f"{HOME}/web/fullchain.pem")).st_ctime_ns
    for again in range(2):
        platform.clear_requests()
        vm.restart()
        vm.wait_installed(version)
        platform.wait_for_requests("vault", "/secrets/web", 1)
        time.sleep(0.5)
    # The same settings once more: nothing is even asked.
    platform.clear_requests()
    assert vm.call("POST", "/v1/goal")[0] == 200
    time.sleep(1)
    assert platform.requests("vault") == []
    assert before == (os.lstat(vm.file(f"{HOME}/web/current")).st_ctime_ns,
                      os.lstat(vm.file(f"{HOME}/web/fullchain.pem")).st_ctime_ns)
    assert vm.log_text().count("is installed") == 1


def test_a_new_version_replaces_the_set_and_old_ones_go(vm, platform):
    vm.refresh({"name": "web", "keepVersions": 2})
    versions = []
    for n in range(3):
        certificate = vm.make()
        versions.append(vm.put(certificate))
        if n == 0:
            vm.start()
        else:
            # Of a version that was cut short while it was made, and then another one came.
            unfinished = vm.file(f"{HOME}/web/versions/.evenkeel-tmp-{n:032x}-0")
            unfinished.mkdir()
            (unfinished / "privkey.pem").write_text("half a key")
            vm.restart()
        assert certificate["thumbprint"] in vm.wait_installed(versions[-1])
        assert vm.set_of()["privkey.pem"] == certificate["key"].encode()
    kept = sorted(path.name.partition("-")[0] for path in vm.file(f"{HOME}/web/versions").iterdir())
    assert kept == sorted(versions[1:])


def test_readers_never_see_half_a_set(vm, platform):
    vm.put(vm.make())
    vm.refresh({"name": "web"})
    vm.start()
    vm.wait_says("keyRefresh/web", "success")
    pairs = set()
    directory = vm.file(f"{HOME}/web")
    for n in range(3):
        version = vm.put(vm.make())
        vm.stop_daemon()
        vm.start()
        while f"Version {version}" not in vm.say():
            target = os.readlink(directory / "current")
            pairs.add(((directory / target / "fullchain.pem").read_bytes(), (directory / target / "privkey.pem").read_bytes()))
    complete = {(("".join([one["leaf"], *one["issuers"]])).encode(), one["key"].encode()) for one in vm.made}
    assert pairs <= complete


def test_lost_files_come_back(vm, platform):
    version = vm.put(vm.make())
    vm.refresh({"name": "web"})
    vm.start()
    vm.wait_installed(version)
    whole = vm.set_of()
    vm.stop_daemon()
    (vm.file(f"{HOME}/web") / os.readlink(vm.file(f"{HOME}/web/current")) / "privkey.pem").unlink()
    vm.start()
    deadline = time.monotonic() + 15
    while not vm.file(f"{HOME}/web/privkey.pem").exists():
        assert time.monotonic() < deadline, vm.log_text()
    assert vm.set_of() == whole


def test_identity_that_comes_later(vm, platform):
    version = vm.put(vm.make())
    platform.set_identity({"system": None, "user": []})
    vm.refresh({"name": "web"})
    vm.start()
    said = vm.wait_says("keyRefresh/web", "transitioning", "Not installed yet: ")
    assert "dentity not found" in said and "next try in" in said
    assert vm.top() == "transitioning"
    platform.set_identity({"system": {"client_id": "5e29463d-0000-4000-8000-000000000001", "object_id": "o"}})
    vm.wait_installed(version, limit=40)
    vm.wait_top("success")


def test_user_assigned_identity(vm, platform):
    version = vm.put(vm.make())
    one, two = (f"5e29463d-0000-4000-8000-00000000000{n}" for n in (3, 4))
    platform.set_identity({"user": [{"client_id": one, "object_id": "a"}, {"client_id": two, "object_id": "b"}]})
    platform.set_vault(VAULT_NAME, allowed=[two])
    vm.refresh({"name": "web"}, identity={"clientId": one})
    vm.start()
    assert "403" in vm.wait_says("keyRefresh/web", "transitioning", "Not installed yet: ")
    # The item's own identity goes before the section's; new settings are tried at once.
    vm.refresh({"name": "web", "identity": {"clientId": two}}, identity={"clientId": one})
    vm.reload()
    assert two in vm.wait_installed(version)


@pytest.mark.parametrize("fault", [
    {"status": 429, "headers": {"Retry-After": "1"}}, {"status": 500}, {"status": 403}, {"status": 404},
    {"garbage": True}, {"garbage": "http"}, {"drop": True}, {"cut_after_bytes": 100}],
    ids=lambda fault: "-".join(str(key) + str(value)[:8] for key, value in fault.items() if key != "headers"))
def test_faults_are_told_and_outlived(vm, platform, fault):
    version = vm.put(vm.make())
    platform.set_fault("vault", "/secrets", **fault)
    vm.refresh({"name": "web"})
    vm.start()
    vm.wait_says("keyRefresh/web", "transitioning", "Not installed yet: ")
    assert not vm.file(f"{HOME}/web").exists()
    assert vm.top() == "transitioning"
    platform.clear_faults()
    # An operator who pushes the settings again does not wait for the next try.
    vm.refresh({"name": "web", "keepVersions": 3})
    vm.reload()
    vm.wait_installed(version)
    vm.wait_top("success")


@pytest.mark.parametrize("what", ["expired", "future", "mismatch", "no key", "garbage", "disabled", "absent"])
def test_what_is_no_good_never_replaces_what_is(vm, platform, what):
    good = vm.make()
    version = vm.put(good)
    vm.refresh({"name": "web"})
    vm.start()
    vm.wait_installed(version)
    vm.stop_daemon()
    if what == "expired":
        vm.put(vm.make(lifetime_in_seconds=-60))
    elif what == "future":
        vm.put(vm.make(not_before=time.time() + 3600))
    elif what == "mismatch":
        vm.put({"pem": vm.make()["key"] + vm.make()["leaf"]})
    elif what == "no key":
        vm.put({"pem": vm.make()["leaf"]})
    elif what == "garbage":
        vm.put({"pem": "this is no certificate"})
    elif what == "disabled":
        vm.platform.disable_version(VAULT_NAME, "web")
    else:
        vm.platform.delete_secret(VAULT_NAME, "web")
    before = vm.set_of()
    vm.start()
    said = vm.wait_says("keyRefresh/web", "warning", "it cannot be refreshed: ")
    words = {"expired": "expired on", "future": "not valid before", "mismatch": "key", "no key": "key", "garbage": "certificate",
             "disabled": "all of its versions are disabled", "absent": "404"}
    assert words[what] in said, said
    assert said.startswith(f"Version {version}, thumbprint {good['thumbprint']}")
    assert vm.set_of() == before
    assert vm.top() == "success"
    # What is put right is taken.
    vm.stop_daemon()
    newest = vm.put(vm.make())
    vm.start()
    vm.wait_installed(newest)


def test_late_is_an_error_that_heals(vm, platform):
    vm.refresh({"name": "web"}, initialSyncTimeoutInSeconds=60)
    vm.start()
    vm.wait_says("keyRefresh/web", "transitioning", "404")
    # A restart does not give it more time.
    time.sleep(20)
    vm.restart()
    started = time.monotonic()
    said = vm.wait_says("keyRefresh/web", "error", "Not installed within 1 min: ", 60)
    assert time.monotonic() - started < 45
    assert "next try in" in said
    vm.wait_top("error")
    version = vm.put(vm.make())
    vm.wait_installed(version, limit=80)
    vm.wait_top("success")


def test_expiry_is_told(vm, platform):
    for name, seconds, level, words in (("month", 40 * 86400, "success", "valid until"), ("weeks", 13.5 * 86400, "warning", "in 13 days"),
                                        ("hours", 7200, "error", "within a day")):
        vm.put(vm.make(lifetime_in_seconds=seconds), name)
    vm.refresh(*({"name": name} for name in ("month", "weeks", "hours")))
    vm.start()
    vm.wait_says("keyRefresh/month", "success", "valid until")
    vm.wait_says("keyRefresh/weeks", "warning", "it expires in 13 days")
    vm.wait_says("keyRefresh/hours", "error", "it expires within a day")
    # Installed they are, so the deployment is a success.
    vm.wait_top("success")
    assert vm.log_text().count("expires within 14 days") == 1
    # Told that it had expired by a clock that was ahead: what is true is told when its time comes.
    vm.stop_daemon()
    path = vm.file(f"{RECORDS}/weeks.json")
    path.write_text(re.sub(r'("warnedDays":) ?14', r"\1 0", path.read_text()))
    vm.start()
    wait_until("the warning", lambda: vm.log_text().count("expires within 14 days") == 2, 10)


def test_incomplete_chain_is_installed_with_a_warning(vm, platform):
    certificate = vm.make(chain=2)
    version = vm.put({"pem": certificate["key"] + certificate["leaf"] + certificate["issuers"][1]})
    vm.refresh({"name": "web"})
    vm.start()
    vm.wait_says("keyRefresh/web", "warning", f"Version {version}")
    assert "the chain is incomplete" in vm.say()


def test_pinned_version_and_going_back(vm, platform):
    old, new = vm.make(), vm.make()
    old_version, new_version = vm.put(old), vm.put(new)
    vm.refresh({"name": "web"})
    vm.start()
    vm.wait_installed(new_version)
    vm.refresh({"name": "web", "url": f"{SECRETS}/web/{old_version}"})
    vm.reload()
    vm.wait_installed(old_version)
    assert vm.set_of()["privkey.pem"] == old["key"].encode()


def test_changed_settings_move_the_files(vm, platform):
    version = vm.put(vm.make())
    vm.refresh({"name": "web"})
    vm.start()
    vm.wait_installed(version)
    vm.refresh({"name": "web", "directory": "/etc/app/tls", "files": {"combined": "web.pem"}})
    vm.reload()
    deadline = time.monotonic() + 15
    while not vm.file("/etc/app/tls/web.pem").exists():
        assert time.monotonic() < deadline, vm.log_text()
    vm.wait_installed(version)
    assert sorted(path.name for path in vm.file("/etc/app/tls").iterdir()) == ["current", "versions", "web.pem"]
    # In the same place, another set of files: the former names go.
    vm.refresh({"name": "web", "directory": "/etc/app/tls", "files": {"key": "key.pem", "certificate": "web.pem"}})
    vm.reload()
    deadline = time.monotonic() + 15
    while not vm.file("/etc/app/tls/key.pem").exists():
        assert time.monotonic() < deadline, vm.log_text()
    assert vm.file("/etc/app/tls/web.pem").read_bytes() == vm.made[0]["leaf"].encode()


def test_plain_secrets(vm, platform):
    word = "pass word\nwith \"lines\" and \u00fc\n"
    first = platform.put_secret(VAULT_NAME, "word", word)
    vm.refresh(secrets=[{"name": "word", "url": f"{SECRETS}/word", "path": "/etc/app/word", "mode": "0440"}])
    vm.start()
    vm.wait_says("keyRefresh/word", "success", f"Version {first}")
    vm.wait_top("success")
    path = vm.file("/etc/app/word")
    assert path.read_text() == word and stat.S_IMODE(path.stat().st_mode) == 0o440 and not path.is_symlink()
    second = platform.put_secret(VAULT_NAME, "word", "other")
    vm.restart()
    vm.wait_says("keyRefresh/word", "success", f"Version {second}")
    assert path.read_text() == "other"
    path.unlink()
    vm.restart()
    deadline = time.monotonic() + 15
    while not path.exists():
        assert time.monotonic() < deadline, vm.log_text()
    assert path.read_text() == "other"
    told = vm.log_text() + str(vm.status())
    assert "pass word" not in told and "pass word" not in vm.file(f"{RECORDS}/word.json").read_text()


STORE = "/var/lib/waagent/Microsoft.Azure.KeyVault.Store"


def test_store_of_the_peer_version_4(vm, platform):
    """secretsManagementSettings as they are: links to chain and key, the note last, the two newest versions."""
    vm.configure(secretsManagementSettings={"observedCertificates": [{"url": f"{SECRETS}/web"}]})
    versions, store, name = [], vm.file(STORE), f"{VAULT_NAME}.web"
    for n in range(3):
        certificate = vm.make(not_before=time.time() - 3600 + n)
        versions.append(vm.put(certificate))
        if n:
            vm.stop_daemon()
        vm.start()
        vm.wait_installed(versions[-1], name)
        vm.wait_top("success")
        assert pem_of((store / f"{name}.pem").read_bytes()) == [text.encode() for text in
                                                               (certificate["leaf"], *certificate["issuers"])]
        assert (store / f"{name}.keyid").read_text() == certificate["key"]
        assert os.readlink(store / f"{name}.pem") == f"{name}.{versions[-1]}.pem.{certificate['notBefore']}"
        assert os.readlink(store / f"{name}.keyid") == f"{name}.{versions[-1]}.keyid.{certificate['notBefore']}"
        note = store / f"{name}.luma"
        assert certificate["thumbprint"] in note.read_text() and stat.S_IMODE(note.stat().st_mode) == 0o644
        assert note.stat().st_mtime_ns >= os.lstat(store / f"{name}.pem").st_mtime_ns
        for path in (store / f"{name}.pem", store / f"{name}.keyid"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        wait_until("old versions to go", lambda: not list((vm.root / "var/lib/evenkeel/jobs").glob("key-*")), 10)
    left = {path.name.split(".")[2] for path in store.iterdir() if not path.is_symlink() and path.suffix != ".luma"}
    assert left == set(versions[1:]), sorted(store.iterdir())
    # A link that was lost comes back.
    (store / f"{name}.keyid").unlink()
    vm.restart()
    wait_until("the link to come back", lambda: (store / f"{name}.keyid").exists(), 10)


def test_store_of_the_peer_version_3(vm, platform):
    """One file, the key last, under the link that the settings name; what others put there stays."""
    vm.configure(secretsManagementSettings={"observedCertificates": [
        {"url": f"{SECRETS}/web", "certificateStoreLocation": "/etc/tls", "customSymbolicLinkName": "site"},
        {"url": f"{SECRETS}/web", "certificateStoreLocation": "/etc/tls2", "acls": [{"user": "nobody"}]}]})
    foreign = vm.file(f"/etc/tls/{VAULT_NAME}.web.readme")
    foreign.parent.mkdir()
    foreign.write_text("mine")
    for n in range(3):
        certificate = vm.make(chain=1, not_before=time.time() - 3600 + n)
        version = vm.put(certificate)
        if n:
            vm.stop_daemon()
        vm.start()
        vm.wait_installed(version, f"{VAULT_NAME}.web")
        vm.wait_installed(version, f"{VAULT_NAME}.web-2")
    text = vm.file("/etc/tls/site").read_text()
    assert text == certificate["leaf"] + certificate["issuers"][0] + certificate["key"]
    assert os.readlink(vm.file("/etc/tls/site")) == (
        f"{VAULT_NAME}.web.{version}.{certificate['notBefore']}.{certificate['notAfter']}.PEM")
    second = vm.file(f"/etc/tls2/{VAULT_NAME}.web")
    assert second.read_text() == text
    assert b"\x04\0\xff\xff" in os.getxattr(second, "system.posix_acl_access")
    wait_until("old versions to go", lambda: not list((vm.root / "var/lib/evenkeel/jobs").glob("key-*")), 10)
    assert len(list(vm.file("/etc/tls").glob("*.PEM"))) == 2 and foreign.read_text() == "mine"


def test_killed_during_installs(vm, platform):
    version = vm.put(vm.make())
    vm.refresh({"name": "web"})
    for wait in (0, 0.02, 0.05, 0.1, 0.2, 0.4):
        vm.start()
        time.sleep(wait)
        vm.kill_daemon()
        if vm.file(f"{HOME}/web/current").exists():
            assert sorted(vm.set_of()) in (["fullchain.pem", "privkey.pem"], ["fullchain.pem"], ["privkey.pem"], [])
    vm.start()
    vm.wait_installed(version)
    vm.wait_top("success")
    assert sorted(vm.set_of()) == ["fullchain.pem", "privkey.pem"]
    assert len(list(vm.file(f"{HOME}/web/versions").iterdir())) == 1
    # Records that are damaged cost one more install, and nothing else.
    vm.kill_daemon()
    vm.file(f"{RECORDS}/web.json").write_bytes(os.urandom(100))
    vm.start()
    vm.wait_installed(version)


def test_many_at_a_time(vm, platform):
    names = [f"item{n}" for n in range(12)]
    certificate = vm.make()
    versions = {name: vm.put(certificate, name) for name in names}
    platform.set_fault("vault", "/secrets", delay_in_seconds=0.2)
    vm.refresh(*({"name": name} for name in names))
    vm.start()
    for name in names:
        vm.wait_installed(versions[name], name)
    vm.wait_top("success")
    # At most four at once: twelve with 0.2 s each take three rounds, and one token is enough for all.
    requests = platform.requests("vault", "/secrets")
    assert len(requests) == 12
    times = sorted(request["time"] for request in requests)
    assert all(later - earlier >= 0.15 for earlier, later in zip(times, times[4:]))
    assert len(platform.requests("imds", "/metadata/identity")) == 1


def test_uninstall_leaves_the_files_unless_told(vm, platform):
    version = vm.put(vm.make())
    vm.put(vm.make(), "mine")
    # One's own directory, too, where only root may give files away.
    owner = "nobody" if os.geteuid() == 0 else me()[0]
    mine = vm.file("/srv/app/tls")
    mine.mkdir(parents=True)
    shutil.chown(mine, owner)
    for remove in (False, True):
        vm.refresh({"name": "web"}, {"name": "mine", "directory": "/srv/app/tls", "owner": owner}, removeOnUninstall=remove)
        vm.start()
        vm.wait_installed(version)
        vm.wait_says("keyRefresh/mine", "success", "Version ")
        assert vm.call("POST", "/v1/retire")[0] in (200, 202)
        deadline = time.monotonic() + 15
        while (vm.file(f"{HOME}/web").exists() or mine.exists()) and remove:
            assert time.monotonic() < deadline, vm.log_text()
        assert vm.file(f"{HOME}/web").exists() == mine.exists() == (not remove)
        vm.stop_daemon()


def test_openssl_agrees_with_what_is_told(vm, platform):
    """Self-signed, so there is nothing to be in the chain."""
    version = vm.put(vm.make(key="rsa2048", chain=0))
    vm.refresh({"name": "web", "files": {"certificate": "cert.pem", "key": "key.pem", "chain": "chain.pem"}})
    vm.start()
    said = vm.wait_installed(version)
    assert vm.set_of()["chain.pem"] == b""
    out = subprocess.run(["openssl", "x509", "-noout", "-fingerprint", "-in", vm.file(f"{HOME}/web/cert.pem")], check=True,
                         capture_output=True, text=True).stdout
    assert out.partition("=")[2].strip().replace(":", "") in said
