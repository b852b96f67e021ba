"""What a large drain costs: the daemon's memory while 20 hooks run and 50 units are stopped and started again."""

import json

from product import shown

UNITS, HOOKS = 50, 20
# Its unit allows 64 MiB in all; a drain of this size must not be what needs them.
PRIVATE_MAX_KIB, GROWTH_MAX_KIB = 8 * 1024, 1024


def number(machine, path, name):
    return int(machine.run(f"awk '$1 == \"{name}:\" {{ print $2 }}' {path}"))


def says(machine):
    status = json.loads(machine.run(f"{machine.program} status --json"))
    return [item["formattedMessage"]["message"] for item in status["status"][0]["status"].get("substatus", [])
            if item["name"] == "drain"]


def active(machine):
    return len(machine.run("systemctl list-units --plain --no-legend --state=active 'app@*.service'").splitlines())


def test_fifty_units_and_twenty_hooks(machine_with_program, capsys):
    machine = machine_with_program
    machine.write("/etc/systemd/system/app@.service", "[Service]\nExecStart=/usr/bin/sleep infinity\n")
    units = [f"app@{one}.service" for one in range(UNITS)]
    for name, word in (("drain.d", "drain"), ("restore.d", "restore")):
        for one in range(HOOKS):
            machine.write(f"/etc/evenkeel/hooks/{name}/{one:02}", f"#!/bin/sh\nsleep 0.1; echo {word} >>/var/lib/hooks\n", mode=0o755)
    machine.write("/etc/evenkeel/evenkeel.json", json.dumps({
        "log": {"console": False}, "drain": {"steps": [{"type": "hooks"}, {"type": "stopUnits", "units": units}]}}))
    machine.run(["systemctl", "start", *units])
    machine.platform.set_event_timing(auto_start=False)
    machine.run("sync")  # pages of a program that was only just copied count as dirty until they are written
    machine.run("systemctl enable --now evenkeel.socket evenkeel.service")
    machine.wait_until(lambda: says(machine) == ["watching"], 20, "the drain to watch")
    assert active(machine) == UNITS
    pid = shown(machine, "MainPID")
    private = [number(machine, f"/proc/{pid}/smaps_rollup", "Private_Dirty")]

    def look(done):
        private.append(number(machine, f"/proc/{pid}/smaps_rollup", "Private_Dirty"))
        return done()

    event = machine.platform.add_event("Reboot", not_before_in_seconds=600)
    machine.wait_until(lambda: look(machine.platform.acknowledgements), 60, "the acknowledgement")
    assert active(machine) == 0 and machine.read("/var/lib/hooks").split() == ["drain"] * HOOKS
    machine.platform.remove_event(event)
    machine.wait_until(lambda: look(lambda: says(machine) == ["watching"]), 60, "the restore")
    assert active(machine) == UNITS and machine.read("/var/lib/hooks").split() == ["drain"] * HOOKS + ["restore"] * HOOKS
    assert shown(machine, "MainPID") == pid
    resident = number(machine, f"/proc/{pid}/status", "VmHWM")
    with capsys.disabled():
        print(f"\n{UNITS} units, {HOOKS} hooks: private dirty {private[0]} KiB before, {max(private)} KiB at most of "
              f"{len(private)} looks (reach: {PRIVATE_MAX_KIB} KiB, and no more than {GROWTH_MAX_KIB} KiB for the drain); resident "
              f"{resident} KiB at most (Microsoft's sample listener, idle: 29 MB)")
    assert len(private) > 10 and max(private) < PRIVATE_MAX_KIB and max(private) - private[0] < GROWTH_MAX_KIB
