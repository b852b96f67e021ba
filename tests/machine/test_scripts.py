"""Custom scripts on a booted machine, where they are units: what only systemd, cgroups and a real reboot show. The numbers are
those of tests/agent/test_script_asks.py and test_script_peers.py."""

from product import configure, ran, told

RAN = "/var/lib/ran"


def run(machine, *scripts, **section):
    """A goal state of these scripts, by the other door: no agent is needed here."""
    all_scripts = [{"name": f"s{i}", **one} for i, one in enumerate(scripts)]
    configure(machine, {"log": {"console": False}, "customScript": {"scripts": all_scripts, **section}})
    if machine.status("systemctl is-active --quiet evenkeel.service") == 0:
        machine.run("systemctl reload evenkeel.service")
    else:
        machine.run("systemctl enable --now evenkeel.socket evenkeel.service")


def says(machine, text, level, name="s0", timeout=30):
    """The message of the script, once it has this level and the text in it."""
    found = {}

    def look():
        found["level"], found["message"] = told(machine, f"customScript/{name}")
        return found["level"] == level and text in found["message"]

    machine.wait_until(look, timeout, f"{name} to say {level}, {text!r}")
    return found["message"]


def unit(machine):
    return machine.run("systemctl list-units --plain --no-legend --state=active 'evenkeel-job-*'").split()[0]


def shown(machine, name, prop):
    return machine.run(["systemctl", "show", "--value", f"--property={prop}", name]).strip()


def pids(machine):
    """Every process of the jobs."""
    listed = machine.run("find /sys/fs/cgroup/ -path '*evenkeel-jobs.slice*' -name cgroup.procs -exec cat {} +", check=False)
    return sorted(map(int, listed.split()))


# so that no reboot comes before the machine has booted
GO = "until test -e /run/go; do sleep 0.1; done"


def test_ask_01_reboots(machine_with_program):
    machine = machine_with_program
    # a script that reboots the machine under itself, by setting run again, and one that asks for it
    run(machine, {"onReboot": "rerun", "commandToExecute": f"echo own >>{RAN}; sync; [ -e /var/lib/again ] || "
                  "{ touch /var/lib/again; sync; systemctl reboot; sleep 1000; }"},
        {"rebootExitCode": 194, "commandToExecute": f"{GO}; echo asks >>{RAN}; exit 194"},
        {"commandToExecute": f"echo after >>{RAN}"})
    machine.follow_reboot()
    machine.write("/run/go", "")
    machine.follow_reboot()
    says(machine, "exit code 0", "success", "s2")
    assert ran(machine) == ["own", "own", "asks", "after"]
    # without the setting it is told: "fail" is the default
    run(machine, {"commandToExecute": f"echo once >>{RAN}; sync; systemctl reboot; sleep 1000"})
    machine.follow_reboot()
    says(machine, "interrupted by a reboot after", "error")
    assert ran(machine)[4:] == ["once"]
    # a manager that shuts down begins nothing: what is due meanwhile runs after the boot (the first one keeps it waiting)
    run(machine, {"asynchronous": True, "continueOnFailure": True, "commandToExecute": "trap '' TERM; while :; do sleep 1; done"},
        {"retry": {"times": 3, "delayInSeconds": 3}, "commandToExecute":
         f"[ ! -e /var/lib/tried ] && touch /var/lib/tried && sync && exit 3; echo next >>{RAN}; sync"})
    says(machine, "tried again in", "transitioning", "s1")
    machine.run("systemctl reboot --no-block")
    machine.follow_reboot()
    says(machine, "exit code 0", "success", "s1")
    assert ran(machine)[5:] == ["next"]
    # three at most
    machine.run(f"rm {RAN}")
    run(machine, *({"rebootExitCode": 194, "commandToExecute": f"{GO}; echo {i} >>{RAN}; sync; exit 194"} for i in range(5)))
    for _ in range(3):
        machine.write("/run/go", "")
        machine.follow_reboot()
    machine.write("/run/go", "")
    says(machine, "asks for a reboot once more, after 3", "error", "s3")
    assert ran(machine) == ["0", "1", "2", "3"]


TREE = ("setsid sh -c 'trap : TERM; setsid sleep 1000 & while :; do sleep 1; done' & (sh -c 'sleep 1000; :' &) ; "
        "touch /run/began; sleep 1000")


