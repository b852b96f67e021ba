"""Steps of a drain, each type with its undo and each way to fail, by the built program (settings.md 1.3)."""

import contextlib
import http.server
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from draining import PATIENCE, Programme
from vm import SOURCE, wait_until

PROGRAMME = Programme(auto_start=False)
SECRET = "s3cr3t-of-the-load-balancer"
RENEWED = "r3n3w3d-of-the-load-balancer"
PROBES = "168.63.129.16"
PROBES6 = "fe80::1234:5678:9abc"
performances = PROGRAMME.performances()


# Helpers

class Recorder(http.server.ThreadingHTTPServer):
    """Notes every request; answers as told, 200 unless told otherwise. `hold` set: answers wait for it to be cleared."""

    daemon_threads = True

    def __init__(self, answers=()):
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers = list(answers)
        self.requests = []
        self.open = threading.Event()
        self.open.set()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def __exit__(self, *_):
        self.open.set()
        self.shutdown()
        self.server_close()


class Answer(http.server.BaseHTTPRequestHandler):
    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.server.requests.append((self.command, self.path, dict(self.headers), body))
        self.server.open.wait(30)
        code = self.server.answers.pop(0) if self.server.answers else 200
        self.send_response(code)
        self.send_header("Content-Length", "0" if code == 204 else "100000")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(b"" if code == 204 else bytes(100000))

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, *_):
        pass


def drained(host, **more):
    event = host.platform.add_event("Reboot", not_before_in_seconds=600, **more)
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    return event


def restored(host, event):
    host.platform.remove_event(event)
    host.wait_for("drain to say watching", lambda: host.says("drain") == "watching", PATIENCE)


def put_secrets(host, **secrets):
    path = host.root / "etc/evenkeel/secrets.json"
    path.parent.mkdir(exist_ok=True)
    path.touch(0o600)
    path.write_text(json.dumps({"secrets": secrets}))


def reload(host):
    before = host.log_text()
    host._daemon.send_signal(signal.SIGHUP)
    host.wait_for("the settings to be read again", lambda: host.log_text() != before, PATIENCE)


def nowhere(host, *secrets):
    """No value of a secret in anything that the program has written or says."""
    files = [path for path in host.root.rglob("*") if path.is_file() and path.name != "secrets.json"]
    texts = {str(path): path.read_bytes() for path in files} | {"status": json.dumps(host.status()).encode()}
    found = [place for place, text in texts.items() for secret in secrets if secret.encode() in text]
    assert not found, found


def job_directories(host):
    return sorted(path.name for path in (host.root / "var/lib/evenkeel/jobs").glob("drain-*"))


# http

@PROGRAMME.scenario
def http_and_its_undo(host):
    put_secrets(host, token=SECRET)
    with Recorder([204]) as recorder:
        host.configure({"type": "http", "name": "leave", "method": "PUT", "url": recorder.url("/pool/vm?state=out"),
                        "headers": {"Authorization": {"secretRef": "token"}, "X-Vm": "vm"}, "body": '{"drain": true}',
                        "expect": [204],
                        "undo": {"method": "DELETE", "url": recorder.url("/pool/vm/drain"),
                                 "headers": {"Authorization": {"secretRef": "token"}}}},
                       host.step("after"))
        host.start()
        event = drained(host)
        method, path, headers, body = recorder.requests[0]
        assert (method, path, body) == ("PUT", "/pool/vm?state=out", '{"drain": true}')
        assert headers["Authorization"] == SECRET and headers["X-Vm"] == "vm"
        assert host.substatus("drain")["status"] == "success"
        nowhere(host, SECRET)
        restored(host, event)
        assert [(method, path) for method, path, *_ in recorder.requests[1:]] == [("DELETE", "/pool/vm/drain")]
        assert recorder.requests[1][2]["Authorization"] == SECRET
        nowhere(host, SECRET)


