"""The distribution's package and the VM extension on one machine: one of them owns the service, status names both, and neither
takes the service away with it that is the other's."""

import json
import shutil
import signal
import subprocess

import pytest
from configured import Configured
from vm import BINARY, script, wait_until

UNIT = "etc/systemd/system/evenkeel.service"
PACKAGES = "usr/lib/systemd/system/evenkeel.service"
# what the extension has put on the machine, beside the files of the package
ITS_OWN = (UNIT, "etc/systemd/system/evenkeel.socket", "usr/local/bin/evenkeel", "usr/local/libexec/evenkeel",
           *(f"var/lib/evenkeel/state/{name}.json" for name in ("owner", "goal", "in-force", "upgrade")))
FAST, DYING = (BINARY.parents[2] / f"tests/lib{name}.so" for name in ("clock_fast", "die_at"))
preloaded = pytest.mark.skipif(not FAST.exists(), reason="a sanitizer wants to be the first library")


@pytest.fixture
def vm(tmp_path, platform):
    """A machine with the package and its settings, the agent's directory for an extension that is not installed yet."""
    with Configured(tmp_path, platform) as vm:
        unit = vm.root / PACKAGES
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
    vm.enable(0, {"drain": {"steps": [{"type": "run", "command": ["true"]}]}})
    assert vm.settled()["status"] == "success"
    wait_until("the drain to watch", lambda: vm.component("drain")[0] == "success", 20)
    assert (vm.root / "ran").read_text() == "file\n", "what the files asked for is not done again for the extension's sake"
    return vm


def left(vm):
    return [name for name in ITS_OWN if (vm.root / name).exists() or (vm.root / name).is_symlink()]


def taken_over(vm):
    """The package's service finds nothing of the extension, and all of its own."""
    assert left(vm) == []
    vm.start()
    assert owners(vm)[0] == "package" and vm.status()["sequence"] == ""
    assert settled(vm, "first") == "success"
    assert vm.component("drain") == (None, "")
    assert (vm.root / "ran").read_text() == "file\n", "what the files asked for is known to be done"


def serve_until_it_leaves(vm):
    """Half an hour of whichever service a manager would start now; its end."""
    binary = vm.root / f"usr/local/libexec/evenkeel/{vm.version}/bin/evenkeel"
    if not (vm.root / UNIT).exists():
        binary = vm.binary
    daemon = vm.start_daemon(binary, wait=False, LD_PRELOAD=str(FAST), EK_CLOCK_RATE="10000")
    vm._daemon = None
    assert daemon.wait(60) == 0


def killed_at(vm, verb, step):
    """Whether the command was killed before its so-manieth change."""
    done = vm.command(verb, exit_code=None, LD_PRELOAD=str(DYING), EK_DIE_AT=str(step))
    assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), done
    return done.returncode != 0


def vanish(vm):
    """The agent drops it without a word."""
    for folder in (vm.root / "var/lib/waagent").glob("EvenKeel.*"):
        shutil.rmtree(folder)


def save(vm, saved):
    shutil.copytree(vm.root, saved, symlinks=True, ignore=shutil.ignore_patterns("api.sock"))


def put_back(vm, saved):
    shutil.rmtree(vm.root)
    shutil.copytree(saved, vm.root, symlinks=True)


def test_status_names_both(vm):
    vm.start()
    assert owners(vm) == ("package", "", "extension")  # unpacked, not installed
    assert "service of the package; also installed: extension" in ask(vm, "status")
    vm.stop_daemon()
    vm.command("install")
    vm.start_daemon()
    assert owners(vm) == ("extension", vm.version, "package")
    assert "service of the extension; also installed: package" in ask(vm, "status")
    (vm.root / PACKAGES).unlink()
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
    vm._daemon = None  # it has ended: it was asked to
    taken_over(vm)


@preloaded
def test_the_extension_vanishes_and_the_package_takes_over(vm):
    with_extension(vm)
    vm.stop_daemon()
    asked = vm.run("service", "leave")
    assert asked.returncode == 1 and "not one that a vanished extension has left behind" in asked.stderr
    vanish(vm)
    serve_until_it_leaves(vm)
    assert "the package's service takes over" in vm.log_text()
    taken_over(vm)


