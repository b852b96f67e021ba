"""Watching Scheduled Events: every rule of the platform, one at a time, by the built program against the fake platform.

What is measured is the time between polls, so each scenario has a platform and a VM of its own and they run side by side."""

import json
import time

import pytest
from draining import EVENTS, PATIENCE, Host, Programme
from vm import Platform, wait_until

PROGRAMME = Programme(auto_start=False)
LATE = 1.5  # a loaded machine is late, never early
performances = PROGRAMME.performances()


def begin(host, **drain):
    host.configure(host.step("a"), **drain)
    host.start()
    host.wait_says("watching")


def gaps(host, count, limit=60):
    """Seconds between the next `count` + 1 polls."""
    before = len(host.polls())
    host.wait_for(f"{count + 1} polls", lambda: len(host.polls()) > before + count, limit)
    times = [request["time"] for request in host.polls()[before:before + count + 1]]
    return [after - first for first, after in zip(times, times[1:])]


def told_and_over(host, word):
    """The trouble is told as a warning while it lasts, and serving goes on."""
    host.wait_says(word)
    assert host.says("drain").startswith("watching; ") and host.substatus("drain")["status"] == "warning"
    assert host.ready() == 200
    host.platform.clear_faults()
    host.wait_for("the trouble to be over", lambda: host.substatus("drain")["status"] == "success", 80)


def backs_off(first, second, *words, **fault):
    """While no event is known: the rule's first wait, then twice as long."""
    def run(host):
        begin(host)
        host.platform.set_fault("imds", EVENTS, **fault)
        host.wait_says(words[0])
        for word in words:
            assert word in host.says("drain")
        found = gaps(host, 2)
        assert found[0] >= 0.85 * first and found[0] < first * 2.2 + LATE, found
        assert found[1] >= min(0.85 * second, found[0]), found
        told_and_over(host, words[0])
    return run


PROGRAMME["status_429"] = backs_off(2, 4, "429", "5 times per second", status=429)
PROGRAMME["status_410"] = backs_off(2, 4, "410", "70 s", status=410)
PROGRAMME["status_500"] = backs_off(1, 2, "500", status=500)
PROGRAMME["status_503"] = backs_off(1, 2, "503", status=503)
PROGRAMME["no_answer"] = backs_off(1, 2, "scheduled events", drop=True)
PROGRAMME["not_http"] = backs_off(1, 2, "scheduled events", garbage="http")
PROGRAMME["not_json"] = backs_off(1, 2, "scheduled events", garbage=True)
PROGRAMME["not_events"] = backs_off(1, 2, "Events", body=b'{"DocumentIncarnation": 1}')
PROGRAMME["too_large"] = backs_off(1, 2, "scheduled events", body=b" " * 300000)


def asked_seldom(status):
    """What the service does not understand is not asked for every second; but it is asked again."""
    def run(host):
        begin(host)
        host.platform.set_fault("imds", EVENTS, status=status)
        host.wait_says(str(status))
        count = len(host.polls())
        time.sleep(5)
        assert len(host.polls()) <= count + 1
        host.platform.clear_faults()
        host.wait_for("the trouble to be over", lambda: host.says("drain") == "watching", 30)
    return run


for _status in (400, 404, 405):
    PROGRAMME[f"status_{_status}"] = asked_seldom(_status)


@PROGRAMME.scenario
def retry_after(host):
    begin(host)
    host.platform.set_fault("imds", EVENTS, status=429, headers={"Retry-After": "6"})
    host.wait_says("429")
    assert all(gap >= 5.9 for gap in gaps(host, 1))


@PROGRAMME.scenario
def an_event_is_known(host):
    """Nobody makes us look away for more than 4 s then: not by a status, not by Retry-After."""
    begin(host)
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    for fault in ({"status": 429, "headers": {"Retry-After": "60"}}, {"status": 404}, {"status": 500}):
        host.platform.set_fault("imds", EVENTS, **fault)
        assert all(gap <= 4 + LATE for gap in gaps(host, 2)), fault
    assert host.ready() == 503 and host.times("undo", "a") == [], "a failed poll is no reason to restore"
    host.platform.remove_event(event)
    host.platform.clear_faults()
    host.wait_ready(200)


@PROGRAMME.scenario
def slow_answers(host):
    """An answer that takes longer than the interval: one request at a time, and the daemon does other things meanwhile."""
    begin(host)
    host.platform.set_fault("imds", EVENTS, delay_in_seconds=2.5)
    host.wait_polls(1)
    assert all(gap >= 2.4 for gap in gaps(host, 2))
    began = time.monotonic()
    assert host.ready() == 200 and host.status()
    assert time.monotonic() - began < 1
    assert host.run("drain").returncode == 0
    host.wait_note("end", "a")


@PROGRAMME.scenario
def trickle(host):
    """A body that comes byte by byte is given up after the time an answer may take."""
    begin(host)
    host.wait_polls(2)  # the first answer may take longer
    host.platform.set_fault("imds", EVENTS, bytes_per_second=2)
    host.wait_says("timed out", 25)
    host.platform.clear_faults()
    host.wait_for("the trouble to be over", lambda: host.says("drain") == "watching", 30)


@PROGRAMME.scenario
def interval(host):
    begin(host, pollingIntervalInSeconds=3)
    assert all(2.9 <= gap <= 3 + LATE for gap in gaps(host, 2))
    assert len({tuple(request["client"]) for request in host.polls()}) == 1, "the connection is kept"