@PROGRAMME.scenario
def http_through_the_proxy(host):
    """As all requests: through the proxy, unless the host is excepted."""
    with Recorder() as proxy, Recorder() as direct:
        path = host.configure({"type": "http", "name": "far", "url": "http://balancer.example/out"},
                              {"type": "http", "name": "near", "url": direct.url("/out")})
        settings = json.loads(path.read_text())
        path.write_text(json.dumps({**settings, "network": {"proxy": proxy.url("")}}))
        host.start()
        drained(host)
        assert [one[1] for one in proxy.requests] == ["http://balancer.example/out"]
        assert [one[1] for one in direct.requests] == ["/out"]


@PROGRAMME.scenario
def http_that_is_refused(host):
    with Recorder([503, 200, 302, 500]) as recorder:
        host.configure({"type": "http", "name": "second-try", "url": recorder.url("/a"), "retry": {"times": 1, "delayInSeconds": 0}},
                       {"type": "http", "name": "elsewhere", "url": recorder.url("/b")},
                       {"type": "http", "name": "nobody", "url": recorder.url("/c"), "body": "x", "onFailure": "abort"},
                       host.step("never"))
        host.start()
        event = host.platform.add_event("Reboot", not_before_in_seconds=600)
        host.wait_says("aborted and not acknowledged")
        assert [(one[0], one[1]) for one in recorder.requests] == [
            ("GET", "/a"), ("GET", "/a"), ("GET", "/b"), ("POST", "/c")]
        log = host.log_text()
        assert "nobody" in log and "answered 500" in log
        assert "answered 302" in log, "a redirect is an answer like any other"
        restored(host, event)
        assert host.notes() == [] and len(recorder.requests) == 4, "what has no undo is not undone"


@PROGRAMME.scenario
def http_that_nobody_answers(host):
    with Recorder() as recorder, socket.create_server(("127.0.0.1", 0)) as silent:
        recorder.open.clear()
        host.configure({"type": "http", "name": "slow", "url": recorder.url("/slow"), "timeoutInSeconds": 1},
                       {"type": "http", "name": "mute", "url": f"http://127.0.0.1:{silent.getsockname()[1]}/",
                        "timeoutInSeconds": 2, "reserveInSeconds": 1})
        host.start()
        start = time.monotonic()
        drained(host)
        assert time.monotonic() - start >= 3
        assert "slow" in host.log_text() and "longer than it was given" in host.log_text()


@PROGRAMME.scenario
def secrets_of_a_drain_that_outlives_them(host):
    """What is in force counts; where the section is gone, what was known last."""
    put_secrets(host, token=SECRET)
    with Recorder() as recorder:
        path = host.configure({"type": "http", "url": recorder.url("/out"),
                               "undo": {"url": recorder.url("/in"), "headers": {"Authorization": {"secretRef": "token"}}}},
                              {"type": "http", "url": recorder.url("/out2"),
                               "undo": {"url": {"secretRef": "token"}}})
        put_secrets(host, token=recorder.url("/") + SECRET)
        host.start()
        drained(host)
        put_secrets(host, token=recorder.url("/") + RENEWED)
        reload(host)
        host.wait_polls(2)
        path.write_text(json.dumps({"health": json.loads(path.read_text())["health"]}))
        reload(host)
        host.wait_ready(200, PATIENCE)
        assert [one[1] for one in recorder.requests] == ["/out", "/out2", "/" + RENEWED, "/in"]
        assert recorder.requests[3][2]["Authorization"] == recorder.url("/") + RENEWED
        nowhere(host, SECRET, RENEWED)


@PROGRAMME.scenario
def secret_that_is_gone(host):
    """Nothing is written down of a secret, so a restart without it cannot undo: that is said, and mended by giving it."""
    put_secrets(host, token=SECRET)
    with Recorder() as recorder:
        path = host.configure({"type": "http", "name": "leave", "url": recorder.url("/out"),
                               "undo": {"url": recorder.url("/in"), "headers": {"X-Token": {"secretRef": "token"}}}})
        whole = path.read_text()
        host.start()
        drained(host)
        host.stop_daemon()
        path.write_text(json.dumps({"health": json.loads(whole)["health"]}))
        host.start()
        host.wait_says("not restored", 20)
        assert 'no secret "token"' in host.log_text() and len(recorder.requests) == 1
        path.write_text(whole)
        reload(host)
        host.wait_for("the undo", lambda: len(recorder.requests) == 2, 30)
        assert recorder.requests[1][2]["X-Token"] == SECRET


