"""Fixtures of all tests of the built program."""

import pytest
from vm import BINARY, VM, Platform  # first: it knows where the modules of tests/support are

from keys import Keys


def pytest_configure(config):
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is not built; set EK_TEST_BINARY_DIR to the build directory", returncode=2)


@pytest.fixture(scope="module")
def platform():
    with Platform() as platform:
        yield platform
        assert platform.problems() == []


@pytest.fixture
def fresh_platform():
    """One for each test: what it was asked is this test's."""
    with Platform() as platform:
        yield platform
        assert platform.problems() == []


@pytest.fixture
def vm(tmp_path, platform):
    """A VM on which the extension's package has been unpacked, and nothing else."""
    with VM(tmp_path, platform) as vm:
        yield vm


@pytest.fixture
def service(vm):
    """… and installed, with the service running."""
    vm.command("install")
    vm.start_daemon()
    return vm


@pytest.fixture
def keys_vm(tmp_path, fresh_platform):
    """A VM that refreshes keys, of which none may have got about when the test is over."""
    with Keys(tmp_path, fresh_platform) as vm:
        yield vm
        vm.check_nothing_leaked()
