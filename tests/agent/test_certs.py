"""`evenkeel certs`: the table, asking the vault now, checking what is on disk; and what a reload does."""

import json
import os
import pathlib
import shutil
import tempfile
import time

import pytest
from keys import HOME, RECORDS, SECRETS, VAULT_NAME
from observers import Webhook, hooks, scrape, value
from vm import free_port, me, wait_until

ATTENTION = 6


@pytest.fixture
def platform(fresh_platform):
    return fresh_platform


@pytest.fixture
def tmp_path():
    """Others pass through in some tests: not through pytest's, which every other run of it closes to them."""
    with tempfile.TemporaryDirectory(prefix="ek-certs-") as directory:
        yield pathlib.Path(directory)


@pytest.fixture
def vm(keys_vm):
    return keys_vm


def certs(vm, *arguments, code=0):
    done = vm.run("certs", *arguments)
    assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done


def view(vm):
    document = json.loads(certs(vm, "--json").stdout)
    return document, {one["name"]: one for one in document["certificates"]}


def rows(text):
    lines = [line.split("  ") for line in text.splitlines()]
    return [[cell.strip() for cell in line if cell.strip()] for line in lines]


def installed(vm, *names, **make):
    """Certificates of these names are in the vault, asked for and installed: {name: certificate}."""
    made = {name: vm.make(name, **make) for name in names}
    versions = {name: vm.put(certificate, name) for name, certificate in made.items()}
    vm.refresh(*({"name": name} for name in names))
    vm.start()
    for name, version in versions.items():
        vm.wait_says(f"keyRefresh/{name}", "success", f"Version {version}")
    return {name: {**certificate, "version": versions[name]} for name, certificate in made.items()}


# The table

def test_the_table_is_by_expiry_and_tells_all(vm, platform):
    late = vm.make("late", lifetime_in_seconds=300.5 * 86400)
    soon = vm.make("soon", lifetime_in_seconds=12.5 * 86400)
    versions = {name: vm.put(one, name) for name, one in (("late", late), ("soon", soon))}
    platform.put_secret(VAULT_NAME, "word", "hush-hush")
    vm.refresh({"name": "late"}, {"name": "soon"}, {"name": "none"},
               secrets=[{"name": "word", "url": f"{SECRETS}/word", "path": "/etc/app/word"}])
    vm.start()
    vm.wait_installed(versions["late"], "late")
    vm.wait_installed(versions["soon"], "soon", "warning")
    vm.wait_says("keyRefresh/word", "success")
    vm.wait_says("keyRefresh/none", "transitioning", "404")
    text = certs(vm).stdout
    table = rows(text)
    assert table[0] == ["NAME", "STATE", "NOT AFTER", "LEFT", "NEXT TRY", "IDENTITY", "VERSION", "THUMBPRINT", "WHERE"]
    assert [row[0] for row in table[1:5]] == ["none", "soon", "late", "word"]
    day = time.strftime("%Y-%m-%d", time.gmtime(soon["notAfter"]))
    assert table[2][:4] == ["soon", "expiring", day, "12 d"]
    assert table[2][5:] == ["client id 5e29463d-0000-4000-8000-000000000001", versions["soon"], soon["thumbprint"],
                            str(vm.file(f"{HOME}/soon"))]
    assert table[1][1] == "pending" and table[3][1] == "installed" and table[3][3] == "300 d"
    # What is wrong stands below it, whole.
    assert "none: demovault.vault.azure.net/secrets/none: answered 404" in text
    document, found = view(vm)
    assert document["live"] and document["configured"]
    assert found["late"]["level"] == "success" and found["soon"]["level"] == "warning"
    assert found["late"]["nextTry"] > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert "404" in found["none"]["error"] and "nextTry" in found["none"] and "notAfter" not in found["none"]
    assert found["word"]["where"] == str(vm.file("/etc/app/word")) and "hush" not in text + json.dumps(document)


def test_without_the_service_its_records_tell(vm, platform):
    made = installed(vm, "web")["web"]
    _, running = view(vm)
    vm.stop_daemon()
    done = certs(vm)
    assert "the service is not running" in done.stderr
    assert rows(done.stdout)[1][:2] == ["web", "installed"] and made["thumbprint"] in done.stdout
    document, found = view(vm)
    assert "live" not in document
    for member in ("nextTry", "asked", "answered"):
        running["web"].pop(member, None)
    assert found["web"] == running["web"]
    assert certs(vm, "check").stdout == "web: ok\n"
    # A damaged record is an error that names it; without the section there is nothing to tell.
    vm.file(f"{RECORDS}/web.json").write_text("{")
    assert "the certificate's record: " in certs(vm, code=1).stderr
    vm.configure()
    vm.start()
    assert "no certificates" in certs(vm).stdout
    vm.stop_daemon()
    assert "no certificates" in certs(vm).stdout