@PROGRAMME.scenario
def killed_while_a_request_is_out(host):
    with Recorder() as recorder:
        recorder.open.clear()
        host.configure({"type": "http", "name": "leave", "url": recorder.url("/out"), "undo": {"url": recorder.url("/in")},
                        "timeoutInSeconds": 60})
        host.start()
        event = host.platform.add_event("Reboot", not_before_in_seconds=600)
        host.wait_for("the request", lambda: recorder.requests, PATIENCE)
        host.kill_daemon()
        # Cancelled meanwhile: it may have arrived, so it is undone.
        host.platform.remove_event(event)
        host.start()
        host.wait_for("the undo", lambda: recorder.requests[-1][1] == "/in", 20)
        recorder.open.set()
        host.wait_says("watching")


# waitUntil

@PROGRAMME.scenario
def wait_until_it_is_so(host):
    asked = f"echo >>{host.root}/asked; test -e {host.root}/so"
    host.configure({"type": "waitUntil", "name": "queue", "command": ["sh", "-c", asked], "intervalInSeconds": 1},
                   host.step("after"))
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    start = time.monotonic()
    host.wait_for("three questions", lambda: len((host.root / "asked").read_text().splitlines()) >= 3
                  if (host.root / "asked").exists() else False, PATIENCE)
    assert time.monotonic() - start >= 2, "asked more often than every second"
    assert len(job_directories(host)) <= 1, "runs that are over are not kept"
    assert host.notes() == []
    (host.root / "so").touch()
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    assert host.notes() == [("begin", "after"), ("end", "after")]
    restored(host, event)
    assert job_directories(host) == []


@PROGRAMME.scenario
def wait_until_its_time_is_up(host):
    host.configure({"type": "waitUntil", "name": "never-so", "command": ["sh", "-c", "exit 3"], "intervalInSeconds": 1,
                    "timeoutInSeconds": 2},
                   {"type": "waitUntil", "name": "hangs", "timeoutInSeconds": 2,
                    "command": ["sh", "-c", f"echo $$ >{host.root}/hanging; exec sleep 31.41"]},
                   {"type": "waitUntil", "name": "not-there", "command": ["/no/such/program"]},
                   host.step("after"))
    host.start()
    start = time.monotonic()
    drained(host)
    assert time.monotonic() - start < 2 * PATIENCE
    log = host.log_text()
    assert "longer than it was given; the command was asked" in log and "its last run: exit code 3" in log
    assert "/no/such/program" in log
    assert host.times("end", "after")
    pid = int((host.root / "hanging").read_text())
    assert not pathlib.Path(f"/proc/{pid}").exists(), "a command that hangs is ended with its step"


@PROGRAMME.scenario
def killed_while_waiting(host):
    """The run that is under way is found again: never two at a time."""
    asked = (f"exec 9>{host.root}/lock; flock -n 9 || echo overlap >>{host.root}/asked; echo asked >>{host.root}/asked; "
             f"sleep 1; test -e {host.root}/so")
    host.configure({"type": "waitUntil", "name": "queue", "command": ["sh", "-c", asked], "intervalInSeconds": 1})
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    for _ in range(3):
        count = len((host.root / "asked").read_text().splitlines()) if (host.root / "asked").exists() else 0
        host.wait_for("a question", lambda: (host.root / "asked").exists() and
                      len((host.root / "asked").read_text().splitlines()) > count, PATIENCE)
        host.kill_daemon()
        host.start()
    (host.root / "so").touch()
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    assert "overlap" not in (host.root / "asked").read_text()
    # Cancelled while it asks: that run is stopped, also by a process that did not begin it.
    restored(host, event)
    (host.root / "so").unlink()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_for("a run", lambda: job_directories(host), PATIENCE)
    host.kill_daemon()
    host.platform.remove_event(event)
    host.start()
    host.wait_says("watching", PATIENCE)
    wait_until("all jobs to be gone", lambda: job_directories(host) == [], PATIENCE)


# waitForConnections

