"""`evenkeel status`, the consistency of all verbs, and the local API against its manual page."""

import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time

import pytest
from configured import Configured
from keys import Keys
from vm import BINARY, SANITIZED, SOURCE, free_port, http_get, script

PATIENCE = 60 if SANITIZED else 20
MAN = SOURCE / "agent/app/man"
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


class Terminal:
    """A command on a terminal of that size."""

    def __init__(self, vm, *arguments, rows=24, columns=80, **environment):
        self._fd, slave = pty.openpty()
        self.resize(rows, columns)
        self.process = subprocess.Popen([vm.binary, *arguments], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                        env={**vm.environment(), "TERM": "xterm", **environment})
        os.close(slave)
        self.text = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, until=None, limit=PATIENCE):
        """All up to the end, or up to a text that has not been there before."""
        deadline = time.monotonic() + limit
        while not (until and until in self.text):
            assert time.monotonic() < deadline, f"no {until!r} in {self.text!r}"
            if not select.select([self._fd], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # the last one has closed the other side
                break
            if not data:
                break
            self.text += data.decode()
        text, self.text = self.text, ""
        return text.replace("\r\n", "\n")

    def end(self):
        self.process.wait(PATIENCE)
        os.close(self._fd)
        return self.process.returncode


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture
def platform(fresh_platform):
    return fresh_platform


@pytest.fixture
def vm(tmp_path, platform):
    with Configured(tmp_path, platform) as vm:
        yield vm


def status(vm, code=0):
    done = vm.run("status", "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


# The screen

def test_all_of_it_fits_a_small_terminal(tmp_path, platform):
    platform.set_instance(name="web_0", scale_set="web")
    port = free_port()
    with Keys(tmp_path, platform) as vm:
        names = [f"site{number}" for number in range(7)]
        versions = {name: vm.put(vm.make(name, days=100 + number), name) for number, name in enumerate(names)}
        vm.refresh(*({"name": name} for name in names))
        path = vm.root / "etc/evenkeel/evenkeel.json"
        platform.set_user_data(b"#!/bin/sh\n")
        path.write_text(json.dumps({**json.loads(path.read_text()), **script("echo hi"), "drain": {}, "userData": {},
                                    "health": {"listen": f"127.0.0.1:{port}"},
                                    "notify": {"webhooks": [{"name": "x", "url": "https://hooks.example/x"}]}}))
        vm.start()
        for name in names:
            vm.wait_installed(versions[name], name)
        vm.wait_says("drain", "success", "watching")
        vm.wait_says("userData", "success")
        vm.wait_says("customScript/deploy", "success")
        terminal = Terminal(vm, "status")
        screen = terminal.read()
        assert terminal.end() == 0
        lines = plain(screen).splitlines()
        assert len(lines) <= 22 and max(map(len, lines)) <= 80, plain(screen)
        assert "\x1b[32msuccess\x1b[0m" in screen
        text = "\n".join(lines)
        for part in ("web_0, Standard_D2s_v5, scale set web, westeurope", "id 02aab8a4-74ef-476e-8182-f6d2ba4166a6, host name ",
                     f"{vm.version}, service of the package", "Deployment   success", "serving and ready", "none is known",
                     "keyRefresh   success  all 7 well", "drain        success  watching", "and 2 more", "userData     success  User data revision ",
                     "succeeded, exit code 0, "):
            assert part in text, text
        assert re.search(r"^Expiry +site0 +in 99 d \d+ h, \d{4}-\d\d-\d\d$", text, re.MULTILINE), text
        assert "Problems" not in text
        # Nothing is cut, and nothing is coloured, where there is no terminal.
        done = vm.run("status")
        assert done.returncode == 0 and "\x1b" not in done.stdout and done.stderr == ""
        terminal = Terminal(vm, "status", NO_COLOR="1", columns=40)
        screen = terminal.read()
        assert terminal.end() == 0 and "\x1b" not in screen and max(map(len, screen.splitlines())) <= 40
        found = status(vm)
        assert [one["name"] for one in found["certificates"]] == names
        assert found["machine"]["scaleSet"] == "web" and len(found["userData"]["revision"]) == 64
        assert [(one["name"], one["state"], one["result"]) for one in found["scripts"]] == [("deploy", "succeeded", "exit code 0")]
        vm.check_nothing_leaked()


def test_json_is_what_the_manual_says_and_more_than_the_service_s(vm, platform):
    vm.configure(drain={"leadInSeconds": 60}, **script("exit 3"))
    vm.start()
    vm.wait_says("customScript/deploy", "error")
    vm.wait_says("drain", "success", "watching")
    platform.set_event_timing(auto_start=False)
    platform.add_event("Reboot", not_before_in_seconds=590)
    vm.wait_says("drain", "success", "not before")
    assert vm.run("pause", "disk").returncode == 0
    found = status(vm)
    assert set(vm.status()) <= set(found), "all that /v1/status says"
    page = (MAN / "evenkeel.1").read_text()
    told = page[page.index(".Ss The document of status"):page.index(".Sh ENVIRONMENT")]
    members = set(re.findall(r"^\.It Li (\w+)$", told, re.MULTILINE))
    table = (SOURCE / "agent/app/status_view.c").read_text()
    fields = table[table.index("view_fields[]"):]
    assert members == set(re.findall(r'\{ "(\w+)",', fields))
    assert set(found) - {"userData", "notReady"} == members - {"userData", "notReady"}
    assert "lines" not in found["drain"] or found["drain"]["lines"] == []
    # Problems come first, errors before warnings.
    lines = vm.run("status").stdout.splitlines()
    assert lines[0].startswith("Problems     error    ") and "customScript/deploy" in lines[0]
    assert lines[1].startswith("             warning  drain: paused: Reboot ") and lines[2].startswith("             warning  pause: ")
    [event] = [line for line in lines if line.startswith("Next event")]
    assert re.fullmatch(r"Next event   Reboot in 9 min \d+ s, \d\d:\d\d:\d\d UTC, paused, drains in 8 min \d+ s", event)


def test_without_the_service(vm):
    done = vm.run("status")
    assert done.returncode == 4 and "the service is not running" in done.stderr
    assert done.stdout.startswith("Problems     error    the service is not running, or does not answer; see: systemctl status evenkeel.service\n")
    vm.command("install")
    vm.configure(drain={})
    vm.start_daemon()
    vm.enable(0, script("echo hi"))
    vm.settled(0)
    vm.wait_says("drain", "success", "watching")
    assert vm.run("status").returncode == 0  # what VM this is has been asked for
    assert vm.run("pause", "--for", "10min", "disk").returncode == 0
    vm.stop_daemon()
    done = vm.run("status")
    assert done.returncode == 4
    for part in ("Standard_D2s_v5", "stopped service of the extension", "sequence 0: ", "nobody answers the probe now", ": disk",
                 "deploy           succeeded, exit code 0", "customScript success"):
        assert part in done.stdout, done.stdout
    found = status(vm, code=4)
    assert found["running"] is False and found["sequence"] == "0" and found["drain"]["phase"] == "serving"
    assert found["status"][0]["status"]["status"] == "success" and found["owner"]["kind"] == "extension"
    assert not (vm.root / "var/lib/evenkeel/state/drain.damaged").exists()


def test_the_metadata_service_may_be_silent(vm):
    vm.configure()
    vm.start(online=False)
    done = vm.run("status")
    assert done.returncode == 0 and os.uname().nodename in done.stdout and "the metadata service does not say more" in done.stdout
    assert "problem" in status(vm)["machine"]


def test_the_readme_shows_such_screens():
    screens = [text for text in re.findall(r"^```text\n(.*?)^```$", (SOURCE / "README.md").read_text(), re.DOTALL | re.MULTILINE)
               if text.startswith("VM ")]
    source = (SOURCE / "agent/app/status_rows.c").read_text()
    labels = set(re.findall(r'(?:screen_row\(s, |\? |label = i == 0 \? )"([A-Z][A-Za-z ]*)"', source)) | {
        "", "drain", "customScript", "keyRefresh", "userData"}
    assert len(screens) == 2
    for screen in screens:
        lines = screen.splitlines()
        assert len(lines) <= 24 and max(map(len, lines)) <= 80
        assert {line[:13].strip() for line in lines} <= labels


# Watching

def test_watch_redraws_and_leaves_cleanly(vm):
    vm.configure(drain={})
    vm.start()
    vm.wait_says("drain", "success", "watching")
    terminal = Terminal(vm, "status", "--watch", rows=10)
    first = terminal.read(until="\x1b[J")
    assert first.startswith(ENTER) and "watching" in first and plain(first).count("\n") <= 9
    assert vm.run("pause", "disk").returncode == 0
    terminal.read(until=": disk")
    terminal.resize(30, 60)
    terminal.read(until="\x1b[J")
    # The service may go and come.
    vm.stop_daemon()
    terminal.read(until="the service is not running")
    vm.start()
    terminal.read(until="serving and ready")
    terminal.process.send_signal(signal.SIGINT)
    rest = terminal.read()
    assert terminal.end() == 0 and rest.endswith(LEAVE)


def test_watch_repeats_where_there_is_no_terminal(vm):
    vm.configure(drain={})
    vm.start()
    for options, separator in (((), "\n\n"), (("--json",), "\n")):
        watching = subprocess.Popen([vm.binary, "status", "--watch", *options], env=vm.environment(), stdout=subprocess.PIPE, text=True)
        text = ""
        while text.count(separator) < 2:
            text += watching.stdout.read(1)
        watching.send_signal(signal.SIGTERM)
        assert watching.wait(PATIENCE) == 0
        watching.stdout.close()
        assert "\x1b" not in text
        if options:
            assert [json.loads(line)["running"] for line in text.splitlines()] == [True, True]
        else:
            assert text.count("\nDeployment ") == 2


# All verbs

def every_verb():
    text = subprocess.run([BINARY, "help", "--all"], capture_output=True, text=True, check=True).stdout
    shown = subprocess.run([BINARY, "help"], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^  ([a-z][a-z-]*)\b", text.partition("Exit codes:")[0], re.MULTILINE)
    return [(verb, f"\n  {verb} " in shown) for verb in found]


VERBS = every_verb() if BINARY.exists() else []
PUBLIC = [verb for verb, public in VERBS if public]


@pytest.mark.parametrize("verb, public", VERBS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_verb_has_help(verb, public):
    texts = set()
    for arguments in ((verb, "--help"), (verb, "-h"), ("help", verb)):
        done = subprocess.run([BINARY, *arguments], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), arguments
        texts.add(done.stdout)
    [text] = texts
    assert text.startswith(f"Usage: evenkeel {verb}")
    if not public:
        return
    assert "\nExamples:\n" in text, f"{verb} has no entry in agent/app/verb_help.c"
    usage, _, examples = text.partition("\nExamples:\n")
    options = set(re.findall(r"--[a-z-]+", usage.partition("\n\n")[0]))
    for line in examples.splitlines():
        words = line.split()
        assert words[0] == "evenkeel" and words[1] in PUBLIC, line
        if words[1] == verb and "repair.sh" not in words:
            assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("verb", [verb for verb, _ in VERBS])
def test_every_verb_refuses_an_unknown_option(tmp_path, verb):
    done = subprocess.run([BINARY, verb, "--no-such-option"], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          env={"EVENKEEL_ROOT": str(tmp_path), "PATH": "/usr/bin:/bin"})
    assert done.returncode == 2 and done.stdout == ""
    assert f'evenkeel {verb}: no option "--no-such-option"' in done.stderr and f"See evenkeel {verb} --help." in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_options_that_are_nearly_right(vm):
    done = vm.run("drain", "--wiat")
    assert done.returncode == 2 and 'did you mean "--wait"?' in done.stderr
    done = vm.run("ack")
    assert done.returncode == 2 and "usage: evenkeel ack EVENT-ID\n" in done.stderr and "evenkeel help ack tells more" in done.stderr
    assert vm.run("help", "xyzzy").returncode == 2
    # What stands behind a file that is run is the file's.
    assert vm.run("scripts", "run", "/nowhere", "--help").returncode == 4


WRONG = [("status", "x"), ("events", "--json", "x"), ("drain", "a", "b"), ("restore", "x"), ("ack", "a", "b"), ("quiesce", "--for"),
         ("resume", "x"), ("simulate",), ("simulate", "Reboot now"), ("simulate", "--in"), ("pause", "--end", "why"), ("pause", "a", "b"),
         ("certs", "x"), ("userdata", "x"), ("logs", "--lines", "0"), ("logs", "--lines", "many"), ("logs", "x"), ("validate",),
         ("validate", "a", "b"), ("schema", "x"), ("version", "x"), ("doctor", "x"), ("support-bundle", "a", "b"), ("completion",),
         ("scripts", "x"), ("scripts", "logs"), ("scripts", "logs", "--run", "0", "a"), ("scripts", "logs", "--run", "1", "--job", "j"),
         ("scripts", "run"), ("scripts", "run", "--"), ("scripts", "run", "--timeout", "604801", "/bin/true")]


def test_a_call_that_is_wrong_is_told_how_it_is_meant(vm):
    """As the help of the verb has it; of scripts logs and scripts run, their line alone."""
    for verb, *words in WRONG:
        done = vm.run(verb, *words)
        *told, more = done.stderr.splitlines()
        usage = [line[6:] for line in vm.run("help", verb).stdout.split("\n\n")[0].splitlines()]
        alone = [line for line in usage if words and words[0] in ("logs", "run") and line.startswith(f" evenkeel scripts {words[0]}")]
        assert done.returncode == 2 and done.stdout == "", (verb, words)
        assert told[0].startswith("usage: evenkeel ") and [line[6:] for line in told] == (alone or usage), (verb, words)
        assert more == f"evenkeel help {verb} tells more"
    for words in (("pause", "--for", "0"), ("quiesce", "--within", "8d"), ("simulate", "Reboot", "--in", "soon")):
        done = vm.run(*words)
        assert done.returncode == 2 and f'"{words[-1]}" is no duration' in done.stderr, words


ASKS = {"status": (), "events": (), "drain": (), "restore": (), "ack": ("x",), "quiesce": (), "resume": (), "simulate": ("Reboot",),
        "pause": (), "scripts": (), "certs": (), "userdata": ()}


def test_others_than_root_may_not_ask(tmp_path, platform):
    with Configured(tmp_path, platform) as vm:
        vm.configure(drain={})
        vm.start()
        lock = vm.root / "run/evenkeel/daemon.lock"
        options = {}
        program = pathlib.Path(tempfile.mkdtemp(prefix="evenkeel."))
        try:
            program.chmod(0o755)
            binary = shutil.copy(BINARY, program)
            if os.geteuid() == 0:
                options = {"user": 65534, "group": 65534, "extra_groups": []}
            else:
                lock.chmod(0)
                (vm.root / "var/lib/evenkeel/state").chmod(0)
            for verb, arguments in ASKS.items():
                done = subprocess.run([binary, verb, *arguments], capture_output=True, text=True, env=vm.environment(), cwd="/", **options)
                assert done.returncode == 5 and "only root may" in done.stderr, (verb, done.stderr)
        finally:
            shutil.rmtree(program)
            lock.chmod(0o600)
            (vm.root / "var/lib/evenkeel/state").chmod(0o700)


# The local API

def routes():
    source = (SOURCE / "agent/app/daemon_api.c").read_text()
    table = source[source.index("} routes[] = {"):]
    return re.findall(r'^\t\{ "([A-Z]+)", +"(/[a-z0-9/-]+)",', table[:table.index("};")], re.MULTILINE)


def test_the_manual_has_every_route():
    page = (MAN / "evenkeel-api.7").read_text()
    told = re.findall(r"^\.It Li (GET|POST) (/\S+)$", page, re.MULTILINE)
    assert len(routes()) > 10 and sorted(told) == sorted(routes())
    codes = set(re.findall(r"^\.It Li (\d{3})$", page, re.MULTILINE))
    assert codes == {"200", "202", "400", "403", "404", "405", "409", "413", "431", "500", "503"}


def test_routes_answer_as_the_manual_says(vm):
    port = free_port()
    vm.configure(drain={}, health={"listen": f"127.0.0.1:{port}", "metricsListen": f"127.0.0.1:{free_port()}"})
    vm.start()
    metrics = json.loads((vm.root / "etc/evenkeel/evenkeel.json").read_text())["health"]["metricsListen"]
    for method, path in routes():
        other = "GET" if method == "POST" else "POST"
        assert vm.call(other, path)[0] == 405, path
        # No other listener has them, whatever the method.
        for endpoint in (f"127.0.0.1:{port}", metrics):
            assert http_get(f"http://{endpoint}{path}")[0] == 404, path
    for path in [path for method, path in routes() if method == "GET"]:
        code, text = vm.call("GET", path)
        assert code == 200 and isinstance(json.loads(text), dict), path
    for path, body, wanted in (("/v1/ack", "x", 409), ("/v1/quiesce", "x", 409), ("/v1/simulate", "", 409), ("/v1/pause", "", 409),
                               ("/v1/resume", "", 409), ("/v1/scripts/run", "../x", 409)):
        code, text = vm.call("POST", path, body)
        assert code == wanted and set(json.loads(text)) == {"error"}, (path, code, text)
    code, text = vm.call("POST", "/v1/restore")
    assert code == 200 and set(json.loads(text)) == {"message"}
    assert vm.call("POST", "/v1/pause", "60 " + "x" * 70000)[0] == 413


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_others_are_refused_by_the_service_itself(vm):
    """Who gets hold of the socket in spite of its mode."""
    vm.configure()
    vm.start()
    path = vm.api_socket
    path.chmod(0o777)
    # The socket's directories are the test's own, which nobody else may enter: a descriptor of it is handed down.
    directory = os.open(path.parent, os.O_PATH)
    try:
        code = ("import os,socket,sys\nos.fchdir(%d)\ns=socket.socket(socket.AF_UNIX)\nos.setresuid(65534,65534,65534)\n"
                "s.connect('api.sock')\ns.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n')\n"
                "sys.stdout.buffer.write(s.makefile('rb').read())\n" % directory)
        done = subprocess.run(["/usr/bin/python3", "-c", code], capture_output=True, pass_fds=[directory], timeout=PATIENCE)
    finally:
        os.close(directory)
    assert b" 403 " in done.stdout.splitlines()[0] and b"only root may ask" in done.stdout, done


def test_events_without_the_service(vm):
    """What its record tells: what holds the VM, and how far it has come."""
    nothing = vm.run("events")
    assert nothing.returncode == 4 and "nothing has been watched or drained so far" in nothing.stderr and not nothing.stdout
    vm.configure(drain={"steps": [{"type": "run", "name": "leave", "command": ["true"]}]})
    vm.start()
    assert vm.run("drain", "--wait", "a new disk").returncode == 0
    vm.stop_daemon()
    said = vm.run("events")
    assert said.returncode == 4 and "this is what its record tells" in said.stderr
    assert said.stdout.startswith("drained\n") and "operator: a new disk" in said.stdout and "- leave (run): " in said.stdout
    document = json.loads(vm.run("events", "--json").stdout)
    assert document["phase"] == "drained" and document["holds"][0]["kind"] == "operator"
    assert vm.run("events", "--watch").returncode == 4
