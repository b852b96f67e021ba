"""Our packages on a booted machine: the extension led by the real waagent, the Debian package, the VM application."""

import hashlib
import json

import pytest

import packages

NAME = "EvenKeel.EvenKeelForLinux"
OLD, NEW = "0.1.0", "0.2.0"

# Told to a script as a secret; may appear nowhere that another user can read.
SECRET = "correct-horse-battery-staple"


class Extension:
    """One extension on one machine, steered as the platform does and judged by what the platform is told."""

    def __init__(self, machine):
        self.machine = machine
        self.version = OLD
        self.number = None
        self.public = {}
        self.protected = None
        self.incarnation = None

    def goal(self, **changes):
        """A new goal state; returns its incarnation."""
        state = changes.pop("state", "enabled")
        for name, value in changes.items():
            setattr(self, name, value)
        self.incarnation = self.machine.platform.set_goal_state([{
            "name": NAME, "version": self.version, "state": state, "seq_no": self.number,
            "public_settings": self.public, "protected_settings": self.protected}])
        return self.incarnation

    def report(self, wanted, timeout=30):
        """Waits for a report on the latest goal state of which wanted(top level status) is true, and returns that status."""
        def fits(entry):
            if entry is None or entry["handlerVersion"] != self.version or entry["status"] != "Ready":
                return False
            settings = entry.get("runtimeSettingsStatus")
            return bool(settings and settings["sequenceNumber"] == self.number and wanted(settings["settingsStatus"]["status"]))
        entry = self.machine.platform.wait_for_status(NAME, fits, timeout, self.incarnation)
        return entry["runtimeSettingsStatus"]["settingsStatus"]["status"]

    def succeeded(self, timeout=30):
        return self.report(lambda status: status["status"] == "success", timeout)

    def gone(self, timeout=30):
        self.machine.platform.wait_for_status(NAME, lambda entry: entry is None, timeout, self.incarnation)


def script(line, name="script", **more):
    return {"customScript": {"scripts": [{"name": name, "commandToExecute": line, **more}]}}


def files(machine):
    """Every file of the machine that a package could leave behind."""
    others = ("/var/log", "/var/lib/waagent", "/var/lib/dpkg", "/var/cache", "/root", "/var/tmp/systemd-private-*")
    prune = " -o ".join(f"-path '{path}'" for path in others)
    # a directory of the file hierarchy standard, which some systems have and others do not
    listed = machine.run(f"find / -xdev \\( {prune} \\) -prune -o ! -path /usr/local/libexec -printf '%p\\n'")
    return set(listed.splitlines())


@pytest.fixture
def extension(new_machine):
    machine = new_machine(agent=True)
    machine.start_platform()
    for version in (OLD, NEW):
        machine.platform.publish_extension(NAME, version, str(packages.extension(version)))
    return Extension(machine)


def ran(machine):
    """What the scripts of a test have noted, in order."""
    return machine.read("/var/lib/ran").splitlines() if machine.exists("/var/lib/ran") else []


def daemon_program(machine):
    """The file that the running daemon was started from."""
    pid = machine.run("systemctl show --property=MainPID --value evenkeel").strip()
    return machine.run(["readlink", f"/proc/{pid}/exe"]).strip()


def test_install_enable_settings_reboot_upgrade_downgrade_uninstall(extension):
    machine = extension.machine
    machine.boot()
    before = files(machine)

    # install, enable: nothing is configured, and that is a success
    extension.goal(number=0)
    extension.succeeded()
    assert machine.run("systemctl is-active evenkeel").strip() == "active"
    assert daemon_program(machine) == f"/usr/local/libexec/evenkeel/{OLD}/evenkeel"
    assert machine.run("/usr/local/bin/evenkeel version").split()[-1] == OLD

    # new settings with a secret: the script runs once and sees it, other people do not
    extension.goal(number=1, public=script("echo one >>/var/lib/ran; printf %s \"$TOKEN\" | sha256sum; echo to-stderr >&2",
                                           environment={"TOKEN": {"secretRef": "token"}}),
                   protected={"secrets": {"token": SECRET}})
    status = extension.succeeded()
    assert hashlib.sha256(SECRET.encode()).hexdigest() in status["formattedMessage"]["message"]
    assert "to-stderr" in status["formattedMessage"]["message"]
    assert ran(machine) == ["one"]
    told = json.dumps(machine.platform.statuses()) + machine.journal()
    told += machine.run("cat /var/log/azure/*/* /var/log/waagent.log; grep -rs . /run/systemd/transient /run/systemd/system || true")
    assert SECRET not in told

    # the same settings in another goal state, and after a boot: nothing runs again
    extension.goal()
    extension.succeeded()
    first_boot = machine.boot_id()
    machine.reboot()
    assert machine.boot_id() != first_boot
    extension.goal()
    extension.succeeded()
    assert machine.run("systemctl is-active evenkeel").strip() == "active"
    assert ran(machine) == ["one"]

    # an upgrade while a script runs: the script stays the same process, and the new version tells its end
    extension.goal(number=2, protected=None,
                   public=script("echo $$ >/run/script-pid; while ! test -e /run/go-on; do sleep 0.1; done; echo two >>/var/lib/ran; echo done-two"))
    extension.report(lambda status: status["status"] == "transitioning")
    machine.wait_until("test -s /run/script-pid", 10, "the script's start")
    pid = machine.read("/run/script-pid").strip()
    extension.goal(version=NEW)
    extension.report(lambda status: status["status"] == "transitioning")
    assert not machine.exists(f"/var/lib/waagent/{NAME}-{OLD}")
    machine.wait_until(lambda: daemon_program(machine) == f"/usr/local/libexec/evenkeel/{NEW}/evenkeel", 10, "the new daemon")
    assert machine.run(["cat", f"/proc/{pid}/comm"]).strip() == "sh"
    machine.run("touch /run/go-on")
    assert "done-two" in extension.succeeded()["formattedMessage"]["message"]
    assert ran(machine) == ["one", "two"]

    # back again
    extension.goal(version=OLD)
    assert "done-two" in extension.succeeded()["formattedMessage"]["message"]
    machine.wait_until(lambda: daemon_program(machine) == f"/usr/local/libexec/evenkeel/{OLD}/evenkeel", 10, "the old daemon")
    assert ran(machine) == ["one", "two"]

    # and what is removed is gone, but not what the scripts have made
    extension.goal(state="uninstall")
    extension.gone()
    assert machine.run("systemctl show --property=LoadState --value evenkeel.service").strip() == "not-found"
    assert ran(machine) == ["one", "two"]
    machine.run("rm /var/lib/ran")
    assert files(machine) - before == set()
    assert machine.run("systemctl is-system-running").strip() == "running"


