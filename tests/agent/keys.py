"""VMs that refresh keys: certificates and secrets of the fake vault, and what is to follow when they are renewed."""

import json
import ssl

from configured import VAULT, VAULT_NAME, Configured
from vm import SANITIZED, files_below, me, wait_until

__all__ = ["HOME", "PEM", "RECORDS", "SECRETS", "SLOW", "VAULT_NAME", "Keys", "Renewing"]

SECRETS = f"https://{VAULT}/secrets"
PEM = "application/x-pem-file"
HOME = "/var/lib/evenkeel/certificates"
RECORDS = "/var/lib/evenkeel/state/key-refresh"
SLOW = 4 if SANITIZED else 1


class Keys(Configured):
    """A VM that refreshes keys; the private keys it has seen must not be anywhere but in the files asked for."""

    def __init__(self, directory, platform):
        super().__init__(directory, platform)
        self.made = []

    def make(self, name="web", **more):
        certificate = self.platform.make_certificate(f"{name}.example", **{"key": "ec", "chain": 2, **more})
        self.made.append(certificate)
        return certificate

    def put(self, certificate, name="web", **more):
        return self.platform.put_secret(VAULT_NAME, name, certificate["pem"], **{"content_type": PEM, **more})

    def refresh(self, *certificates, **section):
        """Settings for these certificates, each {"name", …}; owner and group are who we are."""
        user, group = me()
        listed = [{"url": f"{SECRETS}/{one.get('name', 'web')}", "owner": user, "group": group, **one} for one in certificates]
        secrets = [{"owner": user, "group": group, **one} for one in section.pop("secrets", [])]
        self.configure(keyRefresh={"certificates": listed, "secrets": secrets, "pollingIntervalInSeconds": 60, **section})

    def say(self, name="web"):
        return self.says(f"keyRefresh/{name}")

    def wait_installed(self, version, name="web", level="success", limit=20):
        return self.wait_says(f"keyRefresh/{name}", level, f"Version {version}", limit)

    def set_of(self, name="web"):
        """{file: bytes} as an application reads them."""
        directory = self.file(f"{HOME}/{name}")
        return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_symlink() and path.name != "current"}

    def check_nothing_leaked(self):
        told = self.log_text() + str(self.status() if self._daemon else "")
        below = b"".join(content for folder in ("var/lib/evenkeel/state", "var/lib/evenkeel/jobs", "run/evenkeel", "var/log")
                         for _, content in files_below(self.root / folder))
        for certificate in self.made:
            line = certificate["key"].splitlines()[1]
            assert line not in told and line.encode() not in below


class Renewing(Keys):
    """A VM whose check, commands and hooks are scripts of the test: each writes down what it was told."""

    def __init__(self, directory, platform):
        super().__init__(directory, platform)
        self.notes = self.root / "notes"

    def _prepare(self):
        super()._prepare()
        self.notes.mkdir()
        for name in ("check", "reload"):
            self.script(name)

    def start(self, online=True, **options):
        self.online = online
        self.start_daemon(binary=self.binary, **options)
        return self

    def script(self, name, body="", directory=None):
        """A command that notes environment, standard input and the certificate it sees, then does `body`."""
        path = (directory or self.root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"""#!/bin/sh
n={self.notes}/$(date +%s%N)-{name}
env | grep ^EVENKEEL_ >$n.env; cat >$n.json
[ -z "$EVENKEEL_FILE_FULLCHAIN" ] || cat "$EVENKEEL_FILE_FULLCHAIN" >$n.pem
[ -z "$EVENKEEL_FILE_SECRET" ] || cat "$EVENKEEL_FILE_SECRET" >$n.pem
mv $n.env $n.told
{body}
""")
        path.chmod(0o755)
        return [str(path)]

    def hook(self, name, body=""):
        directory = self.file("/etc/evenkeel/hooks/activate.d")
        self.script(name, body, directory)
        for path in (directory, directory.parent, directory.parent.parent):
            path.chmod(0o755)

    def told(self, name=""):
        """What has run, in order: {"script", "environment", "input", "seen"}."""
        found = []
        for path in sorted(self.notes.glob(f"*-{name or '*'}.told")):
            pem = path.with_suffix(".pem")
            found.append({"script": path.stem.partition("-")[2],
                          "environment": dict(line.split("=", 1) for line in path.read_text().splitlines()),
                          "input": json.loads(path.with_suffix(".json").read_text()),
                          "seen": pem.read_text() if pem.exists() else None})
        return found

    def forget(self):
        for path in self.notes.iterdir():
            path.unlink()

    def phases(self):
        return [(one["script"], one["environment"]["EVENKEEL_PHASE"]) for one in self.told()]

    def activate(self, **more):
        return {"check": [str(self.root / "check")], "commands": [[str(self.root / "reload")]], **more}

    def renew(self, name="web"):
        """A new version, and a daemon that looks for it at once. (certificate, version)"""
        if self._daemon:
            self.stop_daemon()
        certificate = self.make(name)
        version = self.put(certificate, name)
        self.start()
        return certificate, version

    def first(self, **more):
        """Installed once with these settings; what was told of that is forgotten."""
        certificate = self.make()
        version = self.put(certificate)
        self.refresh({"name": "web", "activate": self.activate(**more)})
        self.start()
        self.wait_installed(version)
        self.settle()
        self.forget()
        return certificate, version

    def settle(self):
        """No step is under way and no job is left."""
        def settled():
            record = self.record()
            return record.get("activation", {}).get("step", "none") == "none" and not list(self.jobs())
        wait_until("the activation to end", settled, 20 * SLOW)

    def jobs(self):
        return (self.root / "var/lib/evenkeel/jobs").glob("key-*")

    def record(self, name="web"):
        try:
            return json.loads(self.file(f"{RECORDS}/{name}.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def in_use(self, name="web"):
        """Certificate and key as an application reads them: they must belong together."""
        directory = self.file(f"{HOME}/{name}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "fullchain.pem", directory / "privkey.pem")
        return (directory / "privkey.pem").read_text()
