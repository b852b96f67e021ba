"""The doors without the Azure agent on a booted machine: the Debian package, beside the extension, too, and the VM application."""

import io
import json
import os
import pathlib
import stat
import subprocess
import tarfile
import zipfile

import pytest

import packages
from asking import asked
from selinux_policy import Policy
from product import (NAME, NEW, OLD, RAN, WEB_UNIT, configure, daemon_program, draining, files, program, ran, ready, script, shown,
                     told, web_is)

UNITS = ("evenkeel.service", "evenkeel.socket")
METRICS_PORT = 9108
LIBRARIES = pathlib.Path(os.environ["EK_TEST_BINARY_DIR"]) / "tests"
WITHOUT_MANAGER = "unshare --mount sh -c 'mount -t tmpfs none /run/dbus; mount -t tmpfs none /run/systemd; exec \"$@\"' sh"
DROP_IN = "/run/systemd/system/evenkeel.service.d"
SETTINGS = {**script(f"echo package >>{RAN}"), **draining()}


@pytest.fixture
def machine(new_machine):
    machine = new_machine()
    machine.start_platform()
    machine.platform.set_event_timing(auto_start=False)
    machine.write("/etc/systemd/system/web.service", WEB_UNIT)
    machine.boot()
    machine.run("systemctl start web")
    yield machine
    assert machine.platform.problems() == []


def drained(machine):
    """Publishes a maintenance and waits until the machine is drained for it."""
    machine.wait_until(lambda: told(machine, "drain")[1].startswith("watching"), 15, "the drain to watch")
    event = machine.platform.add_event("Reboot", not_before_in_seconds=600)
    machine.platform.wait_for_acknowledgement(event, 15)
    assert web_is(machine, "inactive") and ready(machine) == 503


def active(machine):
    return machine.run(["systemctl", "is-active", *UNITS], check=False).split()


class ExtensionByHand:
    """What the Azure agent would do with it."""

    def __init__(self, machine, unpacked):
        self.machine, self.unpacked = machine, unpacked
        self.folder = f"/var/lib/waagent/{NAME}-{OLD}"

    def unpack(self):
        folder = self.folder
        self.machine.copy_in(self.unpacked, folder)
        self.machine.run(f"mkdir -p {folder}/config {folder}/status; chmod -R a+x {folder}/bin")
        self.machine.write(f"{folder}/HandlerEnvironment.json", json.dumps([{"name": NAME, "version": 1.0, "handlerEnvironment": {
            "logFolder": f"/var/log/azure/{NAME}", "configFolder": f"{folder}/config", "statusFolder": f"{folder}/status",
            "heartbeatFile": f"{folder}/heartbeat.log"}}]))
        self.machine.write(f"{folder}/config/0.settings", json.dumps({"runtimeSettings": [{"handlerSettings": {"publicSettings": {}}}]}))

    def put(self):
        self.unpack()
        self.command("install")
        self.command("enable")
        assert daemon_program(self.machine) == program(OLD) and owner(self.machine)[0] == "extension"

    def command(self, verb, before=""):
        line = (f"cd {self.folder} && ConfigSequenceNumber=0 AZURE_GUEST_AGENT_EXTENSION_PATH={self.folder} "
                f"AZURE_GUEST_AGENT_EXTENSION_VERSION={OLD} AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE=NOT_RUN")
        return self.machine.run(f"{line} {before} bin/evenkeel {verb}", timeout=90, check=not before)

    def vanish(self):
        self.machine.run(f"rm -r {self.folder}")

    def uninstall(self):
        for verb in ("disable", "uninstall"):
            self.command(verb)
        self.vanish()


def owner(machine):
    # while the service starts, its files tell, and the exit code says so
    found = json.loads(machine.run("evenkeel status --json", check=False))["owner"]
    return found["kind"], found.get("beside") or ""


def taken_over(machine):
    """The package's service runs, and nothing of the extension is left."""
    machine.wait_until(lambda: daemon_program(machine) == "/usr/bin/evenkeel", 60, "the package's service")
    machine.wait_until(lambda: owner(machine)[0] == "package", 20, "the end of the handover")
    assert active(machine) == ["active"] * 2 and enabled(machine) == ["enabled"] * 2
    assert machine.run("ls -d /usr/local/libexec/evenkeel /usr/local/bin/evenkeel /etc/systemd/system/evenkeel* 2>/dev/null", check=False) == ""