def test_invalid_settings_are_told_and_change_nothing(extension):
    machine = extension.machine
    machine.boot()
    extension.goal(number=0, public=script("echo good >>/var/lib/ran"))
    extension.succeeded()
    extension.goal(number=1, public={"drian": {}})
    status = extension.report(lambda status: status["status"] == "error")
    assert 'drian: unknown section; did you mean "drain"?' in status["formattedMessage"]["message"]
    extension.goal(number=2, public=script("echo better >>/var/lib/ran"))
    extension.succeeded()
    assert ran(machine) == ["good", "better"]


def test_power_cut_during_a_script(extension):
    """The default says: a script that a boot has interrupted failed, and it is not run again."""
    machine = extension.machine
    machine.boot()
    extension.goal(number=0, public=script("echo begun >>/var/lib/ran; sync; sleep 1000"))
    machine.wait_until("test -s /var/lib/ran", 20, "the script's start")
    machine.kill_hard()
    machine.boot()
    extension.goal()
    status = extension.report(lambda status: status["status"] == "error")
    assert "interrupted by a reboot" in json.dumps(status)
    assert ran(machine) == ["begun"]


CONFIGURATION = json.dumps(script("echo package >>/var/lib/ran"))


def test_debian_package(new_machine):
    machine = new_machine()
    machine.boot()
    old = packages.debian()
    machine.copy_in(old, "/root/old.deb")
    machine.copy_in(packages.debian_of_version(old, "0.1.0+next1"), "/root/new.deb")
    before = files(machine)

    machine.run("dpkg -i /root/old.deb 2>&1", timeout=60)
    assert machine.run("systemctl is-active evenkeel.service evenkeel.socket").split() == ["active", "active"]
    machine.write("/etc/evenkeel/evenkeel.json", CONFIGURATION, mode=0o600)
    machine.run("systemctl reload-or-restart evenkeel")
    machine.wait_until("test -s /var/lib/ran", 20, "the script of the configuration")

    started = machine.run("systemctl show --property=MainPID --value evenkeel").strip()
    machine.run("dpkg -i /root/new.deb 2>&1", timeout=60)
    machine.wait_until("systemctl is-active --quiet evenkeel", 10, "the service after the upgrade")
    assert machine.run("systemctl show --property=MainPID --value evenkeel").strip() != started
    machine.reboot()
    assert machine.run("systemctl is-active evenkeel.service evenkeel.socket").split() == ["active", "active"]
    assert ran(machine) == ["package"], "neither the upgrade nor the boot runs it again"

    machine.run("dpkg --purge evenkeel 2>&1", timeout=60)
    machine.run("rm /var/lib/ran")
    assert files(machine) - before == set()
    assert machine.run("systemctl is-system-running").strip() == "running"


def test_vm_application(new_machine):
    machine = new_machine()
    machine.boot()
    directory = "/var/lib/waagent/Microsoft.CPlat.Core.VMApplicationManagerLinux/evenkeel/1.0.0"
    for version in (OLD, NEW):
        machine.copy_in(packages.vm_application(version), f"{directory}/{version}.sh")
    before = files(machine)

    machine.write(f"{directory}/evenkeel-config", '{"drian": {}}')
    status, stdout, stderr = machine._execute(f"cd {directory} && cp {OLD}.sh evenkeel.sh && sh ./evenkeel.sh install", 60, None)
    assert status == 3 and b"drian: unknown section" in stderr
    assert files(machine) - before == set(), "an invalid configuration changes nothing"

    machine.write(f"{directory}/evenkeel-config", CONFIGURATION)
    assert machine.run(f"cd {directory} && sh ./evenkeel.sh install", timeout=60) == f"EvenKeel {OLD}: installed and running\n"
    machine.wait_until("test -s /var/lib/ran", 20, "the script of the configuration")
    assert daemon_program(machine) == f"/usr/local/libexec/evenkeel/{OLD}/evenkeel"

    machine.run(f"cd {directory} && cp {NEW}.sh evenkeel.sh && sh ./evenkeel.sh update", timeout=60)
    machine.wait_until(lambda: daemon_program(machine) == f"/usr/local/libexec/evenkeel/{NEW}/evenkeel", 10, "the new daemon")
    machine.reboot()
    assert machine.run("systemctl is-active evenkeel").strip() == "active"
    assert ran(machine) == ["package"]

    machine.run(f"cd {directory} && sh ./evenkeel.sh remove", timeout=60)
    assert machine.run("systemctl show --property=LoadState --value evenkeel.service").strip() == "not-found"
    left = files(machine) - before
    assert all(path.startswith(("/etc/evenkeel", "/var/lib/evenkeel", "/var/lib/ran")) for path in left), left
