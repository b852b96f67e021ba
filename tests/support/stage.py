"""A rehearsal without root and without a service manager: a fake platform, a directory that stands for the machine's root,
the Azure agent's part played by hand, and the real program with its real commands."""

import grp
import json
import os
import pathlib
import platform
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests/platform"))

from fakeplatform import Client  # noqa: E402

HANDLER = "EvenKeel.EvenKeelForLinux"
VAULT = "demovault.vault.azure.net"
SOCKET_PATH_MAX = 107
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


class StageError(Exception):
    """Something that was expected did not happen; the text is for a person."""


def wait_until(what, look, limit):
    """The first true result of look(), asked again and again; StageError after `limit` seconds."""
    deadline = time.monotonic() + limit
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise StageError(f"waited {limit} s in vain for {what}")
        time.sleep(0.02)


def free_port():
    """One that nobody listens on. Not of those that the kernel gives to connections: one of these would be taken by a client
    of another test before the program binds it."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", random.randrange(12000, 32000)))
                return probe.getsockname()[1]
            except OSError:
                continue


def http_get(url):
    """(status, text), or (0, why) when nobody answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return answer.status, answer.read().decode(errors="replace").strip()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace").strip()
    except OSError as error:
        return 0, str(error)


def only_ours(directory):
    """Whether nobody but root and this user can replace it or what is above it: keys are installed nowhere else."""
    found = [path.stat() for path in (directory, *directory.parents) if path.exists()]
    return all(one.st_uid in (0, os.getuid()) and (not one.st_mode & 0o022 or one.st_mode & stat.S_ISVTX) for one in found)


def me():
    """(user, group) of this process: a rehearsal without root owns its files itself."""
    return pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name


