"""User data beside Debian's cloud-init on a booted machine: what it applies at an instance's first boot is not run again, what changes
later is run by us, a reboot runs nothing, and on a clone everything begins anew.

The data source is NoCloud: the one for Azure takes the instance's id from DMI, which cloud-init does not read in a container, and
that is what these machines are to it. What it does differently (a reboot stores changed user data, and runs its boot hooks) is in the
tables of tests/unit/test_userdata_apply.c."""

import json
import os
import pathlib

import pytest

import image
import machine as machines
import product
from required import need

BUILD = pathlib.Path(os.environ["EK_TEST_BINARY_DIR"])
SEED = "/var/lib/cloud/seed/nocloud"
SETTINGS = {"userData": {"action": "apply", "pollingIntervalInSeconds": 10, "parts": ["shellscript", "boothook"]}, "log": {"console": False}}
# The data source that needs no network, and of the modules only the one that runs user data.
CLOUD_CONFIG = """\
datasource_list: [NoCloud]
network: {config: disabled}
users: []
cloud_init_modules: []
cloud_config_modules: []
cloud_final_modules: [scripts-user]
"""


def script(word):
    return f"#!/bin/sh\necho {word} >>{product.RAN}\n".encode()


@pytest.fixture
def machine():
    need(machines.unavailable(image.CLOUD_PACKAGES), "EK_MACHINE_REQUIRED")
    image.ensure(image.CLOUD_PACKAGES)
    with machines.Machine(packages=image.CLOUD_PACKAGES) as one:
        one.write("/etc/cloud/cloud.cfg.d/99_test.cfg", CLOUD_CONFIG)
        product.put_program(one)
        one.write("/etc/evenkeel/evenkeel.json", json.dumps(SETTINGS))
        one.run("systemctl enable evenkeel.service evenkeel.socket")
        one.start_platform()
        yield one


def give(machine, data, instance):
    """What the platform hands to this instance: to cloud-init at its next boot, to us whenever we ask."""
    machine.write(f"{SEED}/user-data", data)
    machine.write(f"{SEED}/meta-data", f"instance-id: {instance}\n")
    machine.platform.set_user_data(data)


def says(machine):
    text = machine.run([machine.program, "userdata", "--json"], check=False)
    return json.loads(text).get("message", "") if text else ""


def wait_says(machine, words, timeout=40):
    machine.wait_until(lambda: words in says(machine), timeout, f"userData to say {words!r}, it says {says(machine)!r}")


def test_first_boot_change_reboot_clone(machine):
    give(machine, script("first"), "i-1")
    machine.boot(timeout=60)
    wait_says(machine, "cloud-init has applied it at the first boot")
    assert product.ran(machine) == ["first"], "run twice, or not at all"

    # A change reaches the machine without a reboot, in order, each part once.
    changed = (b'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Type: text/x-shellscript\n\n' + script("second")
               + b"--b\nContent-Type: text/cloud-boothook\n\n#cloud-boothook\n" + script("hook") + b"--b--\n")
    give(machine, changed, "i-1")
    wait_says(machine, "; applied at")
    assert product.ran(machine) == ["first", "second", "hook"]

    # After a reboot cloud-init runs what it runs at every boot; nothing of ours runs again.
    before = product.ran(machine)
    machine.reboot()
    wait_says(machine, "; applied at")
    again = product.ran(machine)[len(before):]
    assert again in ([], ["hook"]), "only cloud-init may have run the hook"
    assert machine.run("systemctl list-units --all --plain --no-legend 'evenkeel-job-*'").strip() == ""

    # The disk in another machine: its cloud-init sees a new instance and applies everything; we begin anew and run nothing.
    before = product.ran(machine)
    machine.power_off()
    machine.vm_id = "11111111-2222-4333-8444-555555555555"
    give(machine, changed, "i-2")
    machine.boot(timeout=60)
    wait_says(machine, "cloud-init has applied it at the first boot")
    assert sorted(product.ran(machine)[len(before):]) == ["hook", "second"]
    revisions = json.loads(machine.run([machine.program, "userdata", "--json"]))["applied"]["revisions"]
    assert [one["state"] for one in revisions] == ["cloudInit"]

    # As an image: cloud-init's own tool asks for ours, by the package's hook.
    machine.copy_in(pathlib.Path(__file__).parents[2] / "agent/app/cloud-clean.sh", "/etc/cloud/clean.d/50-evenkeel")
    machine.run(f"command -v evenkeel || ln -s {machine.program} /usr/local/bin/evenkeel")
    assert machine.run("find /var/lib/evenkeel ! -type d") != ""
    machine.run("cloud-init clean", timeout=60)
    assert machine.run("find /var/lib/evenkeel ! -type d") == "" and not machine.exists("/run/evenkeel/api.sock")
