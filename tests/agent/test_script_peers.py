"""Each defect of the peers that was reproduced (custom-script.md section 0): one test that shows ours is without it.

1 no logical validation · 2 an invalid script succeeds · 3 a resumed download is corrupt · 4 a stalled download hangs for ever ·
5 killed in mid-script: transitioning for ever, or an orphan that runs on · 6 every error told twice · 7 secrets in ps, Referer,
status and log · 8 Run Command: password in the log, parameters pasted into a shell, timeouts that leave grandchildren and are not
called so · 9 line endings converted in memory"""

import gzip
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from vm import VM, descendants, encoded, files_with, message, script, serving, wait_until

NUMBERS = range(1, 10)
CANARY = "c4n4ry9902"
as_root = pytest.mark.skipif(os.getuid() != 0, reason="Custom Script's scripts run as root")


@pytest.fixture(scope="module")
def vm(platform):
    """One VM with the service for everything that leaves it as it was; every test takes the next number."""
    with serving(VM, platform) as vm:
        vm.number = -1
        yield vm


def begin(vm, public, protected=None):
    vm.number += 1
    vm.put(vm.number, public, protected)
    vm.command("enable", vm.number)
    return vm.number


def settled(vm, public, protected=None, limit=15):
    return vm.settled(begin(vm, public, protected), limit=limit)


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def number_in(path):
    """The number that a script has left there, once it has."""
    return int(wait_until(f"{path}", lambda: path.exists() and path.read_text().strip(), 10))


def test_every_defect_has_a_test():
    names = re.findall(r"^def test_peer_(\d\d)_\w+", pathlib.Path(__file__).read_text(), re.MULTILINE)
    assert sorted(set(map(int, names))) == list(NUMBERS)


# 1, 2: what the peer takes for valid

@as_root
@pytest.mark.parametrize("public, protected, code", [
    ({"timestamp": 1, "skipDos2Unix": False}, None, 23),
    ({"commandToExecute": "touch $RAN"}, {"commandToExecute": "touch $RAN"}, 20),
    ({"commandToExecute": "touch $RAN", "script": encoded(b"touch $RAN")}, None, 29),
    ({"commandToExecute": "touch $RAN"}, {"storageAccountName": "abc"}, 30),
], ids=["nothing", "command twice", "command and script", "half credentials"])
def test_peer_01_settings_are_validated(vm, public, protected, code):
    status = settled(vm, public, protected)
    assert (status["status"], status["code"]) == ("error", code)
    assert "not begun" not in message(status) and vm.says("customScript/script") == "", "nothing of it is in force"


@as_root
@pytest.mark.parametrize("kind, word", [("no base64", "base64"), ("too long", "262144"), ("gzip cut", "gzip")])
def test_peer_02_an_invalid_script_fails(vm, kind, word):
    ran = vm.root / "ran-02"
    good = f"#!/bin/sh\ntouch {ran}\n".encode()
    text = {"no base64": "!" + encoded(good), "too long": encoded(good + b"#" * 196608),
            "gzip cut": encoded(gzip.compress(good + os.urandom(1000))[:-20])}[kind]
    status = settled(vm, {"script": text})
    assert status["status"] == "error" and status["code"] != 0 and word in message(status)
    assert not ran.exists()


# 3, 4: downloads

