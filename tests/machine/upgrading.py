"""What upgrades are tried at: instants of each component, moments made of them, disturbances, and the machine they happen on.

An instant is a row of data: how a component comes there, what it says there, and what has run, how often, when it has come to
its end. A moment is one instant of each component at once. A case is a moment, a direction, and a disturbance at a point of the
agent's way from one version to the other.

`python3 upgrading.py -j N` tries every case, N moments at a time, and sums up; the other tests try those in COVERING.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import threading
import time
import typing

import machine as machines
import packages
from asking import asked
from product import (NAME, NEW, OLD, RAN, VAULT, WEB_UNIT, Extension, acknowledgements, daemon_program, draining, program, ran, shown,
                     substatus, told, web_is)

STATUS_SECONDS = 5
HOOKS = {"drain.d": "drain-hook", "restore.d": "restore-hook", "activate.d": "activate-hook"}

# ---- instants


@dataclasses.dataclass(frozen=True)
class Instant:
    level: str                      # of the component's substatus, while it is there
    text: str                       # in its message
    runs: tuple = ()                # each word that is in RAN by the end, as often as it is there
    begun: tuple = ()               # those that are there already at the instant
    settings: dict = dataclasses.field(default_factory=dict)
    begin: typing.Callable = lambda bench: None
    end: typing.Callable = lambda bench: None
    after: tuple = None             # (level, text) of the substatus at the end; None: as at the instant
    open: bool = False              # the deployment is `transitioning` there
    ready: int = 200                # what /ready says, all the time
    acknowledged: int = 0           # times, at the instant


def hold(word):
    """A shell line that notes that it began, and ends when it is let go."""
    return f"echo {word} >>{RAN}; until test -e /run/go-{word}; do sleep 0.05; done"


def shell(line):
    return ["sh", "-c", line]


def script(line, **more):
    return {"scripts": [{"name": "script", "commandToExecute": line, **more}]}


SUCCEEDED = ("success", "exit code 0")


def lock_packages(bench):
    bench.machine.run("systemd-run --quiet --unit=holder flock /run/.tdnf-instance-lockfile sleep 1000")
    bench.machine.wait_until("! flock --nonblock /run/.tdnf-instance-lockfile true", 10, "the lock")


def fetched(bench):
    bench.server.going_on.set()
    bench.extension.succeeded()
    assert bench.server.requests == 1, "nothing is fetched twice"


SCRIPTS = {
    "done": Instant(*SUCCEEDED, runs=["script"], begun=["script"], settings=script(f"echo script >>{RAN}"),
                    begin=lambda bench: bench.extension.succeeded()),
    "waiting for a lock": Instant(
        "transitioning", "lock", runs=["script"], open=True, settings={**script(f"echo script >>{RAN}"), "waitFor": ["packageLocks"]},
        end=lambda bench: bench.machine.run("systemctl stop holder"), after=SUCCEEDED),
    "downloading": Instant(
        "transitioning", "running", runs=["script"], open=True,
        settings=script("sh fetched.sh", files=["http://127.0.0.1:8100/fetched.sh"]),
        begin=lambda bench: bench.wait(bench.server.asked.is_set, "the request for the file"), end=fetched, after=SUCCEEDED),
    "running": Instant(
        "transitioning", "running", runs=["script", "script-end"], begun=["script"], open=True,
        settings=script(f"{hold('script')}; echo script-end >>{RAN}"), end=lambda bench: bench.let_go("script"), after=SUCCEEDED),
    # whenever its delay is over, before, in or after the upgrade: one more try, and no other
    "between two tries": Instant(
        "transitioning", "", runs=["script", "script"], begun=["script"], open=True,
        settings=script(f"echo script >>{RAN}; test $(grep -cx script {RAN}) = 2", retry={"times": 3, "delayInSeconds": 12}), after=SUCCEEDED),
}


def event(bench):
    bench.event = bench.platform.add_event("Reboot", not_before_in_seconds=900)


def drained(bench):
    bench.let_go("drain-held")
    event(bench)
    bench.platform.wait_for_acknowledgement(bench.event, 30)


def started(bench):
    drained(bench)
    bench.platform.start_event(bench.event)


def restoring(bench):
    drained(bench)
    bench.platform.remove_event(bench.event)


def degraded(bench):
    bench.let_go("restore-held")
    bench.machine.write("/run/web-is-broken", "")
    restoring(bench)
    bench.await_said("drain", "error", "web.service", 40)


def restored(bench):
    """From wherever the drain is, until the VM serves."""
    bench.machine.run("rm -f /run/web-is-broken")
    bench.let_go("drain-held", "restore-held")
    if bench.event in [one["EventId"] for one in bench.platform.events()]:
        if bench.moment.drain != "waiting for its time":
            bench.platform.wait_for_acknowledgement(bench.event, 30)
        bench.platform.remove_event(bench.event)
    bench.await_said("drain", "success", "watching", 40)


DRAINED = ("drain", "drain-hook", "drain-held")
RESTORED = ("restore", "restore-hook", "restore-held")
WATCHING = ("success", "watching")
DRAINS = {
    "watching": Instant(*WATCHING),
    "waiting for its time": Instant("success", "Reboot", settings={"leadInSeconds": 5}, begin=event, end=restored, after=WATCHING),
    "draining": Instant("transitioning", "draining", runs=DRAINED + RESTORED, begun=DRAINED, begin=event, end=restored, after=WATCHING, ready=503),
    "drained": Instant("success", "drained for Reboot", runs=DRAINED + RESTORED, begun=DRAINED, begin=drained, end=restored, after=WATCHING,
                       ready=503, acknowledged=1),
    "drained for what has started": Instant(
        "success", "drained for Reboot", runs=DRAINED + RESTORED, begun=DRAINED, begin=started, end=restored, after=WATCHING, ready=503,
        acknowledged=1),
    "restoring": Instant("transitioning", "restoring", runs=DRAINED + RESTORED, begun=DRAINED + ("restore-held",), begin=restoring,
                         end=restored, after=WATCHING, ready=503, acknowledged=1),
    "degraded": Instant("error", "web.service", runs=DRAINED + RESTORED, begun=DRAINED + RESTORED, begin=degraded, end=restored, after=WATCHING,
                        ready=503, acknowledged=1),
}


def renewed(*words):
    """The next version of the certificate, at once, its activation let go so far."""
    def begin(bench):
        bench.let_go(*words)
        bench.renew()
        bench.machine.run("systemctl reload evenkeel")
    return begin


def activated(bench):
    bench.let_go("check", "reload-1", "reload-2")


def served(bench):
    activated(bench)
    bench.machine.run("systemd-run --quiet --unit=server openssl s_server -quiet -accept 127.0.0.1:8443 "
                      "-cert /etc/tls/fullchain.pem -key /etc/tls/privkey.pem")
    bench.wait(lambda: bench.counted()["activate-hook"], "the verification")
    bench.machine.run("systemctl stop server")


RELOAD = f"echo reload >>{RAN}; n=$(grep -cx reload {RAN}); until test -e /run/go-reload-$n; do sleep 0.05; done"
ACTIVATE = {"check": shell(hold("check")), "commands": [shell(RELOAD)], "timeoutInSeconds": 600}
VERIFY = {"endpoint": "127.0.0.1:8443", "serverName": "shop.example"}
CERTIFICATES = {
    "in use": Instant("success", "thumbprint {old}", settings=ACTIVATE),
    "made and not yet in use": Instant("success", "", runs=("check", "reload", "activate-hook"), begun=("check",), settings=ACTIVATE,
                                       begin=renewed(), end=activated, after=("success", "thumbprint {new}")),
    "reload pending": Instant("success", "", runs=("check", "reload", "activate-hook"), begun=("check", "reload"), settings=ACTIVATE,
                              begin=renewed("check"), end=activated, after=("success", "thumbprint {new}")),
    "not served yet": Instant("success", "", runs=("check", "reload", "activate-hook"), begun=("check", "reload"),
                              settings={**ACTIVATE, "verify": {**VERIFY, "timeoutInSeconds": 600}},
                              begin=renewed("check", "reload-1"), end=served, after=("success", "thumbprint {new}")),
    "on the way back": Instant("error", "it is being put back", runs=("check", "reload", "reload"), begun=("check", "reload", "reload"),
                               settings={**ACTIVATE, "verify": {**VERIFY, "timeoutInSeconds": 1}},
                               begin=renewed("check", "reload-1"), end=activated, after=("error", "rolled back")),
}


def write_user_data(bench):
    bench.platform.set_user_data(f"#!/bin/sh\n# {bench.number}\n{hold('user-data')}\n".encode())


USER_DATA = {
    "applied": Instant("success", "applied"),
    "running": Instant("transitioning", "", runs=("user-data",), begun=("user-data",), begin=write_user_data,
                       end=lambda bench: bench.let_go("user-data"), after=("success", "applied")),
}

COMPONENTS = {"script": (SCRIPTS, "customScript/script"), "drain": (DRAINS, "drain"), "certificate": (CERTIFICATES, "keyRefresh/web"),
              "user_data": (USER_DATA, "userData")}

# ---- moments, disturbances, cases


@dataclasses.dataclass(frozen=True)
class Moment:
    script: str = "done"
    drain: str = "watching"
    certificate: str = "in use"
    user_data: str = "applied"

    def instants(self):
        """(the component's name in the status, its instant)"""
        return [(component, table[getattr(self, name)]) for name, (table, component) in COMPONENTS.items()]


MOMENTS = {
    "quiet": Moment(),
    "waiting": Moment("waiting for a lock", "draining", "made and not yet in use"),
    "fetching": Moment("downloading", "drained", "reload pending"),
    "running": Moment("running", "restoring", "not served yet"),
    "retrying": Moment("between two tries", "degraded", "on the way back"),
    "expecting": Moment("done", "waiting for its time", "reload pending", "running"),
    "started": Moment("waiting for a lock", "drained for what has started", "on the way back"),
}

DIRECTIONS = {"up": (OLD, NEW), "down": (NEW, OLD)}

# of the agent's commands: held before it begins, or when it has ended and the agent does not know yet
POINTS = ("before disable", "after disable", "after update", "after uninstall", "after install", "before enable")


def kill_daemon(machine):
    machine.run("systemctl kill --signal=KILL --kill-whom=main evenkeel")


def kill_agent(machine):
    """With its worker and the command that it waits for."""
    machine.run("systemctl kill --signal=KILL walinuxagent; systemctl restart walinuxagent")


DISTURBANCES = {"agent": (kill_agent,), "daemon": (kill_daemon,), "both": (kill_daemon, kill_agent)}

Case = collections.namedtuple("Case", "moment direction disturbance point")

# Whose end is the next one's beginning: no way is gone for nothing.
ALL = [Case(moment, direction, disturbance, point) for moment in MOMENTS
       for disturbance, point in [("none", None)] + [(one, point) for one in DISTURBANCES for point in POINTS] for direction in DIRECTIONS]
COVERING = [Case("waiting", "up", "daemon", "after update"), Case("fetching", "down", "both", "after uninstall"),
            Case("running", "up", "agent", "after install")]

# ---- what answers and holds


class Stalling:
    """A server of one file, which sends half of it and the rest when it is told to."""

    def __init__(self, machine, content):
        self.socket = machine.inside(socket.create_server, ("127.0.0.1", 8100))
        self.content = content
        self.asked, self.going_on = threading.Event(), threading.Event()
        self.requests = 0
        threading.Thread(target=self.serve, daemon=True).start()

    def arm(self):
        self.requests = 0
        self.asked.clear()
        self.going_on.clear()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                self.requests += 1
                half = len(self.content) // 2
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.content) + self.content[:half])
                self.asked.set()
                self.going_on.wait(300)
                connection.sendall(self.content[half:])


