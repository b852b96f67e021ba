"""Draining, by the built program against the fake platform, at the pace of a real VM (settings.md part 2)."""

import http.server
import json
import os
import threading
import time

import pytest
from draining import EVENTS, PATIENCE, Programme
from vm import BINARY, http_get, wait_until

PROGRAMME = Programme(ack_to_started_in_seconds=0.2)
performances = PROGRAMME.performances()


# One event

@PROGRAMME.scenario
def whole_life(host):
    host.configure({"type": "probeDown", "waitInSeconds": 1}, host.step("pause"))
    host.start()
    host.wait_ready(200)
    host.wait_says("watching")
    host.wait_polls(2)
    host.platform.set_event_timing(auto_start=False)
    event = host.platform.add_event("Reboot", not_before_in_seconds=600, description="Host maintenance")
    published = time.time()
    host.wait_ready(503, 3)
    down = time.time()
    host.platform.wait_for_acknowledgement(event)
    begun, ended = host.times("begin", "pause"), host.times("end", "pause")
    assert host.notes() == [("begin", "pause"), ("end", "pause")]
    assert down - published < 3 and begun[0] - down > 0.7, "the balancer must have had its second to notice"
    assert host.acks(event)[0] >= ended[0], "acknowledged before the steps were done"
    assert host.lines()[0].split()[3:] == ["drain", "Reboot", event]
    host.wait_says("drained for Reboot")
    assert "acknowledged" in host.says("drain") and host.substatus("drain")["status"] == "success"
    host.platform.start_event(event)
    host.wait_polls(2)
    assert host.ready() == 503 and host.notes()[2:] == []
    host.platform.remove_event(event)
    host.wait_ready(200, 4)
    assert host.notes()[2:] == [("undo", "pause"), ("undone", "pause")]
    host.wait_says("watching")
    assert len(host.acks(event)) == 1
    polls = host.polls()
    span = polls[-1]["time"] - polls[0]["time"]
    assert len(polls) <= span + 3, "polled more than once a second"
    assert all(request["status"] == 200 for request in host.platform.requests("imds"))
    assert not any("proxy" in key or key == "x-forwarded-for" for request in polls for key in request["headers"])


@PROGRAMME.scenario
def cancelled_after_the_drain(host):
    host.configure(host.step("a"), host.step("b"), policy=[{"action": "drain", "acknowledge": "never"}])
    host.start()
    event = host.platform.add_event("Freeze", not_before_in_seconds=600)
    host.wait_says("drained for Freeze")
    host.wait_polls(1)
    host.platform.remove_event(event)
    host.wait_says("watching")
    assert [note for note in host.notes() if note[0] in ("begin", "undo")] == [
        ("begin", "a"), ("begin", "b"), ("undo", "b"), ("undo", "a")]
    assert host.platform.acknowledgements() == []


@PROGRAMME.scenario
def cancelled_in_the_middle_of_a_step(host):
    host.configure(host.step("a"), host.step("slow", "sleep 30"), host.step("never"))
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_note("begin", "slow")
    host.platform.remove_event(event)
    start = time.monotonic()
    host.wait_says("watching")
    assert time.monotonic() - start < 6, "the running step was not stopped"
    assert host.notes() == [("begin", "a"), ("end", "a"), ("begin", "slow"),
                            ("undo", "slow"), ("undone", "slow"), ("undo", "a"), ("undone", "a")]
    assert host.acks(event) == []


@PROGRAMME.scenario
def started_without_notice(host):
    host.configure({"type": "probeDown", "waitInSeconds": 30}, host.step("a"))
    host.start()
    host.wait_says("watching")
    event = host.platform.add_event("Freeze", status="Started")
    start = time.monotonic()
    host.wait_note("end", "a")
    assert time.monotonic() - start < 5, "waits are for those who have time"
    host.wait_ready(503)
    host.wait_says("drained")
    host.platform.remove_event(event)
    host.wait_ready(200)
    assert host.platform.acknowledgements() == []
    assert host.times("undone", "a")


