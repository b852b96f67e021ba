"""EvenKeel on a booted machine: steered as the platform steers it, judged by what the platform is told and what is on disk."""

import json
import os
import pathlib

import packages

NAME = "EvenKeel.EvenKeelForLinux"
OLD, NEW = "0.1.0", "0.2.0"

# the vault that a machine of these tests can reach
VAULT = "shop.vault.azure.net"

# where the scripts, hooks and steps of these tests note that they ran, one word a line
RAN = "/var/lib/ran"


class Extension:
    """Our extension on one machine, led by the Azure agent there."""

    def __init__(self, machine, package=packages.extension):
        """package(version) makes what the platform has of that version."""
        self.machine = machine
        self.version = OLD
        self.number = None
        self.public = {}
        self.protected = None
        self.incarnation = None
        for version in (OLD, NEW):
            machine.platform.publish_extension(NAME, version, str(package(version)))

    def goal(self, state="enabled", cipher="aes256", **changes):
        """A new goal state; what is not named stays as it was. Returns its incarnation."""
        for name, value in changes.items():
            setattr(self, name, value)
        self.incarnation = self.machine.platform.set_goal_state([{
            "name": NAME, "version": self.version, "state": state, "seq_no": self.number,
            "public_settings": self.public, "protected_settings": self.protected}], cipher)
        return self.incarnation

    def settings(self, public=None, protected=None, **more):
        """A goal state of the next sequence number with these settings."""
        number = 0 if self.number is None else self.number + 1
        return self.goal(number=number, public=public, protected=protected, **more)

    def report(self, wanted, timeout=30):
        """Waits for a report on the latest goal state of which wanted(top level status) is true, and returns that status."""
        def fits(entry):
            if entry is None or entry["handlerVersion"] != self.version or entry["status"] != "Ready":
                return False
            settings = entry.get("runtimeSettingsStatus")
            return bool(settings and settings["sequenceNumber"] == self.number and wanted(settings["settingsStatus"]["status"]))
        entry = self.machine.platform.wait_for_status(NAME, fits, timeout, self.incarnation)
        return entry["runtimeSettingsStatus"]["settingsStatus"]["status"]

    def level(self, level, timeout=30):
        return self.report(lambda status: status["status"] == level, timeout)

    def succeeded(self, timeout=30):
        return self.level("success", timeout)

    def component(self, name, text, level="success", timeout=30):
        """Waits until this substatus has the level and the text in it, and returns its message."""
        found = {}

        def fits(status):
            found.update(substatus(status, name))
            return found.get("status") == level and text in found["formattedMessage"]["message"]
        self.report(fits, timeout)
        return found["formattedMessage"]["message"]

    def uninstalled(self, timeout=40):
        self.goal(state="uninstall")
        self.gone(timeout)

    def gone(self, timeout=40):
        """Waits until the agent reports nothing of the extension any more."""
        self.machine.platform.wait_for_status(NAME, lambda entry: entry is None, timeout, self.incarnation)


def substatus(status, name):
    return next((item for item in status.get("substatus", []) if item["name"] == name), {})


def script(line, name="script", **more):
    """Settings with one custom script."""
    return {"customScript": {"scripts": [{"name": name, "commandToExecute": line, **more}]}}


def files(machine):
    """Every file of the machine that a package could leave behind."""
    others = ("/var/log", "/var/lib/waagent", "/var/lib/dpkg", "/var/cache", "/root", "/var/tmp/systemd-private-*")
    prune = " -o ".join(f"-path '{path}'" for path in others)
    # a directory of the file hierarchy standard, which some systems have and others do not
    listed = machine.run(f"find / -xdev \\( {prune} \\) -prune -o ! -path /usr/local/libexec -printf '%p\\n'")
    return set(listed.splitlines())


def ran(machine):
    """What has been noted in RAN, in order."""
    return machine.read(RAN).split() if machine.exists(RAN) else []


def shown(machine, prop, unit="evenkeel"):
    return machine.run(["systemctl", "show", "--value", f"--property={prop}", unit]).strip()


def daemon_program(machine):
    """The file that the running daemon was started from, None while there is none."""
    return machine.run(["readlink", f"/proc/{shown(machine, 'MainPID')}/exe"], check=False).strip()


def put_program(machine):
    """Copies the program of this build to where its unit, which comes with it, starts it: `machine.program`. Nothing is started."""
    build = pathlib.Path(os.environ["EK_TEST_BINARY_DIR"])
    unit = (build / "units/evenkeel.service").read_text()
    [path] = [line.partition("=")[2].split()[0] for line in unit.splitlines() if line.startswith("ExecStart=")]
    machine.copy_in(build / "agent/app/evenkeel", path)
    for name in ("evenkeel.service", "evenkeel.socket"):
        machine.copy_in(build / "units" / name, f"/etc/systemd/system/{name}")
    for name in ("evenkeel-jobs.slice", "evenkeel-drained.target"):
        machine.copy_in(pathlib.Path(__file__).parents[2] / "agent/app/units" / name, f"/etc/systemd/system/{name}")
    machine.program = path


def program(version):
    return f"/usr/local/libexec/evenkeel/{version}/bin/evenkeel"


def ready(machine):
    """What /ready answers to a load balancer's probe; 0 when nobody answers."""
    return int(machine.run("curl -s -o /dev/null -w %{http_code} --max-time 2 http://127.0.0.1:8008/ready", check=False))


def told(machine, component):
    """What the service says of a component now: (level, message)."""
    text = machine.run("evenkeel status --json", check=False)
    # While the service starts, its files tell, which know no component.
    document = json.loads(text) if text else {}
    item = substatus(document["status"][0]["status"] if document.get("status") else {}, component)
    return item.get("status"), item.get("formattedMessage", {}).get("message", "")


def configure(machine, settings):
    """The other door: a file, as an image or a VM application brings it."""
    machine.write("/etc/evenkeel/evenkeel.json", json.dumps(settings), mode=0o600)


WEB_UNIT = """\
[Unit]
Description=An application that is stopped for maintenance
[Service]
ExecStart=/usr/bin/sleep infinity
"""


def web_is(machine, state):
    return machine.status(f"systemctl is-active --quiet web.service") == (0 if state == "active" else 3)


def draining(*steps, **more):
    """Settings that drain web.service with a load balancer's probe in front of it."""
    return {"health": {"listen": "127.0.0.1:8008"},
            "drain": {"steps": [{"type": "probeDown", "waitInSeconds": 1},
                                {"type": "run", "name": "note", "command": ["sh", "-c", f"echo drain >>{RAN}"],
                                 "undo": ["sh", "-c", f"echo restore >>{RAN}"]},
                                *steps,
                                {"type": "stopUnits", "units": ["web.service"]}], **more}}


def acknowledgements(machine, event):
    return sum(event in entry["ids"] for entry in machine.platform.acknowledgements())