@contextlib.contextmanager
def connections(count, family=socket.AF_INET6):
    """A listener on both families, and so many connections to it: (port, clients)."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("::", 0), family=family, dualstack_ipv6=True, backlog=64))
        port = listener.getsockname()[1]
        clients = []
        for _ in range(count):
            clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", port))))
            stack.enter_context(listener.accept()[0])
        yield port, clients


@PROGRAMME.scenario
def wait_for_connections(host):
    with connections(5) as (port, clients), connections(1) as (other, _):
        host.configure({"type": "waitForConnections", "ports": [port], "atMost": 1}, host.step("after"))
        host.start()
        event = host.platform.add_event("Reboot", not_before_in_seconds=600)
        host.wait_polls(2)
        for client in clients[:3]:
            client.close()
        time.sleep(1.5)
        assert host.notes() == [] and host.acks(event) == [], "two are left, one may be"
        clients[3].close()
        host.platform.wait_for_acknowledgement(event, PATIENCE)
        assert host.times("end", "after")


@PROGRAMME.scenario
def connections_that_stay(host):
    with connections(2) as (port, _):
        host.configure({"type": "waitForConnections", "name": "idle", "ports": [port], "timeoutInSeconds": 2}, host.step("after"))
        host.start()
        drained(host)
        assert "longer than it was given; 2 connections are left" in host.log_text()
        assert host.times("end", "after")


@PROGRAMME.scenario
def connections_of_the_load_balancer(host):
    with connections(1) as (port, clients):
        host.platform.set_load_balancer([port])
        host.configure({"type": "waitForConnections", "ports": "fromLoadBalancer"}, host.step("after"))
        host.start()
        host.wait_says("watching")
        host.wait_for("the rules to be read", lambda: host.platform.requests("imds", "/metadata/loadbalancer"), PATIENCE)
        event = host.platform.add_event("Reboot", not_before_in_seconds=600)
        host.wait_polls(2)
        # Known already: a service that is in trouble now does not matter.
        host.platform.set_load_balancer(None)
        time.sleep(1)
        assert host.notes() == []
        clients[0].close()
        host.platform.wait_for_acknowledgement(event, PATIENCE)
        assert len(host.platform.requests("imds", "/metadata/loadbalancer")) == 1


@PROGRAMME.scenario
def no_load_balancer(host):
    """What cannot be known is not waited for, and not passed over in silence."""
    host.configure({"type": "waitForConnections", "name": "idle", "ports": "fromLoadBalancer", "onFailure": "abort"})
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_says("aborted and not acknowledged")
    assert "load balancer metadata" in host.says("drain"), host.says("drain")
    assert host.acks(event) == []


# refuseProbe

FAKE_NFT = """#!/bin/sh
test "$*" = "-f -" || exit 9
cat >{root}/rules.new
test ! -e {root}/broken || {{ echo "Error: Could not process rule: Operation not permitted" >&2; exit 1; }}
cat {root}/rules.new >>{root}/rules
echo "$(grep -c elements {root}/rules.new) $(sed -n 's/.*elements = //p' {root}/rules.new)" >>{root}/nft
"""


def put_nft(host, text=FAKE_NFT):
    path = host.root / "usr/sbin/nft"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(root=host.root))
    path.chmod(0o755)
    return path


def tables(host):
    """What nft was told, in order: ports, or "" for none."""
    path = host.root / "nft"
    return [line.partition(" ")[2] for line in path.read_text().splitlines()] if path.exists() else []


@PROGRAMME.scenario
def refuse_probe(host):
    put_nft(host)
    host.configure({"type": "refuseProbe", "ports": [8080, 8443]}, host.step("between"), {"type": "refuseProbe", "ports": [9000]})
    host.start()
    event = drained(host)
    assert tables(host) == ["{ 8080, 8443 }", "{ 8080, 8443, 9000 }"]
    for source in (f"ip saddr {PROBES}", f"ip6 saddr {PROBES6}"):
        assert f"{source} tcp dport @ports tcp flags & (fin|syn|rst|ack) == syn" in (host.root / "rules").read_text()
    marker = host.root / "run/evenkeel/refuse-probe"
    assert marker.exists()
    # A restart while drained makes sure of it.
    host.stop_daemon()
    host.start()
    host.wait_for("the table to be put back", lambda: len(tables(host)) == 3, PATIENCE)
    assert tables(host)[2] == "{ 8080, 8443, 9000 }" and host.substatus("drain")["status"] == "success"
    restored(host, event)
    assert tables(host)[3:] == ["{ 8080, 8443 }", ""] and not marker.exists()
    host.stop_daemon()
    host.start()
    host.wait_polls(2)
    assert len(tables(host)) == 5, "nothing is left to remove"


@PROGRAMME.scenario
def table_without_a_drain(host):
    """The record is lost, or somebody forces a restore: nobody would ever bring the VM back into its pool."""
    put_nft(host)
    host.configure({"type": "refuseProbe", "ports": [8080]})
    host.start()
    event = drained(host)
    host.stop_daemon()
    for path in (host.root / "var/lib/evenkeel/state").glob("drain*"):
        path.unlink()
    host.platform.remove_event(event)
    host.start()
    host.wait_for("the table to be removed", lambda: tables(host)[-1] == "", PATIENCE)
    assert tables(host) == ["{ 8080 }", ""]
    event = drained(host)
    (host.root / "broken").touch()
    host.platform.remove_event(event)
    host.wait_says("not restored: step", 20)
    assert "Operation not permitted" in host.log_text(), "what nft says is told"
    assert host.substatus("drain")["status"] == "error"
    (host.root / "broken").unlink()
    assert host.run("restore", "--force").returncode == 0
    host.wait_for("the table to be removed", lambda: tables(host)[-1] == "", PATIENCE)
    host.wait_ready(200)
    wait_until("nothing to be remembered", lambda: not (host.root / "run/evenkeel/refuse-probe").exists(), PATIENCE)


@PROGRAMME.scenario
def no_nft(host):
    """Said as soon as the settings come, not when it is too late."""
    host.configure({"type": "parallel", "steps": [host.step("a"), {"type": "refuseProbe", "ports": [80], "name": "refuse"}]},
                   host.step("after"))
    path = host.root / "etc/evenkeel/evenkeel.json"
    done = host.run("validate", str(path))
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("settings: drain.steps[0].steps[1]: refuseProbe needs nft, which is not installed; install")
    host.start()
    host.wait_says("drain.steps[0].steps[1]: refuseProbe needs nft, which is not installed; install the package nftables")
    assert host.substatus("drain")["status"] == "error"
    event = drained(host)
    assert host.times("end", "a") and host.times("end", "after")
    host.platform.remove_event(event)
    put_nft(host)
    host.wait_says("watching", 30)
    assert host.run("validate", str(path)).returncode == 0


@PROGRAMME.scenario
def refuse_probe_for_real(host):
    """By nft itself, in a network of its own where the platform's address lives."""
    real = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")
    held = subprocess.Popen(["unshare", "-n", "sh", "-c", "ip link set lo up && ip addr add 168.63.129.16/32 dev lo && "
                             f"ip addr add 10.9.9.9/32 dev lo && ip addr add {PROBES6}/64 dev lo && "
                             "ip addr add fe80::9999/64 dev lo && echo ready; exec sleep 600"], stdout=subprocess.PIPE, text=True)
    try:
        if not real or held.stdout.readline().strip() != "ready":
            pytest.skip("nft and a network namespace of our own are needed")
        put_nft(host, f'#!/bin/sh\nexec nsenter -t {held.pid} -n {real} "$@"\n')
        port = 8080
        server = subprocess.Popen(["nsenter", "-t", str(held.pid), "-n", "/usr/bin/python3", "-B", "-c", LISTEN, str(port)],
                                  stdout=subprocess.PIPE, text=True)
        assert server.stdout.readline().strip() == "listening"
        host.configure({"type": "refuseProbe", "ports": [port]})
        host.start()
        host.wait_says("watching")
        sources = (PROBES, PROBES6, "10.9.9.9", "fe80::9999")
        assert [connect(held.pid, source, port) for source in sources] == ["connected"] * 4
        event = drained(host)
        assert connect(held.pid, PROBES, port) == connect(held.pid, PROBES6, port) == "ConnectionRefusedError"
        assert connect(held.pid, PROBES, port + 1, listening=False) == "ConnectionRefusedError"
        assert connect(held.pid, "10.9.9.9", port) == connect(held.pid, "fe80::9999", port) == "connected", "others are served on"
        restored(host, event)
        assert connect(held.pid, PROBES, port) == connect(held.pid, PROBES6, port) == "connected"
        listed = subprocess.run(["nsenter", "-t", str(held.pid), "-n", real, "list", "tables"], capture_output=True, text=True)
        assert listed.returncode == 0 and listed.stdout == ""
        server.kill()
        server.wait()
    finally:
        held.kill()
        held.wait()


