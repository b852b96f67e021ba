"""The distribution's package and the VM extension on one machine: one of them owns the service, status names both, and neither
takes the service away with it that is the other's."""

import json
import subprocess

import pytest
from configured import Configured
from vm import script, wait_until

UNIT = "etc/systemd/system/evenkeel.service"


@pytest.fixture
def vm(tmp_path, platform):
    """A machine with the package and its settings, the agent's directory for an extension that is not installed yet."""
    with Configured(tmp_path, platform) as vm:
        unit = vm.root / "usr/lib/systemd/system/evenkeel.service"
        unit.parent.mkdir(parents=True)
        unit.write_text("[Service]\nExecStart=/usr/bin/evenkeel daemon\n")
        vm.configure(**script(f"echo file >>{vm.root}/ran", name="first"))
        yield vm


def ask(vm, *argv):
    done = subprocess.run([vm.binary, *argv], env=vm.environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def owners(vm):
    owner = json.loads(ask(vm, "status", "--json"))["owner"]
    return owner["kind"], owner.get("version") or "", owner.get("beside") or ""


def settled(vm, name):
    wait_until(f"{name} to end", lambda: vm.component(f"customScript/{name}")[0] in ("success", "error"), 20)
    return vm.component(f"customScript/{name}")[0]


def with_extension(vm):
    vm.start()
    assert settled(vm, "first") == "success"
    vm.stop_daemon()
    vm.command("install")
    vm.start_daemon()
    vm.enable(0, {"drain": {"steps": [{"type": "probeDown"}]}})
    return vm


def test_status_names_both(vm):
    vm.start()
    assert owners(vm) == ("package", "", "extension")  # unpacked, not installed
    assert "service of the package; also installed: extension" in ask(vm, "status")
    vm.stop_daemon()
    vm.command("install")
    vm.start_daemon()
    assert owners(vm) == ("extension", vm.version, "package")
    assert "service of the extension; also installed: package" in ask(vm, "status")
    (vm.root / "usr/lib/systemd/system/evenkeel.service").unlink()
    assert owners(vm) == ("extension", vm.version, "")
    assert "also installed" not in ask(vm, "status")


def test_the_package_leaves_and_the_extensions_service_goes_on(vm):
    with_extension(vm)
    said = ask(vm, "service", "retire")  # what the package's scripts call before its files go
    assert said == f"evenkeel: the service belongs to the extension (version {vm.version}), and goes on\n"
    assert vm.status()["sequence"] == "0" and (vm.root / UNIT).exists()


def test_the_extension_leaves_and_the_package_takes_over(vm):
    with_extension(vm)
    vm.command("disable")
    vm.command("uninstall")
    for gone in (UNIT, "usr/local/bin/evenkeel", "usr/local/libexec/evenkeel", "var/lib/evenkeel/state/owner.json",
                 "var/lib/evenkeel/state/goal.json"):
        assert not (vm.root / gone).exists(), gone
    vm._daemon = None  # it has ended: it was asked to

    vm.start()
    assert owners(vm)[0] == "package" and vm.status()["sequence"] == ""
    assert settled(vm, "first") == "success"
    assert vm.component("drain") == (None, "")
    assert (vm.root / "ran").read_text() == "file\n", "what the files asked for is known to be done"


def test_without_the_package_nothing_stays(vm):
    with_extension(vm)
    (vm.root / "usr/lib/systemd/system/evenkeel.service").unlink()
    vm.command("disable")
    vm.command("uninstall")
    vm._daemon = None
    assert not (vm.root / "var/lib/evenkeel/state").exists()


def test_the_application_keeps_from_the_packages_scripts_too(vm):
    ask(vm, "service", "install")
    assert json.loads((vm.root / "var/lib/evenkeel/state/owner.json").read_text())["kind"] == "vm-application"
    vm.start_daemon()
    assert owners(vm) == ("vm-application", vm.version, "extension, package")
    assert "belongs to the vm-application" in ask(vm, "service", "retire")
    assert vm.status()
