"""`evenkeel scripts`: what is listed, printed, followed and run by hand, with and without the service; what is kept of runs."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from vm import BINARY, SANITIZED, me, script, wait_until

USER = me()[0]
PATIENCE = 60 if SANITIZED else 20
DAY = 86400


def listed(vm):
    """--json, and what was said beside it."""
    done = vm.run("scripts", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def find(vm, name, origin=None):
    found = [one for one in listed(vm)[0]["scripts"] if one["name"] == name and origin in (None, one["origin"])]
    assert len(found) <= 1
    return found[0] if found else None


def jobs(vm, prefix=""):
    return sorted(path for path in (vm.root / "var/lib/evenkeel/jobs").glob(prefix + "*") if path.is_dir())


def put_script(vm, text, name="hand.sh"):
    path = vm.directory / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def run_file(vm, text, *arguments, name="hand.sh", options=()):
    """`scripts run` of a file with this text, as the user of these tests."""
    return vm.run("scripts", "run", "--user", USER, *options, put_script(vm, text, name), *arguments)


def begin(vm, *arguments):
    """A command that is not waited for."""
    return subprocess.Popen([vm.binary, *arguments], env=vm.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def finish(process):
    """What it has not been asked for yet, and what it said beside it; it ends."""
    out, err = process.stdout.read(), process.stderr.read()
    process.wait(PATIENCE)
    process.stdout.close()
    process.stderr.close()
    return out, err


def ended(vm, sequence):
    """After a failure the deployment has failed at once, whatever else is still to be run."""
    vm.settled(sequence, limit=PATIENCE)
    wait_until("all scripts to be over", lambda: all(one["state"] not in ("waiting", "running") and not any(
        run["state"] in ("starting", "running") for run in one["runs"]) for one in listed(vm)[0]["scripts"]), PATIENCE)


def two_scripts(**second):
    return {"customScript": {"scripts": [
        {"name": "first", "runAs": USER, "commandToExecute": "echo out; echo err >&2; exit 3", "continueOnFailure": True},
        {"name": "second", "runAs": USER, "commandToExecute": "kill -KILL $$", **second}]}}


# ---- the list ----

def test_nothing_has_run(service):
    view, said = listed(service)
    assert view == {"running": True, "scripts": []} and said == ""
    done = service.run("scripts")
    assert done.returncode == 0 and done.stdout == "there are no scripts, and none has run\n"


def test_runs_of_the_settings(service):
    service.enable(4, two_scripts())
    ended(service, 4)
    view, _ = listed(service)
    assert [one["name"] for one in view["scripts"]] == ["first", "second"]
    first, second = view["scripts"]
    assert first["origin"] == "settings" and first["state"] == "failed" and first["sequence"] == "4" and first["attempts"] == 1
    run, = first["runs"]
    assert run["state"] == "failed" and run["result"] == "exit code 3" and run["exitCode"] == 3 and run["signal"] == -1
    assert run["sequence"] == "4" and run["attempt"] == 1 and run["durationInMilliseconds"] >= 0
    assert run["stdoutInBytes"] == 4 and run["stderrInBytes"] == 4 and re.match(r"\d{4}-\d\d-\d\dT", run["startedAt"])
    run, = second["runs"]
    assert run["result"] == "killed by SIGKILL (9)" and run["exitCode"] == -1 and run["signal"] == 9
    lines = service.run("scripts").stdout.splitlines()
    assert lines[0].split() == ["NAME", "SEQUENCE", "TRY", "STATE", "RESULT", "STARTED", "DURATION", "JOB", "DETAIL"]
    assert re.search(r"first +4 +1 +failed +exit code 3 +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d .* cs-first-", lines[1])
    assert re.search(r"second +4 +1 +failed +killed by SIGKILL \(9\)", lines[2])


def test_what_is_waited_for(service):
    """A try that failed waits for the next one, and the script after it for its turn; a former run stays in the list."""
    service.enable(1, two_scripts())
    ended(service, 1)
    settings = two_scripts()
    settings["customScript"]["scripts"][0].update(continueOnFailure=False, retry={"times": 2, "delayInSeconds": 600})
    service.enable(2, settings)
    wait_until("the first try", lambda: (find(service, "first") or {}).get("attempts") == 1
               and find(service, "first")["state"] == "waiting", PATIENCE)
    first, second = listed(service)[0]["scripts"]
    assert re.match(r"try 1: exit code 3 after .*; tried again in (10|9) min", first["detail"])
    assert [run["sequence"] for run in first["runs"]] == ["2", "1"]
    assert second["state"] == "waiting" and second["detail"] == "waiting for its turn" and second["sequence"] == "2"
    assert [run["sequence"] for run in second["runs"]] == ["1"]
    assert re.search(r"second +2 +- +waiting .*waiting for its turn", service.run("scripts").stdout)


def test_a_script_that_runs_and_one_that_left_the_settings(service):
    service.enable(1, script("true", name="old"))
    service.settled(1)
    service.enable(2, script("sleep 600", name="long", asynchronous=True))
    service.settled(2)
    wait_until("its runner to have begun", lambda: find(service, "long")["runs"][0]["state"] == "running", 15)
    long = find(service, "long")
    assert long["state"] == "running" and "result" not in long["runs"][0]
    assert find(service, "old", "former")["runs"][0]["state"] == "succeeded"


def test_without_the_service(service):
    """The files tell what is over, and the record what was not run."""
    settings = two_scripts()
    settings["customScript"]["scripts"][0]["continueOnFailure"] = False
    service.enable(7, settings)
    ended(service, 7)
    service.stop_daemon()
    view, said = listed(service)
    assert said == "evenkeel scripts: the service is not running; this is what its files tell\n" and view["running"] is False
    first, second = view["scripts"]
    assert first["state"] == "failed" and first["runs"][0]["exitCode"] == 3
    assert second["state"] == "notRun" and "first before it failed" in second["detail"] and second["runs"] == []
    assert service.run("scripts", "logs", "first").stdout == "[stdout]\nout\n[stderr]\nerr\n"
    refused = service.run("scripts", "run", "/bin/true")
    assert refused.returncode == 4 and "the service is not running" in refused.stderr


# ---- logs ----

def test_logs_of_a_run(service):
    for sequence in (1, 2):
        service.enable(sequence, script(f"echo out {sequence}; printf %s 'no newline' ; echo err {sequence} >&2"))
        service.settled(sequence)
    newest, oldest = (run["job"] for run in find(service, "deploy")["runs"])
    text = "[stdout]\nout {0}\nno newline\n[stderr]\nerr {0}\n".format
    for arguments, wanted in ((["deploy"], text(2)), (["--run", "2", "deploy"], text(1)), (["--job", oldest], text(1)),
                              (["--stderr", "deploy"], "err 2\n"), (["--follow", "--job", newest], text(2))):
        done = service.run("scripts", "logs", *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, wanted, ""), arguments


def test_logs_that_are_not_there(service):
    done = service.run("scripts", "logs", "nobody")
    assert done.returncode == 1 and 'there is no kept run of "nobody"' in done.stderr
    service.enable(1, script("true"))
    service.settled(1)
    done = service.run("scripts", "logs", "--run", "2", "deploy")
    assert done.returncode == 1 and "deploy has 1 kept run; --run 1 is the newest" in done.stderr
    for wrong in ([], ["--run", "0", "deploy"], ["--run", "1", "--job", "x", "deploy"], ["a", "b"]):
        assert service.run("scripts", "logs", *wrong).returncode == 2, wrong


def test_following_a_run_to_its_end(service):
    gate = service.directory / "gate"
    service.enable(1, script(f"echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo over; echo bad >&2; exit 42"))
    wait_until("the run", lambda: (find(service, "deploy") or {}).get("runs"), PATIENCE)
    follower = begin(service, "scripts", "logs", "--follow", "deploy")
    assert follower.stdout.readline() == "[stdout]\n" and follower.stdout.readline() == "begun\n"
    assert follower.poll() is None
    gate.touch()
    out, err = finish(follower)
    assert follower.returncode == 42 and sorted(out.split()) == ["[stderr]", "bad", "over"] and err == ""


def test_verdicts_of_ends_that_are_no_exit_code(service):
    ends = (("kill -SEGV $$", {}, 128 + 11, "killed by SIGSEGV"), ("sleep 600", {"timeoutInSeconds": 1}, 124, "longer than its limit"))
    for number, (command, more, code, said) in enumerate(ends):
        service.enable(number, script(command, **more))
        service.settled(number, limit=PATIENCE)
        done = service.run("scripts", "logs", "--follow", "deploy")
        assert done.returncode == code and said in done.stderr


def test_following_output_that_is_capped(service):
    """The middle of the file goes while it is read. What is printed and what is told to be left out is everything."""
    gate = service.directory / "gate"
    service.enable(1, script(f"seq 1 200000; while [ ! -e {gate} ]; do sleep 0.05; done; seq 200001 400000; echo the end",
                             output={"maxInBytes": 65536}))
    wait_until("the run", lambda: (find(service, "deploy") or {}).get("runs"), PATIENCE)
    follower = begin(service, "scripts", "logs", "--follow", "deploy")
    assert follower.stdout.readline() == "[stdout]\n"
    gate.touch()
    out, _ = finish(follower)
    assert follower.returncode == 0 and out.endswith("\n399999\n400000\nthe end\n")
    mark = re.compile(r"\n\[evenkeel: (\d+) bytes left out here\]\n")
    produced = "".join(f"{number}\n" for number in range(1, 400001)) + "the end\n"
    at = 0
    for index, part in enumerate(mark.split(out)):
        if index % 2:
            at += int(part)
        else:
            assert produced[at:at + len(part)] == part
            at += len(part)
    assert at == len(produced) and mark.search(out)
    log, = jobs(service, "cs-")
    assert (log / "stdout").stat().st_size <= 65536


# ---- run ----

def test_running_a_file(service):
    """Its interpreter, converted line endings and byte-order mark, arguments, streams, exit code; and it is in the list."""
    done = run_file(service, b'\xef\xbb\xbf#!/bin/sh\r\nfor a in "$@"; do echo "<$a>"; done\r\necho wrong >&2\r\nexit 9\r\n', "one", "two words",
                    "$(reboot)", "--timeout", "", name="my deploy.sh")
    assert (done.returncode, done.stderr) == (9, "wrong\n")
    assert done.stdout == "<one>\n<two words>\n<$(reboot)>\n<--timeout>\n<>\n"
    one = find(service, "mydeploy.sh", "byHand")
    assert one["state"] == "failed" and one["runs"][0]["exitCode"] == 9 and one["runs"][0]["job"].startswith("hand-mydeploy-sh-")
    assert "sequence" not in one
    assert service.run("scripts", "logs", "mydeploy.sh").stdout.endswith("[stderr]\nwrong\n")
    wait_until("nothing of it to be left", lambda: not list((service.root / "run/evenkeel/jobs").glob("hand-*")), 10)
    assert re.search(r"mydeploy.sh +by hand +- +failed +exit code 9", service.run("scripts").stdout)


def test_another_interpreter_and_a_file_without_one(service):
    assert run_file(service, "#!/usr/bin/python3\nimport sys\nprint('snake', sys.argv[1])\n", "a").stdout == "snake a\n"
    assert run_file(service, "echo shell $1\n", "b").stdout == "shell b\n"
    done = run_file(service, "#!/nowhere/at/all\n")
    assert done.returncode == 125 and "/nowhere/at/all" in done.stderr


def test_a_run_by_hand_has_a_limit_of_time(service):
    done = run_file(service, "echo before\nsleep 600 &\nsleep 600\n", options=("--timeout", "1"))
    assert done.returncode == 124 and done.stdout == "before\n" and "longer than its limit" in done.stderr
    assert find(service, "hand.sh")["runs"][0]["state"] == "timedOut"


def test_a_run_by_hand_survives_its_terminal_and_the_service(service):
    gate = service.directory / "gate"
    path = put_script(service, f"echo begun\nwhile [ ! -e {gate} ]; do sleep 0.05; done\necho over\nexit 5\n")
    terminal = begin(service, "scripts", "run", "--user", USER, path)
    assert terminal.stdout.readline() == "begun\n"
    terminal.send_signal(signal.SIGINT)
    _, err = finish(terminal)
    assert terminal.returncode == 130 and "it runs on" in err
    assert find(service, "hand.sh")["state"] == "running"
    service.kill_daemon()
    service.start_daemon()
    follower = begin(service, "scripts", "logs", "--follow", "hand.sh")
    gate.touch()
    out, _ = finish(follower)
    assert follower.returncode == 5 and out == "[stdout]\nbegun\nover\n"
    # The service has seen the end, too: nothing is left to be watched.
    wait_until("the end to be recorded", lambda: "run by hand: exit code 5" in service.log_text(), PATIENCE)


def test_a_run_by_hand_that_is_killed_with_its_runner_has_an_end(service):
    path = put_script(service, "echo $PPID\nsleep 600\n")
    terminal = begin(service, "scripts", "run", "--user", USER, path)
    os.kill(int(terminal.stdout.readline()), signal.SIGKILL)
    _, err = finish(terminal)
    assert terminal.returncode == 125 and "interrupted" in err
    assert find(service, "hand.sh")["runs"][0]["state"] == "interrupted"


def test_a_run_by_hand_that_a_reboot_interrupts_has_an_end(service):
    """Service and runner are gone, and the boot is another: whoever looks knows, and the service writes it down."""
    path = put_script(service, "echo $PPID\nsleep 600\n")
    terminal = begin(service, "scripts", "run", "--user", USER, path)
    runner = int(terminal.stdout.readline())
    service.kill_daemon()
    directory, = jobs(service, "hand-")
    (directory / "started").write_text("00000000-0000-4000-8000-000000000000")
    _, err = finish(terminal)
    assert terminal.returncode == 125 and "interrupted by a reboot" in err
    assert find(service, "hand.sh")["runs"][0]["state"] == "interrupted" and not (directory / "result.json").exists()
    os.kill(runner, signal.SIGKILL)
    service.start_daemon()
    wait_until("the end to be written down", (directory / "result.json").exists, PATIENCE)
    run, = find(service, "hand.sh")["runs"]
    assert run["state"] == "interrupted" and "interrupted by a reboot" in run["message"]


def test_runs_by_hand_leave_the_deployment_alone(service):
    service.enable(3, script("echo once >>" + str(service.directory / "ran")))
    before = service.settled(3)
    path = put_script(service, "sleep 600\n", "deploy")
    terminal = begin(service, "scripts", "run", "--user", USER, path)
    wait_until("the run by hand", lambda: (find(service, "deploy", "byHand") or {}).get("state") == "running", PATIENCE)
    assert find(service, "deploy", "settings")["state"] == "succeeded"
    assert service.deployment(3) == before and len(service.status()["status"][0]["status"]["substatus"]) == len(before["substatus"])
    service.enable(4, script("echo once >>" + str(service.directory / "ran")))
    assert service.settled(4)["status"] == "success"
    terminal.kill()
    finish(terminal)
    assert (service.directory / "ran").read_text() == "once\nonce\n"


@pytest.mark.parametrize("text, options, arguments, said", [
    (b"x" * 200000, (), (), "larger than the 192 KiB"),
    (b"", (), (), "is empty"),
    (b"true\n", ("--user", "nobody-of-that-name"), (), 'no user "nobody-of-that-name"'),
    (b"true\n", ("--name", "a b"), (), "not run: script: name"),
    (b"true\n", (), ["x"] * 65, "not run: script: arguments"),
], ids=["large", "empty", "user", "name", "arguments"])
def test_what_cannot_be_run_is_refused_with_the_reason(service, text, options, arguments, said):
    done = run_file(service, text, *arguments, options=options)
    assert done.returncode in (1, 125) and said in done.stderr and done.stdout == ""
    wait_until("nothing of it to be left", lambda: not list((service.root / "run/evenkeel/jobs").glob("hand-*")), 10)


def test_no_such_file(service):
    done = service.run("scripts", "run", service.directory / "nothing.sh")
    assert done.returncode == 1 and "nothing.sh" in done.stderr


def test_orders_that_this_command_would_not_give(service):
    for body, said in (("cs-deploy-00000000-1", "is not the id of a job"), ("hand-../../x", "is not the id of a job"),
                       ("hand-a-0", "hand-a-0.script")):
        code, text = service.call("POST", "/v1/scripts/run", body)
        assert code in (409, 503) and said in text
    spool = service.root / "run/evenkeel/jobs/hand-a-1.script"
    for more, said in (({"commandToExecute": "id"}, "a script that is run by hand is"),
                       ({"script": "dHJ1ZQo=", "environment": {"A": {"secretRef": "s"}}}, "a script that is run by hand is"),
                       ({"script": "dHJ1ZQo=", "files": ["http://127.0.0.1/a"]}, "a script that is run by hand is"),
                       ({"script": "%"}, "script: script")):
        spool.write_text(json.dumps({"name": "a", **more}))
        code, text = service.call("POST", "/v1/scripts/run", "hand-a-1")
        assert code == 409 and said in text and not spool.exists(), text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_only_root(service):
    with tempfile.TemporaryDirectory() as directory:
        place = pathlib.Path(directory)
        place.chmod(0o755)
        program = place / "evenkeel"
        shutil.copy2(BINARY, program)
        root = place / "root"
        (root / "var/lib/evenkeel/state").mkdir(parents=True)
        (root / "var/lib/evenkeel/state").chmod(0o700)
        for arguments in (["--json"], [], ["logs", "deploy"], ["run", "/bin/true"]):
            done = subprocess.run([program, "scripts", *arguments], env={**service.environment(), "EVENKEEL_ROOT": str(root)},
                                  user=65534, group=65534, extra_groups=[], capture_output=True, text=True, timeout=30)
            assert done.returncode == 5 and "only root may ask this" in done.stderr, arguments


def test_secrets_stay_out(service):
    """Only what the script itself prints is shown; neither job nor list knows the command, a SAS or a secret's value."""
    service.enable(1, {"customScript": {"scripts": [{"name": "deploy", "runAs": USER, "commandToExecute": {"secretRef": "c"},
                                                     "environment": {"TOKEN": {"secretRef": "t"}}}]}},
                   {"secrets": {"c": "echo printed; : hidden-command", "t": "hidden-value"}})
    service.settled(1)
    shown = service.run("scripts").stdout + service.run("scripts", "--json").stdout + service.run("scripts", "logs", "deploy").stdout
    assert "printed" in shown and "hidden" not in shown


