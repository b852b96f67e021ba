"""The daemon and the verbs for people: one at a time, who may ask and how much, signals, health, logs without secrets, disks."""

import http.server
import json
import os
import platform as host
import random
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest
from vm import BINARY, HANDLER, SOURCE, VM, descendants, files_with, free_port, http_get, lines, script, wait_until

NOBODY = 65534
IDLE_LIMIT = 15
CONNECTIONS = 32
CANARY = "c4n4ry7531"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else or to mount")


class Port:
    """A VM whose settings stand in /etc/evenkeel, with readiness on a port."""

    def __init__(self, vm, **more):
        self.vm = vm
        self.number = free_port()
        self.write(**more)

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.number}"

    def write(self, **more):
        path = self.vm.root / "etc/evenkeel/evenkeel.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"health": {"listen": self.endpoint, **more}, "log": {"console": False}}))

    def ready(self):
        return http_get(f"http://{self.endpoint}/ready")

    def app_health(self):
        code, text = http_get(f"http://{self.endpoint}/app-health")
        return code, json.loads(text)["ApplicationHealthState"]


# Connections that say nothing: they stay while the other tests run, and the last test looks at them.

@pytest.fixture(scope="module", autouse=True)
def loris(tmp_path_factory, platform):
    with VM(tmp_path_factory.mktemp("slow"), platform) as vm:
        vm.port = Port(vm)
        vm.start_daemon(binary=BINARY)
        vm.silent = []
        texts = (b"", b"GET /ready HT", b"POST /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nabc")
        for number in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", vm.port.number))
            connection.sendall(texts[number % len(texts)])
            vm.silent.append(connection)
        vm.since = time.monotonic()
        yield vm
        for connection in vm.silent:
            connection.close()


# One at a time

def test_second_daemon_is_refused(vm):
    vm.start_daemon(binary=BINARY)
    second = vm.run("daemon", "--foreground")
    assert second.returncode == 1
    assert "another evenkeel daemon is running" in second.stderr and "daemon.lock" in second.stderr
    assert vm.status(), "the first one does not answer any more"
    vm.kill_daemon()
    vm.start_daemon(binary=BINARY)


def test_unknown_argument_of_daemon(vm):
    done = vm.run("daemon", "--forground")
    assert done.returncode == 2 and 'no option "--forground"; did you mean "--foreground"?' in done.stderr
    done = vm.run("daemon", "foreground")
    assert done.returncode == 2 and done.stderr == 'evenkeel daemon: unknown argument "foreground"\n'


# Signals

def test_reload(vm):
    port = Port(vm)
    vm.start_daemon(binary=BINARY)
    assert port.ready() == (200, "ready")
    former, port.number = port.number, free_port()
    port.write()
    vm._daemon.send_signal(signal.SIGHUP)
    wait_until("the new port to answer", lambda: port.ready()[0] == 200, 5)
    assert http_get(f"http://127.0.0.1:{former}/ready")[0] == 0
    # What is wrong in it changes nothing.
    port.write(lisen="x")
    vm._daemon.send_signal(signal.SIGHUP)
    wait_until("the error to be told", lambda: "health.lisen" in vm.says("settings"), 5)
    assert port.ready()[0] == 200
    assert vm._daemon.poll() is None


@pytest.mark.parametrize("how", ["stop_daemon", "kill_daemon"])
def test_end_of_the_daemon_leaves_jobs_alone(service, how):
    """A script runs on, once, and its result is found by the next daemon."""
    service.enable(0, script(f"echo begun >>{service.root}/ran; sleep 1; echo ended >>{service.root}/ran; exit 0"))
    wait_until("the script to begin", lambda: lines(service.root / "ran") == ["begun"], 5)
    getattr(service, how)()
    time.sleep(0.2)
    service.start_daemon()
    assert service.settled()["status"] == "success"
    assert lines(service.root / "ran") == ["begun", "ended"]


