"""Renewed certificates on their way into use: checked, switched, reloaded, verified, rolled back, and killed in between."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import ssl
import stat
import struct
import threading
import time

import pytest
from keys import HOME, RECORDS, SECRETS, SLOW, VAULT_NAME, Renewing
from observers import Webhook
from vm import me, wait_until

ROOT = os.geteuid() == 0


@pytest.fixture
def vm(tmp_path, platform):
    with Renewing(tmp_path, platform) as vm:
        yield vm
        wait_until("jobs to end", lambda: not list(vm.jobs()), 20 * SLOW)
        vm.check_nothing_leaked()


# ---- the way ----


def test_a_renewal_is_checked_told_and_settled(vm, platform):
    """Without systemd the check comes after the switch."""
    vm.hook("10-tell")
    old, first = vm.first()
    new, second = vm.renew()
    vm.wait_installed(second)
    wait_until("the hooks", lambda: vm.told("10-tell"), 20 * SLOW)
    assert vm.phases() == [("check", "check"), ("reload", "activate"), ("10-tell", "activate")]
    check, reload, hook = vm.told()
    directory = str(vm.file(f"{HOME}/web"))
    for one in (check, reload):
        assert one["seen"] == new["leaf"] + "".join(new["issuers"])
        environment = one["environment"]
        assert environment["EVENKEEL_NAME"] == environment["EVENKEEL_NAMES"] == "web"
        assert environment["EVENKEEL_KIND"] == "certificate" and environment["EVENKEEL_DIRECTORY"] == directory
        assert (environment["EVENKEEL_VERSION"], environment["EVENKEEL_THUMBPRINT"]) == (second, new["thumbprint"])
        assert (environment["EVENKEEL_FORMER_VERSION"], environment["EVENKEEL_FORMER_THUMBPRINT"]) == (first, old["thumbprint"])
        assert environment["EVENKEEL_NOT_AFTER"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(new["notAfter"]))
        assert environment["EVENKEEL_FILE_KEY"] == f"{directory}/privkey.pem"
    item = {"name": "web", "kind": "certificate", "version": second, "thumbprint": new["thumbprint"],
            "notAfter": environment["EVENKEEL_NOT_AFTER"], "directory": directory,
            "files": {"fullchain": f"{directory}/fullchain.pem", "key": f"{directory}/privkey.pem"}}
    assert hook["input"] == {"version": 1, "phase": "activate", "items": [item]}
    former = {"version": first, "thumbprint": old["thumbprint"]}
    assert reload["input"] == {"version": 1, "phase": "activate", "items": [{**item, "former": former}]}
    assert check["input"] == {"version": 1, "phase": "check", "items": [{**item, "former": former}]}
    assert hook["environment"]["EVENKEEL_NAMES"] == "web" and "EVENKEEL_NAME" not in hook["environment"]
    vm.settle()
    assert vm.in_use() == new["key"]
    assert len(list(vm.file(f"{HOME}/web/versions").iterdir())) == 2


def test_a_first_install_is_told_but_not_checked(vm, platform):
    vm.hook("tell")
    version = vm.put(vm.make())
    vm.refresh({"name": "web", "activate": vm.activate(check=["false"])})
    vm.start()
    vm.wait_installed(version)
    vm.wait_top("success")
    wait_until("the hooks", lambda: vm.told("tell"), 20 * SLOW)
    assert vm.phases() == [("reload", "activate"), ("tell", "activate")]
    assert vm.told("reload")[0]["environment"]["EVENKEEL_FORMER_VERSION"] == ""
    assert "former" not in vm.told("reload")[0]["input"]["items"][0]


def test_one_version_is_kept_when_one_is_asked_for(vm, platform):
    """Going back was possible all the same: the former one goes when the new one is in use."""
    vm.put(vm.make())
    vm.refresh({"name": "web", "keepVersions": 1, "activate": vm.activate(check=["false"])})
    vm.start()
    vm.wait_says("keyRefresh/web", "success")
    old = vm.in_use()
    vm.renew()
    vm.wait_says("keyRefresh/web", "warning", "is not put to use")
    vm.settle()
    assert vm.in_use() == old
    vm.refresh({"name": "web", "keepVersions": 1, "activate": vm.activate()})
    new, version = vm.renew()
    vm.wait_installed(version)
    vm.settle()
    assert vm.in_use() == new["key"] != old
    assert [path.name.partition("-")[0] for path in vm.file(f"{HOME}/web/versions").iterdir()] == [version]


# ---- a check that fails ----


def test_a_failing_check_leaves_what_is_in_use(vm, platform):
    old, first = vm.first()
    vm.script("check", "echo warming up; echo 'line 7: bad key' >&2; exit 3")
    _, second = vm.renew()
    said = vm.wait_says("keyRefresh/web", "warning", f"; version {second} is not put to use: ")
    vm.settle()
    assert said.startswith(f"Version {first}, ")
    assert "the check ended with exit code 3: line 7: bad key" in vm.say() and "next try in" in vm.say()
    assert vm.in_use() == old["key"] and vm.top() == "success"
    assert vm.phases() == [("check", "check")]
    assert len(list(vm.file(f"{HOME}/web/versions").iterdir())) == 1
    # The same version is not tried before its time, not even by another daemon.
    vm.restart()
    platform.wait_for_requests("vault", "/secrets/web", 1)
    vm.wait_says("keyRefresh/web", "warning", "is not put to use")
    assert len(vm.told()) == 1
    # New settings are a reason to try at once; so is another version.
    vm.refresh({"name": "web", "activate": vm.activate(timeoutInSeconds=50)})
    vm.reload()
    wait_until("another try", lambda: len(vm.told()) == 2, 20 * SLOW)
    vm.settle()
    vm.script("check")
    vm.forget()
    new, third = vm.renew()
    vm.wait_installed(third)
    assert vm.in_use() == new["key"]
    assert vm.phases() == [("check", "check"), ("reload", "activate")]


def test_a_check_that_hangs_is_ended(vm, platform):
    old, _ = vm.first(timeoutInSeconds=1)
    vm.script("check", "sleep 600")
    vm.renew()
    assert "longer than its limit" in vm.wait_says("keyRefresh/web", "warning", "is not put to use", 40 * SLOW)
    vm.settle()
    assert vm.in_use() == old["key"]


def test_an_item_that_goes_leaves_no_job(vm, platform):
    """Its check runs to its end, and nobody waits for it."""
    vm.first()
    go = vm.root / "go"
    vm.script("check", f"until [ -e {go} ]; do sleep 0.05; done")
    vm.put(vm.make())
    vm.reload()
    wait_until("the check", lambda: vm.phases() == [("check", "check")], 20 * SLOW)
    vm.refresh()
    vm.reload()
    wait_until("the new settings", lambda: not vm.substatus("keyRefresh/web"), 20 * SLOW)
    go.touch()
    wait_until("the job to go", lambda: not list(vm.jobs()), 20 * SLOW)


# ---- a reload that fails ----


def test_a_failing_reload_is_rolled_back(vm, platform):
    old, first = vm.first()
    vm.script("reload", "[ $EVENKEEL_PHASE = rollback ] || { echo no such socket >&2; exit 1; }")
    new, second = vm.renew()
    said = vm.wait_says("keyRefresh/web", "error", f"; version {second} was rolled back: ")
    vm.settle()
    assert "command 1 ended with exit code 1: no such socket" in said and said.startswith(f"Version {first}, ")
    assert vm.phases() == [("check", "check"), ("reload", "activate"), ("reload", "rollback")]
    rollback = vm.told()[-1]
    assert rollback["seen"] == old["leaf"] + "".join(old["issuers"])
    assert rollback["environment"]["EVENKEEL_VERSION"] == first
    assert rollback["environment"]["EVENKEEL_FORMER_VERSION"] == second
    assert vm.in_use() == old["key"] and vm.top() == "success"
    vm.restart()
    platform.wait_for_requests("vault", "/secrets/web", 1)
    vm.wait_says("keyRefresh/web", "error", "was rolled back")
    assert len(vm.told()) == 3
    vm.script("reload")
    newest, third = vm.renew()
    vm.wait_installed(third)
    vm.settle()
    assert vm.in_use() == newest["key"]


def test_what_was_in_use_is_removed_by_somebody(vm, platform):
    """There is nothing to go back to, and it is not tried for ever: what the vault has comes into the empty place."""
    _, first = vm.first()
    vm.script("reload", f"test -e {vm.root}/removed || rm -r {vm.file(HOME)}/web; touch {vm.root}/removed; exit 1")
    new, second = vm.renew()
    wait_until("the end of it", lambda: "what was in use before is not there any more" in vm.log_text(), 20 * SLOW)
    wait_until("the new one", lambda: vm.file(f"{HOME}/web/privkey.pem").exists(), 20 * SLOW)
    vm.script("reload")
    vm.wait_installed(second, limit=20 * SLOW)
    assert vm.in_use() == new["key"]


def test_going_back_is_told_until_it_is_heard(vm, platform):
    old, first = vm.first()
    vm.script("reload", "exit 1")
    vm.renew()
    vm.wait_says("keyRefresh/web", "error", "going back to it has failed")
    assert vm.in_use() == old["key"]
    # Also over a restart.
    vm.kill_daemon()
    vm.script("reload")
    vm.forget()
    vm.start()
    wait_until("the reload to be heard", lambda: ("reload", "rollback") in vm.phases(), 20 * SLOW)
    vm.settle()
    assert vm.told("reload")[0]["environment"]["EVENKEEL_VERSION"] == first


def test_no_deadlock_of_script_and_certificate(vm, platform):
    """The script waits for the certificate, whose command cannot work before the script has run."""
    version = vm.put(vm.make())
    ready = vm.root / "installed"
    vm.script("reload", f"test -e {ready}")
    user, group = me()
    vm.configure(keyRefresh={"certificates": [{"name": "web", "url": f"{SECRETS}/web", "owner": user, "group": group,
                                               "activate": vm.activate(verify={"endpoint": "127.0.0.1:1"})}]},
                 customScript={"waitFor": ["certificates"], "scripts": [
                     {"name": "site", "runAs": user, "commandToExecute": f"touch {ready}"}]})
    vm.start()
    vm.wait_says("customScript/site", "success", limit=30 * SLOW)
    vm.wait_says("keyRefresh/web", "success", f"Version {version}", 30 * SLOW)
    vm.settle()
    assert len(vm.told("reload")) >= 1


# ---- hooks ----


def test_hooks_are_told_once_of_all_and_until_they_succeed(vm, platform):
    vm.hook("tell", f"test -e {vm.root}/listening")
    for name in ("web", "mail"):
        vm.put(vm.make(name), name)
    vm.refresh({"name": "web"}, {"name": "mail"}, secrets=[
        {"name": "word", "url": f"{SECRETS}/word", "path": "/etc/app/word"}])
    platform.put_secret(VAULT_NAME, "word", "first")
    vm.start()
    for name in ("web", "mail", "word"):
        vm.wait_says(f"keyRefresh/{name}", "warning", "hooks of ")
    vm.wait_top("success")
    [told] = vm.told()
    assert sorted(told["environment"]["EVENKEEL_NAMES"].split()) == ["mail", "web", "word"]
    assert {item["name"]: item["kind"] for item in told["input"]["items"]} == {
        "web": "certificate", "mail": "certificate", "word": "secret"}
    (vm.root / "listening").touch()
    vm.restart()
    for name in ("web", "mail", "word"):
        vm.wait_says(f"keyRefresh/{name}", "success", "Version ", 30 * SLOW)
    wait_until("the hooks to be told", lambda: len(vm.told()) == 2, 20 * SLOW)
    wait_until("that to be noted", lambda: "untold" not in str(vm.record()), 10 * SLOW)
    vm.restart()
    vm.wait_says("keyRefresh/web", "success")
    assert len(vm.told()) == 2


def test_those_who_are_to_be_told_of_certificates_are(vm, platform):
    first = vm.put(vm.make())
    user, group = me()
    with Webhook() as to:
        vm.configure(notify={"webhooks": [{"name": "w", "url": to.url, "on": ["certificate"]}]},
                     keyRefresh={"certificates": [{"name": "web", "url": f"{SECRETS}/web", "owner": user, "group": group,
                                                   "activate": vm.activate()}]})
        vm.start()
        notice = to.wait("is installed")
        assert (notice["kind"], notice["subject"], notice["message"]) == ("certificate", "web", f"web: version {first} is installed")
        vm.settle()
        _, second = vm.renew()
        assert to.wait("is in use")["message"] == f"web: version {second} is in use"


# ---- the endpoint ----


class Endpoint(threading.Thread):
    """A TLS server for one name; it serves what `files` say at the moment it is asked to."""

    def __init__(self, files):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.files = files
        self.names = []
        self.on_call = None
        self.context = None
        self.load()
        self.start()

    def load(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files)
        context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self.context = context

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            if self.on_call:
                self.on_call()
            try:
                connection.settimeout(5)
                with self.context.wrap_socket(connection, server_side=True) as tls:
                    tls.recv(1)
            except OSError:
                pass

    def close(self):
        if self.is_alive():
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.join(10)


@pytest.fixture
def endpoint(vm):
    """Serving the certificate that is installed, with everything asked for of a renewal."""
    certificate = vm.make()
    version = vm.put(certificate)
    vm.refresh({"name": "web"})
    vm.start()
    vm.wait_installed(version)
    server = Endpoint((vm.file(f"{HOME}/web/fullchain.pem"), vm.file(f"{HOME}/web/privkey.pem")))
    server.certificate = certificate
    vm.refresh({"name": "web", "activate": {"verify": {"endpoint": server.address, "serverName": "shop.example",
                                                       "timeoutInSeconds": 3}}})
    yield server
    server.close()


def test_the_endpoint_is_asked_until_it_serves_it(vm, endpoint):
    calls = []

    def third_time():
        calls.append(1)
        if len(calls) == 3:
            endpoint.load()

    endpoint.on_call = third_time
    new, version = vm.renew()
    vm.wait_installed(version)
    vm.settle()
    assert len(calls) == 3 and set(endpoint.names) == {"shop.example"}
    assert vm.in_use() == new["key"]


def test_an_endpoint_that_goes_on_as_before_is_a_rollback(vm, endpoint):
    _, version = vm.renew()
    said = vm.wait_says("keyRefresh/web", "error", f"; version {version} was rolled back: {endpoint.address} does not serve it: ",
                        30 * SLOW)
    assert f"it serves the one with thumbprint {endpoint.certificate['thumbprint']}" in said
    vm.settle()
    assert vm.in_use() == endpoint.certificate["key"]
    # The daemon has answered all the time.
    assert vm.top() == "success"


def test_an_endpoint_that_is_away_is_a_rollback(vm, endpoint):
    endpoint.close()
    port = int(endpoint.address.rpartition(":")[2])
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", port))  # and nobody listens
        vm.renew()
        assert "connection refused" in vm.wait_says("keyRefresh/web", "error", "does not serve it: ", 30 * SLOW)
        vm.settle()
    assert vm.in_use() == endpoint.certificate["key"]


# ---- plain secrets ----


def test_a_plain_secret_goes_the_same_way(vm, platform):
    path = vm.file("/etc/app/word")
    secret = {"name": "word", "url": f"{SECRETS}/word", "path": "/etc/app/word", "mode": "0440", "activate": vm.activate()}
    platform.put_secret(VAULT_NAME, "word", "first")
    vm.refresh(secrets=[secret])
    vm.start()
    vm.wait_says("keyRefresh/word", "success")
    wait_until("it to be told", lambda: vm.told("reload"), 20 * SLOW)

    def renew(value, level, words=""):
        vm.forget()
        vm.stop_daemon()
        platform.put_secret(VAULT_NAME, "word", value)
        vm.start()
        vm.wait_says("keyRefresh/word", level, words, 30 * SLOW)
        wait_until("it to end", lambda: vm.record("word").get("activation", {}).get("step") == "none" and not list(vm.jobs()),
                   20 * SLOW)
        assert stat.S_IMODE(path.stat().st_mode) == 0o440
        assert [entry.name for entry in path.parent.iterdir()] == ["word"]

    version = platform.put_secret(VAULT_NAME, "word", "second")
    vm.restart()
    vm.wait_says("keyRefresh/word", "success", f"Version {version}")
    assert path.read_text() == "second"
    assert [one["seen"] for one in vm.told("check")] == ["second"]
    vm.script("check", "exit 1")
    renew("third", "warning", "is not put to use")
    assert path.read_text() == "second"
    vm.script("check")
    vm.script("reload", "[ $EVENKEEL_PHASE = rollback ]")
    renew("fourth", "error", "was rolled back")
    assert path.read_text() == "second"
    assert [(one["script"], one["seen"]) for one in vm.told()] == [("check", "fourth"), ("reload", "fourth"), ("reload", "second")]
    vm.script("reload")
    renew("fifth", "success")
    assert path.read_text() == "fifth"


# ---- kills ----


@pytest.mark.parametrize("script", ["check", "reload"])
@pytest.mark.parametrize("fails", [False, True], ids=["good", "failing"])
def test_killed_in_a_step_it_goes_on(vm, platform, script, fails):
    """The step itself kills the daemon, once; what it comes to is what it would have come to."""
    old, first = vm.first()
    verdict = "exit 1" if fails else "exit 0"
    vm.script(script, f"""