# Asking the vault

def test_refresh_waits_for_the_outcome(vm, platform):
    made = installed(vm, "web", "api")
    platform.clear_requests()
    done = certs(vm, "refresh", "web")
    assert f"web: unchanged, version {made['web']['version']}, valid until " in done.stdout and "api" not in done.stdout
    assert [request["path"] for request in platform.requests("vault")] == ["/secrets/web"]
    newest = vm.put(vm.make("api"), "api")
    said = certs(vm, "refresh").stdout
    assert "asking for 2 items" in said
    assert f"web: unchanged, version {made['web']['version']}" in said and f"api: installed, version {newest}" in said
    assert newest in os.readlink(vm.file(f"{HOME}/api/current"))
    assert "no certificate or secret has the name \"nix\"" in certs(vm, "refresh", "nix", code=1).stderr
    # A try that was under way when the order came is not its answer.
    platform.set_fault("vault", "/secrets/api", delay_in_seconds=1, times=1)
    vm.reload()
    wait_until("the first request", lambda: view(vm)[1]["api"].get("nextTry") is None, 10)
    last = vm.put(vm.make("api"), "api")
    assert last in certs(vm, "refresh", "api").stdout


def test_refresh_tells_failures(vm, platform):
    made = installed(vm, "web", "api")
    platform.set_fault("vault", "/secrets/web", status=403)
    done = certs(vm, "refresh", code=1)
    assert "web: demovault.vault.azure.net/secrets/web: answered 403" in done.stderr and "next try at" in done.stderr
    assert f"api: unchanged, version {made['api']['version']}" in done.stdout
    platform.clear_faults()
    assert "web: unchanged" in certs(vm, "refresh", "web").stdout
    # What the vault has forbidden for a while is not asked by anybody: neither this one nor another of the same vault.
    platform.set_fault("vault", "/secrets/web", status=429, headers={"Retry-After": "300"}, times=1)
    assert "answered 429" in certs(vm, "refresh", "web", code=1).stderr
    platform.clear_requests()
    assert "2 not: the vault has had too many requests" in certs(vm, "refresh", code=1).stdout
    vm.reload()
    wait_until("the reload", lambda: vm.status(), 10)
    assert platform.requests("vault") == []
    vm.stop_daemon()
    assert "not running" in certs(vm, "refresh", code=4).stderr


def test_a_reload_polls_and_a_goal_state_does_not(vm, platform):
    made = installed(vm, "web")["web"]
    before = os.lstat(vm.file(f"{HOME}/web/current")).st_ctime_ns
    platform.clear_requests()
    assert vm.call("POST", "/v1/goal")[0] == 200
    time.sleep(0.3)
    assert platform.requests("vault") == []
    vm.reload()
    platform.wait_for_requests("vault", "/secrets/web", 1)
    wait_until("its end", lambda: view(vm)[1]["web"].get("nextTry"), 10)
    assert os.lstat(vm.file(f"{HOME}/web/current")).st_ctime_ns == before
    newest = vm.put(vm.make())
    vm.reload()
    assert made["version"] != newest
    vm.wait_installed(newest)


def test_expiry_is_logged_once_each(vm, platform):
    vm.put(vm.make(lifetime_in_seconds=13.5 * 86400))
    vm.refresh({"name": "web"})
    vm.start()
    vm.wait_says("keyRefresh/web", "warning", "it expires in 13 days")
    for _ in range(2):
        vm.restart()
        certs(vm, "refresh")
    assert vm.log_text().count("expires within 14 days") == 1
    # Another threshold, and another version.
    vm.refresh({"name": "web"}, expiryWarningInDays=[30, 13, 7, 20])
    vm.reload()
    certs(vm, "refresh")
    assert vm.log_text().count("expires within") == 1
    vm.put(vm.make(lifetime_in_seconds=5 * 86400))
    certs(vm, "refresh")
    assert vm.log_text().count("expires within 7 days") == 1


