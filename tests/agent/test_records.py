"""Records of a later version: whichever of them it is, this one leaves it as it is, says so, does the rest, and loses nothing."""

import json
import struct

import pytest
from applying import ApplyingVM
from vm import VM, free_port, http_get, me, wait_until
from stage import VAULT

SLOT = struct.Struct("<8sQQIIQ")


def fnv(*parts):
    value = 0xcbf29ce484222325
    for byte in b"".join(parts):
        value = (value ^ byte) * 0x100000001b3 % 2**64
    return value


def later(data):
    """The same record in the format after this one."""
    if data[:1] == b"{":
        document = json.loads(data)
        return json.dumps({**document, "format": document["format"] + 1, "since": "later"}).encode()
    magic, _, size, _, _, _ = SLOT.unpack_from(data)
    assert magic == b"EKrecord"
    changed = bytearray(data)
    for offset in (0, size):
        _, generation, _, version, length, _ = SLOT.unpack_from(data, offset)
        content = data[offset + SLOT.size:offset + SLOT.size + length]
        head = SLOT.pack(magic, generation, size, version + 1, length, 0)[:-8]
        changed[offset:offset + SLOT.size] = head + struct.pack("<Q", fnv(head, content))
    return bytes(changed)


@pytest.fixture(scope="module")
def configured(tmp_path_factory, platform):
    """One of everything: a script that ran, a certificate, a drain, user data."""
    with VM(tmp_path_factory.mktemp("records"), platform) as vm:
        certificate = platform.make_certificate("shop.example", key="ec")
        platform.put_secret(VAULT.partition(".")[0], "web", certificate["pem"], content_type="application/x-pem-file")
        platform.set_user_data(b"#!/bin/sh\n")
        vm.port, vm.number = free_port(), 0
        vm.ran = vm.root / "ran"
        vm.public = {"health": {"listen": f"127.0.0.1:{vm.port}"}, "drain": {}, "userData": {}, "log": {"console": False},
                     "network": {"caFile": str(platform.addresses["caFile"])},
                     "keyRefresh": {"certificates": [{"name": "web", "url": f"https://{VAULT}/secrets/web"}]},
                     "customScript": {"scripts": [{"name": "deploy", "runAs": me()[0], "commandToExecute": f"echo ran >>{vm.ran}"}]}}
        vm.command("install")
        vm.start_daemon()
        vm.enable(0, vm.public)
        assert vm.settled()["status"] == "success", vm.deployment()
        wait_until("user data to be seen", lambda: "revision" in vm.says("userData"), 10)
        yield vm


# record, and who says that it is of a later version
RECORDS = [("custom-script", "customScript"), ("drain", "drain"), ("user-data.record", "userData"), ("user-data.memory", "userData"),
           ("deployment", "settings"),
           ("key-refresh/web.json", "keyRefresh"), ("key-refresh.goal", "keyRefresh")]


@pytest.mark.parametrize("name, component", RECORDS)
def test_it_stays_and_is_told(configured, name, component):
    vm = configured
    path = vm.root / "var/lib/evenkeel/state" / name
    vm.stop_daemon()
    ours = path.read_bytes()
    path.write_bytes(later(ours))
    foreign = path.read_bytes()
    vm.start_daemon()
    said = vm.substatus(component)
    assert said["status"] == "error" and "newer version of this program" in said["formattedMessage"]["message"], said
    # whoever asks the listener is answered, and the others do their work
    assert http_get(f"http://127.0.0.1:{vm.port}/ready")[0] == 200
    others = {one for _, one in RECORDS} - {component, "settings", "keyRefresh", "customScript"}
    assert all("newer version" not in vm.says(other) for other in others)
    if component in ("drain", "customScript"):
        assert vm.run("drain", "now").returncode == (1 if component == "drain" else 0)
        assert vm.run("restore").returncode == (1 if component == "drain" else 0)
    # neither the same goal state, nor a new one, nor the end of the process writes there; only scripts whose past is known run
    before = len(vm.ran.read_text().split())
    vm.command("enable", vm.number)
    vm.enable(vm.number + 1, vm.public)
    # the deployment of a number does not depend on user data
    assert vm.settled(vm.number + 1)["status"] == ("success" if component == "userData" else "error")
    known = component != "customScript"
    wait_until("the script", lambda: len(vm.ran.read_text().split()) == before + known, 10)
    vm.stop_daemon()
    assert path.read_bytes() == foreign
    # and the version that knows it goes on
    path.write_bytes(ours)
    vm.start_daemon()
    vm.number += 2
    vm.enable(vm.number, vm.public)
    assert vm.settled(vm.number)["status"] == "success"
    assert len(vm.ran.read_text().split()) == before + 2, "each number once"


