"""`evenkeel pause`: what it keeps back, what it lets go on, and what happens the moment it ends."""

import json
import re

import pytest
from applying import ApplyingVM
from draining import PATIENCE, Programme
from keys import Renewing
from vm import Platform, http_get, me, wait_until

PROGRAMME = Programme(auto_start=False)
performances = PROGRAMME.performances()
USER = me()[0]


def pause(host, *arguments):
    done = host.run("pause", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def begin(host, *steps, **drain):
    host.configure(*(steps or (host.step("a"),)), **drain)
    host.start()
    host.wait_says("watching")


def settings(host, **sections):
    """The sections beside drain and health, in force."""
    path = host.root / "etc/evenkeel/evenkeel.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **sections}))
    assert host.call("POST", "/v1/goal")[0] == 200


def drain_state(host):
    return json.loads(host.run("events", "--json").stdout)


# Draining

@PROGRAMME.scenario
def events_are_kept_back(host):
    begin(host)
    assert re.fullmatch(r"paused for (30 min|29 min 59 s), until \d\d:\d\d:\d\d UTC; evenkeel pause --end ends it\n",
                        pause(host, "--for", "30min", "moving the database"))
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_says(f"paused: Reboot {event} not before")
    assert host.substatus("drain")["status"] == "warning"
    assert "is not drained for and not acknowledged" in host.says("drain")
    [known] = drain_state(host)["events"]
    assert (known["state"], known["holds"], known["acknowledgement"]) == ("paused", False, "none")
    assert "but draining is paused" in host.log_text()
    # A restart of the daemon does not end it.
    host.stop_daemon()
    host.start()
    host.wait_says("paused: Reboot")
    host.wait_polls(2)
    assert (host.notes(), host.acks(event), host.ready()) == ([], [], 200)
    assert pause(host, "--end") == "the pause has ended; what was kept back begins now\n"
    host.wait_says(", acknowledged ")
    assert host.times("begin", "a") and host.acks(event)


@PROGRAMME.scenario
def what_has_started_is_handled_when_it_ends(host):
    begin(host)
    event = host.platform.add_event("Redeploy", not_before_in_seconds=3600)
    host.wait_says("not before")
    pause(host)
    host.platform.start_event(event)
    host.wait_says(f"paused: Redeploy {event} has started")
    host.wait_polls(2)
    assert host.notes() == [] and host.ready() == 200
    pause(host, "--end")
    host.wait_says(f"drained for Redeploy {event}")
    host.wait_ready(503)
    host.platform.remove_event(event)
    host.wait_says("watching")


@PROGRAMME.scenario
def first_seen_as_started(host):
    begin(host)
    pause(host)
    event = host.platform.add_event("Freeze", status="Started")
    host.wait_says(f"paused: Freeze {event} has started")
    assert host.notes() == []
    pause(host, "--end")
    host.wait_says(f"drained for Freeze {event}")


@PROGRAMME.scenario
def gone_before_it_ends(host):
    begin(host)
    pause(host)
    event = host.platform.add_event("Freeze", not_before_in_seconds=60)
    host.wait_says("paused: Freeze")
    host.platform.remove_event(event)
    host.wait_says("watching, paused")
    pause(host, "--end")
    host.wait_for("the pause to be over", lambda: host.says("drain") == "watching")
    assert host.notes() == []


@PROGRAMME.scenario
def a_preempt_is_told_loudly(host):
    begin(host)
    pause(host)
    host.platform.add_event("Preempt", not_before_in_seconds=30)
    host.wait_says("paused: Preempt")
    assert host.substatus("drain")["status"] == "error"
    assert re.search(r"error.*Preempt [-0-9A-F]+ is scheduled, but draining is paused", host.log_text())
    pause(host, "--end")
    host.wait_says("drained for Preempt")


@PROGRAMME.scenario
def immediate_acknowledgements_wait(host):
    begin(host, policy=[{"types": ["Reboot"], "action": "notify", "acknowledge": "immediately"}])
    pause(host)
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_for("the event to be seen", lambda: drain_state(host)["events"])
    host.wait_polls(2)
    assert host.acks(event) == []
    # An operator orders what they like.
    assert host.run("ack", event).returncode == 0
    host.wait_for("the acknowledgement", lambda: host.acks(event))
    other = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_for("the other event to be seen", lambda: len(drain_state(host)["events"]) == 2)
    host.wait_polls(1)
    assert host.acks(other) == []
    pause(host, "--end")
    host.wait_for("the other acknowledgement", lambda: host.acks(other))


@PROGRAMME.scenario
def what_runs_goes_on(host):
    begin(host, host.step("a", "while [ ! -e {0}/go ]; do sleep 0.05; done".format(host.root)), host.step("b"))
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_note("begin", "a")
    pause(host)
    (host.root / "go").touch()
    host.wait_says(", acknowledged ")
    assert host.times("end", "b") and host.acks(event)
    host.platform.remove_event(event)
    host.wait_says("watching")


@PROGRAMME.scenario
def orders_are_obeyed(host):
    begin(host)
    pause(host)
    assert host.run("drain", "--wait", "by hand").returncode == 0
    assert host.run("restore").returncode == 0
    host.wait_says("watching, paused")


@PROGRAMME.scenario
def it_ends_by_itself_and_with_the_boot(host):
    boot = host.root / "proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.write_text("00000000-0000-4000-8000-000000000001\n")
    begin(host)
    pause(host, "--for", "2s")
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.wait_says(", acknowledged ")
    assert "the pause has ended: its time is up" in host.log_text() and not host.substatus("pause")
    host.platform.remove_event(event)
    host.wait_says("watching")
    pause(host, "--for", "1h")
    assert (host.root / "run/evenkeel/pause.json").exists()
    host.stop_daemon()
    boot.write_text("00000000-0000-4000-8000-000000000002\n")
    host.start()
    assert not host.substatus("pause") and not (host.root / "run/evenkeel/pause.json").exists()


@PROGRAMME.scenario
def it_is_told(host):
    host.configure(health={"metricsListen": f"127.0.0.1:{host.port}"})
    host.start()

    def metric():
        return re.search(r"^evenkeel_paused (\d)$", http_get(f"http://127.0.0.1:{host.port}/metrics")[1], re.MULTILINE)[1]

    host.wait_says("watching")
    assert metric() == "0" and "pause" not in host.status()
    pause(host, "--for", "90", "new disk")
    assert metric() == "1"
    told = host.substatus("pause")
    assert told["status"] == "warning" and ": new disk; no drain, script or renewal begins" in told["formattedMessage"]["message"]
    found = host.status()["pause"]
    assert found["reason"] == "new disk" and 80 < found["remainingInSeconds"] <= 90
    assert "Paused " in host.run("status").stdout
    # A second one takes its place.
    pause(host, "--for", "2h")
    assert "reason" not in host.status()["pause"] and host.status()["pause"]["remainingInSeconds"] > 7000
    pause(host, "--end")
    assert metric() == "0" and not host.substatus("pause")


@PROGRAMME.scenario
def refusals(host):
    host.configure()
    host.start()
    done = host.run("pause", "--end")
    assert done.returncode == 1 and "nothing is paused" in done.stderr
    for body in ("", "0", "86401", "x", "-1 y", "1.5"):
        assert host.call("POST", "/v1/pause", body)[0] == 409, body
    for arguments in (("--for", "25h"), ("--for", "0"), ("--for", "soon"), ("--for",), ("--end", "why"), ("a", "b"), ("--until", "x")):
        done = host.run("pause", *arguments)
        assert done.returncode == 2 and done.stderr, arguments
    (host.root / "run/evenkeel/pause.json").write_text("{")
    host.stop_daemon()
    host.start()
    assert not host.substatus("pause") and "starting without a pause" in host.log_text()


# Scripts

@PROGRAMME.scenario
def scripts_are_kept_back(host):
    go, seen = host.root / "go", host.root / "seen"

    def script(name, command):
        return {"name": name, "runAs": USER, "commandToExecute": command}

    host.configure()
    host.start()
    host.wait_says("watching")
    first = script("first", f"echo first >>{seen}; while [ ! -e {go} ]; do sleep 0.05; done; echo over >>{seen}")
    settings(host, customScript={"scripts": [first, script("second", f"echo second >>{seen}")]})
    host.wait_for("the first to begin", seen.exists)
    pause(host)
    go.touch()
    host.wait_for("the second to be kept back", lambda: host.says("customScript/second") == "paused; begins when the pause ends")
    assert seen.read_text() == "first\nover\n"
    host.stop_daemon()
    host.start()
    host.wait_for("it to be kept back still", lambda: host.says("customScript/second") == "paused; begins when the pause ends")
    by_hand = host.directory / "hand.sh"
    by_hand.write_text("echo by hand\n")
    done = host.run("scripts", "run", "--user", USER, by_hand)
    assert (done.returncode, done.stdout) == (0, "by hand\n"), done.stderr
    assert seen.read_text() == "first\nover\n"
    pause(host, "--end")
    host.wait_for("the second", lambda: "second" in seen.read_text())
    host.wait_for("success", lambda: host.status()["status"][0]["status"]["status"] == "success")


@pytest.mark.parametrize("name", list(PROGRAMME))
def test_scenario(performances, name):
    performances[name].result()


# Certificates

def test_renewals_are_kept_back(tmp_path):
    with Platform() as platform, Renewing(tmp_path, platform) as vm:
        first = vm.first()
        before = vm.set_of()
        pause(vm)
        _, version = vm.renew()
        vm.wait_says("keyRefresh/web", "success", "paused: goes on when the pause ends")
        asked = len(platform.requests("vault"))
        assert vm.set_of() == before and vm.told() == [] and version != first
        # What is not there yet is not fetched either.
        other = vm.put(vm.make("other"), "other")
        vm.refresh({"name": "web", "activate": vm.activate()}, {"name": "other"})
        assert vm.call("POST", "/v1/goal")[0] == 200
        vm.wait_says("keyRefresh/other", "transitioning", "paused")
        assert len(platform.requests("vault")) == asked
        # An operator orders one of them.
        done = vm.run("certs", "refresh", "other")
        assert done.returncode == 0, done.stderr
        vm.wait_installed(other, "other")
        assert vm.set_of() == before and vm.told() == []
        pause(vm, "--end")
        vm.wait_installed(version)
        wait_until("the commands to be told", lambda: ("reload", "activate") in vm.phases(), PATIENCE)
        assert vm.set_of() != before


# User data

def test_parts_of_user_data_are_kept_back(tmp_path):
    with Platform() as platform, ApplyingVM(tmp_path, platform) as vm:
        vm.apply()
        vm.has_baseline()
        pause(vm)
        vm.push(vm.notes("one"))
        vm.wait_says("userData", "transitioning", "paused: goes on when the pause ends")
        assert vm.told() == []
        pause(vm, "--end")
        vm.wait_says("userData", "success", "applied at")
        assert vm.told() == ["one"]
        pause(vm)
        two = vm.push(vm.notes("two"))
        vm.wait_says("userData", "transitioning", "paused: goes on when the pause ends")
        done = vm.run("userdata", "apply")
        assert done.returncode == 0 and "in spite of the pause" in done.stdout, done.stderr
        vm.wait_says("userData", "success", f"revision {two}")
        assert vm.told() == ["one", "two"]