def enabled(machine):
    return machine.run(["systemctl", "is-enabled", *UNITS], check=False).split()


def beside_the_extension(machine, deb, extension, before):
    """From a package that runs to a machine without it. Whoever asks is never refused while the service is anybody's."""
    count = ran(machine).count("package")
    configure(machine, {**script(f"echo package >>{RAN}"), "health": {"listen": "127.0.0.1:8008", "metricsListen": f"127.0.0.1:{METRICS_PORT}"}})
    machine.run("systemctl reload evenkeel")
    machine.wait_until(lambda: ran(machine).count("package") == count + 1, 20, "the script of the new configuration")
    for name in ("clock_fast", "die_at"):
        machine.copy_in(LIBRARIES / f"lib{name}.so", f"/usr/local/lib/{name}.so")
    machine.write(f"{DROP_IN}/clock.conf", "[Service]\nEnvironment=LD_PRELOAD=/usr/local/lib/clock_fast.so EK_CLOCK_RATE=2000\n")
    machine.run("systemctl daemon-reload")
    with asked(machine, METRICS_PORT, kills=0):
        extension.put()
        machine.run("systemctl restart evenkeel; systemctl restart evenkeel")
        # half an hour on a fast clock: its uninstall is made up for
        extension.vanish()
        taken_over(machine)
        # killed in its uninstall, while the units go
        extension.put()
        extension.command("disable")
        extension.command("uninstall", "LD_PRELOAD=/usr/local/lib/die_at.so EK_DIE_AT=3")
        assert machine.exists("/var/lib/evenkeel/state/goal.json") and daemon_program(machine) == program(OLD)
        extension.vanish()
        taken_over(machine)
        machine.run(f"rm -r {DROP_IN}; systemctl daemon-reload; systemctl restart evenkeel")
        # an installation that came as far as the restart and was killed then: all is there, but the package's program runs
        extension.unpack()
        extension.command("install", WITHOUT_MANAGER)
        assert owner(machine)[0] == "extension" and daemon_program(machine) == "/usr/bin/evenkeel"
        extension.put()
        # as its uninstall does it
        extension.uninstall()
        taken_over(machine)
        assert machine.run("systemctl list-units --all --no-legend 'evenkeel-leave*'") == ""

    # the package leaves, comes back, and leaves for good: the extension's service hears nothing of it
    extension.put()
    runs = shown(machine, "MainPID")

    def goes_on(known):
        assert shown(machine, "MainPID") == runs and active(machine) == ["active"] * 2 and enabled(machine) == ["enabled"] * 2
        assert ("evenkeel" in machine.run("find /var/lib/systemd -name '*evenkeel*'")) == known

    for line, known in (("--remove evenkeel", False), (f"-i {deb}", True), ("--purge evenkeel", False)):
        machine.run(f"dpkg {line} 2>&1", timeout=90)
        goes_on(known)
    assert ran(machine).count("package") == count + 1 and told(machine, "customScript/script")[0] == "success"
    machine.run("rm -r /etc/evenkeel/evenkeel.json /usr/local/lib/clock_fast.so /usr/local/lib/die_at.so")
    noted = machine.read(RAN)
    extension.uninstall()
    machine.run(f"rm {RAN}")
    assert files(machine) - before == set()
    machine.write(RAN, noted)

    # an extension that was there while the package was not has disabled nothing
    machine.run(f"dpkg -i {deb} && dpkg --remove evenkeel 2>&1", timeout=90)
    extension.put()
    extension.uninstall()
    machine.run(f"dpkg -i {deb} 2>&1", timeout=90)
    assert active(machine) == ["active"] * 2 and enabled(machine) == ["enabled"] * 2