# ---- what is kept ----

def test_only_so_many_runs_of_each_are_kept_and_removed_at_uninstall_but_not_at_upgrade(service):
    """keepRuns counts for each name, also for names that look alike in ids; what runs is never removed."""
    names = ("A_b", "a-b", "a-b-c")
    for sequence in range(4):
        service.enable(sequence, {"customScript": {"keepRuns": 2, "scripts": [
            *({"name": name, "runAs": USER, "commandToExecute": "echo"} for name in names),
            {"name": "on", "runAs": USER, "commandToExecute": "sleep 600", "asynchronous": True, "runPolicy": "oncePerContent"}]}})
        service.settled(sequence)
    wait_until("old runs to be gone", lambda: len(jobs(service, "cs-")) == 7, PATIENCE)
    assert [[run["sequence"] for run in find(service, name)["runs"]] for name in (*names, "on")] == [["3", "2"]] * 3 + [["0"]]
    before = jobs(service)
    for verb in ("disable", "update", "disable"):
        service.command(verb, 3)
    assert jobs(service) == before


def set_age(directory, days):
    """As if the run had ended so long ago."""
    then = time.time() - days * DAY
    for path in (*directory.iterdir(), directory):
        os.utime(path, (then, then))


def set_size(directory, size):
    """As if the run had left so much on the disk."""
    result = json.loads((directory / "result.json").read_text())
    stamp = (directory / "result.json").stat().st_mtime
    (directory / "result.json").write_text(json.dumps({**result, "keptInBytes": size}))
    os.utime(directory / "result.json", (stamp, stamp))