# In front of every command of the agent: it holds where it is told to, once, and notes what has ended when (of CLOCK_BOOTTIME).
GATE = """\
#!/bin/sh
at() {
	[ "$(cat /run/gate/at 2>/dev/null)" = "$1" ] || return 0
	mv /run/gate/at /run/gate/held
	until [ -e /run/gate/go ]; do sleep 0.02; done
}
at "before $1"
"$(dirname "$0")/evenkeel" "$@"
code=$?
mkdir -p /run/gate
echo "$1 $AZURE_GUEST_AGENT_EXTENSION_VERSION $code $(cut -d' ' -f1 /proc/uptime)" >>/run/gate/commands
at "after $1"
exit $code
"""


def gated(version):
    return packages.in_front(version, "gated", GATE, version)


# ---- the machine


class Bench:
    """One machine under the real agent, which goes from case to case."""

    def __init__(self, stack, version):
        self.machine = stack.enter_context(machines.Machine(agent=True))
        self.number = 0
        self.machine.start_platform(vaults=[VAULT])
        self.platform = self.machine.platform
        self.platform.set_event_timing(auto_start=False)
        self.machine.write("/etc/systemd/system/web.service",
                           WEB_UNIT.replace("[Service]", "[Service]\nExecStartPre=/usr/bin/test ! -e /run/web-is-broken"))
        for directory, word in HOOKS.items():
            self.machine.write(f"/etc/evenkeel/hooks/{directory}/50-count", f"#!/bin/sh\necho {word} >>{RAN}\n", 0o755)
        self.extension = Extension(self.machine, gated)
        self.extension.version = version
        self.machine.boot()
        self.machine.run("systemctl start web")
        self.server = Stalling(self.machine, f"#!/bin/sh\necho script >>{RAN}\n".encode())
        stack.callback(self.server.socket.close)
        self.renew()
        self.platform.set_user_data(b"#!/bin/sh\n")
        self.let_go("check", "reload-1")
        self.extension.settings(self.settings(Moment()))
        self.extension.succeeded()
        self.extension.component("keyRefresh/web", "thumbprint")
        self.extension.component("userData", "applied")
        self.wait_idle()

    # what is configured, and what the test does to it

    def settings(self, moment):
        steps = [{"type": "hooks"}, {"type": "run", "name": "hold", "command": shell(hold("drain-held")), "undo": shell(hold("restore-held")),
                                     "timeoutInSeconds": 600}]
        document = draining(*steps)
        document["drain"].update(DRAINS[moment.drain].settings)
        return {**document, "log": {"console": False}, "customScript": SCRIPTS[moment.script].settings,
                "userData": {"action": "apply", "baseline": "run", "pollingIntervalInSeconds": 10},
                "keyRefresh": {"certificates": [{"name": "web", "url": f"https://{VAULT}/secrets/web", "directory": "/etc/tls",
                                                 "activate": CERTIFICATES[moment.certificate].settings}]}}

    def renew(self):
        self.certificate = self.platform.make_certificate("shop.example", key="ec")
        self.platform.put_secret("shop", "web", self.certificate["pem"], content_type="application/x-pem-file")

    def let_go(self, *words):
        self.machine.run(["touch", *[f"/run/go-{word}" for word in words]] if words else "true")

    def wait(self, predicate, what, timeout=30, pause=0.2):
        """As wait_until() of machine.py does, with fewer looks: each starts processes in the machine."""
        return machines.wait_until(predicate, timeout, what, pause)

    def wait_idle(self):
        """Nothing is under way, and nothing of it is left."""
        def idle():
            self.left = self.machine.run("systemctl list-units --all --plain --no-legend 'evenkeel-job-*'").strip()
            return not self.left
        try:
            self.wait(idle, "the jobs to end")
        except machines.MachineError as error:
            raise AssertionError(f"{error}; there are\n{self.left}") from None

    def thumbprint(self):
        return self.machine.run("openssl x509 -in /etc/tls/fullchain.pem -noout -fingerprint -sha1").partition("=")[2].strip().replace(":", "")

    def counted(self):
        return collections.Counter(ran(self.machine))

    def await_said(self, component, level, text, timeout=30):
        """Waits until the service says so of the component."""
        wanted = self.fill(text)

        def says():
            self.said = told(self.machine, component)
            return self.said[0] == level and wanted in self.said[1]
        try:
            self.wait(says, f"{component} to say {level}: {wanted}", timeout)
        except machines.MachineError as error:
            raise AssertionError(f"{error}; it says {self.said}") from None

    # one case

    def begin(self, moment):
        """Everything at its instant."""
        self.moment, self.number, self.event = moment, self.number + 1, None
        self.machine.run(f"rm -rf {RAN} /run/go-* /run/gate")
        self.old = self.thumbprint()
        if moment.script == "waiting for a lock":
            lock_packages(self)
        self.server.arm()
        self.extension.settings(self.settings(moment))
        self.extension.report(lambda status: True)
        for _, instant in moment.instants():
            instant.begin(self)
        self.wait(lambda: self.counted() == self.expected("begun"), f"what has begun, {self.expected('begun')}", 40)
        for component, instant in moment.instants():
            self.await_said(component, instant.level, instant.text)

    def expected(self, what):
        return collections.Counter(word for _, instant in self.moment.instants() for word in getattr(instant, what))

    def fill(self, text):
        return text.format(old=self.old, new=self.certificate["thumbprint"])

    def is_right(self, status):
        """The status file's: each component at its instant, and the deployment with them."""
        level = "transitioning" if any(instant.open for _, instant in self.moment.instants()) else "success"
        # a try may be due at any time
        levels = ("transitioning", "success") if self.moment.script == "between two tries" else (level,)
        for component, instant in self.moment.instants():
            said = substatus(status, component)
            if component == "customScript/script" and said.get("status") == "success" in levels:
                continue
            if said.get("status") != instant.level or self.fill(instant.text) not in said["formattedMessage"]["message"]:
                return False
        return status["status"] in levels

    def go_over(self, version, disturb, point):
        """The agent's way to that version; returns the seconds from the end of `enable` to the right status."""
        folder = f"/var/lib/waagent/{NAME}-{version}"
        if point:
            self.machine.write("/run/gate/at", point)
        self.extension.goal(version=version)
        if point:
            self.wait(lambda: self.machine.exists("/run/gate/held"), f"the agent to be {point}", 60)
            for kill in disturb:
                kill(self.machine)
            self.machine.write("/run/gate/go", "")

        def enabled():
            lines = self.machine.run("cat /run/gate/commands", check=False).splitlines()
            ends = [line.split() for line in lines if line.startswith(f"enable {version} 0 ")]
            return ends and float(ends[-1][3])

        def right():
            text = self.machine.run(["cat", f"{folder}/status/{self.extension.number}.status"], check=False)
            self.last = json.loads(text)[0]["status"] if text else {}
            return text and self.is_right(self.last) and time.clock_gettime(time.CLOCK_BOOTTIME)
        end = self.wait(enabled, "the agent's enable", 90)
        try:
            seconds = self.wait(right, "the status to be right", STATUS_SECONDS, 0.05) - end
        except machines.MachineError as error:
            said = [f"{item['name']}: {item['status']}: {item['formattedMessage']['message']}" for item in self.last.get("substatus", [])]
            raise AssertionError("\n".join([f"{error}: it is {self.last.get('status')}", *said])) from None
        self.wait(lambda: daemon_program(self.machine) == program(version), f"the daemon of version {version}")
        # what the agent did to come here, for who wonders about a case
        self.commands = [" ".join(line.split()[:3]) for line in self.machine.read("/run/gate/commands").splitlines()]
        return max(seconds, 0)

    def same_as_before(self):
        """Nothing has run again by having gone over, and nothing is lost."""
        begun, more = self.expected("begun"), self.counted()
        if self.moment.script == "between two tries":
            more["script"] = min(more["script"], begun["script"])
        assert more == begun, (more, begun, self.commands)
        drain = DRAINS[self.moment.drain]
        if self.event:
            assert acknowledgements(self.machine, self.event) == drain.acknowledged
        assert web_is(self.machine, "inactive" if "drained" in self.moment.drain or self.moment.drain == "degraded" else "active")

    def end(self, version):
        """All is let go, and comes to the end that it would have come to without the upgrade."""
        for _, instant in self.moment.instants():
            instant.end(self)
        for component, instant in self.moment.instants():
            level, text = instant.after or (instant.level, instant.text)
            self.await_said(component, level, text, 60)
        self.extension.succeeded(60)
        self.wait_idle()
        self.wait(lambda: self.counted() == self.expected("runs"), f"what has run, {self.expected('runs')}")
        back = CERTIFICATES[self.moment.certificate].after in (None, ("error", "rolled back"))
        assert self.thumbprint() == (self.old if back else self.certificate["thumbprint"])
        if self.event:
            assert acknowledgements(self.machine, self.event) == (self.moment.drain != "waiting for its time")
        assert web_is(self.machine, "active") and shown(self.machine, "ActiveState", "evenkeel-drained.target") == "inactive"
        left = self.machine.run(f"ls -d /var/lib/waagent/{NAME}-* /var/lib/evenkeel/state/upgrade.json", check=False).split()
        assert left == [f"/var/lib/waagent/{NAME}-{version}"]
        if back and self.moment.certificate != "in use":
            # without verification the version is good; else the next goal state would try it again
            self.let_go("reload-3")
            self.extension.settings(self.settings(Moment()))
            self.extension.component("keyRefresh/web", self.certificate["thumbprint"])
            self.wait_idle()
        assert self.platform.problems() == []

    def play(self, case):
        former, version = DIRECTIONS[case.direction]
        disturb = DISTURBANCES.get(case.disturbance, ())
        if self.extension.version != former:
            self.extension.goal(version=former)
            self.extension.succeeded(60)
        moment = MOMENTS[case.moment]
        self.begin(moment)
        with asked(self.machine, kills=int(kill_daemon in disturb), ready=(DRAINS[moment.drain].ready,)) as client:
            seconds = self.go_over(version, disturb, case.point)
        self.same_as_before()
        self.end(version)
        return {"seconds": round(seconds, 3), "longest": round(client.longest, 3), "cut": client.cut,
                "answers": sum(client.answers.values()), "commands": self.commands}


