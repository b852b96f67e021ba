"""Records of a later version: whichever of them it is, this one leaves it as it is, says so, does the rest, and loses nothing."""

import json
import struct

import pytest
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