def test_result_of_a_script_that_ended_while_nobody_watched(service):
    service.enable(0, script(f"echo begun >>{service.root}/ran; sleep 0.5; echo ended; exit 5"))
    wait_until("the script to begin", lambda: lines(service.root / "ran") == ["begun"], 5)
    service.kill_daemon()
    time.sleep(1)
    service.start_daemon()
    status = service.settled()
    assert status["status"] == "error" and "ended" in status["formattedMessage"]["message"]
    assert lines(service.root / "ran") == ["begun"]


def kill_while_scripts_run(vm, seed, kills=8):
    """Three scripts in order; a fourth that fails, told as it is. However it goes: once each, and the truth in the end."""
    dice = random.Random(seed)
    names = ["a", "b", "c", "bad"]
    scripts = [script(f"echo {name} >>{vm.root}/ran; sleep 0.15; echo said {name}; [ {name} != bad ]", name=name,
                      retry={"times": 0})["customScript"]["scripts"][0] for name in names]
    vm.enable(0, {"customScript": {"scripts": scripts}})
    for _ in range(kills):
        time.sleep(dice.uniform(0, 0.25))
        vm.kill_daemon()
        vm.start_daemon(wait=False)
    wait_until("the last daemon to answer", vm.status, 10)
    status = vm.settled()
    assert lines(vm.root / "ran") == names, f"seed {seed}"
    told = {item["name"]: item for item in status["substatus"]}
    for name in names:
        assert f"said {name}" in told[f"customScript/{name}"]["formattedMessage"]["message"], (seed, told)
    assert [told[f"customScript/{name}"]["status"] for name in names] == ["success"] * 3 + ["error"], (seed, told)
    assert status["status"] == "error" and status["code"] == 2, seed


def test_scripts_run_once_however_often_the_daemon_is_killed(service):
    kill_while_scripts_run(service, 20261120)


# The local API

def as_nobody(path, code):
    """Runs code in a child without privileges that stands beside the socket `path`."""
    def drop():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    return subprocess.run([sys.executable, "-B", "-c", code], cwd=path.parent, preexec_fn=drop, capture_output=True, text=True,
                          timeout=10)


ASK = """
import socket
s = socket.socket(socket.AF_UNIX)
try:
    s.connect("api.sock")
except PermissionError:
    print("refused")
else:
    s.sendall(b"POST /v1/retire HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    print(s.makefile().read())
"""


@as_root
def test_only_root_may_ask(service):
    assert stat.S_IMODE(service.api_socket.stat().st_mode) == 0o600
    assert stat.S_IMODE((service.root / "run/evenkeel").stat().st_mode) == 0o711
    assert stat.S_IMODE((service.root / "run/evenkeel/jobs").stat().st_mode) == 0o700
    assert stat.S_IMODE((service.root / "var/lib/evenkeel/state").stat().st_mode) == 0o700
    assert as_nobody(service.api_socket, ASK).stdout == "refused\n"
    # Even if somebody opens the door: who asks is known.
    service.api_socket.chmod(0o666)
    answer = as_nobody(service.api_socket, ASK).stdout
    assert answer.startswith("HTTP/1.1 403 ") and "only root may ask" in answer
    assert "retiring" not in service.log_text()


def test_what_the_api_answers(service):
    service.enable(0, {})
    code, text = service.call("GET", "/v1/status")
    status = json.loads(text)
    assert code == 200 and status["version"] == service.version and status["serving"] is True and status["sequence"] == "0"
    assert status["status"] == [{**json.loads(service.status_path(0).read_text())[0],
                                 "timestampUTC": status["status"][0]["timestampUTC"],
                                 "status": status["status"][0]["status"]}]
    assert service.call("GET", "/v1/status?x=y")[0] == 200
    for method, path, wanted in (("GET", "/", 404), ("GET", "/v1", 404), ("GET", "/v1/status/", 404), ("POST", "/v1/status", 405),
                                 ("GET", "/v1/goal", 405), ("GET", "/ready", 404), ("BREW", "/v1/status", 405),
                                 ("GET", "/%2e%2e/v1/status", 404)):
        code, text = service.call(method, path)
        assert code == wanted and json.loads(text)["error"], (method, path, code, text)