LISTEN = """
import socket, sys
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
while True:
    s.accept()
"""


def connect(pid, source, port, listening=True):
    """What becomes of a connection from that address, in that network."""
    code = ("import socket, sys\nsource, port = sys.argv[1], int(sys.argv[2])\n"
            "try:\n    if ':' in source:\n        s = socket.socket(socket.AF_INET6)\n        s.settimeout(5)\n"
            "        s.bind((source, 0, 0, socket.if_nametoindex('lo')))\n        s.connect(('::1', port))\n"
            "    else:\n        socket.create_connection(('127.0.0.1', port), 5, (source, 0))\n"
            "    print('connected')\nexcept OSError as e:\n    print(type(e).__name__)\n")
    return subprocess.run(["nsenter", "-t", str(pid), "-n", "/usr/bin/python3", "-B", "-c", code, source, str(port)],
                          capture_output=True, text=True, timeout=30).stdout.strip()


# What commands are told

TELL = 'env | grep ^EVENKEEL_ | sort >{file}.env; cat >{file}.json'


def told(host, name):
    environment = dict(line.split("=", 1) for line in (host.root / f"{name}.env").read_text().splitlines())
    return environment, json.loads((host.root / f"{name}.json").read_text())


def same_shape(one, other):
    return {name: type(value) for name, value in one.items()} == {name: type(value) for name, value in other.items()}


