"""A VM on which scripts are deployed one after the other by the extension, for what they fetch and where they send their
output. Everything secret in their settings must be nowhere on it afterwards."""

import json

from vm import SANITIZED, VM, me

__all__ = ["ACCOUNT", "PATIENCE", "Deployment", "Scripts"]

ACCOUNT = "fakeaccount"
PATIENCE = 60 if SANITIZED else 30


class Deployment:
    def __init__(self, vm, sequence, status):
        self.vm, self.sequence, self.status = vm, sequence, status
        self.ok = status["status"] == "success"
        self.message = status["formattedMessage"]["message"]
        self.told = "".join(one["formattedMessage"]["message"] for one in status.get("substatus", [])
                            if one["name"].startswith("customScript/"))
        self.codes = sorted({one["code"] for one in status.get("substatus", [])} - {0})
        self.jobs = sorted((vm.root / "var/lib/evenkeel/jobs").glob("cs-*"), key=lambda path: path.stat().st_mtime_ns)

    @property
    def work(self):
        return self.jobs[-1] / "work"

    @property
    def result(self):
        return json.loads((self.jobs[-1] / "result.json").read_text())

    @property
    def stdout(self):
        return (self.jobs[-1] / "stdout").read_bytes()

    @property
    def stderr(self):
        return (self.jobs[-1] / "stderr").read_bytes()


class Scripts(VM):
    """with Scripts(directory, platform, "host:port:address:port,…") as vm: vm.deploy("sh a.sh", files=[…])"""

    def __init__(self, directory, platform, connect_to=""):
        super().__init__(directory, platform)
        self._connect_to = connect_to
        self._sequence = -1
        self.secrets = []

    def environment(self):
        environment = super().environment()
        to = [f"169.254.169.254:80:{self.addresses['imds']}"] + [self._connect_to] * bool(self._connect_to)
        # Whatever else is asked for over TLS is the platform's storage.
        return {**environment, "EVENKEEL_CONNECT_TO": ",".join([*to, f":443:{self.addresses['blobtls']}"])}

    def start(self):
        self.command("install")
        self.start_daemon()
        return self

    def secret(self, text):
        """A value for `secrets`: it must not be found on the VM."""
        self.secrets.append(text)
        return text

    def begin(self, command="true", secrets=None, section=None, network=None, **script):
        """Hands over one script; its number. secrets: {name: value} for {"secretRef": name}."""
        self._sequence += 1
        work = {} if "script" in script else {"commandToExecute": command}
        settings = {"network": {"caFile": self.addresses["caFile"], **(network or {})}, "customScript": {
            **(section or {}), "scripts": [{"name": "s", "runAs": me()[0], **work, **script}]}}
        self.enable(self._sequence, settings, {"secrets": secrets} if secrets else None)
        return self._sequence

    def deploy(self, command="true", **more):
        """… and what came of it."""
        sequence = self.begin(command, **more)
        return Deployment(self, sequence, self.settled(sequence, limit=PATIENCE))

    def deploy_peer(self, public, protected=None):
        """Settings of Custom Script, as they are."""
        self._sequence += 1
        self.enable(self._sequence, public, protected)
        return Deployment(self, self._sequence, self.settled(self._sequence, limit=PATIENCE))

    def check_secrets(self):
        """In no file, be it log, status, record or job, and in no answer."""
        told = (json.dumps(self.status()) + self.log_text()).encode()
        for path in [*self.root.rglob("*"), None]:
            data = told if path is None else path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            for one in self.secrets:
                assert one.encode() not in data, f"{one} in {path or 'the status'}"
