"""What drains a VM besides the platform: operators, backups, rehearsals; and events that several VMs share."""

import http.server
import json
import subprocess
import threading
import time

import pytest
from draining import PATIENCE, Programme
from vm import http_get

PROGRAMME = Programme(auto_start=False)
performances = PROGRAMME.performances()


def begin(host, *steps, **drain):
    host.configure(*(steps or (host.step("a"),)), **drain)
    host.start()
    host.wait_says("watching")


def view(host):
    code, text = host.call("GET", "/v1/events")
    assert code == 200, text
    return json.loads(text)


def drained(host):
    return http_get(f"http://127.0.0.1:{host.port}/drained")


# Operators

@PROGRAMME.scenario
def drain_and_wait(host):
    begin(host, host.step("a", "sleep 0.5"), host.step("b"))
    done = host.run("drain", "--wait", "new disk")
    assert done.returncode == 0, done.stderr
    assert [note for note in host.notes() if note[0] == "end"] == [("end", "a"), ("end", "b")]
    for line in ("draining for operator: new disk", "step a, at most 30 s", "drained for operator: new disk"):
        assert line in done.stdout
    found = view(host)
    assert (found["phase"], found["result"], found["level"], found["serving"]) == ("drained", "clean", "success", False)
    assert [(hold["kind"], hold["reason"]) for hold in found["holds"]] == [("operator", "new disk")]
    assert [(step["name"], step["state"]) for step in found["steps"]] == [("a", "done"), ("b", "done")]
    assert host.run("restore").returncode == 0
    host.wait_says("watching")


@PROGRAMME.scenario
def drain_that_is_aborted(host):
    begin(host, host.step("bad", "false", onFailure="abort"), host.step("never"))
    done = host.run("drain", "--wait")
    assert done.returncode == 1 and "aborted" in done.stdout
    assert ("begin", "never") not in host.notes()


@PROGRAMME.scenario
def events_are_shown(host):
    begin(host, leadInSeconds=60)
    assert "Events: none" in host.run("events").stdout
    event = host.platform.add_event("Reboot", not_before_in_seconds=565, duration_in_seconds=9, description="Host update")
    host.wait_says("not before")
    text = host.run("events").stdout
    for word in (f"Reboot {event}: Scheduled, not before ", "(in 9 min", "for 9 s", "by Platform", "drain, from ", "in 8 min",
                 "acknowledge whenDrained: none", "Host update", "- a (run): planned, at most 30 s"):
        assert word in text, text
    found = json.loads(host.run("events", "--json").stdout)["events"][0]
    assert (found["id"], found["state"], found["holds"]) == (event, "waiting", False)
    watching = subprocess.Popen([host.binary, "events", "--watch"], env=host.environment(), stdout=subprocess.PIPE, text=True)
    try:
        host.platform.remove_event(event)
        for line in watching.stdout:
            if "was cancelled" in line:
                break
        else:
            raise AssertionError("the end of the event was not told")
    finally:
        watching.kill()
        watching.wait()
    assert host.run("events", "--bogus").returncode == 2


# Backups

@PROGRAMME.scenario
def quiesce_and_resume(host):
    begin(host, host.step("freeze", "sleep 0.5"))
    done = host.run("quiesce", "--for", "2min")
    assert done.returncode == 0, done.stderr
    assert host.notes() == [("begin", "freeze"), ("end", "freeze")], "not drained yet when the pre-script returned"
    hold = view(host)["holds"][0]
    assert hold["kind"] == "backup" and hold["until"]
    done = host.run("resume")
    assert done.returncode == 0, done.stderr
    assert host.notes()[2:] == [("undo", "freeze"), ("undone", "freeze")]
    assert host.says("drain") == "watching"
    done = host.run("resume")
    assert done.returncode == 1 and "nothing is quiesced" in done.stderr


@PROGRAMME.scenario
def quiesce_that_takes_too_long(host):
    begin(host, host.step("slow", "sleep 30"), host.step("late"))
    done = host.run("quiesce", "--within", "2s", "--for", "30")
    assert done.returncode == 1 and "resuming" in done.stderr
    host.wait_says("watching")
    assert ("undone", "slow") in host.notes() and ("end", "slow") not in host.notes()
    assert view(host)["holds"] == []


@PROGRAMME.scenario
def quiesce_ends_by_itself(host):
    begin(host)
    assert host.run("quiesce", "--for", "3").returncode == 0
    began = time.monotonic()
    host.wait_says("watching")
    assert time.monotonic() - began < 6
    assert host.times("undone", "a")
    done = host.run("resume")
    assert done.returncode == 1 and "resumed by itself" in done.stderr


@PROGRAMME.scenario
def quiesced_while_an_event_comes(host):
    begin(host)
    assert host.run("quiesce").returncode == 0
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    done = host.run("resume")
    assert done.returncode == 0 and "something else still holds" in done.stdout
    assert len(host.notes()) == 2
    host.platform.remove_event(event)
    host.wait_says("watching")


