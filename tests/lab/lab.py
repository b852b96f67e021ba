#!/usr/bin/python3
"""The lab: how many requests does a maintenance cost a web application, with EvenKeel and without?

Two booted machines run nginx and gunicorn (deployment/), a third one is the load balancer: HAProxy in TCP mode with an HTTP
probe, as an Azure load balancer behaves. A client in a network namespace of its own keeps up a constant load (load.py).
Then the platform maintains one of the two for real: the fake platform publishes the event, and when it has started, the
machine is frozen, rebooted, or loses its power. The same is played on a second site without EvenKeel, beside it.
"""

import argparse
import concurrent.futures
import contextlib
import csv
import dataclasses
import itertools
import json
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "machine"), str(HERE.parent / "support")]

import image  # noqa: E402
import machine  # noqa: E402
import packages  # noqa: E402
from machine import wait_until  # noqa: E402

DEPLOYMENT = HERE / "deployment"
SHOP, READY = 80, 8008
BALANCER = "10.0.9.1"
MEMBERS = {"a": "10.0.1", "b": "10.0.2"}

# The notice that Microsoft documents for each type; a Terminate's is the customer's choice, 5 minutes at least.
NOTICE = {"Reboot": 900, "Redeploy": 600, "Freeze": 900, "Preempt": 30, "Terminate": 300}


@dataclasses.dataclass
class Probe:
    """What the load balancer was told: so many answers in a row, one each interval, and it takes a member out or back in."""
    interval: int
    threshold: int

    def __str__(self):
        return f"{self.interval} s x {self.threshold}"


@dataclasses.dataclass
class Plan:
    """What is played: each type of event with the probe it is played with, and under which load."""
    probes: dict
    load: dict
    freeze_seconds: int
    off_seconds: int                 # between a machine's end and its next boot
    settle_seconds: float = 3


SHORT, REAL = Probe(1, 2), Probe(5, 2)


def quick():
    """A few minutes: the load balancer's usual probe for a reboot and the shortest notice, a faster one for the others."""
    return Plan({"Reboot": REAL, "Redeploy": SHORT, "Freeze": SHORT, "Preempt": REAL, "Terminate": SHORT},
                {"kept": 8, "pause": 0.2, "freshPerSecond": 12, "slow": 6, "slowSeconds": 4, "patience": 5}, 10, 2)


def full():
    return Plan({kind: REAL for kind in NOTICE},
                {"kept": 24, "pause": 0.2, "freshPerSecond": 40, "slow": 12, "slowSeconds": 6, "patience": 5}, 20, 15)


# The site

class Vm:
    """One member: nginx before gunicorn, and EvenKeel if the site has it."""

    def __init__(self, letter, evenkeel, stack):
        self.letter, self.evenkeel = letter, evenkeel
        self.address = f"{MEMBERS[letter]}.2"
        self.machine = stack.enter_context(machine.Machine(packages=image.LAB_PACKAGES))

    def furnish(self):
        one = self.machine
        one.copy_in(DEPLOYMENT / "shop.py", "/srv/shop/shop.py")
        one.copy_in(DEPLOYMENT / "shop.service", "/etc/systemd/system/shop.service")
        one.copy_in(DEPLOYMENT / "nginx-site.conf", "/etc/nginx/sites-enabled/default")
        if not self.evenkeel:
            one.copy_in(DEPLOYMENT / "nginx-probe.conf", "/etc/nginx/sites-enabled/probe")
        one.run("systemctl disable haproxy && systemctl enable nginx shop")
        one.start_platform()
        one.boot()
        if self.evenkeel:
            one.copy_in(packages.debian(), "/root/evenkeel.deb")
            one.run("dpkg -i /root/evenkeel.deb 2>&1", timeout=60)

    def configure(self, probe):
        """EvenKeel's settings for this probe: those of the README, with its numbers."""
        if not self.evenkeel:
            return
        settings = json.loads((DEPLOYMENT / "evenkeel.json").read_text())
        settings["health"]["loadBalancerProbe"] = {"intervalInSeconds": probe.interval, "unhealthyThreshold": probe.threshold}
        self.machine.write("/etc/evenkeel/evenkeel.json", json.dumps(settings), mode=0o600)
        self.machine.run("evenkeel validate /etc/evenkeel/evenkeel.json && systemctl reload evenkeel.service")

    def steps(self, since, until):
        """[(time, name)] of the steps that EvenKeel has begun, as its journal has them."""
        if not self.evenkeel:
            return []
        lines = self.machine.journal("-o", "json", "-t", "evenkeel", f"--since=@{int(since)}").splitlines()
        found = []
        for entry in map(json.loads, lines):
            when = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
            match = re.match(r"(?:drain: )?step (\S+) \(", str(entry["MESSAGE"]))
            if match and since <= when <= until:
                found.append((when, match[1]))
        return found


