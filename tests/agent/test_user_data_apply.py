"""User data that is applied by the built program: consent, cloud-init beside it, parts and formats, settings in it, orders."""

import base64
import fcntl
import gzip
import http.server
import json
import pathlib
import re
import threading
import time

import pytest
from applying import SECRET, ApplyingVM, revision, script
from configured import PATIENCE
from vm import free_port, http_get, may_trace, me, next_version, wait_until
from vm import script as own_script

def multipart(*parts):
    """parts: (content type, bytes[, transfer encoding])."""
    out = [b'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="=="\n']
    for content_type, body, *encoding in parts:
        header = f"Content-Type: {content_type}\n"
        if encoding:
            header += f"Content-Transfer-Encoding: {encoding[0]}\n"
        out.append(f"--==\n{header}\n".encode() + body)
    return b"\n".join([*out, b"--==--\n"])


@pytest.fixture
def platform(fresh_platform):
    return fresh_platform


@pytest.fixture
def vm(tmp_path, platform):
    with ApplyingVM(tmp_path, platform) as vm:
        vm.apply()
        yield vm
        # Nothing of the content is anywhere but in files that only root can read.
        assert SECRET not in vm.log_text() + (json.dumps(vm.status()) if vm._daemon else "")
        for path in vm.root.glob("var/lib/evenkeel/state/user-data*"):
            assert path.stat().st_mode & 0o077 == 0, path


# What is run, and what is not

def test_baseline_is_adopted_and_a_change_is_applied_once(vm):
    vm.has_baseline()
    assert vm.told() == [] and vm.top() == "success"
    new = vm.push(vm.notes("one"))
    said = vm.wait_says("userData", "success", "applied at")
    assert f"revision {new}" in said and "part 1 (part-001, text/x-shellscript): done: exit code 0" in said
    assert vm.told() == ["one"]
    for _ in range(2):
        vm.look_again()
        vm.wait_says("userData", "success", "applied at")
    assert vm.told() == ["one"]
    # Another, and the first again: once per content and machine.
    two = vm.push(vm.notes("two"))
    vm.wait_says("userData", "success", f"revision {two}")
    wait_until("the second", lambda: vm.told() == ["one", "two"], PATIENCE)
    vm.wait_says("userData", "success", "applied at")
    vm.push(vm.notes("one"))
    vm.wait_says("userData", "success", f"revision {new}")
    time.sleep(0.5)
    assert vm.told() == ["one", "two"]
    assert vm.states()[new] == vm.states()[two] == "applied" and vm.top() == "success"


def test_baseline_run(vm):
    vm.apply(user={"baseline": "run"})
    vm.platform.set_user_data(vm.notes("found"))
    vm.start()
    vm.wait_says("userData", "success", "applied at")
    assert vm.told() == ["found"]


def test_nothing_is_run_without_consent(vm):
    vm.configure(userData={"pollingIntervalInSeconds": 10})
    vm.has_baseline()
    new = vm.push(vm.notes("one"))
    vm.wait_says("userData", "success", 'not applied: userData.action is "report"')
    assert vm.states()[new] == "pending" and vm.told() == []
    # An operator's order is consent, once.
    done = vm.run("userdata", "apply", new)
    assert done.returncode == 0, done.stderr
    vm.wait_says("userData", "success", "applied at")
    assert vm.told() == ["one"]
    # Consent that comes later is for what is there.
    vm.push(vm.notes("two"))
    vm.wait_says("userData", "success", 'not applied: userData.action is "report"')
    vm.apply()
    vm.reload()
    vm.wait_says("userData", "success", "applied at")
    assert vm.told() == ["one", "two"]


def test_orders(vm):
    vm.has_baseline()
    vm.configure(userData={"pollingIntervalInSeconds": 10})
    vm.reload()
    new = vm.push(vm.notes("one"))
    vm.wait_says("userData", "success", "not applied")
    wrong = vm.run("userdata", "ignore", "ffffffff")
    assert wrong.returncode == 1 and "is not what is there now" in wrong.stderr
    assert vm.run("userdata", "ignore").returncode == 0
    vm.wait_says("userData", "success", "ignored by an operator's order")
    vm.apply()
    vm.reload()
    vm.look_again()
    vm.wait_says("userData", "success", "ignored by an operator's order")
    assert vm.told() == []
    assert vm.run("userdata", "apply", new[:6]).returncode == 0
    vm.wait_says("userData", "success", "applied at")
    assert vm.run("userdata", "apply").returncode == 0
    wait_until("the second run", lambda: vm.told() == ["one", "one"], PATIENCE)