def test_certificates_are_told_and_measured(vm, platform):
    port = free_port()
    certificate = vm.make(lifetime_in_seconds=40 * 86400)
    version = vm.put(certificate)
    user, group = me()
    with Webhook() as to:
        hooks(vm, {"url": to.url, "on": ["certificate"]}, health={"metricsListen": f"127.0.0.1:{port}"}, keyRefresh={
            "pollingIntervalInSeconds": 60, "certificates": [
                {"name": "web", "url": f"{SECRETS}/web", "owner": user, "group": group}]})
        vm.start()
        vm.wait_installed(version)
        assert to.wait(f"version {version} is installed")["subject"] == "web"
        text = scrape(port)[1]
        assert value(text, 'evenkeel_certificate_not_after_timestamp_seconds{certificate="web"}') == certificate["notAfter"]
        assert value(text, 'evenkeel_certificate_problem{certificate="web"}') == 0
        assert value(text, 'evenkeel_certificate_installs_total{certificate="web",result="installed"}') == 1
        assert abs(value(text, 'evenkeel_certificate_last_check_timestamp_seconds{certificate="web"}') - time.time()) < 60
        soon = vm.put(vm.make(lifetime_in_seconds=6.5 * 86400))
        certs(vm, "refresh")
        notice = to.wait("expires within")
        assert notice["message"] == f"web: version {soon} expires within 7 days; renew it in the vault"
        assert notice["kind"] == "certificate" and notice["subject"] == "web" and not notice["problem"]
        platform.set_fault("vault", "/secrets/web", status=403)
        certs(vm, "refresh", code=1)
        certs(vm, "refresh", code=1)
        assert value(scrape(port)[1], 'evenkeel_certificate_problem{certificate="web"}') == 1
        # An expiry is told once.
        assert [n["message"] for n in to.taken() if "expires" in n["message"]] == [
            f"web: version {soon} expires within 7 days; renew it in the vault"]


# Checking

def test_check_finds_what_is_wrong(vm, platform):
    installed(vm, "web", "api")
    key, chain = vm.file(f"{HOME}/web/privkey.pem"), vm.file(f"{HOME}/web/fullchain.pem")
    assert certs(vm, "check").stdout == "web: ok\napi: ok\n" or certs(vm, "check").stdout == "api: ok\nweb: ok\n"
    good = key.read_bytes()
    key.chmod(0o644)
    assert f"web: error: {key} has mode 0644, the settings say 0600" in certs(vm, "check", code=1).stdout
    key.chmod(0o600)
    key.write_bytes(vm.file(f"{HOME}/api/privkey.pem").read_bytes())
    said = certs(vm, "check", code=1).stdout
    assert f"web: error: {chain} and {key}: " in said and "key" in said and "api: ok" in said
    key.write_bytes(good[:100])
    assert "web: error: " in certs(vm, "check", code=1).stdout
    key.write_bytes(b"")
    assert f"web: error: {key} is empty" in certs(vm, "check", code=1).stdout
    key.write_bytes(good)
    assert certs(vm, "check").returncode == 0
    for name in ("fullchain.pem", "privkey.pem"):
        shutil.copy(vm.file(f"{HOME}/api/{name}"), vm.file(f"{HOME}/web/{name}").resolve())
    assert "holds another certificate" in certs(vm, "check", code=1).stdout
    key.resolve().unlink()
    assert f"web: error: {key} is missing" in certs(vm, "check", code=1).stdout
    vm.stop_daemon()
    assert f"web: error: {key} is missing" in certs(vm, "check", code=1).stdout


def test_check_tells_what_needs_attention(vm, platform):
    whole = vm.make("gap", chain=2)
    vm.put({"pem": whole["key"] + whole["leaf"] + whole["issuers"][1]}, "gap")
    vm.put(vm.make("soon", lifetime_in_seconds=6.5 * 86400), "soon")
    vm.refresh({"name": "gap"}, {"name": "soon"})
    vm.start()
    vm.wait_says("keyRefresh/gap", "warning")
    vm.wait_says("keyRefresh/soon", "warning")
    said = certs(vm, "check", code=ATTENTION).stdout
    assert "gap: warning: " in said and "the chain is incomplete" in said and "soon: warning: it expires in 6 d" in said
    vm.put(vm.make("hours", lifetime_in_seconds=7200), "hours")
    vm.refresh({"name": "gap"}, {"name": "soon"}, {"name": "hours"}, {"name": "none"})
    vm.reload()
    vm.wait_says("keyRefresh/hours", "error")
    vm.wait_says("keyRefresh/none", "transitioning", "404")
    said = certs(vm, "check", code=1).stdout
    assert "hours: error: it expires in" in said and "none: error: it is not installed: " in said