def raw(path, data, timeout=5):
    """All that comes back for these bytes."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    connection.connect(str(path))
    answer = b""
    try:
        try:
            connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        while piece := connection.recv(65536):
            answer += piece
    except ConnectionResetError:
        pass
    finally:
        connection.close()
    return answer


def test_too_much_for_the_api(service):
    service.enable(0, {})
    assert service.call("POST", "/v1/goal", "x" * 60000)[0] == 200
    assert service.call("POST", "/v1/goal", "x" * 70000)[0] == 413
    close = b"Connection: close\r\n\r\n"
    for data, wanted in (
            (b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: a\r\n" + close, b"414"),
            (b"GET /v1/status HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100000 + b"\r\n" + close, b"431"),
            (b"GET /v1/status HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 20000 + close, b"431"),
            (b"nonsense\r\n\r\n", b""), (bytes(range(256)) * 100, b""),
            (b"POST /v1/goal HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n" + close, b"4"),
            (b"POST /v1/goal HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n" + close, b"4")):
        answer = raw(service.api_socket, data)
        assert not answer or answer.split()[1].startswith(wanted or b"4"), answer[:200]
    assert service.call("GET", "/v1/status")[0] == 200
    assert service.deployment()["status"] == "success"


# Health

def test_listener_that_cannot_bind_is_a_failed_duty(service):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        endpoint = f"127.0.0.1:{other.getsockname()[1]}"
        service.enable(0, {"health": {"listen": endpoint}})
        status = service.deployment()
        assert status["status"] == "error"
        assert endpoint in status["formattedMessage"]["message"]
        assert service.substatus("health")["status"] == "error"
    service.command("enable")  # the agent does so at each goal state
    assert service.settled()["status"] == "success"
    assert http_get(f"http://{endpoint}/ready") == (200, "ready")


class Application(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        self.send_response(self.server.code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def application():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application)
    server.code = 200
    server.asked = 0
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_health_of_the_application(vm, application):
    port = Port(vm, application={"http": f"http://127.0.0.1:{application.server_port}/healthz", "intervalInSeconds": 1,
                                 "timeoutInSeconds": 1, "unhealthyThreshold": 2})
    application.code = 500
    vm.start_daemon(binary=BINARY)
    wait_until("the application to be asked", lambda: "answered 500" in port.ready()[1], 3)
    assert port.ready()[0] == 503, "one that has never been well is not taken for well"
    assert port.app_health() == (200, "Initializing")
    application.asked = 0
    wait_until("more failures than make a running one ill", lambda: application.asked > 2, 10)
    assert port.app_health() == (200, "Initializing"), "one that has yet to begin is neither well nor ill"
    application.code = 302
    wait_until("/ready to say 200", lambda: port.ready() == (200, "ready"), 3)
    assert port.app_health() == (200, "Healthy")
    seen = set()
    for _ in range(20):  # what the agent causes at each goal state of the VM
        assert vm.call("POST", "/v1/goal")[0] == 200
        seen.add(port.ready())
    assert seen == {(200, "ready")}
    application.code = 500
    failed = time.monotonic()
    wait_until("/ready to say 503", lambda: port.ready()[0] == 503, 4)
    assert time.monotonic() - failed > 0.7, "one failure is not two"
    assert "answered 500" in port.ready()[1]
    assert port.app_health() == (200, "Unhealthy")
    assert vm.substatus("health")["status"] == "warning"
    vm.stop_daemon()
    vm.start_daemon(binary=BINARY)
    assert port.app_health()[1] != "Initializing", "what it was like before a restart of the service is known"
    wait_until("it to be told again", lambda: port.app_health() == (200, "Unhealthy"), 10)
    vm.stop_daemon()
    boot_id = vm.root / "proc/sys/kernel/random/boot_id"
    boot_id.parent.mkdir(parents=True)
    boot_id.write_text("22222222-0000-4000-8000-000000000000\n")
    vm.start_daemon(binary=BINARY)
    assert port.app_health() == (200, "Initializing"), "after a boot it begins anew"
    application.code = 200
    wait_until("/ready to say 200", lambda: port.ready()[0] == 200, 3)


def test_application_that_accepts_connections(vm):
    with socket.socket() as application:
        application.bind(("127.0.0.1", 0))
        port = Port(vm, application={"tcp": f"127.0.0.1:{application.getsockname()[1]}", "intervalInSeconds": 1})
        vm.start_daemon(binary=BINARY)
        wait_until("the application to be asked", lambda: "not asked yet" not in port.ready()[1], 3)
        assert port.ready()[0] == 503
        application.listen()
        wait_until("/ready to say 200", lambda: port.ready()[0] == 200, 3)


def test_what_the_health_port_answers(vm):
    port = Port(vm)
    vm.start_daemon(binary=BINARY)
    assert http_get(f"http://{port.endpoint}/v1/status")[0] == 404
    assert http_get(f"http://{port.endpoint}/v1/retire")[0] == 404
    with socket.create_connection(("127.0.0.1", port.number)) as connection:
        connection.sendall(b"POST /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert connection.makefile().read().startswith("HTTP/1.1 405 ")
    with socket.create_connection(("127.0.0.1", port.number)) as connection:
        connection.sendall(b"HEAD /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert connection.makefile().read().endswith("\n\n")
    assert port.ready()[0] == 200


def upgrade(port):
    """What the Application Health extension reads: the metrics are a text that holds JSON."""
    answer = json.loads(http_get(f"http://127.0.0.1:{port}/app-health")[1])
    assert answer["ApplicationHealthState"] == "Healthy"
    return json.loads(answer["CustomMetrics"])["rollingUpgrade"]


def test_ready_after(service):
    port = free_port()
    service.enable(0, {**script(f"until [ -e {service.root}/go ]; do sleep 0.05; done"),
                       "health": {"listen": f"127.0.0.1:{port}", "readyAfter": ["customScript"]}})
    code, text = http_get(f"http://127.0.0.1:{port}/ready")
    assert code == 503 and "customScript has not succeeded yet" in text
    # A rolling upgrade of the scale set leaves an instance out whose script runs.
    assert upgrade(port) == {"SkipUpgrade": True, "PhaseOrderingNumber": 0}
    (service.root / "go").touch()
    wait_until("/ready to say 200", lambda: http_get(f"http://127.0.0.1:{port}/ready")[0] == 200, 10)
    wait_until("the upgrade to be allowed", lambda: upgrade(port) == {"SkipUpgrade": False, "PhaseOrderingNumber": 0}, 10)


# Logs and secrets

def test_log_rotation(service):
    service.enable(0, {"log": {"maxSizeInBytes": 65536, "maxFiles": 3, "console": False}})
    log = service.root / f"var/log/azure/{HANDLER}/evenkeel.log"
    service.enable(1, {f"unknown{i}": {"x" * 50: i} for i in range(9)})
    for _ in range(600):
        assert service.call("POST", "/v1/goal")[0] == 200
    names = sorted(path.name for path in log.parent.iterdir())
    assert names == ["evenkeel.log", "evenkeel.log.1", "evenkeel.log.2"]
    for name in names:
        found = (log.parent / name).stat()
        assert found.st_size <= 65536 + 2048 and stat.S_IMODE(found.st_mode) == 0o640
    text = (log.parent / "evenkeel.log.1").read_text()
    assert text.endswith("\n")
    for line in text.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S* ", line) or line.startswith(("settings: ", " ", "and ")), line


def processes_with(text):
    """{pid: which of its files} of every process that shows text to others."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ", "comm"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    if text.encode() in file.read():
                        found.setdefault(int(pid), set()).add(name)
            except OSError:
                pass
    return found


