"""The doors without the Azure agent on a booted machine: the Debian package and the VM application."""

import io
import stat
import subprocess
import tarfile

import pytest

import packages
from selinux_policy import Policy
from product import (NEW, OLD, RAN, WEB_UNIT, configure, daemon_program, draining, files, program, ran, ready, script, shown, told,
                     web_is)

UNITS = ("evenkeel.service", "evenkeel.socket")
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


def test_debian_package(machine):
    old = packages.debian()
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

    machine.run("dpkg --purge evenkeel 2>&1", timeout=90)
    machine.run(f"rm {RAN}")
    assert files(machine) - before == set()
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
