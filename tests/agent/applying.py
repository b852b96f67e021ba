"""A VM that applies user data, beside what cloud-init leaves of it."""

import hashlib
import json
import os

from configured import Configured

__all__ = ["SECRET", "ApplyingVM", "revision", "script"]

SECRET = "TOP-SECRET-WORD"
CLOUD_INIT = "var/lib/cloud"


def revision(data):
    return hashlib.sha256(data).hexdigest()[:12]


def script(line):
    return f"#!/bin/sh\n# {SECRET}\n{line}\n".encode()


class ApplyingVM(Configured):
    """As a machine on which nothing is run before something changes."""

    def __init__(self, directory, platform):
        super().__init__(directory, platform)
        self.ran = self.root / "ran"

    def notes(self, word):
        """A script that leaves a word."""
        return script(f"echo {word} >>{self.ran}")

    def told(self):
        return self.ran.read_text().split() if self.ran.exists() else []

    def apply(self, **more):
        self.configure(userData={"action": "apply", "pollingIntervalInSeconds": 10, **more.pop("user", {})}, **more)

    def has_baseline(self):
        """User data that was there before, so that what comes next is a change."""
        self.platform.set_user_data(b"#!/bin/sh\nexit 1\n")
        self.start()
        self.wait_says("userData", "success", "it was there at the first look")

    def push(self, data):
        """Somebody changes the user data; the daemon looks again at once."""
        self.platform.set_user_data(data)
        self.look_again()
        return revision(data)

    def look_again(self):
        self.stop_daemon()
        self.start()

    def cloud_init(self, data, first_boot=True, finished=True):
        """The files that cloud-init leaves at a boot."""
        run = self.root / "run/cloud-init"
        run.mkdir(parents=True, exist_ok=True)
        (run / "enabled").touch()
        folder = self.root / CLOUD_INIT
        mark = folder / "instance/sem/consume_data"
        mark.parent.mkdir(parents=True, exist_ok=True)
        (folder / "instance/user-data.txt").write_bytes(data)
        mark.touch()
        booted = (run / "enabled").stat().st_mtime
        os.utime(mark, (booted, booted + (1 if first_boot else -86400)))
        if finished:
            (run / "result.json").write_text("{}")

    def view(self):
        code, text = self.call("GET", "/v1/userdata")
        assert code == 200 and SECRET not in text, text
        return json.loads(text)

    def states(self):
        return {item["sha256"][:12]: item["state"] for item in self.view()["applied"].get("revisions", [])}