class Balancer:
    def __init__(self, stack):
        self.machine = stack.enter_context(machine.Machine(packages=image.LAB_PACKAGES))

    def furnish(self, probe):
        self.machine.write("/etc/haproxy/haproxy.cfg", self.configuration(probe))
        self.machine.boot()

    @staticmethod
    def configuration(probe):
        text = (DEPLOYMENT / "haproxy.cfg").read_text()
        return text.replace("@INTERVAL@", str(probe.interval)).replace("@THRESHOLD@", str(probe.threshold))

    def configure(self, probe):
        self.machine.write("/etc/haproxy/haproxy.cfg", self.configuration(probe))
        self.machine.run("systemctl restart haproxy")

    def states(self):
        """{member: whether it is given new connections}"""
        text = self.machine.inside(fetch, "http://127.0.0.1:9000/;csv")[1]
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        return {row["svname"]: row["status"].startswith("UP") for row in rows if row["pxname"] == "shop" and row["svname"] in MEMBERS}


def fetch(url, timeout=0.5):
    """(status, text), or (0, why)."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError as error:
        return 0, str(error)


class Client:
    """The load generator, in a network namespace that has nothing but a cable to the load balancer."""

    numbers = itertools.count(1)

    def __init__(self, balancer, plan):
        self.balancer = balancer
        self.interface = f"client{next(self.numbers)}"
        self.process = subprocess.Popen(["unshare", "--net", "--", "/usr/bin/python3", "-B", str(HERE / "load.py")],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "here\n":
            raise machine.MachineError("the load generator did not start")
        machine.connect((balancer.network_pid, self.interface, f"{BALANCER}/24"), (self.process.pid, "eth0", "10.0.9.2/24"))
        self.process.stdin.write(json.dumps({**plan, "host": BALANCER, "port": SHOP}) + "\n")
        self.process.stdin.flush()

    def end(self):
        """Lets the last requests end and returns what load.py tells."""
        report, _ = self.process.communicate(timeout=60)
        return json.loads(report)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        subprocess.run(["nsenter", f"--target={self.balancer.network_pid}", "--net", "--", "ip", "link", "delete", self.interface],
                       stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()


class Watch:
    """When the member's probe and the load balancer's opinion of it change, seen from beside the load balancer."""

    def __init__(self, site, vm):
        self.site, self.vm = site, vm
        self.changes = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        last = {}
        while not self.stopping.wait(0.05):
            seen = {"probe": self.site.balancer.machine.inside(fetch, f"http://{self.vm.address}:{READY}/ready")[0] == 200,
                    "member": self.site.balancer.states().get(self.vm.letter)}
            for what, value in seen.items():
                if last.get(what) != value:
                    self.changes.append((time.time(), what, value))
            last = seen

    def first(self, what, value, since):
        return next((when for when, *change in self.changes if change == [what, value] and when >= since), None)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, traceback):
        self.stopping.set()
        self.thread.join()


# What happens

@dataclasses.dataclass
class Outcome:
    """What one event did to one site."""
    kind: str
    probe: Probe
    load: dict                       # what load.py tells
    member: str                      # the one that was maintained
    times: dict
    steps: list                      # [(time, name)] of EvenKeel's steps after probeDown

    @property
    def requests(self):
        return sum(self.load["requests"].values())

    @property
    def failed(self):
        return sum(sum(reasons.values()) for reasons in self.load["failed"].values())

    @property
    def slowest(self):
        """The longest wait for an answer that should come at once, in seconds."""
        return max(self.load["slowest"].get(kind, 0) for kind in ("kept", "fresh"))

    def served(self, since, until):
        """Requests that the member answered in the whole seconds between two times."""
        seconds = self.load["members"].get(self.member, {})
        return sum(count for second, count in seconds.items() if since <= int(second) <= until - 1)

    def phases(self):
        """[(what, seconds)] from the event's publication to the member's return."""
        # each step ends where the next one begins, the last with the acknowledgement
        names = ["probeDown", *(name for _, name in self.steps)]
        ends = [*(when for when, _ in self.steps), self.times["acknowledged"]]
        marks = [("noticed", self.times["down"]), *zip(names, ends), ("started", self.times["started"]),
                 ("platform at work", self.times["over"]), ("restored, probe up", self.times["up"]),
                 ("in the load balancer again", self.times["back"])]
        found, last = [], self.times["published"]
        for what, when in marks:
            if when is not None:
                found.append((what, when - last))
                last = when
        return found


class Site:
    """Two members behind a load balancer."""

    def __init__(self, evenkeel, plan):
        self.evenkeel, self.plan = evenkeel, plan
        self.stack = contextlib.ExitStack()
        self.vms = []
        self.balancer = None

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.balancer = Balancer(stack)
            self.vms = [Vm(letter, self.evenkeel, stack) for letter in MEMBERS]
            for vm in self.vms:
                network = MEMBERS[vm.letter]
                machine.connect((self.balancer.machine.network_pid, f"vm-{vm.letter}", f"{network}.1/24"),
                                (vm.machine.network_pid, "eth0", f"{vm.address}/24"))
            for vm in self.vms:
                vm.furnish()
            self.balancer.furnish(SHORT)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, kind, value, traceback):
        self.stack.close()

    def machines(self):
        return [self.balancer.machine, *(vm.machine for vm in self.vms)]

    def wait_for_members(self, timeout=60):
        wait_until(lambda: all(self.balancer.states().values()), timeout, "both members to be in the load balancer")

    def play(self, kind):
        """One event on the first member, under load from before it is published until the member is back."""
        probe, vm = self.plan.probes[kind], self.vms[0]
        for one in self.vms:
            one.configure(probe)
        self.balancer.configure(probe)
        for one in self.vms:
            wait_until(lambda: self.balancer.machine.inside(fetch, f"http://{one.address}:{READY}/ready")[0] == 200, 30, f"{one.letter} to be ready")
        self.wait_for_members()
        with Client(self.balancer.machine, self.plan.load) as client, Watch(self, vm) as watch:
            time.sleep(self.plan.settle_seconds)
            times = self.maintain(kind, vm)
            # a member that was gone so briefly that the load balancer has not noticed is back already
            time.sleep(probe.interval * probe.threshold)
            self.wait_for_members()
            time.sleep(self.plan.settle_seconds)
            load = client.end()
        times["down"] = watch.first("probe", False, times["published"])
        times["up"] = watch.first("probe", True, times["over"])
        times["out"] = watch.first("member", False, times["published"])
        times["back"] = watch.first("member", True, times["out"] or times["over"])
        return Outcome(kind, probe, load, vm.machine.name, times, vm.steps(times["published"], times["started"]))

    def maintain(self, kind, vm):
        """The platform's part: announces, waits for the acknowledgement or the end of the notice, does what it said."""
        platform = vm.machine.platform
        duration = self.plan.freeze_seconds if kind == "Freeze" else -1
        published = time.time()
        event = platform.add_event(kind, not_before_in_seconds=NOTICE[kind], duration_in_seconds=duration)
        times = {"published": published}
        if self.evenkeel:
            wait_until(lambda: platform.events()[0]["EventStatus"] == "Started", NOTICE[kind] + 5, f"the {kind} to start")
            times["acknowledged"] = next((entry["time"] for entry in platform.acknowledgements() if event in entry["ids"]), None)
        else:
            # nobody listens and the notice passes; there is no need to wait for its end
            platform.start_event(event)
        times["started"] = time.time()
        one = vm.machine
        if kind == "Freeze":
            one.freeze()
            time.sleep(self.plan.freeze_seconds)
            one.thaw()
        elif kind == "Reboot":
            one.reboot(off_seconds=self.plan.off_seconds)
        else:
            one.kill_hard()
            time.sleep(self.plan.off_seconds)
            if kind != "Redeploy":
                # the event goes with the VM, and the next one to boot from this disk has never heard of it
                platform.remove_event(event)
            one.boot()
        times["over"] = time.time()
        if kind in ("Freeze", "Reboot", "Redeploy"):
            platform.remove_event(event)
        return times