[ $EVENKEEL_PHASE = rollback ] && exit 0
[ -e {vm.root}/killed ] || {{ : >{vm.root}/killed; kill -9 $(cat {vm.root}/pid); }}
{verdict}""")
    vm.stop_daemon()
    new = vm.make()
    second = vm.put(new)
    vm.start(wait=False)
    (vm.root / "pid").write_text(str(vm.daemon_pid))
    vm.daemons[-1].wait(20 * SLOW)
    assert vm.daemons[-1].returncode == -signal.SIGKILL
    vm._daemon = None
    if not fails:
        assert vm.in_use() in (old["key"], new["key"])
    vm.start()
    vm.settle()
    if fails:
        vm.wait_says("keyRefresh/web", "warning" if script == "check" else "error", second)
    else:
        vm.wait_installed(second)
    assert vm.in_use() == (old if fails else new)["key"]
    # Whoever was told last was told of what is in use.
    told = vm.told("reload")
    if told:
        assert told[-1]["environment"]["EVENKEEL_VERSION"] == (first if fails else second)


def test_killed_at_any_time_it_is_the_old_set_or_the_new_one(vm, platform):
    old, _ = vm.first()
    keys = {old["key"]}
    for round, wait in enumerate((0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3)):
        vm.stop_daemon() if vm._daemon else None
        certificate = vm.make()
        keys.add(certificate["key"])
        vm.put(certificate)
        vm.start(wait=False)
        time.sleep(wait * SLOW)
        vm.kill_daemon()
        assert vm.in_use() in keys
    vm.forget()
    last, version = vm.renew()
    vm.wait_installed(version)
    vm.settle()
    assert vm.in_use() == last["key"]
    assert vm.told("reload")[-1]["environment"]["EVENKEEL_VERSION"] == version
    assert vm.record()["version"] == version


# ---- a full disk ----


@pytest.mark.skipif(not ROOT, reason="needs root to mount a small file system")
@pytest.mark.parametrize("where", ["var/lib/evenkeel/certificates", "var/lib/evenkeel/state", "var/lib/evenkeel/jobs", "run/evenkeel/jobs"])
def test_a_full_disk_changes_nothing(vm, platform, where):
    """Each place that is written to, full: the former set stays, whole, and the new one comes when there is room again."""
    full = vm.root / where
    full.mkdir(parents=True, exist_ok=True)
    version = vm.put(vm.make())
    vm.refresh({"name": "web", "activate": vm.activate()})
    filler = full / "filler"
    mount = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size=256k,mode=0711 none {full} && exec "$@"', "sh")
    vm.start(prefix=mount)
    vm.wait_installed(version)
    pid = vm.daemon_pid
    inside = pathlib.Path(f"/proc/{pid}/root{full}")

    def step():
        return json.loads((pathlib.Path(f"/proc/{pid}/root") / str(vm.file(f"{RECORDS}/web.json")).lstrip("/")).read_text()).get(
            "activation", {}).get("step", "none")

    wait_until("it to be settled", lambda: step() == "none", 20 * SLOW)
    home = pathlib.Path(f"/proc/{pid}/root") / str(vm.file(f"{HOME}/web")).lstrip("/")
    old = (home / "privkey.pem").read_text()
    new = vm.make()
    second = vm.put(new)
    descriptor = os.open(inside / filler.name, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, b"x" * 512)
    os.close(descriptor)
    # Asked again because the settings are new.
    vm.refresh({"name": "web", "keepVersions": 3, "url": f"{SECRETS}/web/{second}", "activate": vm.activate()})
    vm.reload()
    wait_until("it to be tried", lambda: f"Version {second}" in vm.say() or "No space left" in vm.say(), 20 * SLOW)
    assert (home / "privkey.pem").read_text() in (old, new["key"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(home / "fullchain.pem", home / "privkey.pem")
    if where.endswith("certificates"):
        assert (home / "privkey.pem").read_text() == old
    (inside / filler.name).unlink()
    vm.refresh({"name": "web", "keepVersions": 4, "url": f"{SECRETS}/web/{second}", "activate": vm.activate()})
    vm.reload()
    vm.wait_says("keyRefresh/web", "success", f"Version {second}", 40 * SLOW)
    assert (home / "privkey.pem").read_text() == new["key"]


# ---- who can get at the files ----


@pytest.mark.skipif(not ROOT, reason="needs root to give files to others")
def test_who_cannot_reach_the_files_is_told_of(vm, platform):
    version = vm.put(vm.make())
    closed = vm.file("/etc/app")
    closed.mkdir(mode=0o700)
    vm.refresh({"name": "web", "directory": "/etc/app/tls", "acls": [{"user": "nobody"}, {"group": "daemon"}]})
    vm.start()
    said = vm.wait_says("keyRefresh/web", "warning", f"Version {version}")
    assert f"user nobody cannot reach the files: directory {closed} is 0700" in said
    assert f"group daemon cannot reach the files: directory {closed} is 0700" in said
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    vm.wait_top("success")
    assert "cannot reach the files" in vm.log_text()


@pytest.mark.skipif(not ROOT, reason="needs root to give files to others")
def test_directories_of_ours_are_opened_and_closed_again(vm, platform):
    """The agent's own directory is 0700, and the peer's store below it: an access list on a key alone helps nobody."""
    vm.put(vm.make())
    waagent, store = vm.file("/var/lib/waagent"), vm.file("/var/lib/waagent/store")
    store.mkdir(mode=0o700)
    waagent.chmod(0o700)
    vm.refresh({"name": "web", "directory": "/var/lib/waagent/store", "acls": [{"user": "nobody"}]}, removeOnUninstall=True)
    vm.start()
    vm.wait_says("keyRefresh/web", "success", "Version ")
    for directory in (waagent, store):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o710  # the mask shows as the group's bits
        assert struct.pack("<HHI", 2, 1, 65534) in os.getxattr(directory, "system.posix_acl_access")
    assert vm.record()["opened"] == [f"user:65534:{waagent}", f"user:65534:{store}"]
    # Renewed, it is not opened again; uninstalled with the files, it is as before.
    vm.renew()
    wait_until("the renewal", lambda: vm.log_text().count("is installed") == 2, 20 * SLOW)
    assert len(vm.record()["opened"]) == 2
    wait_until("jobs to end", lambda: not list(vm.jobs()), 10 * SLOW)
    assert vm.call("POST", "/v1/retire")[0] in (200, 202)
    wait_until("the way to be closed", lambda: stat.S_IMODE(waagent.stat().st_mode) == 0o700, 20 * SLOW)
    with pytest.raises(OSError):
        os.getxattr(waagent, "system.posix_acl_access")
    assert not store.exists()