@PROGRAMME.scenario
def everything_is_told(host):
    hooks = host.root / "etc/evenkeel/hooks"
    for directory, name in (("drain.d", "hook"), ("restore.d", "unhook")):
        (hooks / directory).mkdir(parents=True)
        (hooks / directory / "10-tell").write_text("#!/bin/sh\n" + TELL.format(file=host.root / name))
        (hooks / directory / "10-tell").chmod(0o755)
    host.configure({"type": "run", "name": "tell", "command": ["sh", "-c", TELL.format(file=host.root / "run")],
                    "undo": ["sh", "-c", TELL.format(file=host.root / "undo")], "timeoutInSeconds": 20},
                   {"type": "waitUntil", "name": "asked", "command": ["sh", "-c", TELL.format(file=host.root / "until")]},
                   {"type": "hooks", "name": "all"})
    host.start()
    event = drained(host, description='Host "maintenance"\nof ours', duration_in_seconds=42)
    environment, document = told(host, "run")
    not_before = environment["EVENKEEL_EVENT_NOT_BEFORE"]
    assert {**environment, "EVENKEEL_EVENT_NOT_BEFORE": "", "EVENKEEL_EVENT_DESCRIPTION": ""} == {
        "EVENKEEL_PHASE": "drain", "EVENKEEL_STEP": "tell", "EVENKEEL_STEP_TYPE": "run", "EVENKEEL_ATTEMPT": "1",
        "EVENKEEL_TIMEOUT_IN_SECONDS": "20", "EVENKEEL_REASON": "Reboot", "EVENKEEL_REHEARSAL": "0",
        "EVENKEEL_EVENT_ID": event, "EVENKEEL_EVENT_TYPE": "Reboot", "EVENKEEL_EVENT_SOURCE": "Platform",
        "EVENKEEL_EVENT_STATUS": "Scheduled", "EVENKEEL_EVENT_DESCRIPTION": "", "EVENKEEL_EVENT_NOT_BEFORE": "",
        "EVENKEEL_EVENT_DURATION_IN_SECONDS": "42"}
    assert environment["EVENKEEL_EVENT_DESCRIPTION"].startswith('Host "maintenance"')
    page = (SOURCE / "agent/app/man/evenkeel-hooks.7").read_text().split(".Sh CERTIFICATES", 1)[0]
    assert set(re.findall(r"^\.It Ev (EVENKEEL_\w+)", page, re.MULTILINE)) == set(environment), "evenkeel-hooks(7)"
    example = json.loads(page.split(".Bd -literal\n")[1].split(".Ed")[0])
    assert same_shape(example["step"], document["step"]) and same_shape(example["events"][0], document["events"][0])
    assert same_shape(example, document)
    assert document == {
        "version": 1, "phase": "drain", "step": {"name": "tell", "type": "run", "attempt": 1, "timeoutInSeconds": 20},
        "events": [{"id": event, "type": "Reboot", "source": "Platform", "status": "Scheduled",
                    "description": document["events"][0]["description"], "notBefore": not_before, "durationInSeconds": 42,
                    "shared": False, "holds": True}],
        "holds": [], "units": []}
    assert document["events"][0]["description"].startswith('Host "maintenance"')
    assert told(host, "until")[1]["step"]["type"] == "waitUntil" and told(host, "until")[0]["EVENKEEL_STEP"] == "asked"
    environment, document = told(host, "hook")
    assert (environment["EVENKEEL_PHASE"], environment["EVENKEEL_STEP_TYPE"], document["step"]["name"]) == ("drain", "hooks", "all")
    restored(host, event)
    for name in ("undo", "unhook"):
        environment, document = told(host, name)
        assert environment["EVENKEEL_PHASE"] == document["phase"] == "restore"
        assert environment["EVENKEEL_ATTEMPT"] == "0" and environment["EVENKEEL_REASON"] == "Reboot"
        # the event is gone, but what they undo was done for it
        assert {word: text for word, text in environment.items() if word.startswith("EVENKEEL_EVENT_")} == {
            word: text for word, text in told(host, "run")[0].items() if word.startswith("EVENKEEL_EVENT_")}
        assert document["events"] == told(host, "run")[1]["events"]


