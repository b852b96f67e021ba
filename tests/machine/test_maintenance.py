"""Maintenance of a booted machine: drained, acknowledged, rebooted, restored; whatever else goes wrong meanwhile."""

import socket

import pytest

import packages
from product import (NEW, OLD, WEB_UNIT, Extension, acknowledgements, configure, daemon_program, draining, program, ran,
                     ready, shown, told, web_is)

PROBES = "168.63.129.16"
STUBBORN_UNIT = """\
[Service]
ExecStart=/bin/sh -c 'trap "" TERM; exec sleep infinity'
"""


@pytest.fixture
def started(new_machine):
    """Makes a machine that runs web.service, with the platform's events under the test's hand."""
    def make(**options):
        machine = new_machine(**options)
        machine.start_platform()
        machine.platform.set_event_timing(auto_start=False)
        machine.write("/etc/systemd/system/web.service", WEB_UNIT)
        machine.boot()
        machine.run("systemctl start web")
        return machine
    return make


def with_files(machine, settings):
    """Installs the program as a VM application does, with the settings in a file."""
    machine.copy_in(packages.vm_application(OLD), "/opt/evenkeel/evenkeel.sh")
    configure(machine, settings)
    machine.run("sh /opt/evenkeel/evenkeel.sh install", timeout=60)
    machine.wait_until(lambda: told(machine, "drain")[1].startswith("watching"), 10, "the drain to watch")


def test_a_reboot_is_prepared_for_and_recovered_from(started):
    """Through the extension, with an upgrade while the machine is drained."""
    machine = started(agent=True)
    platform = machine.platform
    extension = Extension(machine)
    extension.settings(draining())
    extension.succeeded()
    extension.component("drain", "watching")
    assert ready(machine) == 200

    event = platform.add_event("Reboot", not_before_in_seconds=600, duration_in_seconds=60)
    platform.wait_for_acknowledgement(event, 15)
    assert ready(machine) == 503
    assert web_is(machine, "inactive")
    assert shown(machine, "ActiveState", "evenkeel-drained.target") == "active"
    assert ran(machine) == ["drain"]
    assert f"drained for Reboot {event}" in extension.component("drain", ", acknowledged")

    extension.goal(version=NEW)
    assert extension.succeeded()
    machine.wait_until(lambda: daemon_program(machine) == program(NEW), 10, "the new daemon")
    extension.component("drain", f"drained for Reboot {event}")
    assert ready(machine) == 503 and web_is(machine, "inactive") and ran(machine) == ["drain"]

    platform.start_event(event)
    machine.reboot()
    machine.wait_until(lambda: ready(machine) == 200, 20, "the probe to go up")
    assert web_is(machine, "active"), "the probe goes up last"
    assert ran(machine) == ["drain", "restore"]
    assert shown(machine, "ActiveState", "evenkeel-drained.target") == "inactive"
    platform.remove_event(event)
    extension.goal()
    extension.component("drain", "watching")
    assert acknowledgements(machine, event) == 1
    for milestone in ("drained", "acknowledged"):
        assert milestone in machine.console()
    entries = machine.journal("-o", "cat", f"EVENKEEL_EVENT_ID={event}")
    assert f"Reboot {event}: acknowledged" in entries

    # removed while it is drained: it is restored first
    second = platform.add_event("Redeploy", not_before_in_seconds=600)
    platform.wait_for_acknowledgement(second, 15)
    assert web_is(machine, "inactive")
    extension.uninstalled(60)
    assert web_is(machine, "active")
    assert ran(machine) == ["drain", "restore", "drain", "restore"]
    assert shown(machine, "LoadState", "evenkeel-drained.target") == "not-found"