@PROGRAMME.scenario
def preempt_with_three_seconds(host):
    host.configure({"type": "probeDown", "waitInSeconds": 15}, host.step("checkpoint", "sleep 0.2", reserveInSeconds=1),
                   host.step("last"))
    host.start()
    host.wait_says("watching")
    published = time.time()
    event = host.platform.add_event("Preempt", not_before_in_seconds=3)
    acknowledged = host.platform.wait_for_acknowledgement(event, 5)["time"]
    assert host.times("end", "checkpoint")[0] - published < 3
    assert host.times("end", "last")[0] <= acknowledged
    host.platform.remove_event(event)
    host.wait_ready(200)


@PROGRAMME.scenario
def no_step_begins_after_not_before(host):
    host.configure(host.step("stubborn", "trap : TERM; while :; do sleep 0.1; done"), host.step("late"))
    host.start()
    host.wait_says("watching")
    host.platform.set_event_timing(auto_start=False)
    event = host.platform.add_event("Redeploy", not_before_in_seconds=2)
    host.wait_says("incomplete: there was no time left for all steps; step stubborn was cut short, and 1 more not begun")
    assert host.substatus("drain")["status"] == "warning"
    assert host.notes() == [("begin", "stubborn")]
    host.platform.remove_event(event)
    host.wait_says("watching")
    assert host.notes()[1:] == [("undo", "stubborn"), ("undone", "stubborn")], "what was never begun is not undone"


@PROGRAMME.scenario
def lead(host):
    host.configure(host.step("a"), leadInSeconds=2)
    host.start()
    host.wait_says("watching")
    host.platform.set_event_timing(auto_start=False)
    published = time.time()
    event = host.platform.add_event("Reboot", not_before_in_seconds=4)
    not_before = int(published + 4) + 1
    host.wait_says("not before")
    host.platform.wait_for_acknowledgement(event)
    assert not_before - 2.1 <= host.times("begin", "a")[0] <= not_before


# Several events, and those of others

@PROGRAMME.scenario
def two_events(host):
    host.configure(host.step("a"))
    host.start()
    host.wait_says("watching")
    host.platform.set_event_timing(auto_start=False)
    first = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(first)
    second = host.platform.add_event("Freeze", not_before_in_seconds=300, duration_in_seconds=20)
    host.platform.wait_for_acknowledgement(second)
    host.platform.remove_event(first)
    host.wait_polls(2)
    assert host.ready() == 200 or host.says("drain").startswith("drained")
    assert host.notes() == [("begin", "a"), ("end", "a")]
    host.platform.remove_event(second)
    host.wait_says("watching")
    assert host.notes()[2:] == [("undo", "a"), ("undone", "a")]
    assert (len(host.acks(first)), len(host.acks(second))) == (1, 1)


@PROGRAMME.scenario
def events_that_are_not_ours(host):
    host.configure(host.step("a"))
    host.start()
    host.wait_says("watching")
    host.platform.add_event("Reboot", resources=["other", "vm2"], not_before_in_seconds=60)
    host.platform.add_event("Terminate", resources=[], not_before_in_seconds=60)
    unknown = host.platform.add_event("Rebalance", not_before_in_seconds=60)
    host.wait_polls(3)
    assert host.notes() == [] and host.ready() == 200
    # Named together with others: drained for, but an acknowledgement would speak for them, too.
    shared = host.platform.add_event("Redeploy", resources=["other", "VM"], not_before_in_seconds=60)
    host.wait_says("drained for Redeploy")
    host.wait_polls(1)
    assert host.platform.acknowledgements() == []
    host.platform.remove_event(shared)
    host.wait_says("watching")
    assert unknown in [event["EventId"] for event in host.platform.events()]