def put_hooks(host, directory, **texts):
    path = host.root / "etc/evenkeel/hooks" / directory
    path.mkdir(parents=True)
    for name, text in texts.items():
        (path / name).write_text(f"#!/bin/sh\n{text}\n")
        (path / name).chmod(0o755)


@PROGRAMME.scenario
def a_hook_that_hangs(host):
    """It takes no time from the next one, and is named."""
    put_hooks(host, "drain.d", **{"10-hangs": "exec sleep 31.43", "20-next": f"touch {host.root}/next"})
    host.configure({"type": "hooks", "timeoutInSeconds": 3}, host.step("after"))
    host.start()
    drained(host)
    assert (host.root / "next").exists() and host.times("end", "after")
    assert "10-hangs ran longer than its limit" in host.log_text()


@PROGRAMME.scenario
def hooks_with_little_time(host):
    """Where the notice does not suffice for all that hooks may take, one that hangs leaves the next what is kept for it."""
    put_hooks(host, "drain.d", **{"10-hangs": "trap : TERM; while :; do sleep 31.44; done", "20-next": f"date +%s.%N >{host.root}/next"})
    host.configure({"type": "hooks", "reserveInSeconds": 4})
    host.start()
    host.wait_says("watching")
    host.platform.add_event("Preempt", not_before_in_seconds=9)
    published = time.time()
    host.wait_for("the next one", lambda: (host.root / "next").exists() and (host.root / "next").read_text(), 15)
    assert float((host.root / "next").read_text()) - published < 9
    host.wait_for("its failure to be told", lambda: "10-hangs ran longer than its limit" in host.log_text())


@PROGRAMME.scenario
def more_hooks_that_undo(host):
    """Each has its time, however few there were to drain."""
    put_hooks(host, "restore.d", **{f"{n}0": f"sleep 1.5; echo {n} >>{host.root}/undone" for n in range(1, 4)})
    host.configure({"type": "hooks", "timeoutInSeconds": 2, "reserveInSeconds": 1})
    host.start()
    restored(host, drained(host))
    assert (host.root / "undone").read_text().split() == ["1", "2", "3"]


