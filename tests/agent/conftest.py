"""A fake platform and agents for each test; what a failed one logged goes into the report."""

import contextlib
import os
import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import agent  # noqa: E402

AGENTS = pytest.StashKey[list]()


@pytest.fixture(scope="session", autouse=True)
def program():
    if not os.access(agent.BINARY, os.X_OK):
        pytest.fail(f"{agent.BINARY} is not built")


@pytest.fixture
def platform():
    with agent.Platform() as platform:
        yield platform
        assert platform.problems() == []


@pytest.fixture
def new_agent(platform, request):
    """Makes agents that end with the test: new_agent(vaults=["shop"]). They must end in good order when it passes."""
    made = request.node.stash.setdefault(AGENTS, [])
    with contextlib.ExitStack() as stack:
        def make(**options):
            # Short: a socket's address has 108 bytes.
            root = tempfile.mkdtemp(prefix="ek-agent.", dir="/tmp")
            stack.callback(shutil.rmtree, root)
            one = agent.Agent(root, **{"platform": platform, **options})
            stack.callback(one.stop)
            made.append(one)
            return one
        yield make


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        for one in item.stash.get(AGENTS, []):
            report.sections.append((f"log of the agent below {one.root}", one.log_text()))
