"""Machines for tests: made on demand, ended with the test, described in the report when it fails."""

import contextlib
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

import image  # noqa: E402
import machine  # noqa: E402
import product  # noqa: E402
from required import need  # noqa: E402

MACHINES = pytest.StashKey[list]()


@pytest.fixture(scope="session")
def machines_can_run():
    """Skips where no machine can be booted; $EK_MACHINE_REQUIRED, set in CI, makes that a failure."""
    need(machine.unavailable(), "EK_MACHINE_REQUIRED")
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
    one = new_machine()
    one.boot()
    one.start_platform()
    product.put_program(one)
    one.run("systemctl daemon-reload && systemctl start dbus systemd-logind")
    return one


@pytest.fixture
def extension(new_machine):
    """Our extension on a booted machine with the Azure agent, and a vault."""
    one = new_machine(agent=True)
    one.start_platform(vaults=[product.VAULT])
    extension = product.Extension(one)
    one.boot()
    yield extension
    assert one.platform.problems() == []


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
