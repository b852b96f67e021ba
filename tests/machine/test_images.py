"""What becomes of the extension beside others and in images: a dependent that waits, a handler that vanishes without a word and
comes back, and a VM that is generalized."""

import json
import os
import pathlib
import uuid

import script_extension
from product import NAME, OLD, RAN, VAULT, WEB_UNIT, daemon_program, draining, program, ran, script, shown, told, web_is

# told in the settings, in the vault, and nowhere else in this file
SECRET, WORD = "correct-horse-battery-staple", "tr0ub4dor-and-three"
GATE = f"echo begin >>{RAN}; until test -e /run/go; do sleep 0.05; done"
CLOCK = pathlib.Path(os.environ["EK_TEST_BINARY_DIR"]) / "tests/libclock_fast.so"


def enabled(machine):
    return machine.run("systemctl is-enabled evenkeel.service evenkeel.socket", check=False).split()


def test_a_dependent_waits_and_a_handler_vanishes(extension, tmp_path):
    machine, platform = extension.machine, extension.machine.platform
    platform.publish_extension(script_extension.NAME, "1.0.0", str(script_extension.build(tmp_path / "dependent.zip", "1.0.0")))
    notes = script_extension.NOTES
    dependent = {"name": script_extension.NAME, "version": "1.0.0", "state": "enabled", "seq_no": 0,
                 "public_settings": {"greeting": "hello"}, "protected_settings": {"word": "you"},
                 "depends_on_level": 2, "depends_on": [NAME]}

    def both(number, settings):
        extension.number, extension.public = number, settings
        extension.incarnation = platform.set_goal_state([dependent, {
            "name": NAME, "version": OLD, "state": "enabled", "seq_no": number, "public_settings": settings, "depends_on_level": 1}])

    # one that fails keeps it out, and says so
    both(0, script("exit 3"))
    entry = platform.wait_for_status(script_extension.NAME, lambda entry: entry and entry["status"] == "NotReady", 60, extension.incarnation)
    assert "did not succeed" in entry["formattedMessage"]["message"] and not machine.exists(notes)
    # it is not touched before our script has ended, though `enable` has returned long before
    both(1, script(f"{GATE}; mkdir -p {os.path.dirname(notes)}; echo ours has ended >>{notes}"))
    machine.wait_until(lambda: ran(machine) == ["begin"], 30, "the script's begin")
    machine.write("/run/go", "")
    platform.wait_for_status(script_extension.NAME, lambda entry: entry and entry["status"] == "Ready", 60, extension.incarnation)
    assert machine.read(notes).splitlines() == ["ours has ended", "install 1.0.0 0", "enable 1.0.0 0"]
    extension.succeeded()

    # No longer in the goal state: the agent deletes it without a command. Half an hour later, on a fast clock, it has left.
    machine.copy_in(CLOCK, "/usr/local/lib/clock_fast.so")
    machine.write("/run/systemd/system/evenkeel.service.d/clock.conf",
                  "[Service]\nEnvironment=LD_PRELOAD=/usr/local/lib/clock_fast.so EK_CLOCK_RATE=400\n")
    machine.run("systemctl daemon-reload; systemctl restart evenkeel")
    dependent["depends_on"] = []
    platform.set_goal_state([dependent])
    machine.wait_until(lambda: not machine.exists(f"/var/lib/waagent/{NAME}-{OLD}"), 30, "the agent to delete it")
    assert shown(machine, "ActiveState") == "active", "it may be on its way to another version"
    machine.wait_until(lambda: shown(machine, "ActiveState") == "inactive" and shown(machine, "ActiveState", "evenkeel.socket") == "inactive",
                       60, "the service to leave")
    assert enabled(machine) == ["disabled"] * 2
    assert "gone from this machine" in machine.journal("-u", "evenkeel")
    machine.run("rm -r /run/systemd/system/evenkeel.service.d; systemctl daemon-reload")

    # and back: the same number of another installation
    machine.run(f"rm {notes}")
    both(1, extension.public)
    extension.succeeded(60)
    assert ran(machine) == ["begin", "begin"] and enabled(machine) == ["enabled"] * 2
    assert daemon_program(machine) == program(OLD)


def found(machine, words):
    """Files in which one of the words stands, but those of the Azure agent, of systemd and of the test: they have their own tools."""
    skip = ("/proc", "/sys", "/dev", "/var/lib/waagent", "/var/log/journal", "/run/log", "/var/log/waagent.log", RAN, "/run/machine",
            f"/var/log/azure/{NAME}/CommandExecution.log", "/run/systemd/journal")
    prune = " -o ".join(f"-path {path}" for path in skip)
    machine.write("/dev/shm/words", "\n".join(words) + "\n")
    return machine.run(f"find / \\( {prune} \\) -prune -o -type f -print0 | xargs -0 grep -lsaF --file=/dev/shm/words", check=False).splitlines()