@pytest.mark.parametrize("files", [{"combined": "all.pem"}, {"certificate": "c.pem", "chain": "i.pem", "key": "k.pem"},
                                   {"fullchain": "f.pem"}, {"key": "k.pem"}, {"fullchain": "f.pem", "pkcs12": "k.p12"}], ids=lambda files: "-".join(files))
def test_check_knows_every_shape(vm, platform, files):
    version = vm.put(vm.make())
    vm.refresh({"name": "web", "files": files})
    vm.start()
    vm.wait_installed(version)
    assert certs(vm, "check").stdout == "web: ok\n"


@pytest.mark.parametrize("password", [None, "a word"])
def test_check_opens_pkcs12_without_a_password(vm, platform, password):
    version = vm.put(vm.make())
    if password:
        secrets = vm.root / "etc/evenkeel/secrets.json"
        secrets.parent.mkdir(exist_ok=True)
        secrets.write_text(json.dumps({"secrets": {"p": password}}))
        secrets.chmod(0o600)
    vm.refresh({"name": "web", "files": {"pkcs12": "k.p12"}, **({"pkcs12Password": {"secretRef": "p"}} if password else {})})
    vm.start()
    vm.wait_installed(version)
    assert certs(vm, "check").stdout == "web: ok\n"
    path = vm.file(f"{HOME}/web/k.p12").resolve()
    path.write_bytes(path.read_bytes()[:-20])
    assert f"web: error: {vm.file(HOME)}/web/k.p12: " in certs(vm, "check", code=1).stdout


@pytest.mark.parametrize("layout", ["3", "4"])
def test_check_knows_the_stores_of_the_peer(vm, platform, layout):
    version = vm.put(vm.make())
    store = "/opt/store"
    observed = {"url": f"{SECRETS}/web", "certificateStoreLocation": store, "acls": [{"user": "nobody"}]}
    if layout == "3":
        observed["customSymbolicLinkName"] = "mine"
    vm.configure(secretsManagementSettings={"pollingIntervalInS": "3600", "observedCertificates": [observed]})
    vm.start()
    name = f"{VAULT_NAME}.web"
    vm.wait_says(f"keyRefresh/{name}", "success", version)
    open_way(vm)
    assert certs(vm, "check").stdout == f"{name}: ok\n"
    files = [vm.file(f"{store}/mine")] if layout == "3" else [vm.file(f"{store}/{name}.{end}") for end in ("pem", "keyid")]
    assert [one["path"] for one in view(vm)[1][name]["files"]] == [str(path) for path in files]
    os.removexattr(files[-1], "system.posix_acl_access")
    assert f"{files[-1]}: its access list does not let user nobody read" in certs(vm, "check", code=1).stdout


def open_way(vm):
    """Others may pass through what pytest made for us alone."""
    for directory in (vm.root, *vm.root.parents):
        if directory.stat().st_uid == os.getuid() and not directory.stat().st_mode & 0o001:
            directory.chmod(directory.stat().st_mode | 0o001)


def test_check_walks_the_way_of_every_named_user(vm, platform):
    version = vm.put(vm.make())
    vm.refresh({"name": "web", "directory": "/srv/app/tls", "acls": [{"user": "nobody"}]})
    vm.start()
    vm.wait_installed(version)
    open_way(vm)
    assert certs(vm, "check").stdout == "web: ok\n"
    vm.file("/srv/app").chmod(0o700)
    said = certs(vm, "check", code=1).stdout
    assert f"web: error: user nobody cannot reach the file: directory {vm.file('/srv/app')} is 0700" in said
    # A door in the way opens it again, as the kernel sees it, too.
    acl = b"\x02\x00\x00\x00"
    nobody = 65534
    for tag, permissions, who in ((1, 7, -1), (2, 1, nobody), (4, 0, -1), (0x10, 1, -1), (0x20, 0, -1)):
        acl += tag.to_bytes(2, "little") + permissions.to_bytes(2, "little") + (who & 0xffffffff).to_bytes(4, "little")
    os.setxattr(vm.file("/srv/app"), "system.posix_acl_access", acl)
    assert certs(vm, "check").stdout == "web: ok\n"
    if os.getuid() == 0:
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(nobody)
            os.setuid(nobody)
            os._exit(0 if os.access(vm.file("/srv/app/tls/privkey.pem"), os.R_OK) else 1)
        assert os.waitpid(child, 0)[1] == 0
    vm.file("/srv/app/tls/privkey.pem").chmod(0o600)
    assert "does not let user nobody read" in certs(vm, "check", code=1).stdout
