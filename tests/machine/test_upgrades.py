"""Upgrades and downgrades under the real Azure agent at the instants that hurt: nothing runs twice or is lost, who asks the
listener is never refused, and the status is right at once.

The tables are in upgrading.py. With EK_UPGRADES=all every case is tried (`scripts/test --upgrades`), else a few that cover
them; EK_UPGRADES_RESULTS names a file that gets a line of JSON for each.
"""

import contextlib
import json
import os

import pytest

import packages
import upgrading
from asking import asked
from product import NAME, NEW, OLD, RAN, WEB_UNIT, acknowledgements, daemon_program, draining, program, ran, script, told, web_is

WHOLE = os.environ.get("EK_UPGRADES") == "all"


class Benches:
    """The machine of a case: the last one's, unless that has failed."""

    def __init__(self):
        self.stack = self.bench = None

    def of(self, version):
        if self.bench is None:
            self.close()
            self.stack = contextlib.ExitStack()
            self.bench = upgrading.Bench(self.stack, version)
        return self.bench

    def close(self):
        if self.stack:
            self.stack.close()


@pytest.fixture(scope="module")
def benches(machines_can_run):
    with contextlib.closing(Benches()) as benches:
        yield benches


def name(case):
    return "-".join(filter(None, case)).replace(" ", "_")


@pytest.mark.parametrize("case", upgrading.ALL if WHOLE else upgrading.COVERING, ids=name)
def test_case(benches, machines_in_report, case):
    bench = benches.of(upgrading.DIRECTIONS[case.direction][0])
    machines_in_report.append(bench.machine)
    try:
        result = bench.play(case)
    except BaseException as error:
        benches.bench = None
        note(case, {"failed": str(error)})
        raise
    note(case, result)


def note(case, result):
    if "EK_UPGRADES_RESULTS" in os.environ:
        with open(os.environ["EK_UPGRADES_RESULTS"], "a") as file:
            print(json.dumps({"case": name(case), **result}), file=file)


@pytest.fixture
def extension(extension):
    """… that runs web.service, with the platform's events under the test's hand."""
    machine = extension.machine
    machine.platform.set_event_timing(auto_start=False)
    machine.write("/etc/systemd/system/web.service", WEB_UNIT)
    machine.run("systemctl daemon-reload && systemctl start web")
    return extension


def broken(extension, version, verb, says="drained"):
    """Goes to a version that fails in this command, until the platform has been told so, twice: the next goal state tries again."""
    machine = extension.machine
    machine.platform.publish_extension(NAME, version, str(packages.broken(version, verb, NEW)))
    extension.version = version
    for _ in range(2 if WHOLE else 1):
        extension.goal()
        machine.platform.wait_for_status(
            NAME, lambda entry: entry and entry["handlerVersion"] == version and entry["status"] == "NotReady", 60, extension.incarnation)
    machine.wait_until(lambda: told(machine, "drain")[1].startswith(says), 20, "a daemon that knows where it is")


def after_update(extension):
    """The old version is there and disabled: the way back is an enable of it."""
    broken(extension, "0.2.1", "update")
    assert daemon_program(extension.machine) == program(OLD)
    back(extension)


def after_install(extension):
    """The old version has gone, and its daemon goes on: the way back is a first installation for the agent, and is none for us."""
    broken(extension, "0.2.2", "install")
    assert daemon_program(extension.machine) == program(OLD)
    back(extension)


def on_and_on(extension):
    """The next version after one that could not be installed, which fails, too: back from there is a downgrade."""
    broken(extension, "0.2.3", "install")
    broken(extension, "0.2.4", "enable")
    extension.machine.wait_until(lambda: daemon_program(extension.machine) == program(NEW), 20, "the new daemon")
    back(extension)


def back(extension):
    extension.goal(version=OLD)
    extension.succeeded(60)
    extension.component("drain", "drained for Reboot")
    extension.machine.wait_until(lambda: daemon_program(extension.machine) == program(OLD), 20, "the old daemon")


@pytest.mark.parametrize("ways", [(after_update, on_and_on), (after_install,)] if WHOLE else [(after_update, on_and_on)],
                         ids=lambda ways: "-".join(way.__name__ for way in ways))
def test_versions_that_fail(extension, ways):
    """Whichever command of the new version fails: one of the two goes on, and the way back finds everything as it was."""
    machine, platform = extension.machine, extension.machine.platform
    extension.settings({**draining(), **script(f"echo once >>{RAN}")})
    extension.succeeded()
    event = platform.add_event("Reboot", not_before_in_seconds=900)
    platform.wait_for_acknowledgement(event, 20)
    with asked(machine, ready=(503,)):
        for way in ways:
            way(extension)
            assert ran(machine) == ["once", "drain"] and acknowledgements(machine, event) == 1 and web_is(machine, "inactive")
    platform.remove_event(event)
    machine.wait_until(lambda: ran(machine) == ["once", "drain", "restore"] and web_is(machine, "active"), 20, "the restore")


@pytest.mark.skipif(not WHOLE, reason="EK_UPGRADES is not all")
def test_removed_after_an_install_that_failed(extension):
    """The agent deletes what was not installed without a command; added again it is another installation, whose scripts are due."""
    machine = extension.machine
    extension.settings({**draining(), **script(f"echo once >>{RAN}")})
    extension.succeeded()
    with asked(machine, ready=(200,)):
        broken(extension, "0.2.5", "install", "watching")
        extension.uninstalled()
        assert daemon_program(machine) == program(OLD) and ran(machine) == ["once"]
        extension.goal(version=OLD)
        extension.succeeded(60)
    assert ran(machine) == ["once"] * 2 and daemon_program(machine) == program(OLD)
