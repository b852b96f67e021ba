"""Key refresh and user data on a booted machine: the daemon in its sandbox, files installed by confined units of systemd."""

import json
import os
import pathlib

import pytest

BUILD = pathlib.Path(os.environ["EK_TEST_BINARY_DIR"])
VAULT = "shop.vault.azure.net"
SCRIPT = b"#!/bin/sh\ntrue\n"


@pytest.fixture
def machine(new_machine):
    one = new_machine()
    one.boot()
    one.start_platform(vaults=(VAULT,))
    unit = (BUILD / "units/evenkeel.service").read_text()
    [path] = [line.partition("=")[2].split()[0] for line in unit.splitlines() if line.startswith("ExecStart=")]
    one.copy_in(BUILD / "agent/app/evenkeel", path)
    for name in ("evenkeel.service", "evenkeel.socket"):
        one.copy_in(BUILD / "units" / name, f"/etc/systemd/system/{name}")
    for name in ("evenkeel-jobs.slice", "evenkeel-drained.target"):
        one.copy_in(pathlib.Path(__file__).parents[2] / "agent/app/units" / name, f"/etc/systemd/system/{name}")
    one.run("useradd --system app && systemctl daemon-reload")
    one.program = path
    return one


def components(machine):
    status = json.loads(machine.run(f"{machine.program} status --json"))
    return {item["name"]: (item["status"], item["formattedMessage"]["message"])
            for item in status["status"][0]["status"].get("substatus", [])}


def test_installed_by_confined_units(machine):
    pem = machine.platform.make_certificate("shop.example", key="ec", chain=2)
    machine.platform.put_secret("shop", "web", pem["pem"], content_type="application/x-pem-file")
    machine.platform.put_secret("shop", "word", "pass word")
    machine.platform.set_user_data(SCRIPT)
    url = f"https://{VAULT}/secrets"
    machine.write("/etc/evenkeel/evenkeel.json", json.dumps({
        "userData": {},
        "keyRefresh": {
            "certificates": [
                {"name": "web", "url": f"{url}/web", "owner": "app", "group": "app", "acls": [{"user": "www-data"}]},
                {"name": "etc", "url": f"{url}/web", "directory": "/etc/app/tls", "files": {"combined": "all.pem"}}],
            "secrets": [{"name": "word", "url": f"{url}/word", "path": "/srv/app/word", "owner": "app", "group": "app"}]}}))
    machine.run("systemctl start evenkeel.socket evenkeel.service")
    wanted = {"keyRefresh/web": "success", "keyRefresh/etc": "success", "keyRefresh/word": "success", "userData": "success"}
    seen = {}

    def settled():
        seen.update(components(machine))
        return all(seen.get(name, ("", ""))[0] == level for name, level in wanted.items())

    machine.wait_until(settled, 20, "certificates, secret and user data to be well")
    home = "/var/lib/evenkeel/certificates/web"
    assert machine.read("/etc/app/tls/all.pem") == pem["leaf"] + "".join(pem["issuers"]) + pem["key"]
    assert machine.run(f"stat -Lc '%U %G %a' {home}/fullchain.pem {home}/privkey.pem /srv/app/word").splitlines() == [
        "app app 644", "app app 640", "app app 600"]  # the access list's mask shows as the group's
    # Who is named can read the key, nobody else can.
    for user, allowed in (("app", True), ("www-data", True), ("nobody", False)):
        assert (machine.status(f"setpriv --reuid={user} --clear-groups cat {home}/privkey.pem") == 0) == allowed
    # Nothing of the work is left, and the units are gone.
    assert machine.run("ls /var/lib/evenkeel/jobs /run/evenkeel/jobs | grep -c key- || true").strip() == "0"
    assert machine.run("systemctl list-units --all --plain --no-legend 'evenkeel-job-*'").strip() == ""