def test_selinux_lets_systemd_start_what_is_where_it_is(tmp_path):
    """dpkg gives the policy's labels."""
    policy = Policy(tmp_path)
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", packages.debian()], stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        types = {entry.name[1:]: policy.type_of(entry.name[1:], stat.S_IFDIR if entry.isdir() else stat.S_IFREG)
                 for entry in tar if entry.name != "."}
    assert types["/usr/bin/evenkeel"] == "bin_t"
    assert {kind for name, kind in types.items() if "/systemd/system/" in name} == {"systemd_unit_t"}
    assert {kind for name, kind in types.items() if name.startswith("/etc/")} == {"etc_t"}


def test_debian_package(machine, tmp_path):
    old = packages.debian()
    zipfile.ZipFile(packages.extension(OLD)).extractall(tmp_path)
    machine.copy_in(old, "/root/old.deb")
    machine.copy_in(packages.debian_of_version(old, "0.1.0+next1"), "/root/new.deb")
    before = files(machine)

    # installed: it runs, and takes its settings from a file
    machine.run("dpkg -i /root/old.deb 2>&1", timeout=60)
    assert active(machine) == ["active", "active"]
    # what Debian's autopkgtest runs on the package
    for name in ("command-line", "service"):
        machine.copy_in(packages.ROOT / "debian/tests" / name, f"/root/{name}")
        machine.run(f"sh /root/{name} 2>&1 && rm /root/{name}", timeout=90)
    configure(machine, SETTINGS)
    machine.run("systemctl reload-or-restart evenkeel")
    machine.wait_until(f"test -s {RAN}", 20, "the script of the configuration")
    assert ready(machine) == 200

    # upgraded: the new program runs, the socket never closed, nothing runs again, what is drained stays so
    drained(machine)
    started, opened = shown(machine, "MainPID"), shown(machine, "ActiveEnterTimestampMonotonic", "evenkeel.socket")
    machine.run("dpkg -i /root/new.deb 2>&1", timeout=60)
    machine.wait_until(lambda: shown(machine, "MainPID") not in ("0", started), 10, "the service after the upgrade")
    machine.wait_until(lambda: told(machine, "drain")[1].startswith("drained"), 10, "the new daemon's word")
    assert shown(machine, "ActiveEnterTimestampMonotonic", "evenkeel.socket") == opened
    assert ran(machine) == ["package", "drain"] and web_is(machine, "inactive")

    # a service that was disabled stays so through an upgrade, and the machine drained
    machine.run("systemctl disable --now evenkeel.socket evenkeel.service && dpkg -i /root/old.deb 2>&1", timeout=60)
    assert active(machine) == ["inactive", "inactive"]
    assert ran(machine) == ["package", "drain"] and web_is(machine, "inactive")
    machine.run("systemctl enable --now evenkeel.socket evenkeel.service")

    # removed: first it restores; the settings stay
    machine.run("dpkg --remove evenkeel 2>&1", timeout=90)
    assert web_is(machine, "active") and ran(machine) == ["package", "drain", "restore"]
    assert active(machine) == ["inactive", "inactive"]
    assert machine.exists("/etc/evenkeel/evenkeel.json")

    # installed again: the script is not run again; after a boot it is all there
    machine.run("dpkg -i /root/old.deb 2>&1", timeout=60)
    machine.reboot()
    assert active(machine) == ["active", "active"]
    machine.wait_until(lambda: told(machine, "customScript/script")[0] == "success", 10, "the script's result")
    assert ran(machine)[0:3].count("package") == 1 and ran(machine)[3:].count("package") == 0

    beside_the_extension(machine, "/root/old.deb", ExtensionByHand(machine, tmp_path), before)

    machine.run("dpkg --purge evenkeel 2>&1", timeout=90)
    machine.run(f"rm {RAN}")
    assert files(machine) - before == set()
    assert machine.run("systemctl is-system-running").strip() == "running"