@PROGRAMME.scenario
def etag_is_used_when_offered(host):
    begin(host)
    assert not any("if-none-match" in request["headers"] for request in host.polls())
    host.platform.set_event_document(etag=True)
    host.wait_for("304", lambda: any(request["status"] == 304 for request in host.polls()))
    assert host.says("drain") == "watching"
    event = host.platform.add_event("Freeze", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    host.wait_polls(3)
    assert host.polls()[-1]["status"] == 304 and host.ready() == 503
    # a bad answer between: the last good document and its tag stay
    host.platform.set_fault("imds", EVENTS, garbage=True, times=1)
    host.wait_polls(3)
    assert host.polls()[-1]["status"] == 304 and host.ready() == 503 and len(host.times("begin", "a")) == 1
    host.platform.remove_event(event)
    host.wait_ready(200)
    # not offered any more: not sent any more
    host.platform.set_event_document(etag=False)
    host.wait_polls(3)
    assert "if-none-match" not in host.polls()[-1]["headers"] and host.polls()[-1]["status"] == 200
    assert len(host.acks(event)) == 1


@PROGRAMME.scenario
def unchanged_is_not_believed_for_ever(host):
    """A cache between us and the service that says 304 to everything cannot hide an event for longer than half a minute."""
    host.platform.set_event_document(etag=True)
    begin(host)
    host.wait_for("304", lambda: any(request["status"] == 304 for request in host.polls()))
    whole = [index for index, request in enumerate(host.polls()) if "if-none-match" not in request["headers"]]
    host.wait_for("the whole document to be asked for",
                  lambda: [index for index, request in enumerate(host.polls())
                           if "if-none-match" not in request["headers"]] != whole, 50)


@PROGRAMME.scenario
def unchanged_without_having_been_asked(host):
    begin(host)
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    host.platform.set_fault("imds", EVENTS, status=304)
    host.wait_says("304")
    host.wait_polls(2)
    assert host.ready() == 503
    host.platform.clear_faults()


@PROGRAMME.scenario
def forms_of_not_before(host):
    host.platform.set_event_document(date_format="iso8601")
    host.configure(host.step("a"), leadInSeconds=0)
    host.start()
    event = host.platform.add_event("Reboot", not_before_in_seconds=3600)
    host.wait_says("not before")
    iso = host.says("drain")
    host.platform.set_event_document(date_format="rfc1123")
    host.wait_polls(2)
    assert host.says("drain") == iso and host.acks(event) == []


@PROGRAMME.scenario
def service_restarted(host):
    """After a day without a request DocumentIncarnation begins anew: compared for being another, never for being later."""
    begin(host)
    event = host.platform.add_event("Reboot", not_before_in_seconds=600)
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    host.platform.restart_events_service()
    host.wait_polls(4)
    assert host.ready() == 503 and host.times("undo", "a") == []
    host.platform.remove_event(event)
    host.wait_ready(200)


@PROGRAMME.scenario
def unknown_words(host):
    begin(host, policy=[{"action": "drain", "acknowledge": "immediately"}])
    host.platform.add_event("Rebalance", not_before_in_seconds=5)
    host.wait_for("the event to be told", lambda: "Rebalance" in host.log_text())
    host.platform.set_fault("imds", EVENTS, body=json.dumps({"DocumentIncarnation": 99, "Events": [
        {"EventId": "x1", "EventType": "Reboot", "EventStatus": "Paused", "Resources": ["vm"], "NotBefore": ""}]}).encode())
    host.wait_for("the status to be told", lambda: 'Reboot x1 is "Paused", which this version does not know' in host.log_text())
    assert "Reboot x1: Paused" in host.run("events").stdout
    host.wait_polls(2)
    assert host.notes() == [] and host.platform.acknowledgements() == [] and host.ready() == 200


@PROGRAMME.scenario
def late_event(host):
    """Scheduled, but its NotBefore is past by our clock: drained for with what must be, and only then acknowledged."""
    host.configure({"type": "probeDown", "waitInSeconds": 60}, host.step("a", "sleep 0.3"), marginInSeconds=3)
    host.start()
    host.wait_says("watching")
    began = time.monotonic()
    event = host.platform.add_event("Reboot", not_before_in_seconds=-20)
    host.platform.wait_for_acknowledgement(event, PATIENCE)
    assert time.monotonic() - began < 8, "there is no time for waits"
    assert host.notes() == [("begin", "a"), ("end", "a")]
    assert host.acks(event)[0] >= host.times("end", "a")[0]
    host.platform.remove_event(event)
    host.wait_ready(200)


@pytest.mark.parametrize("name", list(PROGRAMME))
def test_scenario(performances, name):
    performances[name].result()


def test_the_first_answer_may_take_longer(tmp_path):
    """More than the later ones may, and nothing is asked twice meanwhile."""
    with Platform() as platform:
        platform.set_event_timing(first_get_delay_in_seconds=13)
        with Host(tmp_path, platform) as host:
            host.configure(host.step("a"))
            host.start()
            event = platform.add_event("Reboot", not_before_in_seconds=600)
            platform.wait_for_acknowledgement(event, 13 + PATIENCE)
            wait_until("two polls", lambda: len(host.polls()) >= 2, PATIENCE)
            first, second = host.polls()[:2]
            assert second["time"] - first["time"] >= 13