def test_what_is_asked_for_now_counts(configured):
    """goal.json says what the platform wants: a later version's word is kept beside it, and while nobody has said it anew nothing
    changes."""
    vm = configured
    path = vm.root / "var/lib/evenkeel/state/goal.json"
    vm.stop_daemon()
    ours, accepted = path.read_bytes(), path.with_name("in-force.json")
    foreign = later(ours)
    for one in (path, accepted):
        one.write_bytes(later(one.read_bytes()))
    vm.start_daemon()
    assert "newer version of this program" in vm.says("settings") and vm.substatus("settings")["status"] == "error"
    assert vm.call("POST", "/v1/goal")[0] == 200
    vm.command("disable", vm.number)
    assert path.read_bytes() == foreign
    before = vm.ran.read_text()
    vm.command("enable", vm.number)
    assert vm.settled(vm.number)["status"] == "success" and vm.ran.read_text() == before
    assert path.with_name("goal.json.newer").read_bytes() == foreign and path.read_bytes() == ours == accepted.read_bytes()
    # a process that runs keeps what is in force
    path.write_bytes(foreign)
    assert vm.call("POST", "/v1/goal")[0] == 200
    assert "newer version of this program" in vm.says("settings")
    assert http_get(f"http://127.0.0.1:{vm.port}/ready")[0] == 200
    vm.command("enable", vm.number)
    assert vm.settled(vm.number)["status"] == "success"


def test_the_owner_is_not_overwritten(configured):
    """Whose sequence numbers count is in it: neither install, enable nor uninstall may guess."""
    vm = configured
    path = vm.root / "var/lib/evenkeel/state/owner.json"
    ours = path.read_bytes()
    path.write_bytes(later(ours))
    foreign = path.read_bytes()
    for verb in ("install", "enable"):
        done = vm.command(verb, vm.number, exit_code=1)
        assert done.stderr.startswith(f"evenkeel {verb}: ") and "newer version of this program" in done.stderr.split("\n")[0]
    vm.command("uninstall")
    assert path.read_bytes() == foreign and vm.status()["serving"]
    path.write_bytes(ours)
    vm.command("enable", vm.number)
    assert vm.settled(vm.number)["status"] == "success"


def test_the_mark_of_an_upgrade(configured):
    """Of a way that a later version has begun: who leaves touches nothing, and who comes back is the same installation."""
    vm = configured
    path = vm.root / "var/lib/evenkeel/state/upgrade.json"
    owner = path.with_name("owner.json").read_bytes()
    before = vm.ran.read_text()
    vm.command("disable", vm.number)
    vm.command("update", vm.number, VERSION="9.9.9", AZURE_GUEST_AGENT_UPDATING_FROM_VERSION=vm.version)
    path.write_bytes(later(path.read_bytes()))
    foreign = path.read_bytes()
    vm.command("uninstall", vm.number)
    assert path.read_bytes() == foreign and path.with_name("owner.json").read_bytes() == owner
    vm.command("install", vm.number)
    assert path.read_bytes() == foreign and path.with_name("owner.json").read_bytes() == owner
    vm.command("enable", vm.number)
    assert not path.exists() and vm.settled(vm.number)["status"] == "success" and vm.ran.read_text() == before