def test_a_power_cut_and_a_full_disk_during_a_drain(started):
    machine = started(disk_size="64m")
    platform = machine.platform
    with_files(machine, draining({"type": "run", "name": "slow", "command": ["sh", "-c", "until test -e /var/lib/go-on; do sleep 0.1; done"],
                                  "timeoutInSeconds": 300}))

    event = platform.add_event("Reboot", not_before_in_seconds=600)
    machine.wait_until(lambda: ran(machine) == ["drain"], 15, "the drain's begin")
    machine.kill_hard()
    machine.boot()
    assert web_is(machine, "inactive"), "nobody starts it but its snapshot"
    machine.wait_until(lambda: ran(machine) == ["drain", "drain"], 15, "the drain to begin anew")
    assert acknowledgements(machine, event) == 0 and ready(machine) == 503
    machine.write("/var/lib/go-on", "")
    platform.wait_for_acknowledgement(event, 15)
    platform.remove_event(event)
    machine.wait_until(lambda: told(machine, "drain")[1].startswith("watching"), 15, "the restore")
    assert ready(machine) == 200 and ran(machine)[2:] == ["restore"]

    # a full disk
    machine.run("systemctl start web; mkfifo /run/full; : >/run/ran; mount --bind /run/ran /var/lib/ran")
    machine.run("dd if=/dev/zero of=/var/full bs=64k 2>/dev/null; dd if=/dev/zero of=/var/full2 bs=1 2>/dev/null; ! echo x >/var/full3", timeout=60)
    event = platform.add_event("Reboot", not_before_in_seconds=600)
    platform.wait_for_acknowledgement(event, 20)
    assert web_is(machine, "inactive") and ready(machine) == 503
    assert machine.status("echo x >/var/full4") != 0, "the disk is still full"
    machine.run("systemctl kill --signal=KILL --kill-whom=main evenkeel")
    machine.wait_until(lambda: told(machine, "drain")[1].startswith("drained"), 15, "the daemon to know what is drained")
    platform.remove_event(event)
    machine.wait_until(lambda: ready(machine) == 200, 20, "the probe to go up")
    assert web_is(machine, "active")
    assert acknowledgements(machine, event) == 1 and ran(machine) == ["drain", "restore"]


def test_probes_are_refused_and_connections_waited_for(started):
    """As the service may: it has no capabilities, the job that changes the firewall has one."""
    def connect(source="127.0.0.1"):
        return machine.inside(socket.create_connection, ("127.0.0.1", 8080), 5, (source, 0))

    machine = started()
    platform = machine.platform
    who = ["sh", "-c", "test $(id -un) = nobody"]
    settings = draining({"type": "refuseProbe", "ports": [8080]}, {"type": "waitForConnections", "ports": [8080]},
                        {"type": "run", "user": "nobody", "command": who, "undo": who})
    machine.run("mkdir -p /var/lib/prometheus/node-exporter")
    settings["drain"]["steps"][-1]["units"].insert(0, "stubborn.service")
    machine.write("/etc/systemd/system/stubborn.service", STUBBORN_UNIT)
    settings["health"]["metricsFile"] = "/var/lib/prometheus/node-exporter/evenkeel.prom"
    with_files(machine, settings)
    assert "evenkeel_serving 1\n" in machine.read("/var/lib/prometheus/node-exporter/evenkeel.prom")
    with machine.inside(socket.create_server, ("0.0.0.0", 8080)), connect() as client, connect(PROBES) as probe:
        event = platform.add_event("Reboot", not_before_in_seconds=600)
        machine.wait_until(lambda: "table inet evenkeel" in machine.run("nft list tables"), 15, "the table")
        with pytest.raises(ConnectionRefusedError):
            connect(PROBES)
        connect().close()
        probe.sendall(b"what is connected stays connected")
        machine.wait_until(lambda: "step waitForConnections" in machine.journal("-o", "cat", "-t", "evenkeel"), 10, "the wait")
        assert acknowledgements(machine, event) == 0 and web_is(machine, "active")
        client.close()
        platform.wait_for_acknowledgement(event, 15)
        assert web_is(machine, "inactive")
        assert told(machine, "drain")[0] == "success", "every step went well, also as another user"
        platform.remove_event(event)
        machine.wait_until(lambda: told(machine, "drain") == ("success", "watching"), 15, "the restore")
        assert machine.run("nft list tables") == ""
        connect(PROBES).close()

    # a unit that does not stop leaves those after it their time
    machine.run("systemctl start stubborn")
    event = platform.add_event("Preempt", not_before_in_seconds=12)
    machine.wait_until(lambda: told(machine, "drain")[1].startswith("drained"), 25, "the drain")
    assert web_is(machine, "inactive")
    assert "stubborn.service did not stop in time and was killed" in told(machine, "drain")[1]
    platform.remove_event(event)
    machine.wait_until(lambda: told(machine, "drain") == ("success", "watching"), 15, "the restore")
    assert web_is(machine, "active") and shown(machine, "ActiveState", "stubborn.service") == "active"