class Stage:
    """with Stage(binary, directory) as stage: …; what it leaves in the directory is for looking at afterwards."""

    def __init__(self, binary, directory):
        self.binary = pathlib.Path(binary).resolve()
        self.directory = pathlib.Path(directory).resolve()
        if len(str(self.directory / "root/run/evenkeel/api.sock")) > SOCKET_PATH_MAX or not only_ours(self.directory):
            self.directory = pathlib.Path(tempfile.mkdtemp(prefix="evenkeel."))
        os.umask(0o022)  # as the Azure agent's processes have it; some distributions give people 002
        self.root = self.directory / "root"
        self.log = self.directory / "daemon.log"
        self.version = subprocess.run([self.binary, "version"], capture_output=True, text=True, check=True).stdout.split()[1]
        self.extension = self.root / f"var/lib/waagent/{HANDLER}-{self.version}"
        self._platform_process = self._daemon = None

    def __enter__(self):
        try:
            self._prepare()
            self._start_platform()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    # The machine and the platform

    def _prepare(self):
        for old in (self.root, self.directory / "platform"):
            if old.exists():
                shutil.rmtree(old)
        log_folder = self.root / f"var/log/azure/{HANDLER}"
        log_folder.mkdir(parents=True)
        (self.root / "etc").mkdir()
        (self.root / "etc/machine-id").write_text("5ca1ab1e0000400080000000c0ffee00\n")
        self.make_extension(self.extension, self.binary)

    def make_extension(self, folder, binary):
        """A version's directory, as the agent unpacks a package."""
        for name in ("config", "status", f"bin/{ARCHITECTURE}"):
            (folder / name).mkdir(parents=True)
        launcher = (SOURCE / "manifest/launcher.sh.in").read_text()
        diagnose = (SOURCE / "manifest/diagnose.sh").read_text().split("\n\n", 1)[1]
        (folder / "bin/evenkeel").write_text(launcher.replace("@DIAGNOSE@", diagnose))
        (folder / "bin/evenkeel").chmod(0o755)
        shutil.copy2(binary, folder / f"bin/{ARCHITECTURE}/evenkeel")
        (folder / "HandlerEnvironment.json").write_text(json.dumps([{
            "name": HANDLER, "version": 1.0, "handlerEnvironment": {
                "logFolder": str(self.root / f"var/log/azure/{HANDLER}"), "configFolder": str(folder / "config"),
                "statusFolder": str(folder / "status"), "heartbeatFile": str(folder / "heartbeat.log")}}]))

    def _start_platform(self):
        self._platform_process = subprocess.Popen(
            [sys.executable, "-B", SOURCE / "tests/platform/serve.py", "--stop-with-stdin", "--state-dir",
             self.directory / "platform"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        line = self._platform_process.stdout.readline()
        if not line:
            raise StageError("the fake platform did not start; what it said is above")
        self.addresses = json.loads(line)
        self.platform = Client(self.addresses["control"])

    def environment(self):
        """Of every process of ours. Below EVENKEEL_ROOT they leave this machine's own service manager alone."""
        inherited = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
        inherited.setdefault("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        return {**inherited, "EVENKEEL_ROOT": str(self.root),
                "EVENKEEL_CONNECT_TO": f"169.254.169.254:80:{self.addresses['imds']},{VAULT}:443:{self.addresses['vault']}"}

    # The Azure agent's part

    def put_settings(self, sequence, public, protected=None):
        """What the agent leaves for `enable`: the settings file, the tenant's certificate and key beside the extension."""
        handler_settings = {"publicSettings": public}
        if protected is not None:
            tenant = self.platform.tenant_certificate()
            for suffix, text in ((".crt", tenant["certificate"]), (".prv", tenant["key"])):
                path = self.extension.parent / (tenant["thumbprint"] + suffix)
                path.touch(0o600)
                path.write_text(text)
            handler_settings["protectedSettings"] = self.platform.encrypt_settings(protected)
            handler_settings["protectedSettingsCertThumbprint"] = tenant["thumbprint"]
        (self.extension / f"config/{sequence}.settings").write_text(
            json.dumps({"runtimeSettings": [{"handlerSettings": handler_settings}]}))

    def command(self, verb, sequence=0, timeout=30):
        """A handler command as the agent runs it. Its output and exit code are the caller's to judge."""
        environment = {**self.environment(), "ConfigSequenceNumber": str(sequence),
                       "AZURE_GUEST_AGENT_EXTENSION_PATH": str(self.extension),
                       "AZURE_GUEST_AGENT_EXTENSION_VERSION": self.version,
                       "AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE": "NOT_RUN"}
        return subprocess.run([self.extension / "bin/evenkeel", verb], cwd=self.extension, env=environment, timeout=timeout,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")

    def deployment(self, sequence=0):
        """The status that the platform would read: N.status, or None while there is none."""
        try:
            return json.loads((self.extension / f"status/{sequence}.status").read_text())[0]["status"]
        except FileNotFoundError:
            return None

    # The service

    def start_daemon(self, binary=None):
        """What the unit's ExecStart= runs, from where `install` has put it."""
        binary = binary or self.root / f"usr/local/libexec/evenkeel/{self.version}/bin/evenkeel"
        with open(self.log, "ab") as log:
            self._daemon = subprocess.Popen([binary, "daemon", "--foreground"], env=self.environment(),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_until("the daemon to answer", self.status, 10)

    def _check_daemon(self):
        if self._daemon and self._daemon.poll() is not None:
            code = self._daemon.returncode
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise StageError(f"the daemon {how}")

    @property
    def daemon_pid(self):
        return self._daemon.pid

    def status(self):
        """What `evenkeel status --json` says, or None while nobody answers."""
        asked = subprocess.run([self.binary, "status", "--json"], env=self.environment(), capture_output=True, text=True,
                               timeout=15)
        if asked.returncode == 0:
            return json.loads(asked.stdout)
        if asked.returncode == 4:
            self._check_daemon()
            return None
        raise StageError(f"evenkeel status: exit code {asked.returncode}: {asked.stderr.strip()}")

    def component(self, name):
        """(level, message) of one component as it is told now; (None, "") when it tells nothing."""
        status = self.status()
        for entry in status["status"][0]["status"].get("substatus", []) if status else []:
            if entry["name"] == name:
                return entry["status"], entry["formattedMessage"]["message"]
        return None, ""

    def death(self):
        """How the daemon ended by itself, or ""."""
        try:
            self._check_daemon()
            return ""
        except StageError as error:
            return str(error)

    def log_tail(self, lines=25):
        try:
            return self.log.read_text(errors="replace").splitlines()[-lines:]
        except FileNotFoundError:
            return []

    # The end

    def stop_daemon(self):
        """Its exit code, after a SIGTERM."""
        process, self._daemon = self._daemon, None
        return end(process)

    def stop(self):
        if self._daemon:
            self.stop_daemon()
        if self._platform_process:
            self._platform_process.stdin.close()
            end(self._platform_process)
            self._platform_process.stdout.close()
            self._platform_process = None


def end(process):
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
