"""Machines for tests: made on demand, ended with the test, described in the report when it fails."""

import contextlib
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import image  # noqa: E402
import machine  # noqa: E402

MACHINES = pytest.StashKey[list]()


@pytest.fixture(scope="session")
def machines_can_run():
    """Skips where no machine can be booted; $EK_MACHINE_REQUIRED, set in CI, makes that a failure."""
    reason = machine.unavailable()
    if reason and os.environ.get("EK_MACHINE_REQUIRED"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    image.ensure()


@pytest.fixture
def machines_in_report(request):
    """A list of machines to describe when the test fails."""
    return request.node.stash.setdefault(MACHINES, [])


@pytest.fixture
def new_machine(machines_can_run, machines_in_report):
    """Makes machines that end with the test: new_machine(agent=True)."""
    made = machines_in_report
    with contextlib.ExitStack() as stack:
        def make(**options):
            one = stack.enter_context(machine.Machine(**options))
            made.append(one)
            return one
        yield make


@pytest.fixture
def machine_with_program(new_machine):
    """A booted machine with a platform, our units and the program of this build, `machine.program`; not started."""
    build = pathlib.Path(os.environ["EK_TEST_BINARY_DIR"])
    one = new_machine()
    one.boot()
    one.start_platform()
    unit = (build / "units/evenkeel.service").read_text()
    [path] = [line.partition("=")[2].split()[0] for line in unit.splitlines() if line.startswith("ExecStart=")]
    one.copy_in(build / "agent/app/evenkeel", path)
    for name in ("evenkeel.service", "evenkeel.socket"):
        one.copy_in(build / "units" / name, f"/etc/systemd/system/{name}")
    for name in ("evenkeel-jobs.slice", "evenkeel-drained.target"):
        one.copy_in(pathlib.Path(__file__).parents[2] / "agent/app/units" / name, f"/etc/systemd/system/{name}")
    one.run("systemctl daemon-reload && systemctl start dbus systemd-logind")
    one.program = path
    return one


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        for one in item.stash.get(MACHINES, []):
            try:
                text = one.report()
            except Exception as error:
                text = f"no report: {error}"
            report.sections.append((f"machine {one.name}", text))