def test_secrets_stay_secret(service):
    """Planted in every place that takes a secret; looked for in every place that others can see."""
    def waiting(name):  # without another process, that would have the environment, too
        os.mkfifo(service.root / f"go.{name}", 0o600)
        return f"echo $$ >{service.root}/pid.{name}; read go <{service.root}/go.{name}"

    secrets = {name: f"{CANARY}{name}" for name in ("environment", "header", "hook", "hmac", "unused")}
    secrets["command"] = f": {CANARY}command; {waiting('hidden')}"
    secrets["script"] = "IyEvYmluL3NoCmVjaG8gYzRuNHJ5NzUzMXNjcmlwdCA+L2Rldi9udWxsCg=="  # echo c4n4ry7531script >/dev/null
    settings = {
        "customScript": {"scripts": [
            {"name": "shown", "commandToExecute": waiting("shown"), "environment": {"A": {"secretRef": "environment"}}},
            {"name": "hidden", "commandToExecute": {"secretRef": "command"}},
            {"name": "encoded", "script": {"secretRef": "script"}}]},
        "drain": {"steps": [{"type": "http", "url": "http://127.0.0.1:1/", "headers": {"Authorization": {"secretRef": "header"}}}]},
        "notify": {"webhooks": [{"name": "w", "url": {"secretRef": "url"}, "hmacKey": {"secretRef": "hmac"}}]}}
    secrets["url"] = f"http://127.0.0.1:1/{CANARY}url"
    service.enable(0, settings, {"secrets": secrets})
    for name in ("shown", "hidden"):
        pid_file = service.root / f"pid.{name}"
        wait_until(f"script {name} to run; {service.deployment()}", lambda: lines(pid_file), 10)
        script_pid = int(lines(pid_file)[0])
        theirs = [script_pid, *descendants(script_pid)]
        # each turn of the script's waiting is a child, which may have begun and ended since
        exposed = {pid: where for pid, where in processes_with(CANARY).items()
                   if not (where == {"environ"} and (pid in theirs or not os.path.exists(f"/proc/{pid}")))}
        assert exposed == {}
        readable = files_with(service.root, CANARY)
        if name == "hidden":  # the shell has to read it; nobody else can, and it goes when the script has ended
            own = [path for path in readable if re.fullmatch(r"var/lib/evenkeel/jobs/cs-hidden-[^/]+/command.sh", path)]
            assert len(own) == 1 and stat.S_IMODE((service.root / own[0]).stat().st_mode) & 0o077 == 0
            readable.remove(own[0])
        assert readable == []
        (service.root / f"go.{name}").write_text("go\n")
    status = service.settled()
    assert [item["status"] for item in status["substatus"] if item["name"].startswith("customScript/")] == ["success"] * 3, status
    # Wrong settings are where a value is most likely to be shown.
    service.enable(1, {"notify": {"webhooks": [{"name": "w", "url": {"secretRef": "environment"}}]},
                       "keyRefresh": {"certificates": [{"name": "c", "url": "https://v.vault.azure.net/secrets/s",
                                                        "pkcs12Password": CANARY}]}}, {"secrets": {**secrets, "x": [CANARY]}})
    assert service.deployment(1)["status"] == "error"
    service.put_file(2, json.dumps({"runtimeSettings": [{"handlerSettings": {
        "publicSettings": {}, "protectedSettings": service.platform.encrypt_settings({"a": 1})[:-8] + "AAAAAAA=",
        "protectedSettingsCertThumbprint": service.platform.tenant_certificate()["thumbprint"]}}]}))
    service.command("enable", 2)
    code, api = service.call("GET", "/v1/status")
    assert code == 200 and CANARY not in api
    service.stop_daemon()
    assert CANARY not in service.log_text() and CANARY not in "".join(service._said)
    found = [path for path in files_with(service.root, CANARY) if not path.endswith("config/1.settings")]
    # Literals in the public settings of number 1 are in the record of that goal state, for root only.
    assert found in ([], ["var/lib/evenkeel/state/goal.json"]), found