def test_rpm_package(machine):
    """rpm itself runs the scriptlets. The system's presets are those of RHEL, where nothing is enabled that nobody has asked for."""
    old = packages.rpm()
    machine.copy_in(old, "/root/old.rpm")
    machine.copy_in(packages.rpm_of_version(old, "0.1.1"), "/root/new.rpm")
    machine.write("/usr/lib/systemd/system-preset/99-default-disable.preset", "disable *\n")
    machine.run("mkdir /usr/share/licenses")  # which is RHEL's own
    before = files(machine)

    def rpm(*arguments):
        # its database knows nothing of Debian's packages
        said = machine.run(["rpm", *arguments, "--nodeps"], timeout=90)
        assert said == "", said
        return machine.run("rpm --query --all").split()

    # installed: it is there, and does nothing before somebody says so, as the README has it
    assert rpm("--install", "/root/old.rpm") == ["evenkeel-0.1.0-1.x86_64"]
    assert active(machine) == ["inactive", "inactive"]
    configure(machine, SETTINGS)
    machine.run("systemctl enable --now evenkeel.socket evenkeel.service")
    machine.wait_until(f"test -s {RAN}", 20, "the script of the configuration")

    # upgraded: the new program runs, the socket never closed, nothing runs again, what is drained stays so
    drained(machine)
    started, opened = shown(machine, "MainPID"), shown(machine, "ActiveEnterTimestampMonotonic", "evenkeel.socket")
    assert rpm("--upgrade", "/root/new.rpm") == ["evenkeel-0.1.1-1.x86_64"]
    machine.wait_until(lambda: shown(machine, "MainPID") not in ("0", started), 10, "the service after the upgrade")
    machine.wait_until(lambda: told(machine, "drain")[1].startswith("drained"), 10, "the new daemon's word")
    assert shown(machine, "ActiveEnterTimestampMonotonic", "evenkeel.socket") == opened
    assert machine.run("systemctl is-enabled evenkeel.socket evenkeel.service").split() == ["enabled"] * 2
    assert ran(machine) == ["package", "drain"] and web_is(machine, "inactive")

    # erased: first it restores; the settings stay, and nothing is enabled
    assert rpm("--erase", "evenkeel") == []
    assert web_is(machine, "active") and ran(machine) == ["package", "drain", "restore"]
    assert active(machine) == ["inactive", "inactive"]
    left = files(machine) - before - {RAN}
    kept = ("/etc/evenkeel", "/var/lib/evenkeel")
    assert "/etc/evenkeel/evenkeel.json" in left and not [path for path in left if not path.startswith(kept)], left
    assert machine.run("systemctl is-system-running").strip() == "running"


def test_vm_application(machine):
    directory = "/var/lib/waagent/Microsoft.CPlat.Core.VMApplicationManagerLinux/evenkeel/1.0.0"
    for version in (OLD, NEW):
        machine.copy_in(packages.vm_application(version), f"{directory}/{version}.sh")
    before = files(machine)

    def action(verb, version):
        """What Azure runs: the first line of its output is all that people see there."""
        return machine.run(f"cd {directory} && cp {version}.sh evenkeel.sh && sh ./evenkeel.sh {verb} 2>&1; echo $?", timeout=90).splitlines()

    configure(machine, SETTINGS)
    machine.run(f"mv /etc/evenkeel/evenkeel.json {directory}/settings; rmdir /etc/evenkeel")
    machine.write(f"{directory}/evenkeel-config", '{"drian": {}}')
    said, status = action("install", OLD)
    assert status == "3" and "drian: unknown section" in said
    assert files(machine) - before == set(), "an invalid configuration changes nothing"

    machine.run(f"cp {directory}/settings {directory}/evenkeel-config")
    assert action("install", OLD) == [f"EvenKeel {OLD}: installed and running", "0"]
    machine.wait_until(f"test -s {RAN}", 20, "the script of the configuration")
    assert daemon_program(machine) == program(OLD)

    assert action("update", NEW) == [f"EvenKeel {NEW}: installed and running", "0"]
    machine.wait_until(lambda: daemon_program(machine) == program(NEW), 10, "the new daemon")
    machine.reboot()
    machine.run("systemctl start web")
    assert active(machine) == ["active", "active"]
    drained(machine)

    assert action("remove", NEW) == [f"EvenKeel {NEW}: removed", "0"]
    assert web_is(machine, "active") and ran(machine) == ["package", "drain", "restore"]
    machine.run(f"rm {RAN}")
    assert files(machine) - before == set()
