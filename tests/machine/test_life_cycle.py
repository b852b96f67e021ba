"""The extension's life on a booted machine, led by the real Azure agent and judged by what the platform is told."""

import hashlib
import json
import re
import subprocess
import uuid

from product import NAME, NEW, OLD, RAN, VAULT, daemon_program, files, program, ran, script, shown, substatus

# told to a script as a secret; may be nowhere that another user or a thief of the disk can read
SECRET = "correct-horse-battery-staple"


def seen_secret(machine):
    """Where the secret can be seen, in the machine and in what the platform was told."""
    seen = [command for command in ("systemctl show '*'", "systemctl show-environment", "ps axww -o args", "journalctl -a -o export",
                                    "cat /run/systemd/transient/*", "evenkeel status --json")
            if SECRET in machine.run(command, check=False)]
    seen += machine.run(["grep", "-rlsF", "--file=-", "/etc", "/usr/local", "/var", "/home", "/root", "/tmp", "/run"],
                        input=SECRET, check=False).splitlines()
    if SECRET in json.dumps(machine.platform.statuses()):
        seen.append("status blob")
    return seen


def test_the_secret_is_found_where_it_is(new_machine):
    """The eye of the next test sees."""
    machine = new_machine()
    machine.start_platform()
    machine.boot()
    assert seen_secret(machine) == []
    machine.write("/run/secret", f"token={SECRET}")
    machine.run(["systemd-run", "--quiet", "--unit=leak", f"--setenv=TOKEN={SECRET}", "sleep", "1000"])
    assert {"systemctl show '*'", "cat /run/systemd/transient/*", "/run/secret"} <= set(seen_secret(machine))


def test_install_enable_settings_reboot_upgrade_downgrade_uninstall(extension):
    machine = extension.machine
    before = files(machine)

    # install, enable: nothing is configured, and that is a success
    extension.settings({})
    extension.succeeded()
    assert shown(machine, "ActiveState") == "active"
    assert daemon_program(machine) == program(OLD)
    assert machine.run("/usr/local/bin/evenkeel version") == f"evenkeel {OLD}\n"
    exposure = machine.run("systemd-analyze security --no-pager evenkeel.service")
    assert float(re.search(r"Overall exposure level for evenkeel.service: ([0-9.]+)", exposure)[1]) <= 2.0

    # new settings with a secret: the script runs once and sees it, nobody else does
    extension.settings(script(f"echo one >>{RAN}; printf %s \"$TOKEN\" | sha256sum; echo to-stderr >&2; until test -e /run/seen; do sleep 0.1; done",
                              environment={"TOKEN": {"secretRef": "token"}}),
                       {"secrets": {"token": SECRET}})
    extension.level("transitioning")
    machine.wait_until(f"test -s {RAN}", 10, "the script's start")
    assert seen_secret(machine) == []
    machine.write("/run/seen", "")
    status = extension.succeeded()
    assert hashlib.sha256(SECRET.encode()).hexdigest() in status["formattedMessage"]["message"]
    assert "to-stderr" in status["formattedMessage"]["message"]
    assert ran(machine) == ["one"]
    assert seen_secret(machine) == []

    # what people read: the log file, the journal's fields, the console
    assert "script script ended well: exit code 0" in machine.read(f"/var/log/azure/{NAME}/evenkeel.log")
    entries = [json.loads(line) for line in machine.journal("-o", "json", "EVENKEEL_HANDLER=customScript").splitlines()]
    begins, ends = entries
    assert begins["EVENKEEL_SEQUENCE"] == ends["EVENKEEL_SEQUENCE"] == "1"
    assert begins["EVENKEEL_JOB"] == ends["EVENKEEL_JOB"]
    assert begins["_SYSTEMD_UNIT"] == "evenkeel.service" and begins["PRIORITY"] == "6"
    for milestone in ("sequence 1: success", "script script ended well"):
        assert milestone in machine.console()

    # the same settings in another goal state, and after a boot: nothing runs again, and the service is there before the agent asks
    extension.goal()
    extension.succeeded()
    first_boot = machine.boot_id()
    machine.reboot()
    assert machine.boot_id() != first_boot
    extension.goal()
    extension.succeeded()
    journal = machine.journal("-b", "-o", "json", "_PID=1", "+", "_SYSTEMD_UNIT=walinuxagent.service")
    order = [entry for entry in map(json.loads, journal.splitlines())
             if "bin/evenkeel enable" in str(entry["MESSAGE"])
             or (entry.get("UNIT") == "evenkeel.service" and entry.get("JOB_TYPE") == "start")]
    assert order[0].get("UNIT") == "evenkeel.service" and len(order) > 1
    assert shown(machine, "NRestarts") == "0"
    assert ran(machine) == ["one"]

    # an upgrade while a script runs: the script stays the same process, and the new version tells its end
    extension.settings(script(f"echo $$ >/run/script-pid; echo two >>{RAN}; until test -e /run/go-on; do sleep 0.1; done; cat /run/go-on; "
                              "printf %s \"$TOKEN\" | wc -c", environment={"TOKEN": {"secretRef": "token"}}),
                       {"secrets": {"token": SECRET}}, cipher="des3")
    extension.level("transitioning")
    machine.wait_until("test -s /run/script-pid", 10, "the script's start")
    pid = machine.read("/run/script-pid").strip()
    extension.goal(version=NEW)
    extension.level("transitioning")
    assert not machine.exists(f"/var/lib/waagent/{NAME}-{OLD}")
    machine.wait_until(lambda: daemon_program(machine) == program(NEW), 10, "the new daemon")
    assert machine.read(f"/proc/{pid}/comm") == "sh\n"
    machine.write("/run/go-on", "done-two\n")
    assert f"done-two\n{len(SECRET)}" in extension.succeeded()["formattedMessage"]["message"]
    assert ran(machine) == ["one", "two"]

    # back again
    extension.goal(version=OLD)
    assert f"done-two\n{len(SECRET)}" in extension.succeeded()["formattedMessage"]["message"]
    machine.wait_until(lambda: daemon_program(machine) == program(OLD), 10, "the old daemon")
    assert ran(machine) == ["one", "two"]
    assert seen_secret(machine) == []

    # and what is removed is gone, but not what the scripts have made
    extension.uninstalled()
    assert shown(machine, "LoadState", "evenkeel.service") == "not-found"
    assert ran(machine) == ["one", "two"]
    machine.run(f"rm {RAN}")
    assert files(machine) - before == set()
    assert machine.run("systemctl is-system-running").strip() == "running"