def test_generalized(extension):
    machine, platform = extension.machine, extension.machine.platform
    machine.write("/etc/systemd/system/web.service", WEB_UNIT)
    machine.run("systemctl start web")
    platform.set_event_timing(auto_start=False)
    certificate = platform.make_certificate("shop.example", key="ec")
    platform.put_secret("shop", "web", certificate["pem"], content_type="application/x-pem-file")
    platform.put_secret("shop", "word", WORD)
    url = f"https://{VAULT}/secrets"
    settings = {**draining(), **script(f"{GATE}; printf %s \"$TOKEN\" | wc -c", environment={"TOKEN": {"secretRef": "token"}}),
                "keyRefresh": {"certificates": [{"name": "web", "url": f"{url}/web", "directory": "/etc/tls/shop"},
                                                {"name": "own", "url": f"{url}/web"}],
                               "secrets": [{"name": "word", "url": f"{url}/word", "path": "/srv/app/word"}]}}
    machine.write("/etc/evenkeel/hooks/drain.d/50-shop", "#!/bin/sh\n", 0o755)
    extension.settings(settings, {"secrets": {"token": SECRET}})
    machine.wait_until(lambda: ran(machine) == ["begin"], 30, "the script's begin")

    def refused(sentence, code=1, *arguments):
        assert machine.status(["evenkeel", "generalize", *arguments]) == code
        assert sentence in machine.run(["sh", "-c", 'evenkeel generalize "$@" 2>&1', "sh", *arguments], check=False)
        assert shown(machine, "ActiveState") == "active" and told(machine, "settings")[0] == "success"

    refused("say --yes", 2)
    refused("runs: wait for its end", 1, "--yes")
    machine.write("/run/go", "")
    extension.succeeded()
    machine.run("evenkeel drain --wait imaging")
    assert web_is(machine, "inactive")
    refused("this VM is drained", 1, "--yes")
    machine.run("evenkeel restore")
    machine.wait_until(lambda: told(machine, "drain")[1].startswith("watching"), 20, "the restore")
    assert web_is(machine, "active")

    owner = json.loads(machine.read("/var/lib/evenkeel/state/owner.json"))["installation"]
    key = certificate["key"].splitlines()[1]
    words = [SECRET, WORD, key, certificate["leaf"].splitlines()[1], owner, machine.vm_id, certificate["thumbprint"].lower(),
             certificate["thumbprint"]]
    assert {"/var/lib/evenkeel/state/owner.json", "/etc/tls/shop/privkey.pem", "/srv/app/word"} <= {
        path.replace(machine.run("readlink -f /etc/tls/shop/privkey.pem").strip(), "/etc/tls/shop/privkey.pem")
        for path in found(machine, words)}, "the eye sees"

    # as cloud-init does it, twice
    machine.copy_in(pathlib.Path(__file__).parents[2] / "agent/app/cloud-clean.sh", "/etc/cloud/clean.d/50-evenkeel")
    for _ in range(2):
        machine.run("run-parts --exit-on-error /etc/cloud/clean.d")
    assert found(machine, words) == []
    assert machine.run("find /var/lib/evenkeel /run/evenkeel /etc/tls /srv ! -type d", check=False).split() == []
    assert machine.run(f"find /var/log/azure/{NAME} -name 'evenkeel.log*'") == ""
    assert shown(machine, "ActiveState") == "inactive" and enabled(machine) == ["enabled"] * 2
    assert machine.exists("/etc/evenkeel/hooks/drain.d/50-shop") and machine.exists(program(OLD))

    # the image's first VM: nobody's, until the platform says what it shall be
    machine.power_off()
    machine.vm_id = str(uuid.uuid4())
    machine.boot()
    machine.write("/run/go", "")
    extension.goal()
    extension.succeeded()
    assert ran(machine)[-2:] == ["restore", "begin"]
    assert "copied from another machine" not in machine.journal("-u", "evenkeel")
    assert json.loads(machine.read("/var/lib/evenkeel/state/owner.json"))["installation"] != owner

    machine.run("systemctl stop walinuxagent; evenkeel generalize --yes --all")
    assert machine.run("find / -xdev -path /var/lib/waagent -prune -o -name '*evenkeel*' ! -type d -print | grep -v ^/etc/cloud/ || true") == ""
    assert machine.run("find /etc/evenkeel ! -type d") == "" and shown(machine, "LoadState") == "not-found"
