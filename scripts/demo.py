#!/usr/bin/python3
"""Plays the main job against a fake platform and tells it as it is observed. Every line that claims something was seen
first: in a status, a file, an HTTP answer, or what the platform received. Started by scripts/demo."""

import hashlib
import pathlib
import signal
import stat
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(SOURCE / "tests/support"))

from stage import VAULT, Stage, StageError, free_port, http_get, me, wait_until  # noqa: E402

FIRST_USER_DATA = b"#!/bin/sh\necho first boot\n"
SECOND_USER_DATA = b"#!/bin/sh\necho blue is the new green\n"


class Story:
    """Plain lines with the seconds since the start in front."""

    def __init__(self):
        self._start = time.monotonic()

    def chapter(self, text):
        print(f"\n{text}", flush=True)

    def tell(self, text):
        for number, line in enumerate(text.splitlines() or [""]):
            print(f"  {time.monotonic() - self._start:5.1f} s  {line}" if number == 0 else f"           {line}", flush=True)


def expect(condition, text):
    if not condition:
        raise StageError(text)


class Demo:
    def __init__(self, stage):
        self.stage = stage
        self.story = Story()
        self.port = free_port()
        self.shop = stage.root / "srv/shop"
        self.shop.mkdir(parents=True)

    # What a customer would write

    def settings(self):
        user, group = me()
        pause, resume = (["/bin/sh", "-c", f"date +%s.%N >>{self.shop}/{name}"] for name in ("paused", "resumed"))
        return {
            "customScript": {"scripts": [{
                "name": "site", "runAs": user, "environment": {"DATABASE_URL": {"secretRef": "databaseUrl"}},
                "commandToExecute": f'echo "deploying the shop, database password has ${{#DATABASE_URL}} characters"; '
                                    f'echo "<h1>Shop</h1>" >{self.shop}/index.html; echo run >>{self.shop}/runs'}]},
            "keyRefresh": {"certificates": [{
                "name": "shop", "url": f"https://{VAULT}/secrets/shop-tls", "owner": user, "group": group, "mode": "0640"}]},
            "userData": {"pollingIntervalInSeconds": 10},
            "health": {"listen": f"127.0.0.1:{self.port}"},
            "drain": {"steps": [
                {"type": "probeDown", "waitInSeconds": 2},
                {"type": "run", "name": "pause-workers", "command": pause, "undo": resume, "user": user}]},
            "network": {"caFile": self.stage.addresses["caFile"]},
            "log": {"console": False}}

    def ready(self):
        return http_get(f"http://127.0.0.1:{self.port}/ready")

    def lines(self, name):
        path = self.shop / name
        return path.read_text().splitlines() if path.exists() else []

    # The chapters

    def install(self):
        self.story.chapter("The platform installs the extension")
        done = self.stage.command("install")
        expect(done.returncode == 0, f"install: exit code {done.returncode}: {done.stderr.strip()}")
        unit = self.stage.root / "etc/systemd/system/evenkeel.service"
        expect("ExecStart=" in unit.read_text(), f"{unit} has no ExecStart=")
        self.story.tell(f"`evenkeel install` ended with 0; version {self.stage.version} and its units are in place")
        self.stage.start_daemon()
        self.story.tell("the service runs and answers (here in the foreground, on a VM under systemd)")

    def apply(self):
        self.story.chapter("Settings arrive: one script, one certificate, user data, readiness, drain")
        self.stage.put_settings(0, self.settings(), {"secrets": {"databaseUrl": "postgres://shop:example@db.internal/shop"}})
        before = time.monotonic()
        done = self.stage.command("enable")
        took = (time.monotonic() - before) * 1000
        expect(done.returncode == 0, f"enable: exit code {done.returncode}: {done.stderr.strip()}")
        expect(self.stage.deployment(), "enable ended without leaving 0.status")
        self.story.tell(f"`evenkeel enable` handed over and ended with 0 after {took:.0f} ms")
        level, message = self.stage.component("settings")
        expect(level == "success", f"settings: {level}: {message}")
        self.story.tell(f"settings: {message}")
        top = wait_until("the deployment to end", self._terminal, 20)
        expect(top["status"] == "success", f"the deployment ended as {top['status']}: {top['formattedMessage']['message']}")
        self.story.tell("0.status, which the platform reads, says success")

    def _terminal(self):
        status = self.stage.deployment()
        return status if status and status["status"] != "transitioning" else None

    def script(self):
        self.story.chapter("The script ran")
        level, message = self.stage.component("customScript/site")
        expect(level == "success" and "deploying the shop" in message, f"customScript/site: {level}: {message}")
        self.story.tell(message)
        expect(self.lines("index.html") == ["<h1>Shop</h1>"] and self.lines("runs") == ["run"], "the script's files are not there")
        self.story.tell("it wrote srv/shop/index.html, and ran once")
        expect("example@db" not in message, "the secret is in the status")

    def certificate(self):
        self.story.chapter("The certificate is installed")
        level, message = self.stage.component("keyRefresh/shop")
        expect(level == "success", f"keyRefresh/shop: {level}: {message}")
        self.story.tell(message)
        folder = self.stage.root / "var/lib/evenkeel/certificates/shop"
        chain, key = folder / "fullchain.pem", folder / "privkey.pem"
        expect(self.secret["leaf"].strip() in chain.read_text() and "PRIVATE KEY" not in chain.read_text(),
               "fullchain.pem does not hold the vault's certificate alone")
        expect(key.read_text().strip() == self.secret["key"].strip(), "privkey.pem is not the vault's key")
        for path in (chain, key):
            self.story.tell(f"{stat.filemode(path.stat().st_mode)}  {path.relative_to(self.stage.root)}  "
                            f"{path.stat().st_size} bytes")
        expect(stat.S_IMODE(key.stat().st_mode) == 0o640, "privkey.pem does not have mode 0640")

    def probe(self):
        status, text = wait_until("/ready to say 200", lambda: self._ready_is(200), 5)
        self.story.tell(f"GET /ready: {status} {text}")

    def _ready_is(self, wanted):
        answer = self.ready()
        return answer if answer[0] == wanted else None

    def expect_not_ready(self, when):
        status, text = self.ready()
        expect(status == 503, f"GET /ready {when}: {status} {text}, not 503")

    def enable_again(self):
        self.story.chapter("The agent enables again, as it does at every goal state")
        done = self.stage.command("enable")
        expect(done.returncode == 0, f"enable: exit code {done.returncode}: {done.stderr.strip()}")
        time.sleep(0.5)
        expect(self.lines("runs") == ["run"], "the script ran a second time")
        expect(self.stage.deployment()["status"] == "success", "the status is not success any more")
        self.story.tell("nothing ran twice; the status is still success")

    def user_data(self):
        self.story.chapter("Somebody changes the VM's user data")
        first, second = (hashlib.sha256(data).hexdigest()[:12] for data in (FIRST_USER_DATA, SECOND_USER_DATA))
        wait_until(f"userData to report {first}", lambda: first in self.stage.component("userData")[1], 15)
        self.story.tell(self.stage.component("userData")[1])
        self.stage.platform.set_user_data(SECOND_USER_DATA)
        wait_until(f"userData to report {second}", lambda: second in self.stage.component("userData")[1], 20)
        self.story.tell(self.stage.component("userData")[1])

    def maintenance(self):
        platform, story = self.stage.platform, self.story
        story.chapter("The platform schedules a reboot in two minutes")
        platform.set_event_timing(ack_to_started_in_seconds=1, started_to_removed_in_seconds=3)
        published = time.time()
        event = platform.add_event("Reboot", not_before_in_seconds=120, description="Host maintenance")
        status, text = wait_until("/ready to say 503", lambda: self._ready_is(503), 10)
        story.tell(f"GET /ready: {status} {text}: the load balancer sends nobody here any more")
        wait_until("pause-workers to run", lambda: self.lines("paused"), 15)
        paused = float(self.lines("paused")[0])
        story.tell(f"the step pause-workers ran {paused - published:.1f} s after the event was published")
        entry = platform.wait_for_acknowledgement(event, 15)
        expect(paused <= entry["time"], "the event was acknowledged before the steps were done")
        self.expect_not_ready("when the event is acknowledged")
        story.tell(f"the platform received the acknowledgement after {entry['time'] - published:.1f} s: it need not wait two minutes")
        level, message = self.stage.component("drain")
        story.tell(f"drain: {message}")
        wait_until("the event to start", lambda: self._event_state(event) != "Scheduled", 10)
        story.tell("the platform does its work; the VM stays drained")
        self.expect_not_ready("during the maintenance")
        wait_until("the event to be over", lambda: self._event_state(event) is None, 15)
        story.tell("the platform has removed the event: it is over")
        wait_until("the undo of pause-workers to run", lambda: self.lines("resumed"), 15)
        story.tell("pause-workers was undone")
        status, text = wait_until("/ready to say 200", lambda: self._ready_is(200), 15)
        story.tell(f"GET /ready: {status} {text}")
        wait_until("drain to say that it watches", lambda: self.stage.component("drain")[0] == "success", 10)
        story.tell(f"drain: {self.stage.component('drain')[1]}")
        expect(self.stage.deployment()["status"] == "success", "the deployment's status did not stay success")
        story.tell("the deployment's status has been success throughout")
        expect(len(platform.acknowledgements()) == 1, "the platform received more than one acknowledgement")

    def _event_state(self, event):
        return next((one["EventStatus"] for one in self.stage.platform.events() if one["EventId"] == event), None)

    def end(self):
        self.story.chapter("The end")
        code = self.stage.stop_daemon()
        expect(code == 0, f"the daemon ended with exit code {code}")
        problems = self.stage.platform.problems()
        expect(not problems, f"the fake platform stumbled: {problems[:1]}")
        self.story.tell("the service stopped in order")
        print(f"\nWhat it made is in {self.stage.directory}: root/ stands for the VM's /, daemon.log is the service's log,\n"
              "platform/requests.jsonl every request that the platform saw.")

    def play(self):
        platform = self.stage.platform
        self.secret = platform.make_certificate("shop.example", chain=2)
        platform.put_secret(VAULT.split(".")[0], "shop-tls", self.secret["pem"], content_type="application/x-pem-file")
        platform.set_user_data(FIRST_USER_DATA)
        self.install()
        self.apply()
        self.script()
        self.certificate()
        self.probe()
        self.enable_again()
        self.user_data()
        self.maintenance()
        self.end()


def interrupted(number, _frame):
    raise SystemExit(128 + number)


def main():
    binary, directory = sys.argv[1:]
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    (pathlib.Path(directory) / "daemon.log").unlink(missing_ok=True)
    with Stage(binary, directory) as stage:
        try:
            Demo(stage).play()
        except (StageError, TimeoutError, OSError) as error:
            print(f"\ndemo: {error}", file=sys.stderr)
            if stage.death() not in ("", str(error)):
                print(f"demo: {stage.death()}", file=sys.stderr)
            print("demo: the agent's log ends with:", *stage.log_tail(), sep="\n  ", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
