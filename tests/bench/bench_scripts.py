"""Scripts: what a deployment of each kind costs, beside the figures of Custom Script 2.1.19 and beside what `sh`, `curl` and
`tr` take for the same work in the same run. Used by bench.py."""

import base64
import contextlib
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

from stage import StageError, me

MIB = 1024 * 1024
LARGE = 64 * MIB
OUTPUT = 8 * MIB
# Custom Script 2.1.19, its program alone (medians; memory in KiB). Through its shim, as an agent starts it, status success came
# 47.9 ms later than that for the smallest script; nothing else was measured so, nor its CPU.
PEER_SHIM, PEER_CPU = 47.9, 4.7
PEER = {"trivial": (4.3, 7772), "inline": (6.3, 7900), "protected": (11.0, 8028), "one file": (7.0, 9192),
        "ten files": (10.1, 9320), "64 MiB binary": (65, 9192), "64 MiB text": (282, 141416), "8 MiB output": (21, 8028)}


@contextlib.contextmanager
def web(directory):
    """The URL of a server of this directory."""
    read, write = os.pipe()
    server = subprocess.Popen([sys.executable, "-B", pathlib.Path(__file__).with_name("web.py"), str(directory), str(write)], pass_fds=[write],
                              stdin=subprocess.DEVNULL)
    os.close(write)
    try:
        with open(read) as ready:
            yield f"http://127.0.0.1:{int(ready.readline())}"
    finally:
        server.kill()
        server.wait()


