"""A VM whose settings stand in /etc/evenkeel, for handlers that watch something: what they say is waited for."""

import json

from stage import VAULT
from vm import SANITIZED, VM, wait_until

__all__ = ["PATIENCE", "VAULT", "VAULT_NAME", "Configured"]

VAULT_NAME = VAULT.partition(".")[0]
PATIENCE = 30 if SANITIZED else 15
NOWHERE = "127.0.0.1:1"


class Configured(VM):
    """with Configured(directory, platform) as vm: vm.configure(userData={}); vm.start(); …"""

    def __init__(self, directory, platform):
        super().__init__(directory, platform)
        self.online = True

    def environment(self):
        environment = super().environment()
        if not self.online:
            environment["EVENKEEL_CONNECT_TO"] = f"169.254.169.254:80:{NOWHERE},{VAULT}:443:{NOWHERE}"
        return environment

    def configure(self, **sections):
        """Writes the settings; a daemon that runs is told with reload()."""
        path = self.root / "etc/evenkeel/evenkeel.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"log": {"console": False}, "network": {"caFile": self.addresses["caFile"]}, **sections}))

    def start(self, online=True):
        """`online` False: there is no metadata service and no vault, until the daemon is started again."""
        self.online = online
        self.start_daemon(binary=self.binary)
        return self

    def restart(self, online=True):
        self.stop_daemon()
        return self.start(online)

    def reload(self):
        self._daemon.send_signal(1)

    def top(self):
        return self.status()["status"][0]["status"]["status"]

    def wait_top(self, level, limit=PATIENCE):
        wait_until(f"top level {level}, it is {self.top()}", lambda: self.top() == level, limit)

    def wait_says(self, name, level, text="", limit=PATIENCE):
        """The message of this component, once it has the level and contains the text."""
        seen = {}

        def look():
            seen.update(self.substatus(name))
            return seen.get("status") == level and text in seen["formattedMessage"]["message"]

        try:
            wait_until("", look, limit)
        except Exception:
            raise AssertionError(f"{name}: waited {limit} s for {level} \"{text}\"; it says {seen}; log: "
                                 f"{self.log_text()[-3000:]}") from None
        return seen["formattedMessage"]["message"]

    def file(self, path):
        """A path of the settings, as it is below this root."""
        return self.root / path.lstrip("/")