def test_ask_02_scripts_survive_whatever_happens_to_us(extension):
    """Our daemon is killed, the Azure agent restarts, and at last the power goes, while a script runs."""
    machine = extension.machine
    extension.settings(script(f"echo one >>{RAN}; until test -e /run/go-on; do sleep 0.1; done; echo done-one"))
    machine.wait_until(f"test -s {RAN}", 20, "the script's start")
    killed = shown(machine, "MainPID")
    machine.run("systemctl kill --signal=KILL --kill-whom=main evenkeel")
    machine.run("systemctl restart walinuxagent")
    machine.wait_until(lambda: shown(machine, "MainPID") not in ("0", killed), 10, "another daemon")
    extension.goal()
    extension.level("transitioning")
    machine.write("/run/go-on", "")
    assert "done-one" in extension.succeeded()["formattedMessage"]["message"]
    assert ran(machine) == ["one"]

    # settings that are wrong are told by name and change nothing
    extension.settings({"drian": {}})
    status = extension.level("error")
    assert 'drian: unknown section; did you mean "drain"?' in status["formattedMessage"]["message"]
    assert ran(machine) == ["one"]

    # the default says: a script that a boot has interrupted has failed, and it is not run again
    extension.settings(script(f"echo two >>{RAN}; sync; sleep 1000"))
    machine.wait_until(lambda: ran(machine) == ["one", "two"], 20, "the script's start")
    machine.kill_hard()
    machine.boot()
    extension.goal()
    assert "interrupted by a reboot" in json.dumps(extension.level("error"))
    assert ran(machine) == ["one", "two"]

    # a copy of the disk in another machine is not that machine: what was done there is to be done here
    extension.settings(script(f"echo three >>{RAN}"))
    extension.succeeded()
    machine.power_off()
    machine.vm_id = str(uuid.uuid4())
    machine.boot()
    extension.goal()
    machine.wait_until(lambda: ran(machine) == ["one", "two", "three", "three"], 20, "the script to run on the copy")
    extension.succeeded()
    assert "this disk was copied from another machine" in machine.journal("-b", "-u", "evenkeel")


NGINX = f"""\
server {{
    listen 127.0.0.1:443 ssl;
    server_name shop.example;
    ssl_certificate /etc/nginx/tls/fullchain.pem;
    ssl_certificate_key /etc/nginx/tls/privkey.pem;
}}
"""


def served_serial(machine):
    """The serial number of the certificate that nginx shows."""
    return machine.run("openssl s_client -connect 127.0.0.1:443 -servername shop.example </dev/null 2>/dev/null | "
                       "openssl x509 -noout -serial", check=False).strip()