# Disks

def test_copied_disk_starts_empty(service):
    """A captured image on another machine: nothing of the former one's is taken for its own."""
    service.enable(0, {**script(f"echo ran >>{service.root}/ran")})
    service.settled()
    service.stop_daemon()
    (service.root / "etc/machine-id").write_text("0ddba11ca11ab1e00000000000000000\n")
    before = service.status_path(0).read_bytes()
    service.start_daemon()
    assert service.status()["sequence"] == ""
    assert "copied from another machine" in service.log_text()
    assert service.status_path(0).read_bytes() == before, "nobody has enabled anything here yet"
    assert list((service.root / "var/lib/evenkeel/jobs").iterdir()) == []
    assert lines(service.root / "ran") == ["ran"]
    service.command("enable")
    assert service.settled()["status"] == "success"
    assert lines(service.root / "ran") == ["ran", "ran"]
    # The same machine again: nothing is lost.
    service.restart_daemon()
    assert service.status()["sequence"] == "0"


def test_machine_without_an_identity(vm):
    (vm.root / "etc/machine-id").write_text("not an identifier\n")
    done = vm.run("daemon", "--foreground")
    assert done.returncode == 1 and "cannot be told from its clones" in done.stderr


@as_root
def test_a_service_manager_that_does_not_answer(vm):
    """The service is started again in a second; scripts would be in its sandbox otherwise."""
    daemon = vm.start_daemon(binary=BINARY, wait=False, EVENKEEL_SYSTEMD="1", prefix=[
        "unshare", "-m", "sh", "-c", 'mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec "$@"', "sh"])
    vm._daemon = None
    assert daemon.wait(20) == 1 and "cannot reach systemd" in vm.log_text()


