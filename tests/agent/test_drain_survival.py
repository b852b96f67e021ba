"""What a drain survives, by the built program against the fake platform: settings that change, boots, kills at any instant, and
disks that are full or cannot be written."""

import contextlib
import json
import os
import random
import signal
import threading
import time

import pytest
from draining import EVENTS, PATIENCE, Programme
from vm import free_port, http_get, may_mount, may_trace, wait_until

PROGRAMME = Programme(ack_to_started_in_seconds=0.2)
BOOT = "proc/sys/kernel/random/boot_id"
performances = PROGRAMME.performances()


# Settings that change, boots, kills

@PROGRAMME.scenario
def section_removed_while_drained(host):
    path = host.configure({"type": "probeDown", "waitInSeconds": 0}, host.step("a"), host.step("b"))
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event)
    settings = json.loads(path.read_text())
    del settings["drain"]
    path.write_text(json.dumps(settings))
    host._daemon.send_signal(signal.SIGHUP)
    host.wait_ready(200)
    assert [note for note in host.notes() if note[0] == "undo"] == [("undo", "b"), ("undo", "a")]
    wait_until("drain to fall silent", lambda: host.substatus("drain") == {}, 5)
    polls = len(host.polls())
    time.sleep(1.5)
    assert len(host.polls()) == polls, "nothing is polled without a section"


def reload(host):
    before = host.log_text()
    host._daemon.send_signal(signal.SIGHUP)
    host.wait_for("the settings to be read again", lambda: host.log_text() != before)


@PROGRAMME.scenario
def settings_that_change_in_the_middle_of_a_drain(host):
    """What is begun is ended as it was planned, wherever the probe is asked; the next drain is by the new steps."""
    go_on = host.root / "go-on"
    host.configure(host.step("a", f"until test -e {go_on}; do sleep 0.05; done"), host.step("b"),
                   {"type": "probeDown", "waitInSeconds": 0}, host.step("c"))
    host.platform.set_event_timing(auto_start=False)
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_note("begin", "a")
    host.port = free_port()
    host.configure(host.step("c", "echo other >&2"), host.step("renamed"))
    reload(host)
    host.wait_ready(200)
    go_on.touch()
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    assert host.notes() == [(what, step) for step in "abc" for what in ("begin", "end")]
    assert host.ready() == 503
    host.port = free_port()
    host.configure(host.step("renamed"), host.step("c"))
    reload(host)
    host.wait_ready(503)
    host.platform.remove_event(event)
    host.wait_ready(200)
    assert host.notes()[6:] == [(what, step) for step in "cba" for what in ("undo", "undone")]
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    assert host.notes()[12:] == [(what, step) for step in ("renamed", "c") for what in ("begin", "end")]


def newest_damaged(record):
    """As by a torn write: agent/io/record.c tells how a slot looks."""
    size = int.from_bytes(record[16:24], "little")
    at = max((0, size), key=lambda slot: int.from_bytes(record[slot + 8:slot + 16], "little")) + 41
    return record[:at] + b"\xff" + record[at + 1:]


@PROGRAMME.scenario
def a_record_that_is_damaged(host):
    """What it held before is gone on with. Where that is gone, too, it is said what is lost, and what is still known is drained
    for again."""
    host.configure({"type": "probeDown", "waitInSeconds": 0}, host.step("a"))
    host.platform.set_event_timing(auto_start=False)
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    record = host.root / "var/lib/evenkeel/state/drain"
    for rounds, damage in enumerate((newest_damaged, lambda whole: b"\xff" * len(whole))):
        host.kill_daemon()
        record.write_bytes(damage(record.read_bytes()))
        host.start()
        host.wait_says("drained for Reboot")
        assert host.ready() == 503
        assert host.log_text().count("look for units that are still stopped") == rounds
    host.platform.remove_event(event)
    host.wait_ready(200)
    host.wait_says("watching")
    assert host.times("undone", "a")


@PROGRAMME.scenario
def stopped_and_started_while_drained(host):
    host.configure({"type": "probeDown", "waitInSeconds": 0}, host.step("a"))
    host.platform.set_event_timing(auto_start=False)
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event)
    host.wait_says("acknowledged")  # whose answer is not noted when the service stops may be sent again
    host.stop_daemon()
    assert host.notes() == [("begin", "a"), ("end", "a")], "stopping the service restores nothing"
    host.start()
    host.wait_polls(2)
    assert host.ready() == 503 and len(host.notes()) == 2 and len(host.acks(event)) == 1
    host.stop_daemon()
    host.platform.remove_event(event)
    host.start()
    host.wait_ready(200)
    assert host.notes()[2:] == [("undo", "a"), ("undone", "a")] and len(host.acks(event)) == 1