# Beside cloud-init

def test_first_boot_belongs_to_cloud_init(vm):
    data = vm.notes("one")
    vm.platform.set_user_data(data)
    vm.cloud_init(data, finished=False)
    vm.start()
    vm.wait_says("userData", "transitioning", "waiting for cloud-init to finish")
    vm.cloud_init(data)
    vm.wait_says("userData", "success", "cloud-init has applied it at the first boot")
    assert vm.told() == []
    two = vm.push(vm.notes("two"))
    vm.wait_says("userData", "success", "applied at")
    assert vm.told() == ["two"] and vm.states()[two] == "applied"


def test_where_custom_data_won_at_the_first_boot(vm):
    vm.cloud_init(b"#!/bin/sh\n# custom data\n")
    vm.platform.set_user_data(vm.notes("one"))
    vm.start()
    vm.wait_says("userData", "success", "applied at")
    assert vm.told() == ["one"]


def test_installed_later_equality_proves_nothing(vm):
    data = vm.notes("one")
    vm.cloud_init(data, first_boot=False)
    vm.platform.set_user_data(data)
    vm.start()
    vm.wait_says("userData", "success", "it was there at the first look")
    assert vm.told() == []


def test_boot_hooks_that_cloud_init_has_run(vm):
    vm.apply(user={"parts": ["shellscript", "boothook"]})
    vm.has_baseline()
    hook = multipart(("text/cloud-boothook", b"#cloud-boothook\n" + vm.notes("hook")), ("text/x-shellscript", vm.notes("script")))
    vm.cloud_init(hook, first_boot=False)
    vm.push(hook)
    said = vm.wait_says("userData", "success", "applied at")
    assert "not run: run by cloud-init at this boot" in said and vm.told() == ["script"]


def test_disabled_cloud_init_is_not_waited_for(vm):
    (vm.root / "run/cloud-init").mkdir(parents=True)
    (vm.root / "run/cloud-init/disabled").touch()
    vm.has_baseline()
    vm.push(vm.notes("one"))
    vm.wait_says("userData", "success", "applied at")