@as_root
def test_read_only_state(service):
    """What was decided stays decided, and what is decided now is kept in /run."""
    port = Port(service)
    service.enable(0, {})
    service.stop_daemon()
    service.start_daemon(prefix=["unshare", "-m", "sh", "-c",
                                 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"',
                                 str(service.root / "var/lib/evenkeel")])
    assert port.ready() == (200, "ready")
    assert service.status()["sequence"] == "0" and service.deployment()["status"] == "success"
    port.write(lisen="x")
    service._daemon.send_signal(signal.SIGHUP)
    wait_until("the error to be told", lambda: "health.lisen" in service.says("settings"), 5)
    assert service._daemon.poll() is None


# Verbs for people

DOCUMENT = {"drain": {"steps": [{"type": "run", "command": ["/bin/true"]}]}, "log": {"level": "debug"}}


def write(vm, value, name="document.json"):
    path = vm.root / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def test_validate(vm):
    good = write(vm, DOCUMENT)
    done = vm.run("validate", good)
    assert (done.returncode, done.stdout) == (0, f"{good}: valid\n")
    for wrong, sentence in (
            ({"drian": {}}, 'settings: drian: unknown section; did you mean "drain"?'),
            ({"drain": {"steps": [{"type": "run", "command": ["true"], "timeoutInSeconds": "60s"}]}},
             'settings: drain.steps[0].timeoutInSeconds: expected an integer from 1 to 3600, got "60s"'),
            ({"drain": {"steps": [{"type": "probeDown"}]}},
             "settings: drain.steps[0]: probeDown needs health.listen, which no door sets")):
        done = vm.run("validate", write(vm, wrong))
        assert (done.returncode, done.stdout) == (3, "") and done.stderr.splitlines()[0] == sentence, done.stderr
    done = vm.run("validate", write(vm, {f"s{i}": 1 for i in range(12)}))
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 9 and done.stderr.endswith("and 4 more\n")
    for text in ("", "{", "[]", "nothing", '{"drain": {}} x'):
        done = vm.run("validate", write(vm, text))
        assert done.returncode == (0 if text == "" else 3), (text, done.stderr)
    assert vm.run("validate", write(vm, {})).stdout.endswith(": valid; it has no section, so nothing will be done\n")
    done = vm.run("validate", str(vm.root / "missing.json"))
    assert done.returncode == 1 and "missing.json" in done.stderr
    for arguments in ((), ("--nothing", good), (good, good), ("--secrets",)):
        done = vm.run("validate", *arguments)
        assert done.returncode == 2, arguments
        assert ("usage: evenkeel validate [--secrets FILE] FILE\n" in done.stderr) == ("--nothing" not in arguments), done.stderr


def test_validate_with_secrets(vm):
    document = write(vm, {"customScript": {"scripts": [{"name": "a", "commandToExecute": {"secretRef": "databaseUrl"}}]}})
    assert vm.run("validate", document).stderr.endswith("the values of secrets come from another document: --secrets FILE\n")
    secrets = write(vm, {"secrets": {"databaseURL": CANARY}}, "secrets.json")
    done = vm.run("validate", "--secrets", secrets, document)
    assert done.returncode == 3 and CANARY not in done.stderr
    assert 'secretRef "databaseUrl": no such secret' in done.stderr and '"databaseURL"' in done.stderr
    write(vm, {"secrets": {"databaseUrl": "true", "more": CANARY}}, "secrets.json")
    done = vm.run("validate", "--secrets", secrets, document)
    assert done.returncode == 0 and 'warning: ' in done.stderr and '"more"' in done.stderr and CANARY not in done.stderr