@PROGRAMME.scenario
def quiesce_over_a_restart(host):
    """The daemon is replaced while a backup waits: the hold, its end and the script's answer stay."""
    begin(host, host.step("a", "sleep 2"))
    asked = subprocess.Popen([host.binary, "quiesce", "--for", "60"], env=host.environment(), stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    host.wait_note("begin", "a")
    host.kill_daemon()
    host.start()
    out, err = asked.communicate(timeout=40)
    assert asked.returncode == 0, out + err
    assert view(host)["holds"][0]["kind"] == "backup"
    assert host.run("resume").returncode == 0
    host.wait_says("watching")


@PROGRAMME.scenario
def bad_arguments(host):
    begin(host)
    for words in (["quiesce", "--for"], ["quiesce", "--for", "soon"], ["quiesce", "--for", "0"], ["quiesce", "9"], ["resume", "x"],
                  ["quiesce", "--within", "8000h"], ["simulate"], ["simulate", "Reboot", "--in"], ["drain", "a", "b"],
                  ["simulate", "Reboot", "--in", "1 2"]):
        assert host.run(*words).returncode == 2, words
    done = host.run("simulate", "Flood")
    assert done.returncode == 1 and "there are Freeze, Reboot" in done.stderr
    for path, body in (("quiesce", "1"), ("quiesce", "a b"), ("quiesce", "0 0"), ("simulate", "Reboot x -"), ("simulate", "Reboot"),
                       ("simulate", "Reboot 1 - wet")):
        assert host.call("POST", f"/v1/{path}", body)[0] == 409, body
    assert host.call("GET", "/v1/events?since=x")[0] == 400
    assert host.notes() == []


# Rehearsals

@PROGRAMME.scenario
def rehearsal(host):
    begin(host, {"type": "probeDown", "waitInSeconds": 1}, host.step("a"))
    done = host.run("simulate", "reboot", "--in", "60", "--duration", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line.split("  ", 1)[1] for line in done.stdout.splitlines()[1:]]
    wanted = ["rehearsal: a Reboot is scheduled", "draining for rehearsal: Reboot", "step a, at most", "drained for rehearsal: Reboot",
              "rehearsal: a real Reboot would be acknowledged now", "rehearsal: the Reboot has started",
              "rehearsal: the Reboot is over", "restoring", "undoing a", "restored, serving", "rehearsal: over: drained by all steps"]
    places = [next(index for index, line in enumerate(told) if line.startswith(begin)) for begin in wanted]
    assert places == sorted(places), done.stdout
    assert [note[0] for note in host.notes()] == ["begin", "end", "undo", "undone"]
    assert host.platform.acknowledgements() == [] and host.says("drain") == "watching"


@PROGRAMME.scenario
def rehearsal_that_goes_wrong(host):
    begin(host, host.step("bad", "false", onFailure="abort"))
    done = host.run("simulate", "Reboot", "--in", "3", "--duration", "1")
    assert done.returncode == 1
    assert "would not be acknowledged" in done.stdout and "not drained by all steps" in done.stdout
    host.wait_says("watching")


@PROGRAMME.scenario
def rehearsal_is_taken_over(host):
    begin(host)
    asked = subprocess.Popen([host.binary, "simulate", "Reboot", "--duration", "60"], env=host.environment(),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    host.wait_note("end", "a")
    event = host.platform.add_event("Redeploy", not_before_in_seconds=600)
    out, _ = asked.communicate(timeout=30)
    assert asked.returncode == 1 and "something real has taken over" in out
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    assert len(host.times("begin", "a")) == 1, "what is drained need not be drained again"
    done = host.run("simulate", "Reboot")
    assert done.returncode == 1 and "does not serve now" in done.stderr
    host.platform.remove_event(event)
    host.wait_says("watching")


@PROGRAMME.scenario
def rehearsal_is_ended(host):
    begin(host)
    asked = subprocess.Popen([host.binary, "simulate", "Reboot", "--duration", "60"], env=host.environment(),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    host.wait_for("it to begin", lambda: view(host)["rehearsal"] == "started")
    assert "a rehearsal is going on" in host.run("simulate", "Freeze").stderr
    assert host.run("restore").returncode == 0
    out, _ = asked.communicate(timeout=30)
    assert asked.returncode == 1 and "ended before its end" in out
    host.wait_says("watching")


@PROGRAMME.scenario
def rehearsal_and_a_restart(host):
    begin(host)
    assert host.call("POST", "/v1/simulate", "Reboot 600 60")[0] == 200
    host.wait_for("it to begin", lambda: view(host)["rehearsal"] == "started")
    host.kill_daemon()
    host.start()
    host.wait_says("watching")
    assert host.times("undone", "a") and "rehearsal ends here" in host.log_text()


@PROGRAMME.scenario
def rehearsal_waits_for_the_lead(host):
    begin(host, leadInSeconds=1)
    began = time.monotonic()
    done = host.run("simulate", "Reboot", "--in", "4", "--duration", "1")
    assert done.returncode == 0, done.stdout
    assert time.monotonic() - began >= 4


@PROGRAMME.scenario
def rehearsal_is_ended_before_its_lead(host):
    """It holds nothing yet, but it is what the operator means."""
    begin(host, leadInSeconds=1)
    asked = subprocess.Popen([host.binary, "simulate", "Reboot", "--in", "10min"], env=host.environment(),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    host.wait_for("it to wait", lambda: view(host)["rehearsal"] == "waiting")
    assert host.run("restore").returncode == 0
    out, _ = asked.communicate(timeout=30)
    assert asked.returncode == 1 and "ended before its end" in out
    done = host.run("simulate", "Reboot", "--in", "2", "--duration", "1")
    assert done.returncode == 0, done.stdout


@PROGRAMME.scenario
def dry_run(host):
    begin(host, {"type": "probeDown", "waitInSeconds": 15}, host.step("a", timeoutInSeconds=30, reserveInSeconds=5),
          {"type": "stopUnits", "name": "web", "units": ["nginx.service"]}, leadInSeconds=600)
    done = host.run("simulate", "Reboot", "--in", "20min", "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = [line.split(" s  ", 1) for line in done.stdout.splitlines()]
    at = {text: float(when) for when, text in lines}
    assert at["/ready says 503"] == 600 and at["step probeDown-1: up to 15 s"] == 600
    assert at["step a: up to 30 s"] == 615 and at["step web: up to 30 s"] == 645
    assert at["drained for Reboot rehearsal"] == at["acknowledged: the platform begins at once"] == 675
    assert "undo a: up to 30 s" in at and at["/ready says 200"] >= 675
    # shares of a time that is short, and the policy's word
    short = host.run("simulate", "Preempt", "--in", "20s", "--dry-run").stdout
    assert "step a: up to 30 s" not in short and "step a: up to " in short
    ignored = host.run("simulate", "Freeze", "--duration", "5", "--dry-run").stdout
    assert "nothing is done about it" in ignored and "draining" not in ignored
    assert host.notes() == [] and host.platform.acknowledgements() == [] and host.ready() == 200
    done = host.run("simulate", "Freeze", "--duration", "5")
    assert done.returncode == 1 and "nothing to rehearse" in done.stderr


# Shared events

class Peer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        status, body = self.server.answers.get(self.path, (404, ""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def peers():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Peer)
    server.answers, server.asked = {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def shared(host, acknowledge, names, **more):
    begin(host, sharedEvents={"acknowledge": acknowledge, **more})
    event = host.platform.add_event("Reboot", resources=names, not_before_in_seconds=600)
    host.wait_says("drained for Reboot")
    return event


@PROGRAMME.scenario
def leader_asks_its_peers(host):
    server = peers()
    try:
        server.answers = {"/web-1/drained": (200, "drained\n"), "/web%202/drained": (503, "not drained\n")}
        event = shared(host, "leader", ["vm", "web-1", "web 2"], peerUrl=f"http://127.0.0.1:{server.server_port}/{{name}}/drained")
        host.wait_for("both to be asked twice", lambda: min(map(server.asked.count, server.answers)) >= 2)
        for body in ((200, "ready\n"), (200, "drainedish\n"), (204, "")):
            server.answers["/web%202/drained"] = body
            count = server.asked.count("/web%202/drained")
            host.wait_for("it to be asked again", lambda: server.asked.count("/web%202/drained") >= count + 2)
        assert host.acks(event) == []
        server.answers["/web%202/drained"] = (200, "drained")
        host.platform.wait_for_acknowledgement(event, PATIENCE)
        host.platform.remove_event(event)
        host.wait_says("watching")
    finally:
        server.shutdown()
        server.server_close()


@PROGRAMME.scenario
def leader_with_a_peer_that_is_silent(host):
    event = shared(host, "leader", ["vm", "other"], peerUrl="http://127.0.0.1:1/{name}")
    host.wait_for("that to be told", lambda: "other does not answer" in host.log_text())
    assert host.acks(event) == []
    assert "ask" not in host.run("ack", event).stderr
    host.platform.wait_for_acknowledgement(event, PATIENCE)


@PROGRAMME.scenario
def others_lead(host):
    event = shared(host, "leader", ["other", "vm"], peerUrl=f"http://127.0.0.1:{host.port}/drained?{{name}}")
    host.wait_polls(2)
    assert host.acks(event) == []
    assert drained(host) == (200, "drained"), "what the leader asks us"
    host.platform.remove_event(event)
    host.wait_says("watching")
    assert drained(host)[0] == 503


@PROGRAMME.scenario
def always(host):
    event = shared(host, "always", ["other", "vm"])
    host.platform.wait_for_acknowledgement(event, PATIENCE)


@PROGRAMME.scenario
def never(host):
    event = shared(host, "never", ["vm", "other"])
    host.wait_polls(2)
    assert host.acks(event) == []


@PROGRAMME.scenario
def no_shutdown_inhibitor_without_logind(host):
    begin(host, shutdown={"maxDelayInSeconds": 60})
    assert "reboots and shutdowns are not held back: there is no logind here to ask" in host.says("drain")
    assert host.substatus("drain")["status"] == "warning"
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event, PATIENCE)


@pytest.mark.parametrize("name", list(PROGRAMME))
def test_scenario(performances, name):
    performances[name].result()