@PROGRAMME.scenario
def short_freeze(host):
    """The default policy: a freeze of a few seconds is no reason to drain, and no reason to keep the platform waiting."""
    host.configure(host.step("a"))
    host.start()
    event = host.platform.add_event("Freeze", not_before_in_seconds=600, duration_in_seconds=5)
    host.platform.wait_for_acknowledgement(event)
    host.wait_polls(2)
    assert host.notes() == [] and host.ready() == 200 and len(host.acks(event)) == 1


@PROGRAMME.scenario
def ignored(host):
    """Not even told, but for what is done about it."""
    host.configure(host.step("a"), policy=[{"types": ["Freeze"], "action": "ignore", "acknowledge": "immediately"},
                                           {"types": ["Redeploy"], "action": "notify"}])
    host.start()
    event = host.platform.add_event("Freeze", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event)
    host.platform.remove_event(event)
    event = host.platform.add_event("Redeploy", not_before_in_seconds=600)
    host.wait_for("the other to be told", lambda: f"Redeploy {event} is scheduled" in host.log_text())
    assert [line.rpartition(" Freeze ")[2].split()[1] for line in host.log_text().splitlines() if " Freeze " in line] == ["acknowledged"]
    assert host.notes() == [] and host.ready() == 200 and host.acks(event) == []


# The application's health