@PROGRAMME.scenario
def a_boot_ends_the_event(host):
    boot = host.root / BOOT
    boot.parent.mkdir(parents=True)
    boot.write_text("11111111-1111-4111-8111-111111111111\n")
    host.configure({"type": "probeDown", "waitInSeconds": 0}, host.step("a"))
    host.platform.set_event_timing(ack_to_started_in_seconds=0)
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event)
    host.wait_polls(2)
    host.kill_daemon()
    boot.write_text("22222222-2222-4222-8222-222222222222\n")
    # The platform has not told the end yet; nobody is sent here before it has answered at all.
    host.platform.set_fault("imds", EVENTS, status=500)
    host.start()
    time.sleep(0.5)
    assert host.ready() == 503 and host.notes()[2:] == []
    host.platform.clear_faults()
    host.wait_ready(200)
    assert host.notes()[2:] == [("undo", "a"), ("undone", "a")]
    host.wait_polls(2)
    assert host.ready() == 200 and len(host.notes()) == 4, "drained again for an event that the boot has ended"


@PROGRAMME.scenario
def a_boot_in_the_middle_of_a_drain(host):
    """Freeze: a boot does not end it. What the boot has started is drained again."""
    boot = host.root / BOOT
    boot.parent.mkdir(parents=True)
    boot.write_text("11111111-1111-4111-8111-111111111111\n")
    host.configure(host.step("a"), host.step("slow", "sleep 1"))
    host.platform.set_event_timing(auto_start=False)
    host.start()
    event = host.platform.add_event("Freeze", not_before_in_seconds=600)
    host.wait_note("begin", "slow")
    host.kill_daemon()
    host.end_jobs()  # so does a boot
    boot.write_text("22222222-2222-4222-8222-222222222222\n")
    host.start()
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    assert len(host.times("begin", "a")) == 2 and len(host.times("end", "slow")) == 1
    host.platform.remove_event(event)
    host.wait_says("watching")


def check_history(host, event, kills, since, steps):
    """What must be true of one drain and one restore, however often the daemon was killed meanwhile (settings.md 2.3)."""
    notes = host.notes(since)
    told = f"kills {kills}: " + "\n".join(host.lines()[since:])
    assert "overlap" not in [what for what, _ in notes], told
    firsts = {note: notes.index(note) for note in dict.fromkeys(notes)}
    lasts = {note: len(notes) - 1 - notes[::-1].index(note) for note in firsts}
    for before, after in zip(steps, steps[1:]):
        assert lasts["end", before] < firsts["begin", after], f"{after} began before {before} had ended; {told}"
        assert lasts["undone", after] < firsts["undo", before], f"undo is the reverse of begin; {told}"
    for step in steps:
        assert {("begin", step), ("end", step), ("undo", step), ("undone", step)} <= set(notes), told
        assert lasts["end", step] < firsts["undo", step], told
    acks = host.acks(event)
    assert acks and acks[0] >= max(host.times("end", steps[-1], since)), f"acknowledged too early; {told}"
    for first, second in zip(acks, acks[1:]):
        assert any(first <= when + 0.5 and when <= second for when in kills), f"acknowledged twice: {acks}; {told}"


@contextlib.contextmanager
def probing(host):
    """Asks /ready all the time; yields a check that nobody was sent here between two moments."""
    seen, stop = [], threading.Event()

    def probe():
        while not stop.wait(0.02):
            asked = time.time()
            seen.append((asked, http_get(f"http://127.0.0.1:{host.port}/ready")[0], time.time()))

    def check_down(begun, undone):
        wrong = [one for one in seen if one[1] == 200 and begun < one[0] and one[2] < undone]
        assert not wrong, f"/ready said 200 while drained: {wrong[:3]}, begun {begun}, undone {undone}"

    prober = threading.Thread(target=probe)
    prober.start()
    try:
        yield check_down
    finally:
        stop.set()
        prober.join()


@PROGRAMME.scenario
def killed_at_any_instant(host, rounds=3, seed=20261120):
    dice = random.Random(seed)
    steps = ["a", "b", "c"]
    host.configure({"type": "probeDown", "waitInSeconds": 0}, *(host.step(name, "sleep 0.15", "sleep 0.15") for name in steps))
    host.platform.set_event_timing(ack_to_started_in_seconds=0.1, started_to_removed_in_seconds=1)
    host.start()
    host.wait_says("watching")
    total = 0
    with probing(host) as check_down:
        for _ in range(rounds):
            since = len(host.lines())
            event = host.platform.add_event("Freeze", not_before_in_seconds=600)
            kills = []
            for phase, count in (("begin", 3), ("undo", 2)):
                host.wait_for(f"the first {phase}", lambda: phase in [note[0] for note in host.notes(since)], 30)
                for _ in range(count):
                    time.sleep(dice.choice((0.01, 0.05, 0.15, 0.3, 0.6)) * dice.uniform(0.5, 1.5))
                    kills.append(time.time())
                    host.kill_daemon()
                    host.start(wait=False)
            total += len(kills)
            wait_until(f"the end of it: {host.notes(since)}", lambda: host.status() and host.says("drain") == "watching", 30)
            check_history(host, event, kills, since, steps)
            check_down(host.times("begin", "a", since)[0], host.times("undone", "a", since)[-1])
    assert total == 15 and host.ready() == 200