def play(plan, tell=lambda text: None, kinds=None):
    """Plays all events on both sites at the same time: {evenkeel: {kind: Outcome}}."""
    packages.debian()

    def on(evenkeel):
        outcomes = {}
        with Site(evenkeel, plan) as site:
            try:
                for kind in kinds or plan.probes:
                    outcomes[kind] = site.play(kind)
                    one = outcomes[kind]
                    tell(f"{kind} {'with' if evenkeel else 'without'} EvenKeel: {one.requests} requests, {one.failed} failed")
            except BaseException:
                for one in site.machines():
                    one.thaw()
                    tell(one.report())
                raise
        return outcomes

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = {evenkeel: pool.submit(on, evenkeel) for evenkeel in (True, False)}
        return {evenkeel: future.result() for evenkeel, future in futures.items()}


# Telling it

def columns(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                               for column, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows)


def table(outcomes):
    """The comparison, then each phase of the runs with EvenKeel, then what failed and how."""
    rows = [("event", "notice", "probe", "with EvenKeel: requests", "failed", "slowest", "without: requests", "failed", "slowest")]
    for kind, ours in outcomes[True].items():
        rows.append((kind, f"{NOTICE[kind]} s", str(ours.probe), *(cell for one in (ours, outcomes[False][kind])
                     for cell in (str(one.requests), str(one.failed), f"{one.slowest * 1000:.0f} ms"))))
    parts = [columns(rows)]

    phases = {kind: dict(one.phases()) for kind, one in outcomes[True].items()}
    names = list(dict.fromkeys(name for found in phases.values() for name in found))
    beside = {"noticed": "reach 1.1; peers poll every 1 .. 60 s",
              "probeDown": "interval x (threshold + 1)",
              "in the load balancer again": "interval x threshold"}
    rows = [("phases with EvenKeel, seconds", *phases, "")]
    rows += [(name, *(f"{found[name]:.1f}" if name in found else "" for found in phases.values()), beside.get(name, "")) for name in names]
    rows.append(("from published to as before", *(f"{sum(found.values()):.1f}" for found in phases.values()), ""))
    parts.append(columns(rows))

    lines = []
    for evenkeel, title in ((True, "with EvenKeel"), (False, "without")):
        for kind, one in outcomes[evenkeel].items():
            for sort, reasons in one.load["failed"].items():
                lines += [f"{kind} {title}: {count} {sort}: {reason}" for reason, count in reasons.items()]
    parts.append("\n".join(lines) or "nothing failed")
    return "\n\n".join(parts)


