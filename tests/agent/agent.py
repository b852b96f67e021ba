"""The real program under test: `evenkeel daemon --foreground` below a root of its own, against the fake platform."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "platform"))

from fakeplatform import Platform  # noqa: E402,F401

BINARY = os.path.join(os.environ.get("EK_TEST_BINARY_DIR", ""), "agent", "app", "evenkeel")
MACHINE_ID = "11112222333344445555666677778888"
START_SECONDS = 20
PAUSE = 0.05


class AgentError(Exception):
    """The agent did not do what every test takes for granted."""


class Agent:
    """One machine: a directory for a root, the settings in it, and at most one daemon.

    Everything the agent asks at 169.254.169.254 and at the vaults named goes to the platform; a platform that is not there
    (None) is a network without anything. Use it as a context manager, or stop() it."""

    def __init__(self, root, platform=None, vaults=(), environment=None):
        self.root = pathlib.Path(root)
        self.platform = platform
        self.vaults = [vault if "." in vault else f"{vault}.vault.azure.net" for vault in vaults]
        self.environment = dict(environment or {})
        self.process = None
        self.starts = 0
        self._connect_to = None
        self.write("etc/machine-id", MACHINE_ID + "\n")
        # A directory of the test's may be deeper than an address of a unix socket is long.
        self.log = self.root / "daemon.log"

    # Files below the root

    def path(self, absolute):
        return self.root / str(absolute).lstrip("/")

    def write(self, absolute, content, mode=0o644):
        path = self.path(absolute)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    def read(self, absolute):
        return self.path(absolute).read_text()

    def settings(self, secrets=None, **sections):
        """Writes /etc/evenkeel/evenkeel.json (and secrets.json); a running daemon is told with reload()."""
        if self.platform and "keyRefresh" in sections:
            sections.setdefault("network", {"caFile": self.platform.addresses["caFile"]})
        self.write("etc/evenkeel/evenkeel.json", json.dumps(sections))
        if secrets:
            self.write("etc/evenkeel/secrets.json", json.dumps({"secrets": secrets}), 0o600)

    # The network

    def connect_to(self, address=None):
        """Where requests go from the next start on: everything to `address`, or each to the platform's own."""
        self._connect_to = address

    def _routes(self):
        if self._connect_to:
            imds = vault = self._connect_to
        elif self.platform:
            imds, vault = self.platform.addresses["imds"], self.platform.addresses["vault"]
        else:
            imds = vault = "127.0.0.1:1"
        return ",".join([f"169.254.169.254:80:{imds}"] + [f"{name}:443:{vault}" for name in self.vaults])

    def _environment(self):
        keep = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG") or name.startswith(
            ("ASAN_", "UBSAN_", "LSAN_"))}
        return {**keep, "EVENKEEL_ROOT": str(self.root), "EVENKEEL_CONNECT_TO": self._routes(), **self.environment}

    # The daemon

    def start(self, *arguments):
        """Until it answers."""
        if self.process:
            raise AgentError("the daemon is running already")
        self.starts += 1
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([BINARY, "daemon", "--foreground", *arguments], env=self._environment(),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None:
                raise AgentError(f"the daemon ended with {self.process.wait()}: {self.log_text()[-2000:]}")
            if time.monotonic() > deadline:
                self.kill()
                raise AgentError(f"the daemon does not answer: {self.log_text()[-2000:]}")
            time.sleep(PAUSE)
        return self

    def answers(self):
        with socket.socket(socket.AF_UNIX) as probe:
            # By a relative name: an address has 108 bytes, pytest's directories may have more.
            directory = os.open(self.path("run/evenkeel"), os.O_PATH) if self.path("run/evenkeel").is_dir() else None
            if directory is None:
                return False
            try:
                probe.connect(f"/proc/self/fd/{directory}/api.sock")
                return True
            except OSError:
                return False
            finally:
                os.close(directory)

    def reload(self):
        """Tells it that the settings have changed; what it does about it is to be waited for."""
        self.process.send_signal(signal.SIGHUP)

    def stop(self):
        """In good order. With sanitizers, what it left behind is an exit code, and a failure here."""
        if not self.process:
            return
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AgentError(f"the daemon did not stop: {self.log_text()[-2000:]}") from None
        if code != 0:
            raise AgentError(f"the daemon ended with {code}: {self.log_text()[-4000:]}")

    def kill(self):
        """As a power cut would, as far as the daemon is concerned: its jobs run on."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self):
        self.stop()
        return self.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.kill()
        else:
            self.stop()

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    # Asking it

    def run(self, *arguments, check=True, timeout=30):
        """A verb of the command line, as a person would use it; the CompletedProcess, with text."""
        done = subprocess.run([BINARY, *arguments], env=self._environment(), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise AgentError(f"evenkeel {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done

    def status(self):
        """{"top", "message", "components": {name: (level, message)}} of `evenkeel status --json`."""
        document = json.loads(self.run("status", "--json").stdout)
        body = document["status"][0]["status"]
        return {"top": body["status"], "message": body["formattedMessage"]["message"],
                "components": {one["name"]: (one["status"], one["formattedMessage"]["message"])
                               for one in body.get("substatus", [])}}

    def component(self, name):
        """(level, message), or None when it is not reported."""
        return self.status()["components"].get(name)

    def wait(self, predicate, timeout=20, what="such status"):
        """The first status that satisfies predicate; the last one seen is told when none does."""
        deadline = time.monotonic() + timeout
        while True:
            status = self.status()
            if predicate(status):
                return status
            if time.monotonic() >= deadline:
                raise AgentError(f"no {what} in {timeout} s; last seen: {json.dumps(status)}\n{self.log_text()[-2000:]}")
            time.sleep(PAUSE)

    def wait_for(self, name, level=None, text="", timeout=20):
        """The message of this component as soon as it has the level (or one of them) and contains the text."""
        levels = (level,) if isinstance(level, str) else level

        def fits(status):
            found = status["components"].get(name)
            return found and (levels is None or found[0] in levels) and text in found[1]

        return self.wait(fits, timeout, f"{name} {level or ''} \"{text}\"")["components"][name][1]

    def wait_for_top(self, level, timeout=20):
        return self.wait(lambda status: status["top"] == level, timeout, f"top level {level}")