@preloaded
def test_the_package_leaves_then_the_extension_vanishes(vm):
    with_extension(vm)
    vm.stop_daemon()
    (vm.root / PACKAGES).unlink()
    vanish(vm)
    there = left(vm)
    serve_until_it_leaves(vm)
    assert "the service stops and disables itself" in vm.log_text() and left(vm) == there
    # by hand, what the agent has left out
    assert vm.run("service", "leave").returncode == 0
    assert left(vm) == [] and not (vm.root / "var/lib/evenkeel/state").exists()


def test_settings_that_are_refused_bring_nothing_back(vm):
    """The extension's are wrong: those of the files are in force, and known to be done."""
    vm.start()
    assert settled(vm, "first") == "success"
    vm.stop_daemon()
    vm.command("install")
    vm.start_daemon()
    vm.enable(0, {"drian": {}})
    assert vm.settled()["status"] == "error"
    for _ in range(2):
        vm.restart_daemon()
        assert settled(vm, "first") == "success"
    assert (vm.root / "ran").read_text() == "file\n"


@preloaded
def test_killed_anywhere_in_a_handover(vm, tmp_path):
    """The extension's uninstall dies; the agent deletes it all the same. Whichever service goes on finishes it."""
    with_extension(vm)
    vm.command("disable")
    vm.stop_daemon()
    save(vm, tmp_path / "saved")
    step, seen = 1, set()
    while killed_at(vm, "uninstall", step):
        seen.add(tuple(left(vm)))
        vanish(vm)
        serve_until_it_leaves(vm)
        assert left(vm) == [], step
        put_back(vm, tmp_path / "saved")
        step += 1
    assert left(vm) == [] and len(seen) > 5
    taken_over(vm)


@preloaded
def test_killed_anywhere_in_an_installation(vm, tmp_path):
    """The extension's install dies: the agent runs it once more, or drops the extension."""
    vm.start()
    assert settled(vm, "first") == "success"
    vm.stop_daemon()
    save(vm, tmp_path / "saved")
    step, seen = 1, set()
    while killed_at(vm, "install", step):
        seen.add(tuple(left(vm)))
        if step % 2:
            vm.command("install")
            assert (vm.root / UNIT).exists() and (vm.root / "usr/local/bin/evenkeel").is_symlink(), step
        vanish(vm)
        if left(vm):
            serve_until_it_leaves(vm)
        assert left(vm) == [], step
        put_back(vm, tmp_path / "saved")
        step += 1
    assert len(seen) > 4
    vm.start_daemon()
    assert owners(vm) == ("extension", vm.version, "package")


def test_an_installation_that_fails_owns_nothing(vm):
    (vm.root / "usr/local").mkdir(parents=True)
    (vm.root / "usr/local/bin").write_text("no directory")
    assert "usr/local/bin" in vm.command("install", exit_code=1).stderr
    assert not (vm.root / "var/lib/evenkeel/state/owner.json").exists() and not (vm.root / UNIT).exists()


def test_a_link_of_others_stays(vm):
    with_extension(vm)
    link = vm.root / "usr/local/bin/evenkeel"
    link.unlink()
    link.symlink_to("/usr/bin/evenkeel")
    vm.command("uninstall")
    vm._daemon = None
    assert left(vm) == ["usr/local/bin/evenkeel"] and link.is_symlink()


def test_an_image_has_the_packages_service(vm):
    with_extension(vm)
    vm.stop_daemon()
    asked = vm.run("generalize", "--yes")
    assert asked.returncode == 0, asked
    assert left(vm) == [] and list((vm.root / "var/lib/evenkeel/state").iterdir()) == []
    assert (vm.root / "etc/evenkeel/evenkeel.json").exists() and (vm.root / PACKAGES).exists()
    vanish(vm)  # waagent -deprovision
    vm.start()
    assert owners(vm) == ("package", "", "")


def test_a_later_versions_record_is_nobodys_to_end(vm):
    with_extension(vm)
    record = vm.root / "var/lib/evenkeel/state/owner.json"
    record.write_text(record.read_text().replace('"format":1', '"format":99'))
    assert '"format":99' in record.read_text()
    assert ask(vm, "service", "retire") == "evenkeel: the service belongs to a later version, and goes on\n"
    for verb in ("remove", "leave"):
        assert vm.run("service", verb).returncode == 1
    assert vm.status()["sequence"] == "0" and (vm.root / UNIT).exists()


def test_without_the_package_nothing_stays(vm):
    with_extension(vm)
    (vm.root / PACKAGES).unlink()
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
