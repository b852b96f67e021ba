"""User data for the bench: what a large one costs to plan, and a poll that finds nothing new."""

import base64
import subprocess
import time

from stage import StageError, wait_until

PARTS = 50
SIZE = 64 * 1024
INTERVAL = 10


def message(number):
    """64 KiB, 50 scripts in base64, another one each time."""
    head = b'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="==="\n\n'
    room = (SIZE - len(head) - 10) // PARTS - 80
    line = b"#!/bin/sh\n# " + str(number).encode() + b"\n"
    body = base64.encodebytes(line + b"x" * (room * 45 // 62 - len(line)))
    part = b"--===\nContent-Type: text/x-shellscript\nContent-Transfer-Encoding: base64\n\n" + body
    data = head + part * PARTS + b"--===--\n"
    if not SIZE * 0.9 < len(data) <= SIZE:
        raise StageError(f"the message has {len(data)} bytes")
    return data


class UserData:
    def __init__(self, bench, label, stage, cpu_seconds, peak_resident, private_dirty):
        self.bench, self.label, self.stage, self.table = bench, label, stage, bench.table
        self.cpu_seconds, self.peak_resident, self.private_dirty = cpu_seconds, peak_resident, private_dirty
        self.plans, self.polls = (2, 1) if bench.runs < 100 else (8, 6)

    def run(self):
        stage = self.stage
        stage.platform.set_user_data(b"#!/bin/sh\n")
        # No kind of part is wanted: everything is planned and recorded, and nothing is run.
        stage.put_settings(5000, {"log": {"console": False}, "userData": {
            "action": "apply", "parts": [], "pollingIntervalInSeconds": INTERVAL}})
        self.bench.apply(stage, 5000)
        wait_until("the first look", lambda: "first look" in stage.component("userData")[1], 30)
        pid = stage.daemon_pid
        before, dirty = self.peak_resident(pid), self.private_dirty(pid)
        self.plan(pid)
        self.table.add(f"{self.label}: resident at most, before user data", [before], "MiB")
        self.table.add(f"{self.label}: the same, after {PARTS} parts in 64 KiB", [self.peak_resident(pid)], "MiB")
        if dirty is not None:
            self.table.add(f"{self.label}: private dirty, before and after", [dirty, self.private_dirty(pid)], "MiB")
        self.poll(pid)

    def plan(self, pid):
        """From an operator's order to "applied", CPU and elapsed: taken apart, written down, recorded at each step."""
        stage, cpu, took = self.stage, [], []
        stage.platform.set_user_data(message(0))
        wait_until("the large user data to be applied", lambda: "applied at" in stage.component("userData")[1], 3 * INTERVAL)
        for _ in range(self.plans):
            said = stage.component("userData")[1]
            time.sleep(1.1)  # it tells seconds
            before, start = self.cpu_seconds(pid), time.perf_counter()
            subprocess.run([stage.binary, "userdata", "apply"], env=stage.environment(), check=True, capture_output=True)
            wait_until("it to be applied again", lambda: "applied at" in stage.component("userData")[1] != said, 10)
            took.append((time.perf_counter() - start) * 1000)
            cpu.append((self.cpu_seconds(pid) - before) * 1000)
        self.table.add(f"{self.label}: {PARTS} parts in 64 KiB, planned, CPU", cpu, "ms")
        self.table.add(f"{self.label}: the same, order to applied", took, "ms")

    def poll(self, pid):
        """Polls that find nothing new."""
        leaf, stage, per_poll = "/metadata/instance/compute/userData", self.stage, []
        since, cpu = time.time(), self.cpu_seconds(pid)
        for _ in range(self.polls):
            wait_until("a poll", lambda: stage.platform.requests("imds", leaf, since), 2 * INTERVAL)
            time.sleep(0.2)
            polls = len(stage.platform.requests("imds", leaf, since))
            per_poll.append((self.cpu_seconds(pid) - cpu) / polls * 1000)
            since, cpu = time.time(), self.cpu_seconds(pid)
        self.table.add(f"{self.label}: a poll of user data, nothing new, CPU", per_poll, "ms", digits=3)