def serial(certificate):
    return subprocess.run(["openssl", "x509", "-noout", "-serial"], input=certificate["leaf"], check=True,
                          capture_output=True, text=True).stdout.strip()


def test_certificates_and_user_data(extension):
    """From a vault over TLS that the machine's own trust store vouches for, into the hands of a real nginx."""
    machine, platform = extension.machine, extension.machine.platform
    certificates = [platform.make_certificate("shop.example", key="ec", chain=2) for _ in range(2)]
    platform.put_secret("shop", "web", certificates[0]["pem"], content_type="application/x-pem-file")
    platform.set_user_data(b"#!/bin/sh\necho user-data >>/var/lib/ran\n")
    # the platform listens on port 80 of this machine
    machine.run("rm /etc/nginx/sites-enabled/default")
    machine.write("/etc/nginx/conf.d/shop.conf", NGINX)

    extension.settings({
        "userData": {"pollingIntervalInSeconds": 10},
        "keyRefresh": {"certificates": [{
            "name": "shop", "url": f"https://{VAULT}/secrets/web", "directory": "/etc/nginx/tls", "group": "www-data", "mode": "0640"}]},
        "customScript": {"waitFor": ["certificates"], "scripts": [
            {"name": "site", "commandToExecute": "systemctl start nginx"}]}})
    status = extension.succeeded()
    assert served_serial(machine) == serial(certificates[0])
    assert certificates[0]["thumbprint"] in substatus(status, "keyRefresh/shop")["formattedMessage"]["message"]
    assert machine.run("stat -L -c '%a %U %G' /etc/nginx/tls/privkey.pem /etc/nginx/tls/fullchain.pem").splitlines() == [
        "640 root www-data", "644 root www-data"]
    assert machine.read("/etc/nginx/tls/privkey.pem") == certificates[0]["key"]

    # user data is only reported unless a stronger door says more
    revision = hashlib.sha256(b"#!/bin/sh\necho user-data >>/var/lib/ran\n").hexdigest()[:12]
    extension.component("userData", revision)
    assert ran(machine) == []

    # a new version
    platform.put_secret("shop", "web", certificates[1]["pem"], content_type="application/x-pem-file")
    machine.run("systemctl restart evenkeel")
    extension.component("keyRefresh/shop", certificates[1]["thumbprint"])
    machine.run("systemctl reload nginx")
    machine.wait_until(lambda: served_serial(machine) == serial(certificates[1]), 10, "nginx to serve the new certificate")

    # what is removed leaves the certificates to the application that uses them
    extension.uninstalled()
    machine.run("nginx -q -t && systemctl restart nginx")
    assert served_serial(machine) == serial(certificates[1])
    key = "\n".join(certificates[1]["key"].splitlines()[1:-1])
    assert key not in machine.journal() + machine.read(f"/var/log/azure/{NAME}/evenkeel.log")


def test_removed_while_a_script_runs_and_installed_again(extension):
    machine = extension.machine
    before = files(machine)
    extension.settings(script(f"echo one >>{RAN}; until test -e /run/go-on; do sleep 0.1; done; echo end >>{RAN}"))
    machine.wait_until(f"test -s {RAN}", 20, "the script's start")

    # the removal waits for what runs, as long as the agent waits for the removal
    extension.goal(state="uninstall")
    machine.wait_until(f"grep -q 'daemon: retiring' /var/log/azure/{NAME}/evenkeel.log", 20, "the removal's begin")
    assert ran(machine) == ["one"] and shown(machine, "ActiveState") == "active"
    machine.write("/run/go-on", "")
    extension.gone()
    assert shown(machine, "LoadState", "evenkeel.service") == "not-found"
    assert ran(machine) == ["one", "end"]
    assert files(machine) - before == {RAN}
    assert machine.run("systemctl --failed --no-legend; systemctl list-units --no-legend --type=service,socket 'evenkeel*'") == ""

    # the same number of another installation is another deployment
    extension.goal()
    extension.succeeded()
    assert ran(machine) == ["one", "end"] * 2

    # a removal that was cut off leaves a service that has let go of everything: the next installation has another one
    machine.run("evenkeel service retire")
    machine.run(f"cd /var/lib/waagent/{NAME}-{OLD} && AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE=NOT_RUN bin/evenkeel install")
    extension.settings(script(f"echo two >>{RAN}"))
    extension.succeeded()
    assert ran(machine) == ["one", "end"] * 2 + ["two"]
