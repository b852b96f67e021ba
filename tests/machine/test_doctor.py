"""The doctor and the support bundle on a booted machine: what they ask systemd, the journal and the Azure agent."""

import json
import tarfile

from product import WEB_UNIT, Extension, draining

SECRET = "a-word-that-nobody-may-read"


def findings(machine):
    """The worst of each check."""
    order = ["ok", "note", "warning", "error"]
    done = json.loads(machine.run("evenkeel doctor --json", check=False, timeout=60))
    return {finding["check"]: finding for finding in sorted(done["findings"], key=lambda one: order.index(one["verdict"]))}


def test_what_systemd_and_the_agent_say(new_machine, tmp_path):
    machine = new_machine(agent=True)
    machine.start_platform()
    machine.write("/etc/systemd/system/web.service", WEB_UNIT)
    machine.boot()
    extension = Extension(machine)
    settings = draining({"type": "stopUnits", "name": "typing-error", "units": ["nignx.service"]}, shutdown={})
    settings["customScript"] = {"scripts": [{"name": "s", "commandToExecute": "true",
                                             "environment": {"WORD": {"secretRef": "word"}}}]}
    extension.settings(settings, {"secrets": {"word": SECRET}})
    extension.succeeded()

    found = findings(machine)
    for check in ("service", "settings", "imds", "systemd", "logind", "space", "permissions"):
        assert found[check]["verdict"] in ("ok", "note"), found[check]
    assert found["units"]["verdict"] in ("warning", "error") and "nignx.service" in found["units"]["found"], found["units"]
    assert found["agent"]["verdict"] in ("ok", "note") and "2." in found["agent"]["found"], found["agent"]
    assert found["rivals"]["verdict"] in ("ok", "note"), found["rivals"]
    # broken here: the agent stands still, and another program acknowledges, too
    machine.run("systemctl stop walinuxagent.service")
    machine.write("/etc/systemd/system/azure-scheduled-events.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    machine.run("systemctl start azure-scheduled-events.service")
    found = findings(machine)
    assert found["agent"]["verdict"] in ("warning", "error"), found["agent"]

    machine.run("evenkeel support-bundle /root/bundle.tar.gz", timeout=60)
    assert machine.run("stat -c %a /root/bundle.tar.gz").strip() == "600"
    machine.copy_out("/root/bundle.tar.gz", tmp_path / "bundle.tar.gz")
    with tarfile.open(tmp_path / "bundle.tar.gz") as bundle:
        members = {member.name.partition("/")[2] or member.name: bundle.extractfile(member).read().decode(errors="replace")
                   for member in bundle if member.isfile()}
    assert "evenkeel.service" in members["units.txt"] and "walinuxagent" in members["units.txt"], members.keys()
    assert any("is running" in text for name, text in members.items() if "journal" in name), members.keys()
    assert not [name for name, text in members.items() if SECRET in text]
