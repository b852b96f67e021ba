#!/usr/bin/python3
"""Plays a maintenance against the fake platform, from its announcement to the restored VM, and watches it with `evenkeel status --watch` in a terminal of 80
columns and 24 lines (tmux). Prints each screen that tells something new about the drain, under its time:

    scripts/watch.py build/dev/agent/app/evenkeel [DIRECTORY]

The README shows some of them. Ends with 1 when the maintenance did not go as it should."""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(SOURCE / "tests/support"))

from stage import VAULT, Stage, StageError, free_port, me, wait_until  # noqa: E402

COLUMNS, ROWS = 80, 24
LIMIT = 60
VAULT_NAME = VAULT.partition(".")[0]
ANNOUNCED, LEAD = 900, 896  # seconds: the drain begins 4 seconds after the announcement
# What must have been seen, in this order, in the line of the drain.
EXPECTED = ("watching; Reboot", "draining for Reboot", "drained for Reboot", "restoring", "watching")


class Tmux:
    """A terminal of its own server, which ends with it."""

    def __init__(self, directory, command, environment):
        self._call = ["tmux", "-S", str(directory / "tmux"), "-f", "/dev/null"]
        subprocess.run([*self._call, "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), *command],
                       env=environment, check=True)

    def screen(self):
        done = subprocess.run([*self._call, "capture-pane", "-p"], capture_output=True, text=True)
        if done.returncode != 0:
            raise StageError(f"the terminal has gone: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")

    def key(self, name):
        subprocess.run([*self._call, "send-keys", name], check=True)

    def close(self):
        subprocess.run([*self._call, "kill-server"], capture_output=True)


def settings(stage, port):
    user, group = me()

    def certificate(name):
        return {"name": name, "url": f"https://{VAULT}/secrets/{name}", "owner": user, "group": group}

    return {
        "customScript": {"scripts": [{"name": "deploy", "runAs": user, "commandToExecute": "echo deployed"}]},
        "keyRefresh": {"certificates": [certificate("shop"), certificate("api")]},
        "userData": {},
        "health": {"listen": f"127.0.0.1:{port}"},
        "drain": {"leadInSeconds": LEAD, "steps": [
            {"type": "probeDown", "name": "probe", "waitInSeconds": 2},
            {"type": "run", "name": "pause-workers", "command": ["sleep", "2"], "undo": ["sleep", "2"], "user": user}]},
        "network": {"caFile": stage.addresses["caFile"]},
        "log": {"console": False}}


def prepare(stage):
    """The extension, deployed, and all of it well."""
    for days, name in ((89, "shop"), (178, "api")):
        stage.platform.put_secret(VAULT_NAME, name, stage.platform.make_certificate(f"{name}.example", days=days, key="ec")["pem"],
                                  content_type="application/x-pem-file")
    stage.platform.set_instance(name="shop_0", scale_set="shop")
    stage.platform.set_event_timing(auto_start=False)
    stage.platform.set_user_data(b"#!/bin/sh\necho first boot\n")
    stage.put_settings(0, settings(stage, free_port()))
    for step in (lambda: stage.command("install"), stage.start_daemon, lambda: stage.command("enable")):
        step()
    for name in ("keyRefresh/shop", "keyRefresh/api", "drain", "userData"):
        wait_until(f"{name} to be well", lambda name=name: stage.component(name)[0] == "success", LIMIT)
    wait_until("the deployment to end well", lambda: stage.deployment()["status"] == "success", LIMIT)


def state_of(screen):
    """What the screen tells of the drain: that line, without the level."""
    found = re.search(r"^drain +(?:success|warning|error|transitioning) +(.*)$", screen, re.MULTILINE)
    return found[1] if found else ""


def watch(stage, terminal, show):
    """Shows each screen whose drain line is new, until the maintenance is over."""
    seen = []

    def look_until(what, done):
        def look():
            screen = terminal.screen()
            if state_of(screen) and (not seen or state_of(screen) != seen[-1]):
                seen.append(state_of(screen))
                show(screen)
            return done(screen)

        wait_until(what, look, LIMIT)

    look_until("the first screen", lambda screen: state_of(screen) == "watching")
    event = stage.platform.add_event("Reboot", not_before_in_seconds=ANNOUNCED, duration_in_seconds=9, description="Host update")
    look_until("the drain to be acknowledged", lambda screen: re.search(r"^Next event +Reboot .*, acked$", screen, re.MULTILINE))
    stage.platform.start_event(event)
    wait_until("the start to be seen", lambda: "Started" in terminal.screen(), LIMIT)
    stage.platform.remove_event(event)
    look_until("the VM to serve again", lambda screen: state_of(screen) == "watching")
    at = 0
    for state in seen:
        at += at < len(EXPECTED) and state.startswith(EXPECTED[at])
    if at < len(EXPECTED):
        raise StageError(f"\"{EXPECTED[at]}\" was not seen; this was: {seen}")
    if not stage.platform.acknowledgements():
        raise StageError("the platform has had no acknowledgement")


def play(binary, directory):
    start = time.monotonic()

    def show(screen):
        print(f"--- after {time.monotonic() - start:.0f} s\n{screen}\n", flush=True)

    with Stage(binary, directory) as stage:
        prepare(stage)
        # The socket's path must not be long.
        sockets = pathlib.Path(tempfile.mkdtemp(prefix="evenkeel."))
        terminal = Tmux(sockets, [str(stage.binary), "status", "--watch"], {**stage.environment(), "TERM": "xterm-256color"})
        try:
            watch(stage, terminal, show)
            terminal.key("C-c")
        finally:
            terminal.close()
            shutil.rmtree(sockets)


def main():
    if len(sys.argv) not in (2, 3):
        print(f"usage: {sys.argv[0]} PROGRAM [DIRECTORY]", file=sys.stderr)
        return 2
    if not shutil.which("tmux"):
        print("there is no tmux here; scripts/bootstrap installs what the tests need, and tmux is a package of its name", file=sys.stderr)
        return 77
    directory = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else pathlib.Path(tempfile.mkdtemp(prefix="evenkeel."))
    directory.mkdir(parents=True, exist_ok=True)
    try:
        play(sys.argv[1], directory)
    except StageError as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