def make_files(directory):
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(10):
        (directory / f"{number}.sh").write_text("#!/bin/sh\nexit 0\n")
    block = os.urandom(MIB)
    with open(directory / "large.bin", "wb") as file:
        file.write(b"\x7fELF")
        for _ in range(LARGE // MIB):
            file.write(block)
    text = (b"echo a line of a script that somebody has saved under Windows\r\n" * (MIB // 63 + 1))[:MIB - 2] + b"\r\n"
    with open(directory / "large.sh", "wb") as file:
        for _ in range(LARGE // MIB):
            file.write(text)


class Case:
    def __init__(self, name, settings, quick_runs, runs, protected=None, beside=None, command=None):
        self.name, self.settings, self.protected = name, settings, protected
        self.runs = {True: quick_runs, False: runs}
        # What does the same without us, and how it is called.
        self.beside = beside if shutil.which("curl") or "curl" not in str(command) else None
        self.command = command


def command(text, **more):
    return {"name": "bench", "runAs": me()[0], "commandToExecute": text, **more}


def cases(url, scratch):
    large = [{"uri": f"{url}/large.bin"}], [{"uri": f"{url}/large.sh"}]
    produce = f"yes a line of output 2>/dev/null | head -c {OUTPUT}"
    curl = f"curl -sS -o {scratch}/got {url}"
    inline = {"name": "bench", "runAs": me()[0], "script": base64.b64encode(b"#!/bin/sh\nexit 0\n").decode()}
    return [
        Case("trivial", command("true"), 3, 60, beside="true", command="sh -c true"),
        Case("inline", inline, 2, 40),
        Case("protected", command({"secretRef": "command"}), 2, 40, protected={"secrets": {"command": "true"}}),
        Case("one file", command("sh 0.sh", files=[{"uri": f"{url}/0.sh"}]), 2, 40, beside=f"{curl}/0.sh && sh {scratch}/got",
             command="curl && sh"),
        Case("ten files", command("sh 0.sh", files=[{"uri": f"{url}/{n}.sh"} for n in range(10)]), 2, 40,
             beside=f"curl -sS --remote-name-all --output-dir {scratch} {' '.join(f'{url}/{n}.sh' for n in range(10))} && sh {scratch}/0.sh",
             command="curl && sh"),
        Case("64 MiB binary", command("true", files=large[0]), 1, 9, beside=f"{curl}/large.bin", command="curl"),
        Case("64 MiB text", command("true", files=large[1]), 1, 9,
             beside=f"{curl}/large.sh && tr -d '\\r' <{scratch}/got >{scratch}/converted", command="curl && tr"),
        Case("8 MiB output", command(produce), 1, 15, beside=f"({produce}) >{scratch}/got", command="sh >file"),
    ]


def private(pid, name):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise StageError(f"process {pid} has no {name}")


class Scripts:
    def __init__(self, bench, label, stage, spawn, cpu_seconds):
        self.bench, self.label, self.stage = bench, label, stage
        self.spawn, self.cpu_seconds = spawn, cpu_seconds
        self.sequence = 5000

    def deploy(self, case, script):
        """(handed over, terminal, CPU of enable and daemon) in ms, and the status."""
        self.sequence += 1
        stage = self.stage
        stage.put_settings(self.sequence, {"log": {"console": False}, "customScript": {"keepRuns": 1, "scripts": [script]}},
                           case.protected)
        environment = self.bench.agent_environment(stage, self.sequence)
        cpu = self.cpu_seconds(stage.daemon_pid)
        before = time.perf_counter()
        handed_over, used = self.spawn([str(stage.extension / "bin/evenkeel"), "enable"], environment)
        while True:
            status = stage.deployment(self.sequence)
            if status and status["status"] != "transitioning":
                break
            if time.perf_counter() - before > 60:
                raise StageError(f"{case.name} did not end")
            time.sleep(0.0005)
        terminal = (time.perf_counter() - before) * 1000
        message = status["formattedMessage"]["message"]
        if status["status"] != "success":
            raise StageError(f"{case.name}: {message}")
        return handed_over, terminal, used + (self.cpu_seconds(stage.daemon_pid) - cpu) * 1000, message

    def look_into(self, case):
        """The runner's CPU (ms) and its peak (KiB) as its own script sees them just before its end; not while time is taken."""
        script = dict(case.settings)
        look = "; echo; sed -n 's/^VmHWM:/peak:/p' /proc/$PPID/status; sed 's/^/cpu: /' /proc/$PPID/schedstat"
        if "script" in script:
            del script["script"]
            script["commandToExecute"] = "true"
        protected = case.protected
        if isinstance(script["commandToExecute"], dict):
            protected = {"secrets": {"command": case.protected["secrets"]["command"] + look}}
        else:
            script["commandToExecute"] += look
        *_, message = self.deploy(Case(case.name, script, 1, 1, protected), script)
        found = {words[0]: float(words[1]) for words in map(str.split, message.splitlines()) if words and words[0] in ("peak:", "cpu:")}
        if len(found) != 2:
            raise StageError(f"{case.name} does not tell of its runner: {message[-300:]}")
        return found["cpu:"] / 1e6, found["peak:"]

    def case(self, case):
        quick, table = self.bench.quick, self.bench.table
        ours, beside = [], []
        for _ in range(case.runs[quick]):  # in turns, so that noise hits both
            ours.append(self.deploy(case, case.settings)[:3])
            if case.beside:
                beside.append(self.spawn(["/bin/sh", "-c", case.beside], {"PATH": os.environ["PATH"]}))
        inside = [self.look_into(case) for _ in range(1 if quick else 5)]
        handed_over, terminal, cpu = (list(column) for column in zip(*ours))
        runner_cpu = [one for one, _ in inside]
        peer_time, peer_memory = PEER[case.name]
        name = f"{self.label}: {case.name}"
        table.add(f"{name}, handed over", handed_over, "ms")
        table.add(f"{name}, terminal", terminal, "ms", f"peer {peer_time} ms + shim {PEER_SHIM}", peer_time + PEER_SHIM,
                  "<= 0.60" if case.name == "trivial" else "")
        cpu = [one + statistics.median(runner_cpu) for one in cpu]
        if beside:
            took, used = (statistics.median(column) for column in zip(*beside))
            table.add(f"{name}, the same", terminal, "ms", f"{case.command} {took:.1f} ms", took)
            table.add(f"{name}, our CPU", cpu, "ms", f"{case.command} {used:.1f} ms", used)
        else:
            table.add(f"{name}, our CPU", cpu, "ms")
        if case.name == "trivial":
            table.add(f"{name}, the same", cpu, "ms", f"peer without shim {PEER_CPU} ms", PEER_CPU)
        table.add(f"{name}, runner's peak", [kib / 1024 for _, kib in inside], "MiB", f"peer {peer_memory / 1024:.1f} MiB",
                  peer_memory / 1024)

    def run(self):
        directory = self.stage.root.parent / "web"
        scratch = self.stage.root.parent / "scratch"
        scratch.mkdir(exist_ok=True)
        make_files(directory)
        try:
            with web(directory) as url:
                for case in cases(url, scratch):
                    self.case(case)
            self.bench.table.add(f"{self.label}: daemon's peak, ever", [private(self.stage.daemon_pid, "VmHWM") / 1024], "MiB")
        finally:
            for path in (*directory.iterdir(), *scratch.iterdir()):
                path.unlink()
