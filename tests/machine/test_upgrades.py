"""Upgrades and downgrades under the real Azure agent at the instants that hurt: nothing runs twice or is lost, who asks the
listener is never refused, and the status is right at once.

The certificate is renewed, the VM drained and a script on its way at the same time, each held by a file that it waits for.
"""

import collections
import json
import threading
import time

import pytest

import packages
from asking import asked
from product import (NAME, NEW, OLD, RAN, VAULT, WEB_UNIT, acknowledgements, daemon_program, draining, program, ran, script, told,
                     web_is)

STATUS_SECONDS = 5


def hold(what):
    """A command that notes that it began, and ends when it is let go."""
    return ["sh", "-c", f"echo {what} >>{RAN}; until test -e /run/go-{what}; do sleep 0.05; done"]


def let_go(machine, *names):
    for name in names:
        machine.write(f"/run/go-{name}", "")


def status_in_time(extension, wanted):
    """From the end of the agent's `enable` the file may take this long to say what is so."""
    machine = extension.machine
    folder = f"/var/lib/waagent/{NAME}-{extension.version}"
    machine.wait_until(lambda: machine.run(f"cat {folder}/config/HandlerState", check=False) == "Enabled", 60, "the agent's enable")
    enabled = time.monotonic()

    def says():
        text = machine.run(f"cat {folder}/status/{extension.number}.status", check=False)
        return text and wanted(json.loads(text)[0]["status"])
    machine.wait_until(says, STATUS_SECONDS, "the status to be right")
    return time.monotonic() - enabled


def go_over(extension, version, wanted, between=None):
    """The agent's way to another version; between(machine) is done when the former version has been told to let go."""
    machine = extension.machine
    log = f"/var/log/azure/{NAME}/evenkeel.log"
    before = machine.read(log).count("going over from version")
    extension.goal(version=version)
    if between:
        machine.wait_until(lambda: machine.read(log).count("going over from version") > before, 60, "the agent's update")
        between(machine)
    status_in_time(extension, wanted)
    machine.wait_until(lambda: daemon_program(machine) == program(version), 20, f"the daemon of version {version}")


def kill_daemon(machine):
    machine.run("systemctl kill --signal=KILL --kill-whom=main evenkeel")


def kill_agent(machine):
    """With its worker, in the middle of its commands; what they do goes on or not, as it happens."""
    machine.run("systemctl kill --signal=KILL walinuxagent; systemctl restart walinuxagent")


def kill_both(machine):
    kill_daemon(machine)
    kill_agent(machine)


def component(status, name):
    return next((item["status"], item["formattedMessage"]["message"]) for item in status["substatus"] if item["name"] == name)


def begun(machine, *words):
    """Each of these is on its way, and has begun once."""
    machine.wait_until(lambda: set(words) <= set(ran(machine)), 30, f"the begin of {words}")
    assert not [word for word, times in collections.Counter(ran(machine)).items() if times > 1]


@pytest.fixture
def extension(extension):
    """… that runs web.service, with the platform's events under the test's hand."""
    machine = extension.machine
    machine.platform.set_event_timing(auto_start=False)
    machine.write("/etc/systemd/system/web.service", WEB_UNIT)
    machine.run("systemctl daemon-reload && systemctl start web")
    return extension


def renew(machine, word):
    """A new certificate for the next poll, which a restart brings."""
    certificate = machine.platform.make_certificate("shop.example", key="ec")
    machine.platform.put_secret("shop", "web", certificate["pem"], content_type="application/x-pem-file")
    if word:
        machine.run("systemctl restart evenkeel")
        begun(machine, word)
    return certificate


class Stalling:
    """A server of one file, which sends half of it and the rest when it is told to."""

    def __init__(self, machine, content):
        self.socket = machine.inside(__import__("socket").create_server, ("127.0.0.1", 8100))
        self.content = content
        self.asked, self.going_on = threading.Event(), threading.Event()
        self.requests = 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                self.requests += 1
                half = len(self.content) // 2
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.content) + self.content[:half])
                self.asked.set()
                self.going_on.wait(120)
                connection.sendall(self.content[half:])


def settings(customScript=None):
    steps = draining({"type": "run", "name": "hold", "command": hold("drain-held"), "undo": hold("restore-held"), "timeoutInSeconds": 300})
    steps["keyRefresh"] = {"certificates": [{
        "name": "web", "url": f"https://{VAULT}/secrets/web", "directory": "/etc/tls",
        "activate": {"check": hold("check"), "commands": [hold("reload")], "timeoutInSeconds": 300}}]}
    return {**steps, "log": {"console": False}, **(customScript or {})}


