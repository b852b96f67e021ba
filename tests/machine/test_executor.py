"""Jobs as transient units and calls to systemd, made by probe_executor.c inside a booted machine."""

import os
import pathlib

import pytest

CHECKS = ["ends", "cannot-start", "stop", "attach", "survivors", "properties", "again", "many", "units", "reconnect"]


@pytest.fixture
def machine(new_machine):
    probe = pathlib.Path(os.environ["EK_PROBE_EXECUTOR"])
    one = new_machine()
    one.boot()
    one.copy_in(probe, "/usr/local/bin/probe_executor")
    return one


def test_by_the_bus(machine):
    assert machine.run("probe_executor", timeout=120).splitlines() == [f"ok {name}" for name in CHECKS]


def test_by_systemd_s_own_socket_when_the_bus_is_down(machine):
    machine.run("systemctl stop dbus.socket dbus.service")
    assert machine.run("probe_executor", timeout=120).splitlines() == [f"ok {name}" for name in CHECKS]
    assert machine.status("systemctl is-active --quiet dbus.service") != 0
    # One that hangs takes connections and says nothing: it is left within seconds, or our service could not start.
    machine.run("systemctl start dbus.socket dbus.service && pkill -STOP -x dbus-daemon")
    assert machine.run("probe_executor ends", timeout=20) == "ok ends\n"


def test_not_below_a_root_of_its_own(machine):
    assert machine.status("EVENKEEL_ROOT=/tmp/none probe_executor ends") == 1
    assert machine.status("EVENKEEL_ROOT=/tmp/none EVENKEEL_SYSTEMD=1 probe_executor ends") == 0