def test_package_managers_are_waited_for(vm):
    vm.has_baseline()
    lock = vm.root / "var/lib/dpkg/lock-frontend"
    lock.parent.mkdir(parents=True)
    with open(lock, "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        vm.push(vm.notes("one"))
        vm.wait_says("userData", "transitioning", "waiting for the package manager's lock")
        assert vm.told() == []
    vm.wait_says("userData", "success", "applied at")
    assert vm.told() == ["one"]


def test_ready_after_user_data(vm):
    """/ready waits for it, the deployment does not."""
    port = free_port()
    vm.apply(user={"baseline": "run", "timeoutInSeconds": 60}, health={"listen": f"127.0.0.1:{port}", "readyAfter": ["userData"]})
    gate = vm.root / "gate"
    vm.platform.set_user_data(script(f"while ! [ -e {gate} ]; do sleep 0.05; done"))
    vm.start()
    vm.wait_says("userData", "transitioning", "being applied")
    assert vm.top() == "success" and http_get(f"http://127.0.0.1:{port}/ready")[0] == 503
    gate.touch()
    vm.wait_says("userData", "success", "applied at")
    wait_until("readiness", lambda: http_get(f"http://127.0.0.1:{port}/ready")[0] == 200, PATIENCE)


# Formats

def test_every_form_in_order_and_what_is_not_for_us_is_named(vm):
    vm.apply(user={"parts": ["shellscript", "boothook"]})
    vm.has_baseline()
    nested = multipart(("text/x-shellscript", vm.notes("four"))).replace(b"==", b"inner")
    data = multipart(
        ("text/x-shellscript", vm.notes("one")),
        ("text/plain", base64.encodebytes(vm.notes("two")), "base64"),
        ("application/x-gzip", base64.encodebytes(gzip.compress(vm.notes("three"))), "base64"),
        ('multipart/mixed; boundary="inner"', nested.split(b"\n\n", 1)[1]),
        ("text/x-shellscript", vm.notes("five").replace(b" ", b"=20"), "quoted-printable"),
        ("text/cloud-boothook", b"#cloud-boothook\n#!/bin/sh\necho $INSTANCE_ID >>" + str(vm.ran).encode() + b"\n"),
        ("text/cloud-config", b"#cloud-config\npackages: [nginx]\n"),
        ("text/part-handler", b"#part-handler\n"),
        ("text/x-shellscript", b"no interpreter\n"),
        ("text/cloud-config-archive", b"#cloud-config-archive\n- |\n  #!/bin/sh\n  echo archive >>" + str(vm.ran).encode() + b"\n"),
        ("text/x-include-url", b"https://example.invalid/\n"))
    vm.push(gzip.compress(data))
    said = vm.wait_says("userData", "warning", "applied at")
    ran = vm.told()
    assert ran[:5] == ["one", "two", "three", "four", "five"] and ran[6:] == ["archive"] and len(ran[5]) in (32, 36)
    assert re.search(r"text/cloud-config\): not run: left to cloud-init", said)
    assert "text/part-handler): not run: of a type that is not supported" in said
    assert "it has no #! line" in said and 'userData.parts does not name "include"' in said


def test_cloud_config_alone_is_left_to_cloud_init(vm):
    vm.has_baseline()
    vm.push(b"#cloud-config\npackages: [nginx]\n")
    assert "left to cloud-init" in vm.wait_says("userData", "warning", "nothing in it is for this agent to run")
    assert not list((vm.root / "var/lib/evenkeel/jobs").glob("*"))
    # Beside something that is run it is no trouble.
    vm.push(multipart(("text/cloud-config", b"#cloud-config\npackages: [nginx]\n"), ("text/x-shellscript", vm.notes("one"))))
    vm.wait_says("userData", "success", "1 part, 1 not run")


@pytest.fixture
def server():
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer = self.server.answers.get(self.path)
            self.server.asked.append(self.path)
            if callable(answer):
                answer = answer()
            self.send_response(200 if answer is not None else 404)
            self.end_headers()
            self.wfile.write(answer or b"")

        def log_message(self, *_):
            pass

    one = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    one.answers, one.asked = {}, []
    one.url = f"http://127.0.0.1:{one.server_port}"
    thread = threading.Thread(target=one.serve_forever, daemon=True)
    thread.start()
    yield one
    one.shutdown()
    thread.join()
    one.server_close()


def test_includes(vm, server):
    vm.apply(user={"parts": ["shellscript", "include", "settings"], "settingsSections": ["log"]})
    vm.has_baseline()
    tries = []

    def at_the_second_try():
        tries.append(1)
        return vm.notes("two") if len(tries) > 1 else None

    settings = ("application/vnd.evenkeel+json", b'{"log": {"level": "debug"}}')
    server.answers = {"/one": vm.notes("one"), "/two": at_the_second_try,
                      "/more": multipart(("text/x-include-url", f"{server.url}/three\n".encode()), settings),
                      "/three": gzip.compress(vm.notes("three"))}
    vm.push(multipart(("text/plain", f"#include\n{server.url}/one\n# {SECRET}\n{server.url}/two\n{server.url}/more\n".encode()),
                      ("text/x-shellscript", vm.notes("last"))))
    said = vm.wait_says("userData", "warning", "applied at")
    assert vm.told() == ["one", "two", "three", "last"] and "settings are not taken from an include" in said
    # What it leads to must be all there, as under cloud-init.
    vm.push(multipart(("text/x-include-url", b"ftp://example.invalid/\n"), ("text/x-shellscript", vm.notes("never"))))
    vm.wait_says("userData", "error", "neither http nor https")
    server.answers["/loop"] = f"#include {server.url}/loop\n".encode()
    vm.push(f"#include {server.url}/loop\n".encode())
    vm.wait_says("userData", "error", "includes lead to includes more than 3 levels deep")
    assert vm.told() == ["one", "two", "three", "last"]


# Failure, retry, busy

def test_a_part_that_fails(vm):
    vm.has_baseline()
    good = vm.push(vm.notes("good"))
    vm.wait_says("userData", "success", "applied at")
    bad = vm.push(multipart(("text/x-shellscript", script(f"echo bad >>{vm.ran}; exit 7")), ("text/x-shellscript", vm.notes("after"))))
    said = vm.wait_says("userData", "error", "1 of 2 parts failed")
    assert "exit code 7" in said and f"last applied: revision {good}" in said and vm.top() == "success"
    assert vm.told() == ["good", "bad", "after"]
    vm.look_again()
    vm.wait_says("userData", "error", "1 of 2 parts failed")
    assert vm.told() == ["good", "bad", "after"] and vm.states() == {**vm.states(), good: "applied", bad: "failed"}
    last = vm.push(vm.notes("last"))
    said = vm.wait_says("userData", "success", "applied at")
    assert f"revision {last}" in said and "failed before" not in said


def test_retry_and_timeout(vm):
    vm.apply(user={"retry": {"times": 2, "delayInSeconds": 1, "onExitCodes": [75]}, "timeoutInSeconds": 1})
    vm.has_baseline()
    vm.push(script(f"echo try >>{vm.ran}; [ $(grep -c try {vm.ran}) = 3 ] || exit 75"))
    vm.wait_says("userData", "success", "applied at")
    assert vm.told() == ["try"] * 3
    vm.push(script("exec sleep 60"))
    vm.wait_says("userData", "error", "timed out")


def test_what_cannot_be_written_down_is_not_given_up(vm):
    vm.has_baseline()
    # A directory in the plan's place cannot be replaced by a file, not even by root.
    plan = vm.file("/var/lib/evenkeel/state/user-data.plan")
    plan.mkdir()
    new = vm.push(vm.notes("one"))
    vm.wait_says("userData", "transitioning", "to be applied: ")
    assert vm.states()[new] == "pending" and vm.told() == []
    plan.rmdir()
    vm.reload()
    vm.wait_says("userData", "success", "applied at")
    assert vm.told() == ["one"]


def test_consent_that_is_taken_back_holds_for_what_has_not_begun(vm):
    go = vm.root / "go"
    vm.has_baseline()
    vm.push(multipart(("text/x-shellscript", vm.notes("first") + f"until [ -e {go} ]; do sleep 0.05; done\n".encode()),
                      ("text/x-shellscript", vm.notes("second"))))
    wait_until("the first part", lambda: vm.told() == ["first"], PATIENCE)
    vm.configure(userData={"pollingIntervalInSeconds": 10})
    vm.reload()
    wait_until("the new settings", lambda: json.loads(vm.run("userdata", "--json").stdout)["action"] == "report", PATIENCE)
    go.touch()
    said = vm.wait_says("userData", "warning", "applied at")
    assert 'part 2 (part-002, text/x-shellscript): not run: userData.action is not "apply" any more' in said
    assert vm.told() == ["first"]


@pytest.mark.parametrize("when_busy", ["wait", "cancel"])
def test_newer_content_during_a_run(vm, when_busy):
    vm.apply(user={"whenBusy": when_busy})
    vm.has_baseline()
    gate = vm.root / "gate"
    old = vm.push(multipart(("text/x-shellscript", script(f"echo begun >>{vm.ran}; while ! [ -e {gate} ]; do sleep 0.05; done; echo ended >>{vm.ran}")),
                            ("text/x-shellscript", vm.notes("second"))))
    wait_until("the first part to begin", lambda: vm.told() == ["begun"], PATIENCE)
    new = vm.push(vm.notes("newer"))
    if when_busy == "wait":
        vm.wait_says("userData", "transitioning", f"revision {old} is still being applied")
        gate.touch()
    said = vm.wait_says("userData", "success", "applied at")
    assert f"revision {new}" in said
    assert vm.told() == (["begun", "ended", "second", "newer"] if when_busy == "wait" else ["begun", "newer"])
    assert vm.states()[old] == ("applied" if when_busy == "wait" else "cancelled")


def test_every_boot(vm):
    vm.apply(user={"runPolicy": "everyBoot"})
    vm.has_baseline()
    vm.push(vm.notes("one"))
    vm.wait_says("userData", "success", "applied at")
    vm.look_again()
    vm.wait_says("userData", "success", "applied at")
    assert vm.told() == ["one"]
    vm.stop_daemon()
    boot = vm.root / "proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True, exist_ok=True)
    boot.write_text("11111111-2222-3333-4444-555555555555\n")
    vm.start()
    wait_until("the second boot's run", lambda: vm.told() == ["one", "one"], PATIENCE)


def test_killed_at_any_time_nothing_runs_twice(vm):
    """Each part leaves its word at most once, whenever the daemon dies; in the end all are there."""
    vm.has_baseline()
    words = [f"w{number}" for number in range(6)]
    vm.stop_daemon()
    vm.platform.set_user_data(multipart(*(("text/x-shellscript", vm.notes(word)) for word in words)))
    for wait in (0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3):
        vm.start_daemon(binary=vm.binary, wait=False)
        time.sleep(wait)
        vm.kill_daemon()
    vm.start()
    vm.wait_says("userData", "success", "applied at")
    assert vm.told() == words


@pytest.mark.parametrize("call, name, least", [("fdatasync", "user-data.memory", 6), ("fdatasync", "user-data.record", 1), ("fsync", "", 3)])
def test_killed_at_each_write(vm, call, name, least):
    """kill -9 at write number 1, 2, … of this file ("": of any of the directory), each with content of its own, until all is applied with fewer writes."""
    if not may_trace():
        pytest.skip("killing at the very write needs strace, and the right to trace")
    vm.has_baseline()
    vm.stop_daemon()
    path, killed, words = vm.file(f"/var/lib/evenkeel/state/{name}".rstrip("/")), 0, []
    while True:
        number = killed + 1
        new = [f"{number}a", f"{number}b"]
        data = multipart(*(("text/x-shellscript", vm.notes(word)) for word in new))
        vm.platform.set_user_data(data)
        # -D: strace is the daemon's child
        vm.start_daemon(binary=vm.binary, wait=False, prefix=["strace", "-D", "-qq", "-o", str(vm.root / "trace"), "-P", str(path),
                                                              "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"])
        traced = vm._daemon
        wait_until("a kill, or the end", lambda: traced.poll() is not None or f"revision {revision(data)}" in vm.says("userData")
                   and "applied at" in vm.says("userData"), PATIENCE)
        if traced.poll() is None:
            vm.kill_daemon()  # the leak sanitizer does not end in an orderly way under strace
        else:
            vm._daemon = None
            vm.start()
            vm.wait_says("userData", "success", f"revision {revision(data)}")
            vm.wait_says("userData", "success", "applied at")
            vm.stop_daemon()
            killed = number
        words += new
        assert vm.told() == words, f"after a kill at write {number} of {name}"
        if killed < number:
            break
    assert killed >= least
    vm.start()


def test_memory_that_is_damaged_runs_nothing(vm):
    vm.has_baseline()
    vm.push(vm.notes("one"))
    vm.wait_says("userData", "success", "applied at")
    vm.kill_daemon()
    record = vm.file("/var/lib/evenkeel/state/user-data.memory")
    record.write_bytes(b"\xff" * record.stat().st_size)
    vm.start()
    vm.wait_says("userData", "success", "it was there at the first look")
    assert vm.told() == ["one"]


def test_a_cloned_disk_starts_clean(vm):
    vm.has_baseline()
    vm.push(vm.notes("one"))
    vm.wait_says("userData", "success", "applied at")
    vm.stop_daemon()
    vm.file("/var/lib/evenkeel/state/machine").write_text("00000000-0000-0000-0000-00000000c10e")
    vm.cloud_init(vm.notes("one"))
    vm.start()
    vm.wait_says("userData", "success", "cloud-init has applied it at the first boot")
    assert len(vm.states()) == 1


# Settings in user data

DRAIN = {"drain": {"pollingIntervalInSeconds": 30, "steps": []}}


def settings_part(document):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return ("application/vnd.evenkeel+json", text)


def test_settings_in_user_data(vm):
    vm.apply(user={"parts": ["shellscript", "settings"], "settingsSections": ["drain", "customScript"]})
    vm.has_baseline()
    assert not vm.substatus("drain")
    vm.push(multipart(settings_part(DRAIN), ("text/x-shellscript", vm.notes("one"))))
    said = vm.wait_says("userData", "success", "applied at")
    assert "application/vnd.evenkeel+json): done: in force" in said and vm.substatus("drain")
    # From the first moment after a restart, online or not.
    vm.stop_daemon()
    vm.start(online=False)
    wait_until("drain", lambda: vm.substatus("drain"), PATIENCE)
    vm.stop_daemon()
    vm.start()
    # What is wrong changes nothing that runs.
    vm.push(multipart(settings_part({"drain": {"steps": 5}}), ("text/x-shellscript", vm.notes("two"))))
    said = vm.wait_says("userData", "error", "user data, part 1: drain.steps: expected")
    assert vm.substatus("drain") and vm.told() == ["one", "two"] and vm.top() == "success"
    # What no stronger door allows is refused, and said.
    for document, words in (({"health": {}}, 'section "health" is not allowed there; userData.settingsSections allows'),
                            ({"userData": {"action": "apply"}}, '"userData" is not allowed there'),
                            ({"secrets": {"a": "b"}}, '"secrets" is not allowed there'), (b"{", "user data, part 1")):
        vm.push(multipart(settings_part(document)))
        vm.wait_says("userData", "error", words)
        assert vm.substatus("drain")
    # Without the part the section goes.
    vm.push(vm.notes("three"))
    vm.wait_says("userData", "success", "applied at")
    wait_until("drain to be gone", lambda: not vm.substatus("drain"), PATIENCE)


def test_settings_and_the_deployment(vm):
    """A script that user data brings is run when the user data changes, and is no duty of the deployment."""
    vm.apply(user={"parts": ["settings"], "settingsSections": ["customScript"]})
    vm.has_baseline()
    user, _ = me()
    for word, code in (("one", 0), ("two", 3)):
        document = {"customScript": {"scripts": [{"name": "s", "runAs": user, "commandToExecute": f"echo {word} >>{vm.ran}; exit {code}"}]}}
        vm.push(multipart(settings_part(document)))
        wait_until(f"script {word}", lambda: word in vm.told(), PATIENCE)
        vm.wait_says("customScript/s", "error" if code else "success", f"exit code {code}")
        assert vm.top() == "success"
    vm.look_again()
    vm.wait_says("customScript/s", "error", "exit code 3")
    assert vm.told() == ["one", "two"]
    # Consent that is withdrawn takes the section away, and nothing else.
    vm.apply(user={"parts": ["settings"], "settingsSections": ["drain"]})
    vm.reload()
    vm.wait_says("userData", "warning", 'section "customScript" is not allowed there')
    assert vm.top() == "success"
    vm.configure()
    vm.reload()
    wait_until("the script to be gone", lambda: not vm.substatus("customScript/s"), PATIENCE)


def test_the_extension_s_status_is_about_its_own_settings(vm):
    """Through the first door: a section of user data changes, fails and goes; N.status stays what it was, and nothing is begun anew."""
    vm.file("/etc/evenkeel/evenkeel.json").unlink()
    vm.command("install")
    vm.start_daemon()
    vm.platform.set_user_data(b"#!/bin/sh\n")
    public = {"log": {"console": False}, **own_script(f"echo own >>{vm.ran}", name="own"), "userData": {
        "action": "apply", "parts": ["shellscript", "settings"], "settingsSections": ["notify", "drain"], "pollingIntervalInSeconds": 10}}
    vm.enable(0, public)
    assert vm.settled()["status"] == "success"
    wait_until("the first look", lambda: "first look" in vm.says("userData"), PATIENCE)
    vm.stop_daemon()
    vm.platform.set_user_data(multipart(settings_part({**DRAIN, "notify": {}}), ("text/x-shellscript", script("exit 9"))))
    vm.start_daemon()
    vm.wait_says("userData", "error", "1 of 2 parts failed")
    assert vm.substatus("drain") and vm.deployment()["status"] == "success"
    vm.command("enable")
    assert vm.deployment()["status"] == "success"
    # Another number without the consent: what user data has brought goes, and only what is due runs.
    public["userData"] = {"pollingIntervalInSeconds": 10}
    vm.enable(1, {**public, **own_script(f"echo again >>{vm.ran}", name="own")})
    assert vm.settled(1)["status"] == "success"
    wait_until("drain to be gone", lambda: not vm.substatus("drain"), PATIENCE)
    assert vm.told() == ["own", "again"]


def test_an_upgrade_during_a_part(vm):
    vm.has_baseline()
    gate = vm.root / "gate"
    vm.push(multipart(("text/x-shellscript", script(f"echo begun >>{vm.ran}; while ! [ -e {gate} ]; do sleep 0.05; done; echo ended >>{vm.ran}")),
                      ("text/x-shellscript", vm.notes("second"))))
    wait_until("the first part to begin", lambda: vm.told() == ["begun"], PATIENCE)
    _, later = next_version(vm.binary, vm.root)
    vm.stop_daemon()
    vm.start_daemon(binary=later)
    vm.wait_says("userData", "transitioning", "being applied")
    gate.touch()
    vm.wait_says("userData", "success", "applied at")
    assert vm.told() == ["begun", "ended", "second"]


# Custom data

@pytest.mark.parametrize("form", ["encoded", "decoded", "ovf"])
def test_custom_data(vm, form):
    vm.apply(user={"source": "customData"})
    folder = vm.root / "var/lib/waagent"
    folder.mkdir(parents=True, exist_ok=True)

    def put(data):
        if form == "ovf":
            (folder / "ovf-env.xml").write_text(
                '<?xml version="1.0"?><Environment xmlns:wa="x"><wa:ProvisioningSection><wa:UserPassword>REDACTED</wa:UserPassword>'
                f"<wa:CustomData>{base64.b64encode(data).decode()}</wa:CustomData></wa:ProvisioningSection></Environment>")
        else:
            (folder / "CustomData").write_bytes(data if form == "decoded" else base64.encodebytes(data))

    put(vm.notes("old"))
    vm.start()
    vm.wait_says("userData", "success", "it was there at the first look")
    new = vm.notes("new")
    put(new)
    vm.look_again()
    assert f"Custom data revision {revision(new)}" in vm.wait_says("userData", "success", "applied at")
    assert vm.told() == ["new"] and vm.platform.requests("imds", "/metadata/instance/compute/userData") == []
    # Another source is another first look.
    vm.platform.set_user_data(vm.notes("never"))
    vm.apply()
    vm.reload()
    vm.wait_says("userData", "success", "it was there at the first look")
    assert vm.told() == ["new"]


# Telling

def test_command_line(vm):
    vm.has_baseline()
    one, two = gzip.compress(vm.notes("one")), vm.notes("two")
    vm.push(one)
    vm.wait_says("userData", "success", "applied at")
    vm.push(multipart(("text/x-shellscript", two), ("text/x-shellscript", script("exit 4"))))
    vm.wait_says("userData", "error", "1 of 2 parts failed")
    for running in (True, False):
        if not running:
            vm.stop_daemon()
        shown = vm.run("userdata")
        assert shown.returncode == 0 and revision(one) in shown.stdout and "failed" in shown.stdout and SECRET not in shown.stdout, shown
        assert "exit code 4" in shown.stdout and "part-002" in shown.stdout
        [output] = re.findall(r"Output of part 2: (.*/stdout)", shown.stdout)
        assert pathlib.Path(output).exists()
        history = vm.run("userdata", "history")
        assert re.search(rf"{revision(one)} +applied", history.stdout), history.stdout
        document = json.loads(vm.run("userdata", "--json").stdout)
        assert [item["state"] for item in document["applied"]["revisions"]] == ["failed", "applied", "adopted"]
        assert vm.run("userdata", "show").stdout.startswith("MIME-Version: 1.0")
        assert SECRET in vm.run("userdata", "show", "--applied").stdout
        diff = vm.run("userdata", "diff")
        assert diff.returncode == 1 and "@@ -1,3 " in diff.stdout and "+MIME-Version: 1.0" in diff.stdout, diff
    assert vm.run("userdata", "nonsense").returncode == 2
    refused = vm.run("userdata", "apply")
    assert refused.returncode == 4 and "not running" in refused.stderr