# ---- every case


def sum_up(paths):
    """Prints what cases have noted; returns how many have failed."""
    results = [json.loads(line) for path in paths for line in pathlib.Path(path).read_text().splitlines()]
    passed = [result for result in results if "failed" not in result]
    for result in results:
        if "failed" in result:
            print(f"{result['case']}: {result['failed'][:400]}")
    if passed:
        seconds = sorted(result["seconds"] for result in passed)
        print(f"{len(passed)} of {len(results)} cases went well; right status after the end of enable: "
              f"{statistics.median(seconds):.2f} s (median), {seconds[-1]:.2f} s (longest); "
              f"{sum(result['answers'] for result in passed)} answers of the listener, none refused, {sum(result['cut'] for result in passed)} "
              f"cut off by a kill of the service, the longest after {max(result['longest'] for result in passed):.2f} s")
    return len(results) - len(passed)


def try_all(jobs):
    directory = packages.ROOT / "build" / "upgrades"
    directory.mkdir(parents=True, exist_ok=True)
    for version in (OLD, NEW):
        packages.extension(version)

    def tried(name, expression):
        results = directory / f"{name}.jsonl"
        results.unlink(missing_ok=True)
        with open(directory / f"{name}.log", "w") as log:
            return subprocess.run(
                [sys.executable, "-B", "-m", "pytest", "-v", "-p", "no:cacheprovider", str(packages.ROOT / "tests/machine/test_upgrades.py"),
                 "-k", expression], env={**os.environ, "EK_UPGRADES": "all", "EK_UPGRADES_RESULTS": str(results)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode

    parts = {"others": "not test_case", **{moment: f"test_case and {moment}-" for moment in MOMENTS}}
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        codes = dict(zip(parts, pool.map(tried, parts, parts.values())))
    sum_up([directory / f"{moment}.jsonl" for moment in MOMENTS if (directory / f"{moment}.jsonl").exists()])
    for name, code in codes.items():
        if code != 0:
            print(f"{name} failed: {directory / name}.log")
    return any(codes.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tries every case of an upgrade.")
    parser.add_argument("-j", type=int, default=2, help="so many moments at a time, each on a machine of its own")
    sys.exit(try_all(parser.parse_args().j))