def complaints(outcomes):
    """What the lab expects and has not seen."""
    found = []
    for kind, one in outcomes[True].items():
        times = one.times
        expected = [
            (one.failed == 0, f"{one.failed} of {one.requests} requests failed with EvenKeel, the first: {one.load['failures'][:5]}"),
            (times["acknowledged"], "not acknowledged"),
            (one.served(0, times["published"]), "the member answered nothing before"),
            (not one.served(times["started"], times["over"]), "the member answered requests while the platform worked on it"),
            (times["back"] and one.served(times["back"], time.time()), "the member answered nothing afterwards"),
        ]
        expected += [(one.load["requests"].get(sort, 0) >= 10, f"no load worth the name: fewer than 10 {sort} requests")
                     for sort in ("kept", "fresh", "slow")]
        found += [f"{kind}: {complaint}" for fulfilled, complaint in expected if not fulfilled]
    # or else the load would not see a failure if there was one
    found += [f"{kind}: no request failed without EvenKeel" for kind, one in outcomes[False].items() if not one.failed]
    return found


def unavailable():
    """Why the lab cannot be set up here, or None."""
    reason = machine.unavailable(image.LAB_PACKAGES)
    if reason:
        return reason
    cable = subprocess.run(["unshare", "--net", "--", "ip", "link", "add", "one", "type", "veth", "peer", "name", "other"],
                           capture_output=True, text=True)
    return f"this kernel has no veth: {cable.stderr.strip()}" if cable.returncode != 0 else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the usual probe of 5 s x 2 for every type, and more load")
    parser.add_argument("--probe", metavar="SECONDSxTIMES", help="this probe for every type, such as 5x2")
    parser.add_argument("--types", metavar="A,B", help=f"only these of {','.join(NOTICE)}")
    options = parser.parse_args()
    reason = unavailable()
    if reason:
        sys.exit(f"lab: {reason}")
    plan = full() if options.full else quick()
    kinds = options.types.split(",") if options.types else list(NOTICE)
    if options.probe:
        plan.probes = {kind: Probe(*map(int, options.probe.split("x"))) for kind in NOTICE}
    began = time.monotonic()
    outcomes = play(plan, lambda text: print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True), kinds)
    print(f"\n{table(outcomes)}")
    found = complaints(outcomes)
    for complaint in found:
        print(f"lab: {complaint}", file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