def test_every_instant(extension):
    machine, platform = extension.machine, extension.machine.platform
    renew(machine, None)
    let_go(machine, "check", "reload")
    extension.settings(settings())
    extension.succeeded()
    extension.component("keyRefresh/web", "thumbprint")
    machine.wait_until(lambda: told(machine, "drain")[1].startswith("watching"), 20, "the drain to watch")
    machine.run(f"rm -f {RAN} /run/go-*")

    # An upgrade while a script waits for a lock, a drain is at work and a certificate is staged; the daemon is killed in it.
    machine.run("systemd-run --quiet --unit=holder flock /run/.tdnf-instance-lockfile sleep 1000")
    machine.wait_until("test -e /run/.tdnf-instance-lockfile", 10, "the lock")
    waiting = script(f"echo waited >>{RAN}")
    waiting["customScript"]["waitFor"] = ["packageLocks"]
    extension.settings(settings(waiting))
    extension.level("transitioning")
    new = renew(machine, "check")
    event = platform.add_event("Reboot", not_before_in_seconds=600)
    begun(machine, "drain", "drain-held", "check")
    with asked(machine):
        go_over(extension, NEW, lambda s: s["status"] == "transitioning" and component(s, "drain")[0] == "transitioning"
                and "lock" in component(s, "customScript/script")[1], kill_daemon)
        assert acknowledgements(machine, event) == 0 and web_is(machine, "active")
        begun(machine, "drain", "drain-held", "check")
        assert "waited" not in ran(machine)
        machine.run("systemctl stop holder")
        let_go(machine, "drain-held", "check")
        platform.wait_for_acknowledgement(event, 20)
        begun(machine, "waited", "reload")
        extension.succeeded()
        assert web_is(machine, "inactive")
        assert machine.read("/etc/tls/fullchain.pem").startswith(new["leaf"])

        # Back again while it is drained, a reload is under way and a script's file is half there; both are killed in it.
        server = Stalling(machine, b"#!/bin/sh\necho fetched >>" + RAN.encode() + b"\n")
        extension.settings(settings(script("sh fetched.sh", files=["http://127.0.0.1:8100/fetched.sh"])))
        extension.level("transitioning")
        assert server.asked.wait(30)
        go_over(extension, OLD, lambda s: s["status"] == "transitioning" and component(s, "drain")[1].startswith("drained"), kill_both)
        let_go(machine, "reload")
        server.going_on.set()
        extension.succeeded()
        server.socket.close()
        assert server.requests == 1 and acknowledgements(machine, event) == 1
        begun(machine, "fetched", "reload")

        # An upgrade while the VM is restored and a script runs; the agent is killed in it.
        extension.settings(settings(script(" ".join(["exec", "sh", "-c", f"'{hold('script')[2]}; echo script-end >>{RAN}'"]))))
        extension.level("transitioning")
        platform.remove_event(event)
        begun(machine, "script", "restore-held")
        assert web_is(machine, "active"), "what was stopped last comes back first"
        go_over(extension, NEW, lambda s: s["status"] == "transitioning" and component(s, "drain")[0] == "transitioning", kill_agent)
        let_go(machine, "script", "restore-held")
        machine.wait_until(lambda: told(machine, "drain")[1].startswith("watching"), 20, "the restore")
        assert "exit code 0" in component(extension.succeeded(), "customScript/script")[1]
        begun(machine, "script-end", "restore")
    begun(machine, "drain", "waited", "fetched", "script", "script-end", "restore")
    assert acknowledgements(machine, event) == 1 and web_is(machine, "active")
    assert "thumbprint " + new["thumbprint"] in told(machine, "keyRefresh/web")[1]


def broken(extension, version, verb):
    """Goes to a version that fails in this command, until the platform has been told so; the listener is asked meanwhile."""
    machine = extension.machine
    machine.platform.publish_extension(NAME, version, str(packages.broken(version, verb, NEW)))
    extension.goal(version=version)
    machine.platform.wait_for_status(
        NAME, lambda entry: entry and entry["handlerVersion"] == version and entry["status"] == "NotReady", 60, extension.incarnation)
    machine.wait_until(lambda: told(machine, "drain")[1].startswith("drained"), 20, "a daemon that knows what is drained")


def test_versions_that_fail(extension):
    """Whichever command of the new version fails: one of the two goes on, and the way back finds everything as it was."""
    machine, platform = extension.machine, extension.machine.platform
    extension.settings({**draining(), **script(f"echo once >>{RAN}")})
    extension.succeeded()
    event = platform.add_event("Reboot", not_before_in_seconds=600)
    platform.wait_for_acknowledgement(event, 20)

    def back():
        go_over(extension, OLD, lambda s: s["status"] == "success" and component(s, "drain")[1].startswith("drained"))
        extension.succeeded()
        assert ran(machine) == ["once", "drain"] and acknowledgements(machine, event) == 1 and web_is(machine, "inactive")

    with asked(machine):
        broken(extension, "0.2.1", "update")
        assert daemon_program(machine) == program(OLD)
        back()
        # the old version has gone by now, and its daemon goes on
        broken(extension, "0.2.2", "install")
        assert daemon_program(machine) == program(OLD)
        back()
        # from here the way back is that of any downgrade, above
        broken(extension, "0.2.3", "enable")
        machine.wait_until(lambda: daemon_program(machine) == program(NEW), 20, "the new daemon")
    assert acknowledgements(machine, event) == 1
    platform.remove_event(event)
    machine.wait_until(lambda: ran(machine) == ["once", "drain", "restore"] and web_is(machine, "active"), 20, "the restore")
