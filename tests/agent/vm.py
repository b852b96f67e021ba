"""A VM without systemd for these tests: the rehearsal's stage with the platform in this process, the Azure agent's part with
every freedom it takes, and a close look at all that the program leaves behind."""

import base64
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(os.environ.get("EK_TEST_SOURCE_DIR") or pathlib.Path(__file__).resolve().parents[2])
sys.path[:0] = [str(SOURCE / "tests/support"), str(SOURCE / "tests/platform")]

from fakeplatform import Platform  # noqa: E402
from stage import HANDLER, Stage, StageError, free_port, http_get, me, wait_until  # noqa: E402

__all__ = ["BINARY", "HANDLER", "SANITIZED", "SOURCE", "Platform", "StageError", "VM", "check_status", "descendants", "encoded",
           "files_below", "files_with", "free_port", "http_get", "lines", "may_mount", "may_trace", "me", "message",
           "next_version", "script", "serving", "wait_until"]

BINARY = pathlib.Path(os.environ.get("EK_TEST_BINARY_DIR") or SOURCE / "build/dev") / "agent/app/evenkeel"
# A sanitized program starts and forks ten times slower.
SANITIZED = b"__asan_init" in BINARY.read_bytes() if BINARY.exists() else False
# Whoever waits for anything in a command takes far longer; a busy machine alone does not take so long.
COMMAND_LIMIT = 5 * (3 if SANITIZED else 1)
LEVELS = {"transitioning", "error", "success", "warning"}
STATUS_MAX = 64 * 1024


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def next_version(binary, directory):
    """(version, path) of a copy of the program that calls itself by a later version: cheaper than building it again."""
    old = subprocess.run([binary, "version"], capture_output=True, text=True, check=True).stdout.split()[1]
    version = "9" + old[1:]
    code = pathlib.Path(binary).read_bytes()
    copy = pathlib.Path(directory) / f"evenkeel-{version}"
    copy.write_bytes(code.replace(b"\0" + old.encode() + b"\0", b"\0" + version.encode() + b"\0"))
    copy.chmod(0o755)
    said = subprocess.run([copy, "version"], capture_output=True, text=True, check=True).stdout
    assert said == f"evenkeel {version}\n" and version != old
    return version, copy


def descendants(pid):
    """All processes below this one."""
    parents = {}
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = pathlib.Path(f"/proc/{number}/stat").read_text()
        except OSError:
            continue
        parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(number))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found[1:]


def script(command, name="deploy", **more):
    """Settings of one custom script."""
    return {"customScript": {"scripts": [{"name": name, "runAs": me()[0], "commandToExecute": command, **more}]}}


def may_trace():
    """Whether strace is here and may look at what it starts."""
    return shutil.which("strace") and subprocess.run(["strace", "-D", "-qq", "-e", "trace=none", "true"],
                                                     capture_output=True).returncode == 0


def may_mount():
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


def encoded(data):
    """Text or bytes, as settings have them in base64."""
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


def lines(path):
    """The words of a file, none while there is no file."""
    return path.read_text().split() if path.exists() else []


def files_below(root):
    """(path, bytes) of every file; one that is removed meanwhile is none."""
    for directory, _, names in os.walk(root):
        for path in (os.path.join(directory, name) for name in names):
            if os.path.isfile(path) and not os.path.islink(path):
                try:
                    yield path, pathlib.Path(path).read_bytes()
                except FileNotFoundError:
                    pass


def files_with(root, text):
    """Every file below root that shows the text, by name."""
    return [os.path.relpath(path, root) for path, content in files_below(root) if text.encode() in content]


def message(status):
    return status["formattedMessage"]["message"]


def check_status(text):
    """What the Azure agent accepts, and what settings.md 3.1 promises beyond that (extension-contract.md 4)."""
    assert len(text) < STATUS_MAX
    document = json.loads(text)
    assert isinstance(document, list) and len(document) == 1
    assert document[0]["version"] == 1.0
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
    assert re.fullmatch(stamp, document[0]["timestampUTC"])
    status = document[0]["status"]
    assert status["operation"] == "Enable" and status["name"]
    assert re.fullmatch(stamp, status["configurationAppliedTime"])
    assert status["status"] in LEVELS - {"warning"}
    substatus = status.get("substatus", [])
    assert len(substatus) <= 100
    for item in [status, *substatus]:
        assert item["status"] in LEVELS and type(item["code"]) is int and item["name"]
        message = item["formattedMessage"]
        assert set(message) == {"lang", "message"} and isinstance(message["message"], str)
        output = item is status or item["name"].startswith("customScript/")
        assert len(message["message"].encode()) <= (36 * 1024 if output else 4096)
    assert len({item["name"] for item in substatus}) == len(substatus)
    return status