def sequence_of(directory):
    return json.loads((directory / "job.json").read_text())["sequence"]


def test_runs_that_are_too_old_or_too_large_go_on_start_but_never_the_newest(service):
    for sequence in range(5):
        service.enable(sequence, script("echo"))
        service.settled(sequence)
    service.stop_daemon()
    by_sequence = {sequence_of(directory): directory for directory in jobs(service, "cs-")}
    assert sorted(by_sequence) == ["0", "1", "2", "3", "4"]
    for sequence, days in (("0", 31), ("1", 29), ("2", 5), ("3", 4), ("4", 3)):
        set_age(by_sequence[sequence], days)
    # 0 is too old. The newest alone is more than may be kept, and stays; 1 goes, being the oldest of the others, and 2 and 3
    # go, too, for nothing fits beside the newest.
    service.start_daemon()
    wait_until("the old run to be gone", lambda: not by_sequence["0"].exists(), PATIENCE)
    assert all(by_sequence[sequence].exists() for sequence in "1234")
    service.stop_daemon()
    set_size(by_sequence["2"], 700 * 2**20)
    set_size(by_sequence["1"], 700 * 2**20)
    service.start_daemon()
    wait_until("the oldest of the large runs to be gone", lambda: not by_sequence["1"].exists(), PATIENCE)
    assert all(by_sequence[sequence].exists() for sequence in "234")
    service.stop_daemon()
    set_size(by_sequence["4"], 2 * 2**30)
    set_age(by_sequence["4"], 300)
    set_age(by_sequence["3"], 301)
    service.start_daemon()
    wait_until("all but the newest to be gone", lambda: [*map(sequence_of, jobs(service, "cs-"))] == ["2"] or
               [*map(sequence_of, jobs(service, "cs-"))] == ["4"], PATIENCE)


def test_wipe_leaves_nothing_but_the_output(service):
    content = "echo shown\ntouch left-behind\n"
    import base64
    encoded = base64.b64encode(content.encode()).decode()
    for sequence, wipe in ((1, False), (2, True)):
        service.enable(sequence, {"customScript": {"scripts": [{"name": "deploy", "runAs": USER, "script": encoded, "wipe": wipe}]}})
        service.settled(sequence)
    kept, wiped = (next(one for one in jobs(service, "cs-") if sequence_of(one) == number) for number in "12")
    assert sorted(path.name for path in (kept / "work").iterdir()) == ["left-behind", "script.sh"]
    assert not (wiped / "work").exists()
    assert service.run("scripts", "logs", "deploy").stdout == "[stdout]\nshown\n"
    files = [path for path in wiped.rglob("*") if path.is_file()]
    assert not any(b"left-behind" in path.read_bytes() for path in files)