def test_a_job_that_runs(configured):
    """Its runner is of the later version, too: it goes on to its end, which is told, and nothing runs twice."""
    vm = configured
    vm.number += 1
    go, before = vm.root / "go", len(vm.ran.read_text().split())
    line = f"echo ran >>{vm.ran}; until test -e {go}; do sleep 0.05; done; echo ended >>{vm.ran}"
    vm.enable(vm.number, {**vm.public, "customScript": {"scripts": [{"name": "deploy", "runAs": me()[0], "commandToExecute": line}]}})
    wait_until("the script", lambda: len(vm.ran.read_text().split()) == before + 1, 10)
    vm.stop_daemon()
    [path] = [job for job in vm.root.glob("var/lib/evenkeel/jobs/*/job.json") if not job.with_name("result.json").exists()]
    path.write_bytes(later(path.read_bytes()))
    foreign = path.read_bytes()
    vm.start_daemon()
    vm.command("enable", vm.number)
    assert vm.content(vm.number)["status"] == "transitioning" and path.read_bytes() == foreign
    go.touch()
    assert vm.settled(vm.number)["status"] == "success"
    assert vm.ran.read_text().split()[before:] == ["ran", "ended"]


def test_what_is_only_kept_over_a_restart(configured):
    """A pause, and notices that nobody has taken yet: without them, and they stay."""
    vm = configured
    vm.number += 1
    vm.enable(vm.number, {**vm.public, "notify": {"webhooks": [
        {"name": "oncall", "url": f"http://127.0.0.1:{free_port()}/", "on": ["drain", "restore"]}]}})
    assert vm.settled(vm.number)["status"] == "success"
    assert vm.run("pause", "--for", "30min", "a test").returncode == 0
    assert vm.run("drain", "now").returncode == 0
    paths = [vm.root / "run/evenkeel" / name for name in ("pause.json", "notices.json")]
    wait_until("a notice that waits", lambda: b"drain" in paths[1].read_bytes(), 10)
    vm.stop_daemon()
    foreign = {path: later(path.read_bytes()) for path in paths}
    for path, data in foreign.items():
        path.write_bytes(data)
    vm.start_daemon()
    log = vm.log_text()
    assert "starting without a pause" in log and "not kept over a restart" in log and log.count("newer version of this program") >= 2
    assert not vm.substatus("pause")
    assert vm.run("restore").returncode == 0
    wait_until("the restore", lambda: vm.says("drain").startswith("watching"), 10)
    vm.stop_daemon()
    assert {path: path.read_bytes() for path in paths} == foreign
    vm.start_daemon()


def test_settings_that_user_data_has_brought(tmp_path, fresh_platform):
    """They are made from the user data, whoever kept them: made anew at the first look, and what they have drained waits for it."""
    with ApplyingVM(tmp_path, fresh_platform) as vm:
        fresh_platform.set_event_timing(auto_start=False)
        steps = [{"type": "run", "user": me()[0], "command": ["sh", "-c", f"echo drain >>{vm.ran}"], "undo": ["sh", "-c", f"echo restore >>{vm.ran}"]}]
        vm.apply(user={"parts": ["settings"], "settingsSections": ["drain"]})
        vm.has_baseline()
        vm.push(b"MIME-Version: 1.0\nContent-Type: application/vnd.evenkeel+json\n\n" + json.dumps({"drain": {"steps": steps}}).encode())
        vm.wait_says("drain", "success", "watching")
        event = fresh_platform.add_event("Reboot", not_before_in_seconds=900)
        fresh_platform.wait_for_acknowledgement(event, 20)
        path = vm.root / "var/lib/evenkeel/state/user-data.settings"
        ours = path.read_bytes()
        vm.stop_daemon()
        path.write_bytes(later(ours))
        vm.start()
        vm.wait_says("drain", "success", "drained for Reboot")
        assert path.read_bytes() == ours and vm.told() == ["drain"]
        assert "newer version of this program" in vm.log_text()
        fresh_platform.remove_event(event)
        vm.wait_says("drain", "success", "watching")
        assert vm.told() == ["drain", "restore"]