def test_ask_13_peer_05_units_end_whole(machine_with_program):
    machine = machine_with_program
    # a timeout ends all that has been started, whatever session it is in
    run(machine, {"commandToExecute": TREE, "timeoutInSeconds": 2})
    message = says(machine, "timed out after", "error", timeout=60)
    assert "was ended with all it had started" in message and pids(machine) == []

    # whichever process of the runner is killed, nothing runs on unwatched
    for victim in (0, 1):
        machine.run("rm -f /run/began")
        run(machine, {"commandToExecute": f"{TREE}; : {victim}"})
        machine.wait_until("test -e /run/began", 20, "the script's start")
        main = shown(machine, unit(machine), "MainPID")
        killed = main if victim == 0 else machine.run(f"pgrep -P {main}").split()[0]
        machine.run(f"kill -KILL {killed}")
        says(machine, "interrupted: ", "error")
        machine.wait_until(lambda: pids(machine) == [], 10, "every process to end")

    # what a script leaves running on purpose stays, is counted, and outlives the service
    run(machine, {"commandToExecute": "sleep 1000 & echo $! >/run/left"})
    assert "1 process left running" in says(machine, "exit code 0", "success")
    machine.run("systemctl restart evenkeel.service")
    assert machine.read(f"/proc/{machine.read('/run/left').strip()}/comm") == "sleep\n"
    machine.run(f"kill {machine.read('/run/left').strip()}")


def test_ask_14_limits_locks_and_users(machine_with_program):
    machine = machine_with_program
    machine.run("useradd --system --groups daemon --home-dir /nonexistent app")
    # limits are the unit's; who is killed for memory is the script, not the runner that tells it
    run(machine, {"commandToExecute": "touch /run/began; nice; until test -e /run/go; do sleep 0.1; done; head -c 200000000 /dev/zero | tail",
                  "limits": {"memoryInBytes": 33554432, "cpuInPercent": 50, "nice": 7}, "retry": {"times": 0}})
    machine.wait_until("test -e /run/began", 20, "the script's start")
    name = unit(machine)
    assert shown(machine, name, "MemoryMax") == "33554432" and shown(machine, name, "CPUQuotaPerSecUSec") == "500ms"
    if "memory" in machine.run(f"cat /sys/fs/cgroup{shown(machine, name, 'ControlGroup')}/cgroup.controllers"):
        machine.write("/run/go", "")
        assert "\n7\n" in says(machine, "", "error")
        assert "SIGKILL" in told(machine, "customScript/s0")[1] or "exit code 137" in told(machine, "customScript/s0")[1]
    else:
        machine.run(f"systemctl kill --signal=TERM {name}")

    # the daemon sees other people's locks out of its sandbox
    machine.run("systemd-run --quiet --unit=holder flock /run/.tdnf-instance-lockfile sleep 1000")
    machine.wait_until("test -e /run/.tdnf-instance-lockfile", 10, "the lock")
    run(machine, {"runAs": "app", "commandToExecute": "id -un; id -Gn; cat /etc/shadow || echo $HOME"}, waitFor=["packageLocks"],
        whenBusy="cancel")
    says(machine, "waiting for the package manager's lock", "transitioning", timeout=60)
    machine.run("systemctl stop holder")
    message = says(machine, "exit code 0", "success")
    assert "[stdout]\napp\napp daemon\n/nonexistent\n" in message


def test_scripts_run_by_hand_are_units_whose_files_go_again(machine_with_program):
    """Also what another user has left: the service may not, so a job of its own removes it."""
    machine = machine_with_program
    run(machine, {"commandToExecute": "true"}, keepRuns=1)
    machine.write("/root/by-hand", "#!/bin/sh\nid -un\nmkdir mine; echo x >mine/file; chmod 700 mine\ncat /proc/self/cgroup\nexit 9\n")
    for number in range(3):
        done = machine.run("evenkeel scripts run --user nobody /root/by-hand", check=False)
        assert done.startswith("nobody\n") and "evenkeel-jobs.slice/evenkeel-job-" in done
    assert machine.status("evenkeel scripts run --user nobody /root/by-hand >/dev/null") == 9, "the script's own exit code"

    def kept():
        return machine.run("ls -d /var/lib/evenkeel/jobs/hand-by-hand-* || true").split()

    machine.wait_until(lambda: len(kept()) == 1, 15, f"old runs to go, there is {kept()}")
    assert machine.run(f"stat -c %U {kept()[0]}/work/mine").strip() == "nobody"
    assert "by-hand" in machine.run("evenkeel scripts")
    assert machine.run("evenkeel scripts logs by-hand", check=False).startswith("[stdout]\nnobody\n")
    machine.wait_until(lambda: not machine.run("systemctl list-units --plain --no-legend 'evenkeel-job-*'").strip(), 15,
                       "all units to be released")