class Application(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        self.send_response(self.server.code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@PROGRAMME.scenario
def the_application_is_asked_anew(host):
    """What was known of it is from before it was stopped; and nobody waits for its interval, here one minute."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application)
    server.code, server.asked = 500, 0
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        host.configure(host.step("a"), health={"application": {
            "http": f"http://127.0.0.1:{server.server_port}/", "intervalInSeconds": 60, "unhealthyThreshold": 1}})
        host.start()
        host.wait_for("the application to be asked again", lambda: server.asked >= 3)
        assert host.ready() == 503
        server.code = 200
        host.wait_ready(200, 10)
        server.asked = 0
        event = host.platform.add_event("Reboot", not_before_in_seconds=600)
        host.platform.wait_for_acknowledgement(event)
        assert server.asked <= 1
        assert r'\"SkipUpgrade\":true' in http_get(f"http://127.0.0.1:{host.port}/app-health")[1]
        server.code = 500
        host.platform.remove_event(event)
        host.wait_says("waiting for the application to become healthy")
        host.wait_for("the application to be asked again", lambda: server.asked >= 3)
        assert host.ready() == 503
        assert '{"ApplicationHealthState":"Healthy",' in http_get(f"http://127.0.0.1:{host.port}/app-health")[1], \
            "what we have stopped is not to be replaced"
        server.code = 200
        host.wait_ready(200, 10)
        host.wait_says("watching")
        assert r'\"SkipUpgrade\":false' in http_get(f"http://127.0.0.1:{host.port}/app-health")[1]
        # unhealthy in earnest, at the next look
        server.code = 500
        server.asked = 0
        host.stop_daemon()
        host.start()
        host.wait_for("the application to be asked", lambda: server.asked >= 1)
        host.wait_for("the platform to be told", lambda: '{"ApplicationHealthState":"Unhealthy",' in
                      http_get(f"http://127.0.0.1:{host.port}/app-health")[1])
    finally:
        server.shutdown()
        server.server_close()


# Steps that do not go well

@PROGRAMME.scenario
def abort(host):
    host.configure(host.step("a", "false"), host.step("bad", "echo no such database >&2; false", onFailure="abort"),
                   host.step("never"))
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_says("aborted and not acknowledged; step bad")
    assert host.substatus("drain")["status"] == "warning" and "step bad" in host.says("drain")
    host.wait_polls(2)
    assert host.acks(event) == [] and ("begin", "never") not in host.notes()
    host.platform.remove_event(event)
    host.wait_says("watching")
    assert [note for note in host.notes() if note[0] == "undo"] == [("undo", "bad"), ("undo", "a")]


@PROGRAMME.scenario
def timeout_and_retry(host):
    """A step that hangs is killed with all it has started; one that fails is tried again; both are told."""
    host.configure(host.step("hangs", f"sh -c 'sleep 31.4159 & echo $! >{host.root}/grandchild; wait'", timeoutInSeconds=1),
                   host.step("flaky", f"test -e {host.root}/second || {{ touch {host.root}/second; exit 9; }}",
                             retry={"times": 1, "delayInSeconds": 1}))
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    assert host.notes() == [("begin", "hangs"), ("begin", "flaky"), ("begin", "flaky"), ("end", "flaky")]
    assert "hangs" in host.says("drain")
    wait_until("the grandchild to end", lambda: not running(host.root / "grandchild"), 3)


def running(pid_file):
    try:
        state = open(f"/proc/{pid_file.read_text().strip()}/stat").read().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@PROGRAMME.scenario
def undo_that_fails(host):
    host.configure({"type": "probeDown", "waitInSeconds": 0}, host.step("a"),
                   host.step("bad", undo=f"test -e {host.root}/mended"))
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event)
    host.platform.remove_event(event)
    host.wait_says("not restored: step bad", 20)
    assert host.substatus("drain")["status"] == "error" and host.ready() == 503
    assert host.times("undone", "a"), "one that fails is no reason to leave the others undone"
    (host.root / "mended").touch()
    host.wait_ready(200, 20)
    assert host.says("drain").startswith("watching")


@PROGRAMME.scenario
def stop_units_without_a_manager(host):
    """Nothing can be stopped: that is said, and nothing is pretended."""
    host.configure(host.step("a"), {"type": "stopUnits", "name": "web", "units": ["nginx.service"], "onFailure": "abort"})
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_says("aborted and not acknowledged")
    assert "no systemd manager answers" in host.says("drain")
    host.platform.remove_event(event)
    host.wait_ready(200)
    assert host.acks(event) == []


@PROGRAMME.scenario
def hooks(host):
    for name in ("drain.d", "restore.d"):
        directory = host.root / "etc/evenkeel/hooks" / name
        directory.mkdir(parents=True)
        for hook in ("20-second", "10-first"):
            (directory / hook).write_text(f'#!/bin/sh\necho "$EVENKEEL_PHASE {hook}" >>{host.journal}\n')
            (directory / hook).chmod(0o755)
        (directory / "README").write_text("not a program")
    host.configure({"type": "hooks"})
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event)
    host.platform.remove_event(event)
    host.wait_says("watching")
    assert host.lines() == ["drain 10-first", "drain 20-second", "restore 10-first", "restore 20-second"]
    # What others may write is not run as root, and that is said.
    (host.root / "etc/evenkeel/hooks/drain.d/20-second").chmod(0o757)
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_says("20-second")
    assert host.lines()[4:].count("drain 20-second") == 0


@PROGRAMME.scenario
def hooks_of_all_kinds(host):
    """What is no program of root's own is passed over or refused by name; the others are run all the same."""
    directory = host.root / "etc/evenkeel/hooks/drain.d"
    directory.mkdir(parents=True)
    for name, mode in (("10-first", 0o755), ("20-group", 0o775), ("30-not-executable", 0o644), (".hidden", 0o755), ("40-copy~", 0o755),
                       ("50-fails", 0o700), ("60-much", 0o500), ("90-last", 0o755)):
        text = {"50-fails": "exit 7",
                "60-much": f"head -c 3000000 /dev/zero; cat {host.root}/var/lib/evenkeel/jobs/drain-*/stdout | wc -c >{host.root}/kept",
                }.get(name, ":")
        (directory / name).write_text(f"#!/bin/sh\necho ran {name} >>{host.journal}\n{text}\n")
        (directory / name).chmod(mode)
    (directory / "15-link").symlink_to("10-first")
    (directory / "16-dangling").symlink_to("nothing")
    (directory / "17-directory").mkdir()
    os.mkfifo(directory / "18-fifo", 0o755)
    (directory / "19-no-program").write_bytes(b"\x7fELF nothing that can be run")
    (directory / "19-no-program").chmod(0o755)
    host.configure({"type": "hooks"})
    host.platform.set_event_timing(auto_start=False)
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    assert host.notes() == [("ran", name) for name in ("10-first", "50-fails", "60-much", "90-last")]
    host.wait_says("20-group can be written by others")
    for name in ("15-link", "16-dangling", "18-fifo"):
        assert f"{name} is not a regular file" in host.log_text()
    assert 0 < int((host.root / "kept").read_text()) < 200000, "output has a limit"
    host.platform.remove_event(event)
    host.wait_says("watching")
    # nothing at all is run from a directory that others may write
    directory.chmod(0o777)
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    host.wait_says("no hook is run")
    assert len(host.lines()) == 4


# Suspended: the time goes on, and so do the jobs

CLOCK_SHIFT = BINARY.parents[2] / "tests/libclock_shift.so"


@PROGRAMME.scenario
def the_clock_jumps_past_not_before(host):
    """While the platform still has the event Scheduled: the drain is neither cut short nor acknowledged for it."""
    if not CLOCK_SHIFT.exists():
        pytest.skip("a sanitized program takes nothing that is loaded before its sanitizer")
    clock = host.root / "clock"
    clock.write_text("0")
    host.configure(host.step("first", f"while ! test -e {host.root}/go-on; do sleep 0.1; done"), host.step("second"),
                   marginInSeconds=3)
    host.platform.set_event_timing(auto_start=False)
    host.start(LD_PRELOAD=str(CLOCK_SHIFT), EK_CLOCK_SHIFT=str(clock))
    host.wait_says("watching")
    event = host.platform.add_event("Reboot", not_before_in_seconds=300)
    host.wait_note("begin", "first")
    for hour in ("3600", "-3600", "3600"):
        clock.write_text(hour)
        host.wait_polls(3)
        assert host.says("drain").startswith(f"draining for Reboot {event}: first") and host.acks(event) == []
    (host.root / "go-on").touch()
    host.platform.wait_for_acknowledgement(event)
    assert host.notes() == [("begin", "first"), ("end", "first"), ("begin", "second"), ("end", "second")]
    assert host.substatus("drain")["status"] == "success"
    host.platform.remove_event(event)
    host.wait_says("watching")


@PROGRAMME.scenario
def suspended_in_a_wait(host):
    """What is left of a wait is what the clock says: not the whole of it, and not what was left when the time stood still."""
    host.configure({"type": "probeDown", "waitInSeconds": 4}, host.step("a"))
    host.platform.set_event_timing(auto_start=False)
    host.start()
    host.wait_says("watching")
    for seconds, earliest, latest in ((3, 3.5, 6), (5.5, 5.4, 7.5)):
        since = len(host.lines())
        event = host.platform.add_event("Reboot", not_before_in_seconds=600)
        host.wait_ready(503)
        down = time.time()
        woken = host.suspend(seconds)
        acknowledged = host.platform.wait_for_acknowledgement(event)["time"]
        begun, ended = host.times("begin", "a", since), host.times("end", "a", since)
        assert (len(begun), len(ended)) == (1, 1)
        assert earliest <= begun[0] - down <= latest, f"suspended for {woken - down} s, began after {begun[0] - down} s"
        assert ended[0] <= acknowledged
        host.platform.remove_event(event)
        host.wait_ready(200)
        assert host.notes(since)[2:] == [("undo", "a"), ("undone", "a")] and len(host.acks(event)) == 1


@PROGRAMME.scenario
def suspended_in_a_step(host):
    """The step ends well and in time while nobody looks: for longer than it may take, that is, and before the acknowledgement."""
    host.configure(host.step("slow", "sleep 1", timeoutInSeconds=2), host.step("b"))
    host.platform.set_event_timing(auto_start=False)
    host.start()
    host.wait_says("watching")
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_note("begin", "slow")
    woken = host.suspend(4)
    host.platform.wait_for_acknowledgement(event)
    assert host.notes() == [("begin", "slow"), ("end", "slow"), ("begin", "b"), ("end", "b")]
    assert host.times("end", "slow")[0] < woken - 1 and host.times("begin", "b")[0] >= woken - 0.1
    host.wait_says("acknowledged")
    assert host.substatus("drain")["status"] == "success", host.says("drain")
    host.platform.remove_event(event)
    host.wait_ready(200)
    assert host.notes()[4:] == [("undo", "b"), ("undone", "b"), ("undo", "slow"), ("undone", "slow")]
    assert len(host.acks(event)) == 1


@PROGRAMME.scenario
def suspended_past_not_before(host):
    host.configure(host.step("first", "sleep 0.5"), host.step("late"))
    host.platform.set_event_timing(auto_start=False)
    host.start()
    host.wait_says("watching")
    event = host.platform.add_event("Redeploy", not_before_in_seconds=3)
    host.wait_note("begin", "first")
    host.suspend(5)
    host.wait_says("incomplete: there was no time left for all steps")
    assert host.notes() == [("begin", "first"), ("end", "first")]
    host.platform.remove_event(event)
    host.wait_says("watching")
    assert host.notes()[2:] == [("undo", "first"), ("undone", "first")]


@PROGRAMME.scenario
def suspended_until_it_is_over(host):
    """Cancelled before the acknowledgement, which nobody must send then."""
    host.configure(host.step("a"), host.step("slow", "sleep 1"))
    host.platform.set_event_timing(auto_start=False)
    host.start()
    host.wait_says("watching")
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_note("begin", "slow")
    canceller = threading.Timer(0.5, host.platform.remove_event, [event])
    canceller.start()
    host.suspend(3)
    canceller.join()
    host.wait_note("undone", "a")
    host.wait_says("watching")
    assert host.notes() == [("begin", "a"), ("end", "a"), ("begin", "slow"), ("end", "slow"),
                            ("undo", "slow"), ("undone", "slow"), ("undo", "a"), ("undone", "a")]
    assert host.ready() == 200


# The platform's troubles

@PROGRAMME.scenario
def refused_right_after_a_preempt(host):
    """One answer with the event in it is all that we get: drained in time, and the acknowledgement tried in time."""
    host.configure({"type": "probeDown", "waitInSeconds": 1}, host.step("a", "sleep 0.3"), host.step("b"))
    host.platform.set_event_timing(auto_start=False)
    host.start()
    host.wait_says("watching")
    event = host.platform.add_event("Preempt", not_before_in_seconds=8)
    published = time.time()
    wait_until("the poll that tells it", lambda: any(one["time"] > published for one in host.polls()), 5)
    host.platform.set_fault("imds", EVENTS, status=429, headers={"Retry-After": "60"})
    host.wait_says("drained for Preempt")
    assert host.notes() == [("begin", "a"), ("end", "a"), ("begin", "b"), ("end", "b")]
    assert host.times("begin", "a")[0] - published > 0.9, "the balancer must have had its second"
    told = [one for one in host.platform.requests("imds", EVENTS, published) if one["status"] == 200]
    assert len(told) == 1, "another poll got through"

    def tries():
        return [one["time"] for one in host.platform.requests("imds", EVENTS) if one["method"] == "POST"]

    wait_until("the acknowledgement to be tried", tries, 5)
    assert tries()[0] - published < 6 and host.acks(event) == []
    host.platform.clear_faults()
    host.platform.wait_for_acknowledgement(event, 6)
    host.platform.start_event(event)
    host.platform.remove_event(event)
    host.wait_ready(200)
    assert host.notes()[4:] == [("undo", "b"), ("undone", "b"), ("undo", "a"), ("undone", "a")]
    assert len(host.acks(event)) == 1


def with_faults(host, get, post):
    """A whole drain during which reading fails again and again, and so does the acknowledgement."""
    host.configure({"type": "probeDown", "waitInSeconds": 0}, host.step("a", "sleep 0.3"))
    host.platform.set_event_timing(auto_start=False)
    host.start()
    host.wait_says("watching")
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_note("begin", "a")
    host.platform.set_fault("imds", EVENTS, times=2, **post)
    host.wait_note("end", "a")
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    host.platform.clear_faults()
    host.platform.set_fault("imds", EVENTS, times=3, **get)
    count = len(host.polls())
    wait_until("three polls to fail", lambda: len(host.polls()) >= count + 3, PATIENCE)
    assert host.ready() == 503 and host.times("undo", "a") == [], "a failed poll is no reason to restore"
    host.platform.remove_event(event)
    host.wait_ready(200, PATIENCE)
    assert len(host.times("begin", "a")) == 1 and len(host.acks(event)) == 1
    host.wait_says("watching")
    assert host.substatus("drain")["status"] == "success"


for _name, _get, _post in (
        ("too_many_requests", {"status": 429}, {"status": 429}), ("server_error", {"status": 500}, {"status": 503}),
        ("cut", {"cut_after_bytes": 20}, {"drop": True}), ("garbage", {"garbage": True}, {"garbage": "http"}),
        ("silence", {"drop": True}, {"status": 500}), ("empty_answers", {"body": b"{}"}, {"status": 410})):
    PROGRAMME[f"faults_{_name}"] = lambda host, get=_get, post=_post: with_faults(host, get, post)


@PROGRAMME.scenario
def slow_first_answer(host):
    host.platform.set_event_timing(first_get_delay_in_seconds=3)
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.configure(host.step("a"))
    host.start()
    host.platform.wait_for_acknowledgement(event)
    host.platform.remove_event(event)
    host.wait_says("watching")
    first, second = host.polls()[:2]
    assert second["time"] - first["time"] >= 3, "asked again while the first answer was on its way"


@PROGRAMME.scenario
def platform_that_is_down_at_first(host):
    host.platform.set_fault("imds", drop=True)
    host.configure(host.step("a"))
    host.start()
    wait_until("the trouble to be told", lambda: "name of this VM is not known yet" in host.says("drain"), 5)
    assert host.ready() == 200
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.clear_faults()
    host.platform.wait_for_acknowledgement(event, 15)


@PROGRAMME.scenario
def version_that_is_gone(host):
    """400 with a list of newer versions: one of them is used."""
    host.configure(host.step("a"), apiVersion="2016-01-01")
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event)
    requests = host.platform.requests("imds", EVENTS)
    assert [request["status"] for request in requests[:2]] == [400, 200]
    assert {request["query"]["api-version"] for request in requests[1:]} == {"2020-07-01"}


@PROGRAMME.scenario
def versions_that_name_each_other(host):
    """A service that refuses every version and names another is not asked in a circle, and answers when it has come to itself."""
    versions = ("2020-07-01", "2099-01-01")
    for version, other in zip(versions, reversed(versions)):
        host.platform.set_fault("imds", f"{EVENTS}?api-version={version}", status=400,
                                body=json.dumps({"error": "Bad request", "newest-versions": [other]}).encode())
    host.configure(host.step("a"))
    host.start()
    host.wait_for("a fall back", lambda: "using 2099-01-01" in host.log_text())
    time.sleep(2)
    assert 2 <= len(host.polls()) <= 6, len(host.polls())
    assert "Scheduled" in host.says("drain") or "scheduled" in host.says("drain")
    host.platform.clear_faults()
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event, 30)


@pytest.mark.parametrize("name", list(PROGRAMME))
def test_scenario(performances, name):
    performances[name].result()
