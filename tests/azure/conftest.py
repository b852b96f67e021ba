"""A fake platform for each test, and a process that asks it through agent/azure (tests/support/azure_probe.c)."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "platform"))

from fakeplatform import Platform  # noqa: E402

PROBE = os.path.join(os.environ["EK_TEST_BINARY_DIR"], "tests", "azure_probe")
VAULTS = ("shop.vault.azure.net", "mill.vault.azure.net", "shop.vault.azure.cn", "shop.vault.example")
CLOSED = "closed.vault.azure.net"  # where nobody listens


class Probe:
    def __init__(self, platform, root, ca_file=None, imds=None):
        imds = imds or platform.addresses["imds"]
        connect = [f"169.254.169.254:80:{imds}"] + [f"{host}:443:{platform.addresses['vault']}" for host in VAULTS]
        connect.append(f"{CLOSED}:443:127.0.0.1:1")
        self._process = subprocess.Popen([PROBE, ",".join(connect), ca_file or platform.addresses["caFile"], str(root)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, *words):
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()

    def read(self):
        line = self._process.stdout.readline()
        assert line, "the probe ended"
        return json.loads(line)

    def ask(self, *words):
        self.start(*words)
        return self.read()

    def end(self):
        """Also where sanitizers speak up about what was left."""
        self._process.stdin.close()
        assert self._process.wait(20) == 0
        assert self._process.stdout.read() == ""
        self._process.stdout.close()


@pytest.fixture
def platform():
    with Platform() as platform:
        yield platform
        assert platform.problems() == []


@pytest.fixture
def probe(platform, tmp_path):
    probe = Probe(platform, tmp_path)
    yield probe
    probe.end()
