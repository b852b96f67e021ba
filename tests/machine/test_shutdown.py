"""drain.shutdown on a booted machine: logind's inhibitor, its drop-in, and a reboot that waits until the machine is drained."""

import json

DROP_IN = "/etc/systemd/logind.conf.d/50-evenkeel.conf"
SETTINGS = "/etc/evenkeel/evenkeel.json"


def configure(machine, seconds, command, **more):
    drain = {"steps": [{"type": "run", "name": "pause", "command": ["sh", "-c", command],
                        "undo": ["sh", "-c", "echo undone >>/var/lib/steps"], "timeoutInSeconds": 60}], **more}
    if seconds:
        drain["shutdown"] = {"maxDelayInSeconds": seconds}
    machine.write(SETTINGS, json.dumps({"drain": drain, "log": {"console": False}}))


def inhibitors(machine):
    """How many we hold, and how long logind lets them delay."""
    listed = machine.run("busctl --json=short call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager "
                         "ListInhibitors")
    longest = machine.run("busctl get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager "
                          "InhibitDelayMaxUSec")
    ours = [one for one in json.loads(listed)["data"][0] if one[:2] == ["shutdown", "EvenKeel"] and one[3] == "delay"]
    return len(ours), int(longest.split()[1]) // 1000000


def says(machine):
    status = json.loads(machine.run(f"{machine.program} status --json"))
    return [item["formattedMessage"]["message"] for item in status["status"][0]["status"].get("substatus", [])
            if item["name"] == "drain"]


def steps(machine):
    return machine.read("/var/lib/steps").split() if machine.exists("/var/lib/steps") else []


def test_reboot_waits_until_drained(machine_with_program):
    machine = machine_with_program
    # longer than logind's own five seconds, so that the drop-in is what makes it work
    configure(machine, 40, "echo begun >>/var/lib/steps; sleep 8; echo ended >>/var/lib/steps; sync")
    machine.run("systemctl enable --now evenkeel.socket evenkeel.service")
    machine.wait_until(lambda: inhibitors(machine) == (1, 40), 20, "the inhibitor and its delay")
    machine.wait_until(lambda: says(machine) == ["watching"], 20, "no trouble to be told")
    assert "InhibitDelayMaxSec=40" in machine.read(DROP_IN)

    # taken again by a service that is started again
    machine.run("systemctl kill --signal=KILL evenkeel.service")
    machine.wait_until(lambda: machine.status("systemctl is-active --quiet evenkeel.service") == 0 and inhibitors(machine) == (1, 40),
                       20, "the inhibitor after a crash")
    machine.wait_until(lambda: says(machine) == ["watching"], 20, "the service after a crash")

    machine.reboot()
    assert steps(machine)[:2] == ["begun", "ended"], "it did not wait for the drain"
    machine.wait_until(lambda: steps(machine) == ["begun", "ended", "undone"], 90, "the restore after the boot")
    machine.wait_until(lambda: inhibitors(machine) == (1, 40), 20, "the inhibitor after the boot")

    # a drain that takes too long is cut off, and the reboot goes on
    configure(machine, 6, "echo slow >>/var/lib/steps; sleep 100; echo never >>/var/lib/steps")
    machine.run("systemctl reload evenkeel.service")
    machine.wait_until(lambda: inhibitors(machine) == (1, 6), 20, "the shorter delay")
    machine.reboot(timeout=30)
    assert steps(machine)[3:4] == ["slow"] and "never" not in steps(machine)


def test_section_removed(machine_with_program):
    machine = machine_with_program
    configure(machine, 0, "true")
    machine.run("systemctl enable --now evenkeel.socket evenkeel.service")
    machine.wait_until(lambda: says(machine) == ["watching"], 20, "the service")
    assert inhibitors(machine)[0] == 0 and not machine.exists(DROP_IN)
    before = inhibitors(machine)[1]

    # what logind allows anyway needs no drop-in
    configure(machine, 5, "true")
    machine.run("systemctl reload evenkeel.service")
    machine.wait_until(lambda: inhibitors(machine) == (1, before), 20, "the inhibitor")
    assert not machine.exists(DROP_IN)

    configure(machine, 90, "true")
    machine.run("systemctl reload evenkeel.service")
    machine.wait_until(lambda: inhibitors(machine) == (1, 90), 20, "the longer delay")
    configure(machine, 0, "true")
    machine.run("systemctl reload evenkeel.service")
    machine.wait_until(lambda: inhibitors(machine) == (0, before), 20, "logind to be as it was")
    assert not machine.exists("/etc/systemd/logind.conf.d")

    # and what removes the package takes it along, the service running or not
    configure(machine, 90, "true")
    machine.run("systemctl reload evenkeel.service")
    machine.wait_until(lambda: inhibitors(machine) == (1, 90), 20, "the longer delay again")
    machine.run("systemctl stop evenkeel.socket evenkeel.service")
    machine.run(f"{machine.program} service retire")
    assert not machine.exists("/etc/systemd/logind.conf.d")
    machine.wait_until(lambda: inhibitors(machine) == (0, before), 20, "logind to be as it was, once more")
