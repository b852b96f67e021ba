"""A VM that drains, and scenarios of it that run side by side: nearly all of their time is waiting. Each has a platform and a
VM of its own; each test then waits for its own scenario.

    PROGRAMME = Programme(auto_start=False)     # how the platform times its events

    @PROGRAMME.scenario
    def one(host): …

    performances = PROGRAMME.performances()

    @pytest.mark.parametrize("name", list(PROGRAMME))
    def test_scenario(performances, name):
        performances[name].result()
"""

import concurrent.futures
import json
import signal
import time

import pytest
from vm import SANITIZED, VM, Platform, StageError, free_port, http_get, wait_until

__all__ = ["EVENTS", "PATIENCE", "Host", "Programme"]

AT_ONCE = 8
EVENTS = "/metadata/scheduledevents"
PATIENCE = 20 if SANITIZED else 12


class Programme(dict):
    """Scenarios by name."""

    def __init__(self, **timing):
        super().__init__()
        self._timing = timing

    def scenario(self, function):
        self[function.__name__] = function
        return function

    def _perform(self, name, directory):
        with Platform() as platform:
            platform.set_event_timing(**self._timing)
            with Host(directory, platform) as host:
                self[name](host)
            assert platform.problems() == []

    def performances(self):
        """A fixture: those that were chosen, all begun, by name."""
        @pytest.fixture(scope="module")
        def performances(request, tmp_path_factory):
            chosen = [item.callspec.params["name"] for item in request.session.items
                      if item.module is request.module and item.originalname == "test_scenario"]
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                yield {name: pool.submit(self._perform, name, tmp_path_factory.mktemp("d")) for name in chosen}

        return performances


class Host(VM):
    """A VM that gets its settings from /etc/evenkeel, whose steps write down what they do."""

    def __init__(self, directory, platform):
        super().__init__(directory, platform)
        self.port = free_port()
        self.journal = self.root / "journal"
        self.watch = None

    # What an operator writes

    def configure(self, *steps, health=None, **drain):
        path = self.root / "etc/evenkeel/evenkeel.json"
        path.parent.mkdir(exist_ok=True)
        settings = {"health": {"listen": f"127.0.0.1:{self.port}", **(health or {})}, "log": {"console": False}}
        if drain.get("marginInSeconds") is None:
            drain["marginInSeconds"] = 0
        settings["drain"] = {**drain, "steps": list(steps)}
        path.write_text(json.dumps(settings))
        return path

    def step(self, name, command="", undo="", **more):
        """A run step that tells its beginning, its end and its undoing, and whether another of its name still runs."""
        note = (f'note() {{ echo "$1 {name} $(date +%s.%N) $EVENKEEL_PHASE $EVENKEEL_EVENT_TYPE $EVENKEEL_EVENT_ID" '
                f'>>{self.journal}; }}; exec 9>{self.root}/lock.{name}; flock -n 9 || note overlap; ')
        shell = {"command": f"{note} note begin; {command or ':'} && note end",
                 "undo": f"{note} note undo; {undo or ':'} && note undone"}
        return {"type": "run", "name": name, "timeoutInSeconds": 30, "reserveInSeconds": 0,
                **{key: ["sh", "-c", text] for key, text in shell.items()}, **more}

    def start(self, **more):
        self.start_daemon(binary=self.binary, **more)
        return self

    def suspend(self, seconds):
        """Stopped as by a debugger, or a host that pauses the VM; when it went on."""
        self._daemon.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self._daemon.send_signal(signal.SIGCONT)
        return time.time()

    # What happened

    def notes(self, since=0):
        """[(what, step)] of the steps, in order."""
        return [tuple(line.split()[:2]) for line in self.lines()[since:]]

    def lines(self):
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    def times(self, what, step, since=0):
        return [float(words[2]) for line in self.lines()[since:] if (words := line.split())[:2] == [what, step]]

    def wait_for(self, what, look, limit=PATIENCE):
        try:
            return wait_until(what, look, limit)
        except StageError as error:
            raise StageError(f"{error}; drain says \"{self.says('drain')}\", steps {self.notes()}") from None

    def wait_note(self, what, step, count=1, limit=PATIENCE):
        self.wait_for(f"{what} {step}", lambda: len(self.times(what, step)) >= count, limit)

    def ready(self):
        return http_get(f"http://127.0.0.1:{self.port}/ready")[0]

    def wait_ready(self, code, limit=PATIENCE):
        self.wait_for(f"/ready {code}", lambda: self.ready() == code, limit)

    def wait_says(self, word, limit=PATIENCE):
        self.wait_for(f"drain to say {word}", lambda: word in self.says("drain"), limit)

    def acks(self, event):
        return [entry["time"] for entry in self.platform.acknowledgements()
                if event.lower() in [one.lower() for one in entry["ids"]]]

    def polls(self):
        return [request for request in self.platform.requests("imds", EVENTS) if request["method"] == "GET"]

    def wait_polls(self, count, limit=PATIENCE):
        before = len(self.polls())
        self.wait_for(f"{count} polls", lambda: len(self.polls()) >= before + count, limit)