class VM(Stage):
    """with VM(directory, platform) as vm: …"""

    def __init__(self, directory, platform):
        super().__init__(BINARY, directory)
        self.platform = platform
        self.addresses = platform.addresses
        self.daemons = []
        self._said = []

    def _start_platform(self):
        pass

    # Versions of the extension

    def folder(self, version=None):
        return self.root / f"var/lib/waagent/{HANDLER}-{version or self.version}"

    def unpack(self, version, binary):
        """What the agent makes of a package: the version's directory, with nothing in it yet."""
        folder = self.folder(version)
        self.make_extension(folder, binary)
        return folder

    def put_file(self, sequence, text, version=None):
        """N.settings, as it is."""
        path = self.folder(version) / f"config/{sequence}.settings"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def put(self, sequence, public=None, protected=None, version=None, cipher="aes256", tenant=True):
        """N.settings, and the tenant's certificate and key unless `tenant` is False."""
        handler_settings = {"publicSettings": public, "protectedSettings": None, "protectedSettingsCertThumbprint": None}
        if protected is not None:
            handler_settings["protectedSettings"] = self.platform.encrypt_settings(protected, cipher)
            handler_settings["protectedSettingsCertThumbprint"] = self.platform.tenant_certificate()["thumbprint"]
            if tenant:
                self.put_tenant()
        return self.put_file(sequence, json.dumps({"runtimeSettings": [{"handlerSettings": handler_settings}]}), version)

    def put_tenant(self, **replaced):
        tenant = {**self.platform.tenant_certificate(), **replaced}
        for suffix, text in ((".crt", tenant["certificate"]), (".prv", tenant["key"])):
            path = self.extension.parent / (tenant["thumbprint"] + suffix)
            path.touch(0o400)
            path.write_text(text)

    # The agent's commands

    def command(self, verb, sequence=0, version=None, exit_code=0, limit=COMMAND_LIMIT, binary=None, **environment):
        """A handler command as the agent runs it, within the time that it may take."""
        folder = self.folder(version)
        variables = {**self.environment(), "ConfigSequenceNumber": str(sequence),
                     "AZURE_GUEST_AGENT_EXTENSION_PATH": str(folder),
                     "AZURE_GUEST_AGENT_EXTENSION_VERSION": version or self.version,
                     "AZURE_GUEST_AGENT_WIRE_PROTOCOL_ADDRESS": "168.63.129.16",
                     "AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE": "NOT_RUN", **environment}
        variables = {name: value for name, value in variables.items() if value is not None}
        start = time.monotonic()
        done = subprocess.run([binary or folder / "bin/evenkeel", verb], cwd=folder, env=variables, timeout=60,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        took = time.monotonic() - start
        self._said.append(done.stderr)
        check_sanitizers(done.stderr)
        assert exit_code is None or done.returncode == exit_code, f"{verb}: {done.returncode}: {done.stderr}"
        assert took < limit, f"{verb} took {took:.2f} s"
        return done

    def enable(self, sequence=0, public=None, protected=None, **more):
        """The goal state of this number, through the settings file."""
        version = more.get("version")
        self.put(sequence, public, protected, version=version)
        return self.command("enable", sequence, **more)

    def run(self, *arguments, **more):
        """Any other verb, by hand."""
        done = subprocess.run([self.binary, *arguments], env=self.environment(), timeout=60, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, errors="replace", **more)
        check_sanitizers(done.stderr)
        return done

    def go_over(self, number, old, new, downgrade=False):
        """What the agent does between two versions (extension-contract.md 9.5 and 9.6), and the manager's restart."""
        old_folder, new_folder = self.folder(old), self.folder(new)
        shutil.copy2(old_folder / f"config/{number}.settings", new_folder / "config")
        self.command("disable", number, version=old)
        for path in (old_folder / "status").iterdir():
            shutil.copy2(path, new_folder / "status")
        self.command("update", number, version=old if downgrade else new, VERSION=new,
                     AZURE_GUEST_AGENT_UPDATING_FROM_VERSION=new if downgrade else old, AZURE_GUEST_AGENT_DISABLE_CMD_EXIT_CODE="0")
        self.command("uninstall", number, version=old)
        shutil.rmtree(old_folder)
        self.command("install", number, version=new, AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE="0")
        self.stop_daemon()
        self.start_daemon(version=new)
        self.command("enable", number, version=new, AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE="0")

    # What is told

    def status_path(self, sequence=0, version=None):
        return self.folder(version) / f"status/{sequence}.status"

    def deployment(self, sequence=0, version=None):
        """N.status, checked; None while there is none."""
        try:
            return check_status(self.status_path(sequence, version).read_text())
        except FileNotFoundError:
            return None

    def content(self, sequence=0, version=None):
        """N.status without its times."""
        status = self.deployment(sequence, version)
        return status and {name: value for name, value in status.items() if name != "configurationAppliedTime"}

    def settled(self, sequence=0, version=None, limit=15):
        """N.status once it is terminal."""
        def look():
            status = self.deployment(sequence, version)
            return status if status and status["status"] != "transitioning" else None

        return wait_until(f"{sequence}.status to be terminal", look, limit)

    def call(self, method, path, body=None, timeout=5):
        """(status, text) of the local API."""
        connection = UnixConnection(self.api_socket, timeout)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    @property
    def api_socket(self):
        return self.root / "run/evenkeel/api.sock"

    def status(self):
        try:
            code, text = self.call("GET", "/v1/status")
        except (ConnectionError, FileNotFoundError):
            return None
        assert code == 200, text
        return json.loads(text)

    def substatus(self, name):
        """The component as it is told now, {} when it tells nothing."""
        status = self.status()
        found = [item for item in status["status"][0]["status"].get("substatus", []) if item["name"] == name] if status else []
        return found[0] if found else {}

    def says(self, name):
        return self.substatus(name).get("formattedMessage", {}).get("message", "")

    # The service

    def start_daemon(self, binary=None, wait=True, prefix=(), version=None, **environment):
        """What the unit's ExecStart= runs. prefix: a command that runs it, as `unshare -m …`."""
        binary = binary or self.root / f"usr/local/libexec/evenkeel/{version or self.version}/bin/evenkeel"
        with open(self.log, "ab") as log:
            daemon = subprocess.Popen([*prefix, binary, "daemon", "--foreground"], stdin=subprocess.DEVNULL, stdout=log,
                                      stderr=log, env={**self.environment(), **environment}, start_new_session=True)
        self._daemon = daemon
        self.daemons.append(daemon)
        if wait:
            wait_until("the daemon to answer", lambda: self._check_daemon() or self.status(), 10)
        return daemon

    def kill_daemon(self):
        """As the kernel would."""
        daemon, self._daemon = self._daemon, None
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()

    def stop_daemon(self):
        daemon, self._daemon = self._daemon, None
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(20)
        assert code == 0, f"the daemon ended with exit code {code}: {self.log_tail()}"
        return code

    def restart_daemon(self):
        self.stop_daemon()
        return self.start_daemon()

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    # The end

    def end_jobs(self):
        """Jobs outlive the daemon that started them: that is their point. Their numbers stand beside them."""
        for path in (self.root / "run/evenkeel/jobs").glob("*.pid"):
            try:
                number, started = path.read_text().split()[:2]
                if pathlib.Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[19] != started:
                    continue
            except (OSError, ValueError):
                continue
            for pid in [int(number), *descendants(int(number))]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def stop(self):
        try:
            if self._daemon and self._daemon.poll() is None:
                self.stop_daemon()
        finally:
            for daemon in self.daemons:
                if daemon.poll() is None:
                    daemon.kill()
                    daemon.wait()
            self.end_jobs()
        check_sanitizers(self.log_text())


def check_sanitizers(text):
    """What AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer have to say is a failure wherever it is said."""
    found = re.search(r"^.*(Sanitizer|runtime error:).*$", text, re.MULTILINE)
    assert not found, text[found.start():found.start() + 6000]


@contextlib.contextmanager
def serving(kind, platform):
    """with serving(VM, platform) as vm: in a directory that other users can reach, with the service running."""
    with tempfile.TemporaryDirectory(prefix="evenkeel.") as directory:
        os.chmod(directory, 0o755)
        with kind(directory, platform) as vm:
            vm.command("install")
            vm.start_daemon()
            vm.put_tenant()
            yield vm