@PROGRAMME.scenario
def told_by_an_operator(host):
    host.configure({"type": "run", "name": "tell", "command": ["sh", "-c", TELL.format(file=host.root / "run")],
                    "undo": ["sh", "-c", TELL.format(file=host.root / "undo")]})
    host.start()
    host.wait_says("watching")
    assert host.run("drain").returncode == 0
    host.wait_says("drained")
    host.kill_daemon()
    host.start()
    assert host.run("restore").returncode == 0
    host.wait_says("watching")
    for name in ("run", "undo"):
        environment, document = told(host, name)
        assert environment["EVENKEEL_REASON"] == document["holds"][0]["reason"] == "an operator"
        assert document["holds"][0]["kind"] == "operator" and document["events"] == []
        assert not [word for word in environment if word.startswith("EVENKEEL_EVENT_")]


@PROGRAMME.scenario
def told_in_a_rehearsal(host):
    """What does nothing in a rehearsal must know that there is nothing to undo."""
    host.configure({"type": "run", "name": "tell", "command": ["sh", "-c", TELL.format(file=host.root / "run")],
                    "undo": ["sh", "-c", TELL.format(file=host.root / "undo")]})
    host.start()
    host.wait_says("watching")
    done = host.run("simulate", "Reboot", "--in", "2", "--duration", "1")
    assert done.returncode == 0, done.stdout
    for name in ("run", "undo"):
        environment, document = told(host, name)
        assert environment["EVENKEEL_REHEARSAL"] == "1" and document["holds"][0]["kind"] == "rehearsal"


# Order, groups, failures

@PROGRAMME.scenario
def finish(host):
    host.configure(host.step("a"), host.step("enough", "false", onFailure="finish"), host.step("never"))
    host.start()
    event = drained(host)
    assert host.notes() == [("begin", "a"), ("end", "a"), ("begin", "enough")]
    restored(host, event)
    assert [note for note in host.notes() if note[0] == "undo"] == [("undo", "enough"), ("undo", "a")]


@PROGRAMME.scenario
def parallel_steps(host):
    """At the same time, one of them failing at first; the next step after all of them; undone in reverse."""
    with Recorder() as recorder, connections(1) as (port, clients):
        threading.Timer(2, clients[0].close).start()
        host.configure({"type": "parallel", "steps": [
                            host.step("left", "sleep 1"),
                            host.step("right", f"sleep 1; test -e {host.root}/again || {{ touch {host.root}/again; false; }}",
                                      retry={"times": 1, "delayInSeconds": 0}),
                            {"type": "http", "url": recorder.url("/out"), "undo": {"url": recorder.url("/in")}},
                            {"type": "waitForConnections", "ports": [port]}]},
                       host.step("after"))
        host.start()
        event = drained(host)
        assert [one[1] for one in recorder.requests] == ["/out"]
        left, right = host.times("begin", "left")[0], host.times("begin", "right")[0]
        assert abs(left - right) < 0.9 and max(left, right) < min(host.times("end", "left")), "not at the same time"
        assert len(host.times("begin", "right")) == 2 and len(host.times("begin", "left")) == 1
        assert host.times("begin", "after")[0] > max(host.times("end", "left") + host.times("end", "right"))
        assert ("overlap", "right") not in host.notes()
        restored(host, event)
        assert [one[1] for one in recorder.requests] == ["/out", "/in"]
        assert [note for note in host.notes() if note[0] == "undo"] == [("undo", "after"), ("undo", "right"), ("undo", "left")]


@PROGRAMME.scenario
def little_time(host):
    """Six seconds for three steps that may take a minute each: waits are skipped where the rest needs the time, and what
    hangs leaves the others what is reserved for them."""
    with connections(1) as (port, _):
        host.configure({"type": "waitForConnections", "ports": [port], "timeoutInSeconds": 60},
                       host.step("hangs", "sleep 31.42", timeoutInSeconds=60, reserveInSeconds=1),
                       host.step("last", timeoutInSeconds=60, reserveInSeconds=3))
        host.start()
        host.wait_says("watching")
        host.platform.add_event("Preempt", not_before_in_seconds=8)
        published = time.time()
        host.wait_note("end", "last", limit=10)
        assert host.times("end", "last")[0] - published < 9
        assert host.times("end", "hangs") == []


@pytest.mark.parametrize("name", list(PROGRAMME))
def test_scenario(performances, name):
    performances[name].result()