class Bad:
    """A server that cuts, stalls and redirects; what it was sent stands in `seen` as (path, headers)."""

    def __init__(self, body):
        seen = self.seen = []
        self.release = release = threading.Event()
        asked = {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def head(self, code, length, **more):
                self.send_response(code)
                self.send_header("Content-Length", str(length))
                for name, value in more.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()

            def do_GET(self):
                seen.append((self.path, dict(self.headers)))
                path = self.path.partition("?")[0]
                asked[path] = asked.get(path, 0) + 1
                start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
                if path == "/cut.sh" and asked[path] == 1:
                    self.head(200, len(body), ETag='"1"', Accept_Ranges="bytes")
                    self.wfile.write(body[:len(body) // 3])
                    self.close_connection = True
                elif path == "/cut.sh" and start:
                    self.head(206, len(body) - start, ETag='"1"', Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")
                    self.wfile.write(body[start:])
                elif path == "/stall.sh":
                    self.head(200, len(body))
                    self.wfile.write(body[:100])
                    release.wait(60)
                    self.close_connection = True
                elif path == "/away.sh":
                    self.head(302, 0, Location=f"http://localhost:{self.server.server_port}/elsewhere.sh")
                else:
                    self.head(200, len(body))
                    self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


SCRIPT = b"#!/bin/sh\nsha256sum \"$0\"\n" + b"# 0123456789\n" * 5000


@as_root
def test_peer_03_a_resumed_download_is_whole(vm):
    with Bad(SCRIPT) as server:
        status = settled(vm, {"fileUris": [f"{server.url}/cut.sh"], "commandToExecute": "./cut.sh; cmp cut.sh /dev/zero | head -c 9"},
                         limit=40)
        assert len(server.seen) >= 2
    digest = subprocess.run(["sha256sum"], input=SCRIPT, capture_output=True, check=True).stdout.decode().split()[0]
    assert status["status"] == "success" and f"{digest}  ./cut.sh" in message(status)


@as_root
def test_peer_04_a_stalled_download_ends(vm):
    """The body stops and never goes on: the time of the script ends it, and the status says at what."""
    with Bad(SCRIPT) as server:
        status = settled(vm, {"customScript": {"scripts": [{"name": "stalled", "files": [f"{server.url}/stall.sh"],
                                                             "commandToExecute": "true", "timeoutInSeconds": 2}]}}, limit=20)
    assert (status["status"], status["code"]) == ("error", 56)
    assert "timed out" in message(status)


# 5: killed in mid-script

def tree(vm):
    """A script that starts a daemon of a session of its own, and a child; their numbers."""
    root = vm.root
    for name in ("daemon", "child", "main"):
        (root / f"pid.{name}").unlink(missing_ok=True)
    begin(vm, script(f"setsid sh -c 'echo $$ >{root}/pid.daemon; sleep 1000' & (sh -c 'echo $$ >{root}/pid.child; sleep 1000; :') & "
                     f"echo $$ >{root}/pid.main; wait; sleep 1000"))
    return [number_in(root / f"pid.{name}") for name in ("daemon", "child", "main")]


def runner_of(vm):
    """(guard, runner) of the only job."""
    [path] = (vm.root / "run/evenkeel/jobs").glob("*.pid")
    guard = int(path.read_text().split()[0])
    return guard, descendants(guard)[0]


@pytest.mark.parametrize("victim", ["guard", "runner"])
def test_peer_05_a_killed_runner_leaves_nothing(vm, victim):
    pids = tree(vm)
    guard, runner = runner_of(vm)
    os.kill(guard if victim == "guard" else runner, signal.SIGKILL)
    wait_until(f"all of {pids} to end", lambda: not any(map(alive, [guard, runner, *pids])), 10)
    status = vm.settled(vm.number)
    assert (status["status"], status["code"]) == ("error", 3) and "interrupted" in message(status)


def test_peer_05_a_killed_service_goes_on_and_tells_the_end(vm):
    """The status is not transitioning for ever, the script is neither orphaned nor run again."""
    ran = vm.root / "ran-05"
    begin(vm, script(f"echo began >>{ran}; until [ -e {vm.root}/go-05 ]; do sleep 0.05; done; echo told"))
    wait_until("the script to begin", ran.exists, 10)
    vm.kill_daemon()
    vm.start_daemon()
    vm.command("enable", vm.number)
    assert vm.deployment(vm.number)["status"] == "transitioning"
    (vm.root / "go-05").touch()
    assert "[stdout]\ntold\n" in message(vm.settled(vm.number))
    assert ran.read_text() == "began\n"


def test_peer_05_sigterm_to_the_runner_ends_all(vm):
    pids = tree(vm)
    guard, _ = runner_of(vm)
    os.kill(guard, signal.SIGTERM)
    wait_until(f"all of {pids} to end", lambda: not any(map(alive, [guard, *pids])), 20)
    wait_until("that to be told", lambda: "stopped from outside" in vm.says("customScript/deploy"), 5)
    # Whoever did that may be shutting the machine down; newer settings need not wait for what comes of it.
    settings = script("echo next")
    settings["customScript"]["whenBusy"] = "cancel"
    assert "next" in message(settled(vm, settings))


def test_peer_05_a_stop_leaves_the_script_its_grace(vm):
    """A manager tells the whole cgroup: that is one request, not two."""
    begun = vm.root / "begun-05"
    begin(vm, script(f"trap 'sleep 0.5; echo cleaned up; exit 0' TERM; touch {begun}; sleep 1000 & wait"))
    wait_until("the script to begin", begun.exists, 10)
    guard, _ = runner_of(vm)
    [path] = (vm.root / "run/evenkeel/jobs").glob("*.pid")
    os.killpg(guard, signal.SIGTERM)
    result = vm.root / f"var/lib/evenkeel/jobs/{path.stem}/result.json"
    wait_until("the result", result.exists, 20)
    told = json.loads(result.read_text())
    assert told["end"] == "stopped" and told["stdoutTail"] == "cleaned up\n"
    settings = script("echo next")
    settings["customScript"]["whenBusy"] = "cancel"
    assert "next" in message(settled(vm, settings))


# 6: told once, with the head that tools look for

def test_peer_06_an_error_is_told_once(vm):
    status = settled(vm, script("echo unmistakable; echo unmistakable-too >&2; exit 4"))
    text = message(status)
    assert text.startswith("Enable failed: ")
    assert [text.count(word) for word in ("unmistakable\n", "unmistakable-too", "exit code 4", "[stdout]", "[stderr]")] == [1] * 5


# 7, 8: secrets

def shown_to_all(text):
    """Processes whose command line, which every local user can read, holds the text."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            pass
    return found


@as_root
def test_peer_07_a_protected_command_is_seen_by_nobody(vm):
    begin(vm, {}, {"commandToExecute": f": {CANARY}; echo $$ >{vm.root}/pid.07; until [ -e {vm.root}/go-07 ]; do sleep 0.05; done"})
    number_in(vm.root / "pid.07")
    assert shown_to_all(CANARY) == []
    (vm.root / "go-07").touch()
    assert vm.settled(vm.number)["status"] == "success"
    assert files_with(vm.root, CANARY) == []


@as_root
def test_peer_07_a_protected_script_does_not_stay(vm):
    script = encoded(f"#!/bin/sh\n# {CANARY}\necho done\n".encode())
    assert "done" in message(settled(vm, {}, {"script": script}))
    assert files_with(vm.root, CANARY) == [] and files_with(vm.root, script) == []


@as_root
@pytest.mark.parametrize("victim", ["guard", "runner"])
def test_peer_07_a_killed_run_leaves_no_secret(vm, victim):
    begun = vm.root / "tmp-07"
    begun.mkdir(exist_ok=True)
    begun.chmod(0o1777)
    own = encoded(f"#!/bin/sh\n# {CANARY}\ntouch {begun}/{victim}; sleep 1000\n".encode())
    begin(vm, {"customScript": {"scripts": [{"name": "secret", "runAs": "nobody", "script": {"secretRef": "own"}}]}},
          {"secrets": {"own": own}})
    wait_until("the script to begin", (begun / victim).exists, 10)
    os.kill(dict(zip(("guard", "runner"), runner_of(vm)))[victim], signal.SIGKILL)
    assert vm.settled(vm.number)["status"] == "error"
    wait_until("the secret to go", lambda: files_with(vm.root, CANARY) == [], 10)


@as_root
def test_peer_07_signatures_stay_out_of_referer_status_and_log(vm):
    with Bad(SCRIPT) as server:
        status = settled(vm, {"commandToExecute": "true"}, {"fileUris": [f"{server.url}/away.sh?sv=1&sig={CANARY}"]})
        assert status["status"] == "success" and [path.partition("?")[0] for path, _ in server.seen] == ["/away.sh", "/elsewhere.sh"]
        assert CANARY not in json.dumps(server.seen[1]) and "Referer" not in server.seen[1][1]
        told = [settled(vm, {"commandToExecute": "true"}, protected) for protected in (
            {"fileUris": [f"{server.url}/?sig={CANARY}"]},
            {"fileUris": [f"{server.url}/a.sh?sig={CANARY}"], "storageAccountName": "abc", "storageAccountKey": "a2V5"},
            {"fileUris": [f"http://127.0.0.1:1/a.sh?sig={CANARY}"], "storageAccountName": "abc", "storageAccountKey": "a2V5"})]
    assert [status["status"] for status in told] == ["error"] * 3
    assert CANARY not in json.dumps(told) + vm.log_text()
    assert files_with(vm.root, CANARY) == []


@as_root
def test_peer_08_another_user_without_a_password(vm):
    """No sudo and no password: there is none to be logged. Parameters are arguments, not text for a shell."""
    trap = vm.root / "tmp/pwned"
    trap.parent.mkdir()
    trap.parent.chmod(0o1777)
    status = settled(vm, {"customScript": {"scripts": [{
        "name": "as", "runAs": "nobody", "arguments": ["two words", f"$(touch {trap})", "; id"], "environment": {"GIVEN": "kept"},
        "script": encoded(b'#!/bin/sh\nid -un; printf "<%s>" "$@"; echo; echo "$GIVEN"; ps -o args= -p $PPID\n')}]}})
    told = message(status).split("[stdout]\n")[1].split("\n")
    assert told[:3] == ["nobody", f"<two words><$(touch {trap})><; id>", "kept"]
    assert "sudo" not in told[3] and not trap.exists()


def test_peer_08_a_timeout_ends_all_and_is_called_so(vm):
    root = vm.root
    (root / "pid.08").unlink(missing_ok=True)
    status = settled(vm, script(f"setsid sh -c 'trap : TERM; echo $$ >{root}/pid.08; while :; do sleep 1; done' & sleep 1000",
                                timeoutInSeconds=1), limit=30)
    assert (status["status"], status["code"]) == ("error", 56) and "timed out after" in message(status)
    assert not alive(number_in(root / "pid.08"))


def test_peer_08_a_cancelled_script_is_ended_with_its_children(vm):
    pids = tree(vm)
    settings = script("echo next")
    settings["customScript"]["whenBusy"] = "cancel"
    assert "next" in message(settled(vm, settings, limit=30))
    assert not any(map(alive, pids))


# 9: memory

@as_root
def test_peer_09_line_endings_are_converted_in_pieces(vm):
    """32 MiB of a script that is converted: the runner stays below half of that, where the peer takes twice as much."""
    body = b"#!/bin/sh\r\ngrep VmHWM /proc/$PPID/status\r\nexit\r\n" + b"# 0123456789\r\n" * (32 << 16)
    with Bad(body) as server:
        status = settled(vm, {"fileUris": [f"{server.url}/large.sh"], "commandToExecute": "exec sh large.sh"}, limit=40)
    told = re.search(r"VmHWM:\s+(\d+) kB", message(status))
    assert told, status
    if b"__asan_init" not in vm.binary.read_bytes():
        assert int(told[1]) < 16 * 1024
