#!/usr/bin/python3
"""What the program costs, beside the peers' figures: enable, enable to terminal status, the idle daemon, event to first
action, hooks, scripts of every kind. Prints ratios and their spread; judges nothing. Started by scripts/bench."""

import argparse
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCE / "tests/support"), str(SOURCE / "tests/bench")]

from bench_scripts import Scripts  # noqa: E402
from bench_userdata import UserData  # noqa: E402
from stage import VAULT, Stage, StageError, me, wait_until  # noqa: E402

# Custom Script v2.1.19, measured on a machine of this kind (2 processors, Debian 12): medians in ms.
PEER_ENABLE, PEER_CPU, PEER_SHIM, PEER_STATUS = 4.3, 4.7, 46.3, 52.2
# Microsoft's sample listener for Scheduled Events (Python, polls each second), measured in the same way: seconds to notice an
# event, resident memory, share of a core.
SAMPLE_NOTICES, SAMPLE_AT_MOST, SAMPLE_RESIDENT, SAMPLE_CPU = 0.621, 0.993, 29, 0.37
PEM = "application/x-pem-file"
HOOKS = 20


def spawn(argv, environment):
    """Whole life of a process as its parent sees it, and its processor time, both in ms."""
    before = time.perf_counter_ns()
    pid = os.posix_spawn(argv[0], argv, environment, file_actions=[
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
    _, status, usage = os.wait4(pid, 0)
    took = (time.perf_counter_ns() - before) / 1e6
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        raise StageError(f"{' '.join(argv)} ended with {code}")
    return took, (usage.ru_utime + usage.ru_stime) * 1000


def wall(samples):
    return [took for took, _ in samples]


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


class Table:
    def __init__(self):
        self.rows = [("", "median", "best", "p10 .. p90", "n", "beside", "ratio", "reach")]

    def has(self, what):
        return any(row[0] == what for row in self.rows)

    def add(self, what, values, unit, beside="", reference=None, reach="", digits=2, share=0.5):
        middle = percentile(values, share) if share != 0.5 else statistics.median(values)
        spread = f"{percentile(values, 0.1):.{digits}f} .. {percentile(values, 0.9):.{digits}f}"
        ratio = f"{middle / reference:.2f}" if reference else ""
        self.rows.append((what, f"{middle:.{digits}f} {unit}", f"{min(values):.{digits}f}", spread, str(len(values)), beside, ratio, reach))

    def show(self):
        widths = [max(len(row[column]) for row in self.rows) for column in range(len(self.rows[0]))]
        for row in self.rows:
            print("  ".join(cell.ljust(width) if column in (0, 5, 7) else cell.rjust(width)
                            for column, (cell, width) in enumerate(zip(row, widths))).rstrip())


class Bench:
    PARTS = ("enable", "deploy", "idle", "drain", "hooks", "scripts", "certificates", "userdata")
    DRAIN = ("idle", "drain", "hooks")

    def __init__(self, quick, minutes=None, parts=PARTS):
        self.quick, self.parts = quick, parts
        self.runs = 15 if quick else 200
        self.deployments = 5 if quick else 60
        self.idle_seconds = minutes * 60 if minutes else 5 if quick else 75
        self.hook_seconds = 0.05 if quick else 0.3
        self.events = 2 if quick else 50
        self.certificates_count, self.polls = (30, 2) if quick else (500, 5)
        self.table = Table()

    def agent_environment(self, stage, sequence):
        return {**stage.environment(), "ConfigSequenceNumber": str(sequence),
                "AZURE_GUEST_AGENT_EXTENSION_PATH": str(stage.extension),
                "AZURE_GUEST_AGENT_EXTENSION_VERSION": stage.version}

    # enable

    def enable(self, label, stage):
        program = str(stage.extension / "bin/evenkeel")
        shell, ours, version = [], [], []
        stage.put_settings(0, {})
        environment = self.agent_environment(stage, 0)
        for _ in range(5):
            spawn([program, "enable"], environment)
        for _ in range(self.runs):  # in turns, so that noise hits all of them
            shell.append(spawn(["/bin/sh", "-c", "true"], environment))
            version.append(spawn([program, "version"], environment))
            ours.append(spawn([program, "enable"], environment))
        base = statistics.median(wall(shell))
        if not self.table.has("sh -c true"):
            self.table.add("sh -c true", wall(shell), "ms")
        self.table.add(f"{label}: evenkeel version", wall(version), "ms", "sh -c true", base)
        self.table.add(f"{label}: enable, nothing new", wall(ours), "ms", f"peer {PEER_ENABLE} ms", PEER_ENABLE, "<= 0.60")
        self.table.add(f"{label}: the same, CPU", [cpu for _, cpu in ours], "ms", f"peer {PEER_CPU} ms", PEER_CPU)

    def deploy(self, label, stage):
        program = str(stage.extension / "bin/evenkeel")
        handed_over, terminal = [], []
        user, _ = me()
        for sequence in range(1, self.deployments + 1):
            stage.put_settings(sequence, {"customScript": {"scripts": [
                {"name": "nothing", "commandToExecute": f"true {sequence}", "runAs": user}]}})
            environment = self.agent_environment(stage, sequence)
            before = time.perf_counter()
            handed_over.append(spawn([program, "enable"], environment)[0])
            while True:
                status = stage.deployment(sequence)
                if status and status["status"] != "transitioning":
                    break
                if time.perf_counter() - before > 20:
                    raise StageError(f"sequence {sequence} did not end")
                time.sleep(0.0005)
            terminal.append((time.perf_counter() - before) * 1000)
            if status["status"] != "success":
                raise StageError(f"sequence {sequence}: {status['formattedMessage']['message']}")
        self.table.add(f"{label}: enable, a new script", handed_over, "ms", f"peer's shim {PEER_SHIM} ms", PEER_SHIM)
        self.table.add(f"{label}: enable to terminal status", terminal, "ms", f"peer's shim {PEER_STATUS} ms", PEER_STATUS,
                       "<= 0.60")

    # The idle daemon

    def idle(self, label, stage):
        pid = stage.daemon_pid
        stage.put_settings(1000, {"drain": {"steps": []}, "log": {"console": False}})
        self.apply(stage, 1000)
        time.sleep(2)
        before_tls = private_dirty(pid)
        user, group = me()
        secret = stage.platform.make_certificate("bench.example")
        stage.platform.put_secret(VAULT.split(".")[0], "bench", secret["pem"], content_type=PEM)
        stage.put_settings(1001, {"drain": {"steps": []}, "log": {"console": False},
                                  "network": {"caFile": stage.addresses["caFile"]},
                                  "keyRefresh": {"certificates": [{"name": "bench", "owner": user, "group": group,
                                                                   "url": f"https://{VAULT}/secrets/bench"}]}})
        self.apply(stage, 1001)
        time.sleep(3)
        since, started, cpu, woken = time.time(), time.monotonic(), cpu_seconds(pid), wakeups(pid)
        per_poll, wakeups_per_poll, share = [], [], []
        slice_seconds = 5
        while time.monotonic() - started < self.idle_seconds:
            time.sleep(slice_seconds)
            used, times = cpu_seconds(pid) - cpu, wakeups(pid) - woken
            polls = len(stage.platform.requests("imds", "/metadata/scheduledevents", since))
            if polls == 0:
                raise StageError("the daemon does not poll")
            elapsed = time.time() - since
            per_poll.append(used / polls * 1000)
            wakeups_per_poll.append(times / polls)
            share.append(used / elapsed * 100)
            since, cpu, woken = time.time(), cpu_seconds(pid), wakeups(pid)
        if before_tls is not None:
            self.table.add(f"{label}: idle, private dirty", [before_tls], "MiB")
            self.table.add(f"{label}: idle, after TLS", [private_dirty(pid)], "MiB", reach="zip <= 2 MB")
        self.table.add(f"{label}: CPU per poll", per_poll, "ms", digits=3)
        self.table.add(f"{label}: wakeups per poll", wakeups_per_poll, "", digits=1)
        self.table.add(f"{label}: CPU at 1 poll/s", share, "% of a core", f"sample {SAMPLE_CPU} %", SAMPLE_CPU, "zip <= 0.03 %", digits=3)

    @staticmethod
    def apply(stage, sequence):
        done = stage.command("enable", sequence)
        if done.returncode != 0:
            raise StageError(f"enable: exit code {done.returncode}: {done.stderr.strip()}")
        status = wait_until(f"sequence {sequence} to end", lambda: ended(stage.deployment(sequence)), 30)
        if status["status"] != "success":
            raise StageError(f"sequence {sequence}: {status['formattedMessage']['message']}")

    # Events

    def drain(self, label, stage):
        user, _ = me()
        mark = stage.root / "first-action"
        stage.put_settings(2000, {"log": {"console": False}, "drain": {"steps": [
            {"type": "run", "name": "first", "command": ["/usr/bin/touch", str(mark)], "user": user}]}})
        self.apply(stage, 2000)
        stage.platform.set_event_timing(ack_to_started_in_seconds=3600, started_to_removed_in_seconds=None)
        delays = []
        for _ in range(self.events):
            wait_until("the daemon to serve", lambda: stage.status()["serving"] and
                       stage.component("drain")[0] == "success", 15)
            mark.unlink(missing_ok=True)
            time.sleep(random.random())  # any phase of the poll
            published = time.time()
            event = stage.platform.add_event("Reboot", not_before_in_seconds=300)
            wait_until("the first action", mark.exists, 15)
            delays.append(mark.stat().st_mtime_ns / 1e9 - published)
            stage.platform.wait_for_acknowledgement(event, 15)
            stage.platform.remove_event(event)
        self.table.add(f"{label}: event to first action", delays, "s", f"sample, only noticing {SAMPLE_NOTICES} s", SAMPLE_NOTICES, digits=3)
        for share, reach in ((0.9, ""), (0.99, "< 1.1 s")):
            self.table.add(f"{label}: the same, p{share * 100:.0f}", delays, "s",
                           f"sample, at most {SAMPLE_AT_MOST} s" if reach else "", SAMPLE_AT_MOST if reach else None, reach, 3, share)

    def hooks(self, label, stage):
        """The daemon's memory while 20 hooks run, one after the other."""
        directory = stage.root / "etc/evenkeel/hooks/drain.d"
        directory.mkdir(parents=True, exist_ok=True)
        for number in range(HOOKS):
            hook = directory / f"{number:02}-hook"
            hook.write_text(f'#!/bin/sh\nsleep {self.hook_seconds}\necho "$EVENKEEL_PHASE" >>{stage.root}/hooks-run\n')
            hook.chmod(0o755)
        stage.put_settings(3000, {"log": {"console": False}, "drain": {"steps": [{"type": "hooks"}]}})
        self.apply(stage, 3000)
        wait_until("the daemon to serve", lambda: stage.status()["serving"] and stage.component("drain")[0] == "success", 15)
        pid = stage.daemon_pid
        before = private_dirty(pid)
        event = stage.platform.add_event("Reboot", not_before_in_seconds=300)
        dirty, deadline = [], time.monotonic() + 30 + HOOKS * self.hook_seconds
        while event not in [one for entry in stage.platform.acknowledgements() for one in entry["ids"]]:
            if time.monotonic() > deadline:
                raise StageError("the hooks did not come to their end")
            dirty.append(private_dirty(pid))
            time.sleep(0.05)
        ran = (stage.root / "hooks-run").read_text().split()
        if ran != ["drain"] * HOOKS:
            raise StageError(f"{len(ran)} hooks of {HOOKS} ran")
        stage.platform.remove_event(event)
        if before is not None:
            self.table.add(f"{label}: before {HOOKS} hooks, private dirty", [before], "MiB")
            self.table.add(f"{label}: while they run", dirty, "MiB")
            self.table.add(f"{label}: the same, at most", [max(dirty)], "MiB")
        self.table.add(f"{label}: resident, at most, ever", [peak_resident(pid)], "MiB", f"sample, idle {SAMPLE_RESIDENT} MB", SAMPLE_RESIDENT)

    def certificates(self, label, stage):
        """Many certificates of one vault: until all are installed, and a poll that finds nothing new."""
        user, group = me()
        count, platform = self.certificates_count, stage.platform
        made = platform.make_certificate("bench.example", key="ec", chain=2)
        names = [f"cert{number}" for number in range(count)]
        for name in names:
            platform.put_secret(VAULT.split(".")[0], name, made["pem"], content_type=PEM)
        stage.put_settings(4000, {"log": {"console": False}, "network": {"caFile": stage.addresses["caFile"]}, "keyRefresh": {
            "pollingIntervalInSeconds": 86400, "certificates": [
                {"name": name, "owner": user, "group": group, "url": f"https://{VAULT}/secrets/{name}"} for name in names]}})
        pid = stage.daemon_pid
        before = private_dirty(pid)

        def first():
            done = stage.command("enable", 4000)
            if done.returncode != 0:
                raise StageError(f"enable: exit code {done.returncode}: {done.stderr.strip()}")
            status = wait_until("all certificates", lambda: ended(stage.deployment(4000)), 600)
            if status["status"] != "success":
                raise StageError(f"certificates: {status['formattedMessage']['message']}")

        def again():
            done = subprocess.run([stage.binary, "certs", "refresh"], env=stage.environment(), capture_output=True, text=True,
                                  timeout=600)
            if done.returncode != 0 or done.stdout.count(": unchanged, ") != count:
                raise StageError(f"certs refresh: exit code {done.returncode}: {done.stderr.strip()[:500]}")

        if before is not None:
            self.table.add(f"{label}: before {count} certificates, private dirty", [before], "MiB")
        for what, work, times in (("first sync", first, 1), ("unchanged poll", again, self.polls)):
            reset_peak_resident(pid)
            took, used, requests, connections, most, dirty = [], [], [], [], [], []
            for _ in range(times):
                since, started, cpu = time.time(), time.perf_counter(), cpu_seconds(pid)
                work()
                took.append(time.perf_counter() - started)
                used.append(cpu_seconds(pid) - cpu)
                vault = platform.requests("vault", "/", since)
                requests.append(len(vault) + len(platform.requests("imds", "/metadata/identity", since)))
                connections.append(len({tuple(request["client"]) for request in vault}))
                most.append(busiest(vault))
                dirty.append(private_dirty(pid))
            self.table.add(f"{label}: {count} certificates, {what}", took, "s")
            self.table.add("  of it the daemon's processor time", used, "s")
            self.table.add("  requests, to the vault and for tokens", requests, "", digits=0, reach=f"{count} and a token")
            self.table.add("  connections to the vault", connections, "", digits=0, reach="<= 4")
            self.table.add("  requests to it in the busiest 10 s", most, "", digits=0, reach="<= 4000")
            self.table.add("  resident, at most", [peak_resident(pid)], "MiB")
            if before is not None:
                self.table.add("  private dirty afterwards", dirty, "MiB", reach="constant over polls")

    def scripts(self, label, stage):
        Scripts(self, label, stage, spawn, cpu_seconds).run()

    def userdata(self, label, stage):
        UserData(self, label, stage, cpu_seconds, peak_resident, private_dirty).run()

    def measure(self, label, binary, directory):
        with Stage(binary, directory / label) as stage:
            done = stage.command("install")
            if done.returncode != 0:
                raise StageError(f"install: exit code {done.returncode}: {done.stderr.strip()}")
            stage.start_daemon()
            try:
                for part in self.parts:
                    print(f"measuring {label}: {part} …", file=sys.stderr, flush=True)
                    getattr(self, part)(label, stage)
            except (StageError, TimeoutError) as error:
                print(f"bench: {error}", *stage.log_tail(), sep="\n  ", file=sys.stderr)
                return False
        return True


def ended(status):
    return status if status and status["status"] != "transitioning" else None


def private_dirty(pid):
    """MiB; None when this user may not look (the daemon keeps its memory to itself)."""
    try:
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    except PermissionError:
        return None
    return int(next(line for line in text.splitlines() if line.startswith("Private_Dirty:")).split()[1]) / 1024


def status_number(path, name):
    return int(next(line for line in path.read_text().splitlines() if line.startswith(name + ":")).split()[1])


def peak_resident(pid):
    """MiB, shared pages too."""
    return status_number(pathlib.Path(f"/proc/{pid}/status"), "VmHWM") / 1024


def reset_peak_resident(pid):
    try:
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError:
        pass  # then it is that of its whole life


def busiest(requests, seconds=10):
    """How many began within so many seconds, at most."""
    times = sorted(request["time"] for request in requests)
    first = most = 0
    for last, moment in enumerate(times):
        while moment - times[first] > seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def wakeups(pid):
    """How often its threads have gone to sleep so far, which is how often they were woken."""
    return sum(status_number(path, "voluntary_ctxt_switches") for path in pathlib.Path(f"/proc/{pid}/task").glob("*/status"))


def cpu_seconds(pid):
    """Processor time so far, of the scheduler's own count: clock ticks are too coarse for a poll."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, PermissionError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def noise():
    """Load, and how long the same short computation takes at different moments."""
    samples = []
    for _ in range(20):
        before = time.perf_counter()
        sum(range(200000))
        samples.append((time.perf_counter() - before) * 1000)
    return os.getloadavg()[0], statistics.median(samples), max(samples)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--drain", action="store_true", help="only what draining costs")
    parser.add_argument("--minutes", type=float, help="how long to watch the idle daemon")
    parser.add_argument("--only", action="append", choices=Bench.PARTS, help="only this part; may be given more than once")
    parser.add_argument("--directory", type=pathlib.Path, required=True)
    parser.add_argument("programs", nargs="+", metavar="LABEL=FILE")
    options = parser.parse_args()
    load, middle, worst = noise()
    bench = Bench(options.quick, options.minutes, options.only or (Bench.DRAIN if options.drain else Bench.PARTS))
    good = all([bench.measure(label, binary, options.directory)
                for label, _, binary in (program.partition("=") for program in options.programs)])
    load_after = os.getloadavg()[0]
    bench.table.show()
    kernel = subprocess.run(["uname", "-sr"], capture_output=True, text=True).stdout.strip()
    print(f"\n{os.cpu_count()} processors, {kernel}; load {load:.1f} before, {load_after:.1f} after; the same computation took "
          f"{middle:.1f} ms, at worst {worst:.1f} ms.")
    if max(load, load_after) > os.cpu_count() / 2 or worst > 2 * middle:
        print("This machine was busy: take the numbers with care.")
    if "hooks" in bench.parts:
        print(f"Of a drain, {HOOKS} hooks were measured. Stopping units needs systemd, and no other step stands for it:\n"
              "tests/machine/test_memory.py measures a drain of 50 units and as many hooks on a booted machine (scripts/bench --drain).")
    print("Jobs were plain children here; under systemd they are transient units. The peers' figures were measured on another\n"
          "machine of this kind: the peer is Custom Script 2.1.19, the sample Microsoft's listener for Scheduled Events. Only ratios\n"
          "carry over.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