def test_schema(vm):
    done = vm.run("schema")
    schema = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == ""
    assert set(schema["properties"]) >= {"customScript", "keyRefresh", "drain", "userData", "health", "notify", "network", "log"}
    assert vm.run("schema", "x").returncode == 2
    with open("/dev/full", "w") as full:
        done = subprocess.run([BINARY, "schema"], stdout=full, stderr=subprocess.PIPE, env=vm.environment())
    assert done.returncode == 1, "what could not be written is not done"


def test_status_verb(vm):
    done = vm.run("status")
    assert done.returncode == 4 and "the service is not running" in done.stderr
    Port(vm)
    vm.start_daemon(binary=BINARY)
    done = vm.run("status")
    assert done.returncode == 0 and done.stderr == ""
    assert "serving and ready" in done.stdout and "\x1b" not in done.stdout
    done = vm.run("status", "--json")
    assert json.loads(done.stdout)["serving"] is True
    assert vm.run("status", "--jason").returncode == 2
    vm.kill_daemon()
    assert vm.run("status").returncode == 4, "the socket that a killed daemon leaves is not a running service"


def test_help_and_version(vm):
    for arguments in (("help",), ("--help",), ("-h",), ()):
        done = vm.run(*arguments)
        assert done.returncode == 0 and done.stderr == ""
        assert "  validate [--secrets FILE] FILE" in done.stdout and "Exit codes:" in done.stdout
        assert "  enable" not in done.stdout
    everything = vm.run("help", "--all").stdout
    assert all(f"  {verb}" in everything for verb in ("enable", "disable", "install", "uninstall", "update", "daemon", "run"))
    for arguments in (("version",), ("--version",)):
        assert vm.run(*arguments).stdout == f"evenkeel {vm.version}\n"
    told = json.loads(vm.run("version", "--json").stdout)
    assert told["version"] == vm.version and told["handler"] == HANDLER and told["compiler"]
    assert told["architecture"] == {"x86_64": "amd64", "aarch64": "arm64"}[host.machine()]
    assert told["libraries"].pop("glibc") == host.libc_ver()[1]
    assert set(told["libraries"]) == {"json-c", "libcurl", "libmicrohttpd", "openssl", "zlib"}
    assert all(re.match(r"\d+\.\d+", version) for version in told["libraries"].values()), told
    done = vm.run("stauts")
    assert done.returncode == 2 and done.stderr == 'evenkeel: no verb "stauts"; did you mean "status"? See evenkeel help.\n'
    done = vm.run("xyzzy")
    assert done.returncode == 2 and done.stderr == 'evenkeel: no verb "xyzzy". See evenkeel help.\n'


def test_exit_codes_of_help_are_those_of_the_manual(vm):
    manual = (SOURCE / "agent/app/man/evenkeel.1").read_text()
    section = manual[manual.index(".Sh EXIT STATUS"):manual.index(".Sh EXAMPLES")]
    assert re.findall(r"^\.It (\d+)$", section, re.MULTILINE) == re.findall(r"^ +(\d+)  ", vm.run("help").stdout, re.MULTILINE)


# Last: what has been waiting since the first

def test_silent_connections(loris):
    """They may keep the port busy for a while, never the service, and never for good."""
    assert loris.status()["serving"] is True
    wait_until("/ready to answer again", lambda: loris.port.ready()[0] == 200,
               max(1, loris.since + IDLE_LIMIT + 3 - time.monotonic()))
    ended = 0
    for connection in loris.silent:
        connection.settimeout(3)
        try:
            ended += connection.recv(1000) is not None
        except OSError:
            ended += isinstance(sys.exc_info()[1], ConnectionResetError)
    assert ended == len(loris.silent)
