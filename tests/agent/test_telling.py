"""What the built program tells others: notices to webhooks, and metrics."""

import hashlib
import hmac
import json
import pathlib
import re
import shutil
import subprocess
import time

import pytest
from configured import PATIENCE, Configured
from observers import KEY, Webhook, hooks, scrape, value
from required import need
from vm import free_port, wait_until

SOURCE = pathlib.Path(__file__).resolve().parents[2]
# A vault that nobody may ask: something that goes wrong and is told.
BROKEN = {"certificates": [{"name": "web", "url": "https://nowhere.vault.azure.net/secrets/web"}]}


@pytest.fixture
def platform(fresh_platform):
    return fresh_platform


@pytest.fixture
def vm(tmp_path, platform):
    with Configured(tmp_path, platform) as vm:
        yield vm


def test_problem_is_told_once_and_signed(vm):
    with Webhook() as to:
        hooks(vm, {"url": to.url, "hmacKey": {"secretRef": "h"}}, health={"metricsFile": "/nowhere/metrics.prom"})
        vm.start()
        notice = to.wait("metricsFile")
        assert notice["kind"] == "problem" and notice["problem"] and notice["subject"] == "health"
        _, path, headers, body = to.requests[0]
        stamp = headers["X-EvenKeel-Timestamp"]
        signature = hmac.new(KEY.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        assert headers["X-EvenKeel-Signature"] == f"sha256={signature}"
        assert abs(int(stamp) - time.time()) < 60
        assert path == "/secret-path/T0"
        # A new daemon knows what has been told; what is well again is told, too. (Whose answer is not noted may be sent again.)
        kept = vm.file("/run/evenkeel/notices.json")
        wait_until("the answer to be noted", lambda: not json.loads(kept.read_text())["queues"][0].get("notices"), PATIENCE)
        vm.restart()
        hooks(vm, {"url": to.url, "hmacKey": {"secretRef": "h"}}, health={})
        vm.reload()
        notice = to.wait("'problem': False")
        assert notice["subject"] == "health" and notice["number"] == 2
        assert len(to.taken()) == 2, to.taken()
        # The path of a webhook is as good as a password.
        assert "secret-path" not in vm.log_text() + json.dumps(vm.status())


def test_four_formats(vm, platform):
    with Webhook() as a, Webhook() as b, Webhook() as c, Webhook() as d:
        hooks(vm, {"url": a.url}, {"url": b.url, "format": "cloudEvents"}, {"url": c.url, "format": "slack"},
              {"url": d.url, "format": "teams"}, health={"metricsFile": "/nowhere/metrics.prom"})
        vm.start()
        for to in (a, b, c, d):
            wait_until("a notice", to.taken, PATIENCE)
        assert a.taken()[0]["message"].startswith("health: ")
        event = b.taken()[0]
        assert event["specversion"] == "1.0" and event["type"] == "evenkeel.problem" and event["data"]["subject"] == "health"
        assert b.requests[0][2]["Content-Type"].startswith("application/cloudevents+json")
        assert c.taken()[0]["text"].startswith("Problem on ")
        card = d.taken()[0]["attachments"][0]
        assert card["contentType"] == "application/vnd.microsoft.card.adaptive"
        assert "health: " in card["content"]["body"][0]["text"]


def test_retried_dropped_and_kept_over_a_restart(vm):
    with Webhook([500, 503]) as late, Webhook([404]) as gone:
        hooks(vm, {"url": late.url}, {"url": gone.url}, health={"metricsFile": "/nowhere/metrics.prom"})
        vm.start()
        late.wait("metricsFile")
        assert [status for status, *_ in late.requests[:3]] == [500, 503, 200]
        said = vm.wait_says("notify", "warning", "answered 404; check its url")
        assert "secret-path" not in said
        # Refused for good is not tried again.
        assert not any("metricsFile" in str(n) for n in gone.taken())
    # Nobody takes it: it waits, over a restart, until somebody does.
    with Webhook([500] * 3) as to:
        hooks(vm, {"url": to.url}, health={})
        vm.reload()
        wait_until("a first try", lambda: to.requests, PATIENCE)
        vm.stop_daemon()
        to.answers = []
        vm.start()
        to.wait("'problem': False")


def promtool_or_skip():
    here = SOURCE / "build/prometheus/usr/bin/promtool"
    tool = shutil.which("promtool") or (str(here) if here.exists() else None)
    need(None if tool else "needs promtool: run scripts/bootstrap")
    return tool


def test_metrics(vm):
    port = free_port()
    vm.configure(health={"listen": f"127.0.0.1:{port}", "metricsListen": f"127.0.0.1:{port}",
                         "metricsFile": "/var/lib/metrics.prom"}, drain={}, keyRefresh=BROKEN)
    vm.start()
    wait_until("the poll", lambda: value(scrape(port)[1], 'evenkeel_scheduled_events_polls_total{result="200"}'), PATIENCE)
    kind, text = scrape(port)
    assert kind.startswith("text/plain; version=0.0.4")
    assert value(text, "evenkeel_serving") == 1 and value(text, "evenkeel_ready") == 1
    assert value(text, 'evenkeel_component_problem{component="drain"}') == 0
    assert 0 < value(text, "process_resident_memory_bytes") < 512 << 20
    assert value(text, "process_cpu_seconds_total") > 0
    kind, text = scrape(port, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text") and text.endswith("# EOF\n")
    on_disk = vm.root / "var/lib/metrics.prom"
    wait_until("the file", on_disk.exists, PATIENCE)
    for sample in (scrape(port)[1], on_disk.read_text()):
        checked = subprocess.run([promtool_or_skip(), "check", "metrics"], input=sample, capture_output=True, text=True, timeout=30)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_drain_is_told_and_counted(vm, platform):
    port = free_port()
    with Webhook() as to:
        hooks(vm, {"url": to.url, "on": ["event", "drain", "acknowledge", "restore"]},
              health={"metricsListen": f"127.0.0.1:{port}"},
              drain={"leadInSeconds": 900, "steps": [{"type": "run", "command": ["true"]}]})
        vm.start()
        wait_until("a poll", lambda: value(scrape(port)[1], 'evenkeel_scheduled_events_polls_total{result="200"}'), PATIENCE)
        event = platform.add_event("Reboot", not_before_in_seconds=600)
        wait_until("the acknowledgement", lambda: value(scrape(port)[1], 'evenkeel_acknowledgements_total{result="accepted"}'),
                   PATIENCE)
        text = scrape(port)[1]
        assert value(text, 'evenkeel_drain_phase{phase="drained"}') == 1 and value(text, "evenkeel_serving") == 0
        assert value(text, 'evenkeel_drains_total{result="clean"}') == 1
        assert value(text, 'evenkeel_scheduled_events_seen_total{type="Reboot",source="Platform"}') == 1
        assert value(text, "evenkeel_acknowledgement_latency_seconds_count") == 1
        platform.remove_event(event)
        wait_until("the restore", lambda: value(scrape(port)[1], 'evenkeel_drain_phase{phase="serving"}') == 1, PATIENCE)
        assert value(scrape(port)[1], 'evenkeel_drain_phase_duration_seconds_count{phase="drained"}') == 1
        wait_until("all notices", lambda: {n["kind"] for n in to.taken()} >= {"event", "drain", "acknowledge", "restore"}, PATIENCE)
        told = [n for n in to.taken() if n["kind"] == "acknowledge"]
        assert told[0]["eventType"] == "Reboot" and told[0]["subject"] == event
        assert told[0]["vm"]["name"] and told[0]["vm"]["resourceId"].startswith("/subscriptions/")


def test_alert_rules():
    path = SOURCE / "manifest/examples/evenkeel.rules.yml"
    families = (SOURCE / "agent/core/metrics.c").read_text()
    for name in set(re.findall(r"\bevenkeel_[a-z_]+", path.read_text())):
        assert f'"{re.sub("_(total|sum|count)$", "", name)}"' in families, name
    checked = subprocess.run([promtool_or_skip(), "check", "rules", path], capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_logs_are_shown_and_followed(vm):
    vm.configure()
    vm.start()
    path = next((vm.root / "var/log/azure").glob("*/evenkeel.log"))
    wait_until("a line", lambda: "is running" in path.read_text(), PATIENCE)
    whole = path.read_text()
    assert vm.run("logs").stdout == whole
    assert vm.run("logs", "--lines", "1").stdout == whole.splitlines(keepends=True)[-1]
    assert vm.run("logs", "--lines", "0").returncode == 2
    follower = subprocess.Popen([vm.binary, "logs", "--follow", "--lines", "1"], env=vm.environment(), stdout=subprocess.PIPE,
                                text=True)
    try:
        assert follower.stdout.readline() == whole.splitlines(keepends=True)[-1]
        # Rotated away, and begun anew: nothing is missed.
        path.rename(path.with_name("evenkeel.log.1"))
        with path.with_name("evenkeel.log.1").open("a") as former:
            former.write("the last line of the former file\n")
        path.write_text("the first line of the new one\n")
        assert follower.stdout.readline() == "the last line of the former file\n"
        assert follower.stdout.readline() == "the first line of the new one\n"
    finally:
        follower.kill()
        follower.wait()
    vm.stop_daemon()
    path.unlink()
    assert "nothing has been logged yet" in vm.run("logs").stderr