def killed_after_each_write(host, first, every):
    """kill -9 after write number `first` of the record, then in another drain `every` later, until a drain needs fewer."""
    if not may_trace():
        pytest.skip("killing at the very write needs strace, and the right to trace")
    steps = ["a", "b"]
    host.configure({"type": "probeDown", "waitInSeconds": 0}, *(host.step(name, "sleep 0.05", "sleep 0.05") for name in steps))
    host.platform.set_event_timing(ack_to_started_in_seconds=0.1, started_to_removed_in_seconds=0.5)
    host.start()
    host.wait_says("watching")
    kills, number = [], first
    record = host.root / "var/lib/evenkeel/state/drain"
    with probing(host) as check_down:
        while len(kills) == (number - first) // every:
            host.stop_daemon()
            # the record is written by one write(), whose fdatasync() the kill forestalls; -D: strace is the daemon's child
            host.start(prefix=["strace", "-D", "-qq", "-o", str(host.root / "trace"), "-P", str(record), "-e", "trace=fdatasync",
                               "-e", f"inject=fdatasync:signal=KILL:when={number}"], wait=False)
            traced, since = host._daemon, len(host.lines())
            event = host.platform.add_event("Freeze", not_before_in_seconds=600)
            host.wait_for("a kill, or the end", lambda: traced.poll() is not None or
                          host.times("undone", "a", since) and host.says("drain") == "watching", 30)
            when = []
            if traced.poll() is not None:
                assert traced.returncode == -signal.SIGKILL, host.log_tail()
                when.append(time.time())
                host.start(wait=False)
            kills += when
            host.wait_for("the end of it", lambda: host.status() and host.says("drain") == "watching" and
                          host.times("undone", "a", since), 30)
            check_history(host, event, when, since, steps)
            check_down(host.times("begin", "a", since)[0], host.times("undone", "a", since)[-1])
            number += every
    assert len(kills) >= 3, "the record was hardly written"
    assert host.ready() == 200
    host.kill_daemon()  # traced, it cannot be searched for leaks


for _first in (1, 2):
    PROGRAMME[f"killed_after_write_{_first}_and_every_other"] = (
        lambda host, first=_first: killed_after_each_write(host, first, 2))


# Disks

@PROGRAMME.scenario
def full_disk(host):
    """Filled to the last byte while nothing happens: the drain, its record and the restore do without."""
    if not may_mount():
        pytest.skip("mounting a small file system needs root and a mount namespace")
    state = host.root / "var/lib/evenkeel"
    state.mkdir(parents=True)
    host.configure({"type": "probeDown", "waitInSeconds": 0}, host.step("a"))
    host.platform.set_event_timing(auto_start=False)
    host.start(prefix=["unshare", "-m", "sh", "-c",
                       'mount -t tmpfs -o size=8m none "$0" && exec "$@"', str(state)])
    host.wait_says("watching")
    inside = f"/proc/{host._daemon.pid}/root{state}"
    with open(f"{inside}/filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(65536))
    assert os.statvfs(inside).f_bavail == 0
    drains_and_restores(host)


@PROGRAMME.scenario
def read_only_disk(host):
    """As after an error of the file system: kept in /run what can be kept nowhere else, and drained all the same."""
    if not may_mount():
        pytest.skip("mounting a directory read-only needs root and a mount namespace")
    host.configure({"type": "probeDown", "waitInSeconds": 0}, host.step("a"))
    host.platform.set_event_timing(auto_start=False)
    host.start()
    host.wait_says("watching")
    host.stop_daemon()
    read_only = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"',
                 str(host.root / "var/lib/evenkeel")]
    host.start(prefix=read_only)
    host.wait_says("watching")

    def kill():
        host.kill_daemon()
        host.start(prefix=read_only)
        host.wait_says("drained for Reboot")

    drains_and_restores(host, kill)
    kill_and_look(host, read_only)
    assert "it is lost at a reboot" in host.log_text()


def kill_and_look(host, prefix):
    """Nothing is left of the drain that is over."""
    host.kill_daemon()
    host.start(prefix=prefix)
    host.wait_says("watching")
    host.wait_polls(2)
    assert host.ready() == 200 and len(host.notes()) == 4


def drains_and_restores(host, meanwhile=lambda: None):
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event)
    assert host.notes() == [("begin", "a"), ("end", "a")]
    assert host.ready() == 503
    meanwhile()
    assert host.ready() == 503 and len(host.notes()) == 2
    host.platform.remove_event(event)
    host.wait_ready(200)
    assert host.notes()[2:] == [("undo", "a"), ("undone", "a")]
    assert len(host.acks(event)) == 1


@pytest.mark.parametrize("name", list(PROGRAMME))
def test_scenario(performances, name):
    performances[name].result()
