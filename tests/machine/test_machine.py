"""The test machine itself: it boots, reboots, loses power, is alone in its namespaces and leaves nothing behind."""

import http.server
import json
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import machine as machines
import script_extension
from machine import CommandError, MachineError, wait_until

HERE = pathlib.Path(__file__).resolve().parent

CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_TIME, CAP_SYSLOG = 16, 17, 25, 34

# Leaves a file behind only when it is stopped in an orderly way.
WITNESS_UNIT = """\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/usr/bin/touch /var/lib/orderly-stop
[Install]
WantedBy=multi-user.target
"""

SANDBOXED_UNIT = """\
[Service]
Type=oneshot
ProtectProc=invisible
ProtectKernelTunables=yes
ExecStart=/bin/cp /proc/sys/kernel/random/boot_id /run/seen-boot-id
"""


def cgroup_exists(name):
    """Looks for a machine's cgroup at the root of this process's cgroup namespace."""
    script = 'mount -t tmpfs tmpfs /mnt && mkdir /mnt/c && mount -t cgroup2 cgroup2 /mnt/c && test -d "/mnt/c/$1"'
    return subprocess.run(["unshare", "--mount", "--", "sh", "-c", script, "sh", name]).returncode == 0


def has_process(pid):
    return pathlib.Path(f"/proc/{pid}").exists()


def test_boots_quickly_into_a_running_systemd(new_machine):
    machine = new_machine()
    machine.boot()
    assert machine.boot_seconds < 5
    assert machine.run("systemctl is-system-running").strip() == "running"
    assert machine.run("ps -o comm= -p 1").strip() == "systemd"
    assert machine.run("systemd-detect-virt --container").strip() == "container-other"
    assert machine.run("hostname").strip() == machine.name
    assert "Multi-User System" in machine.console()


def test_the_host_is_out_of_reach(new_machine):
    machine = new_machine()
    machine.boot()
    assert machine.status("echo 1 >/proc/sys/kernel/panic") != 0
    assert machine.status("echo 1 >/sys/kernel/uevent_seqnum") != 0
    assert machine.status(["test", "-e", str(HERE)]) != 0
    assert machine.run("ip -o link").count("\n") == 1, "a machine has no interface but lo"
    for process in ("1", "self"):
        bounding = int(machine.run(f"sed -n 's/CapBnd:\t//p' /proc/{process}/status"), 16)
        for capability in (CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_TIME, CAP_SYSLOG):
            assert not bounding & 1 << capability


def test_the_firmware_names_the_virtual_machine(new_machine):
    machine = new_machine()
    machine.boot()
    first = machine.read("/sys/class/dmi/id/product_uuid").strip()
    assert first == machine.vm_id
    assert machine.read("/sys/class/dmi/id/sys_vendor") == "Microsoft Corporation\n"
    assert machine.exists("/sys/class/net/lo/address"), "the other classes are still there"
    machine.power_off()
    machine.vm_id = "00000000-1111-2222-3333-444444444444"
    machine.boot()
    assert machine.read("/sys/class/dmi/id/product_uuid").strip() == machine.vm_id != first


def test_services_get_their_credentials(new_machine):
    machine = new_machine()
    machine.boot()
    shown = machine.run(["systemd-run", "--pipe", "--wait", "--quiet", "--property=SetCredential=colour:green",
                         "/bin/sh", "-c", 'cat "$CREDENTIALS_DIRECTORY/colour"'])
    assert shown == "green"


def test_reboot_changes_the_boot_id_and_keeps_files(new_machine):
    machine = new_machine()
    machine.write("/etc/systemd/system/witness.service", WITNESS_UNIT)
    machine.boot()
    machine.run("systemctl enable --now witness")
    machine.write("/var/lib/kept", "kept")
    machine.write("/run/volatile", "gone")
    before = machine.boot_id()

    machine.reboot()

    assert machine.boot_id() != before
    assert machine.read("/var/lib/kept") == "kept"
    assert not machine.exists("/run/volatile")
    assert machine.exists("/var/lib/orderly-stop")
    assert machine.run("systemctl is-active witness").strip() == "active"
    # a sandboxed service sees the machine's boot id too, if it is ours
    machine.write("/run/systemd/system/evenkeel.service", SANDBOXED_UNIT)
    machine.run("systemctl daemon-reload && systemctl start evenkeel")
    assert machine.read("/run/seen-boot-id").strip() == machine.boot_id()
    # the journal knows both boots apart
    assert machine.run("journalctl --list-boots --no-pager --quiet | grep -c '^ *-*[01] '").strip() == "2"


def test_a_reboot_from_within_is_followed(new_machine):
    machine = new_machine()
    machine.boot()
    before = machine.boot_id()
    machine.run("systemd-run --on-active=0.2 --timer-property=AccuracySec=10ms systemctl reboot")
    machine.follow_reboot()
    assert machine.boot_id() != before


def test_power_off_is_not_taken_for_a_reboot(new_machine):
    machine = new_machine()
    machine.boot()
    machine.run("systemd-run --on-active=0.2 --timer-property=AccuracySec=10ms systemctl poweroff")
    with pytest.raises(MachineError, match="went off instead of rebooting"):
        machine.follow_reboot()
    assert not machine.is_on()


def test_power_cut_keeps_what_was_synced(new_machine):
    machine = new_machine()
    machine.write("/etc/systemd/system/witness.service", WITNESS_UNIT)
    machine.boot()
    machine.run("systemctl enable --now witness")
    machine.run("echo precious >/var/lib/synced && sync /var/lib/synced && touch /run/volatile")
    before = machine.boot_id()

    machine.kill_hard()

    assert not machine.is_on()
    # the disk can be looked at while the machine is off
    assert machine.read("/var/lib/synced") == "precious\n"
    machine.boot()
    assert machine.boot_id() != before
    assert machine.read("/var/lib/synced") == "precious\n"
    assert not machine.exists("/run/volatile")
    assert not machine.exists("/var/lib/orderly-stop")


def test_a_full_disk_is_full(new_machine):
    machine = new_machine(disk_size="16m")
    machine.boot()
    with pytest.raises(CommandError, match="No space left"):
        machine.run("dd if=/dev/zero of=/var/big bs=1M count=64")
    machine.run("rm /var/big && echo room >/var/small")


def test_commands(new_machine, tmp_path):
    machine = new_machine()
    machine.boot()
    assert machine.run(["cat"], input="to stdin") == "to stdin"
    assert machine.run(["printf", "%s", "$HOME; a b"]) == "$HOME; a b"
    with pytest.raises(CommandError, match="(?s)ended with 7.*out.*bad"):
        machine.run("echo out; echo bad >&2; exit 7")
    with pytest.raises(CommandError, match="no end within 0.2 s"):
        machine.run("sleep 1000", timeout=0.2)
    wait_until(lambda: machine.status("pgrep -x sleep") == 1, 5, "the end of the command that was given up")

    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "tool").write_text("#!/bin/sh\necho tool\n")
    (tree / "bin" / "tool").chmod(0o750)
    machine.copy_in(tree, "/opt/tree")
    assert machine.run("/opt/tree/bin/tool") == "tool\n"
    machine.copy_in(tree / "bin" / "tool", "/opt/single/tool")
    assert machine.run("stat -c %a:%U /opt/single/tool /opt/tree/bin/tool") == "750:root\n750:root\n"
    machine.write("/opt/bytes", bytes(range(256)), mode=0o600)
    machine.copy_out("/opt/bytes", tmp_path / "bytes")
    assert (tmp_path / "bytes").read_bytes() == bytes(range(256))
    assert machine.run("stat -c %a /opt/bytes") == "600\n"


def test_two_machines_are_strangers(new_machine):
    first, second = new_machine(), new_machine()
    first.boot()
    second.boot()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"of the first")

        def log_message(self, *arguments):
            pass

    server = first.inside(http.server.HTTPServer, ("169.254.169.254", 80), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert first.run("curl -sS http://169.254.169.254/") == "of the first"
        assert second.status("curl -sS http://169.254.169.254/") == 7, "refused: nobody listens there"
        with pytest.raises(OSError):
            second.inside(socket.create_connection, ("169.254.169.254", 80), 1)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    first.kill_hard()
    assert second.run("systemctl is-system-running").strip() == "running"


def test_a_cable_joins_two_machines(new_machine):
    first, second = new_machine(), new_machine()
    machines.connect((first.network_pid, "to-second", "10.9.0.1/24"), (second.network_pid, "to-first", "10.9.0.2/24"))
    first.boot()
    server = second.inside(socket.create_server, ("10.9.0.2", 80))
    with server, first.inside(socket.create_connection, ("10.9.0.2", 80), 5) as connection:
        accepted, _ = server.accept()
        with accepted:
            assert accepted.getpeername()[0] == "10.9.0.1" and connection.getpeername() == ("10.9.0.2", 80)
    first.reboot()
    assert "10.9.0.1/24" in first.run("ip -o address show to-second"), "the cable outlives a boot"


def test_a_frozen_machine_stands_still(new_machine):
    machine = new_machine()
    machine.boot()
    machine.run("systemd-run --unit=clock sh -c 'while :; do date +%s%N >/run/clock.new; mv /run/clock.new /run/clock; sleep 0.01; done'")
    machine.wait_until("test -s /run/clock", 5, "the clock")
    machine.freeze()
    stood = machine.read("/run/clock")
    time.sleep(0.3)
    assert machine.read("/run/clock") == stood
    machine.thaw()
    machine.wait_until(lambda: machine.read("/run/clock") != stood, 5, "the clock to go on")
    assert machine.run("systemctl is-system-running").strip() == "running"


def test_nothing_is_left_behind(machines_can_run):
    with machines.Machine() as machine:
        machine.boot()
        machine.run("setsid sleep 1000 >/dev/null 2>&1 &")
        pids = [machine._holder.pid, machine._init.pid, machine._init_pid]
        scratch = machine._scratch
        assert cgroup_exists(machine.name) and all(has_process(pid) for pid in pids) and scratch.exists()
    assert not cgroup_exists(machine.name)
    assert not any(has_process(pid) for pid in pids)
    assert not scratch.exists()
    assert str(scratch.parent) not in pathlib.Path("/proc/self/mountinfo").read_text()


def test_nothing_runs_on_when_the_test_process_is_killed(machines_can_run, tmp_path):
    script = ("import sys, signal; sys.path.insert(0, sys.argv[1]); import machine\n"
              "with machine.Machine() as m:\n"
              "    m.boot()\n"
              "    print(m.name, m._holder.pid, m._init_pid, m._scratch, flush=True)\n"
              "    signal.pause()\n")
    process = subprocess.Popen([sys.executable, "-c", script, str(HERE)], stdout=subprocess.PIPE, text=True)
    with process:
        name, holder, init, scratch = process.stdout.readline().split()
        assert cgroup_exists(name)
        process.send_signal(signal.SIGKILL)
    try:
        wait_until(lambda: not has_process(init) and not has_process(holder), 10, "the end of the machine's processes")
        assert not cgroup_exists(name)
    finally:
        # only the logs are left then
        for log in pathlib.Path(scratch).iterdir():
            log.unlink()
        pathlib.Path(scratch).rmdir()


def test_the_platform_is_where_azure_has_it(new_machine):
    machine = new_machine()
    machine.start_platform(vaults=["shop.vault.azure.net"], accounts=["shop.blob.core.windows.net"])
    machine.boot()
    document = machine.run(["curl", "-sSf", "-H", "Metadata: true",
                            "http://169.254.169.254/metadata/scheduledevents?api-version=2020-07-01"])
    assert json.loads(document)["Events"] == []
    machine.platform.put_blob("/files/one", b"content", access="public")
    assert machine.run("curl -sSf http://shop.blob.core.windows.net/files/one") == "content"
    # over TLS, with the certificates that the machine trusts: in the bundle and in the directory
    assert machine.run("curl -sSf https://shop.blob.core.windows.net/files/one") == "content"
    machine.run("openssl verify -no-CAfile -CApath /etc/ssl/certs /usr/local/share/ca-certificates/fake-platform.crt")
    status = "curl -sS -o /dev/null -w %{http_code} https://shop.vault.azure.net/secrets/x?api-version=7.4"
    assert machine.run(status) == "401", "a vault is there and asks for a token"


def test_the_agent_leads_an_extension_through_its_life(new_machine, tmp_path):
    """install, enable, new settings, reboot, upgrade, uninstall: waagent of the distribution, judged by what it reports."""
    name = script_extension.NAME
    machine = new_machine(agent=True)
    machine.start_platform()
    for version in ("1.0.0", "2.0.0"):
        machine.platform.publish_extension(name, version, str(script_extension.build(tmp_path / f"{version}.zip", version)))

    def goal(version, number, greeting, state="enabled"):
        return machine.platform.set_goal_state([{
            "name": name, "version": version, "state": state, "seq_no": number,
            "public_settings": {"greeting": greeting}, "protected_settings": {"word": f"secret {number}"}}])

    def reported(version, number, message, incarnation):
        def as_expected(entry):
            if not entry or entry["status"] != "Ready" or entry["handlerVersion"] != version:
                return False
            settings = entry["runtimeSettingsStatus"]
            status = settings["settingsStatus"]["status"]
            return (settings["sequenceNumber"] == number and status["status"] == "success"
                    and status["formattedMessage"]["message"] == message)
        machine.platform.wait_for_status(name, as_expected, 30, incarnation)

    first = goal("1.0.0", 0, "hello")
    machine.boot()
    reported("1.0.0", 0, "hello and secret 0 from 1.0.0", first)
    second = goal("1.0.0", 1, "hello again")
    reported("1.0.0", 1, "hello again and secret 1 from 1.0.0", second)

    notes = machine.read(script_extension.NOTES)
    machine.reboot()
    machine.wait_until(lambda: machine.read(script_extension.NOTES) != notes, 20, "enable after the boot")
    reported("1.0.0", 1, "hello again and secret 1 from 1.0.0", second)

    third = goal("2.0.0", 1, "hello new")
    reported("2.0.0", 1, "hello new and secret 1 from 2.0.0", third)
    assert not machine.exists(f"/var/lib/waagent/{name}-1.0.0")
    assert machine.exists(f"/var/lib/waagent/{name}-2.0.0/this-is-2.0.0")

    fourth = goal("2.0.0", 1, "bye", state="uninstall")
    machine.platform.wait_for_status(name, lambda entry: entry is None, 30, fourth)
    assert not machine.exists(f"/var/lib/waagent/{name}-2.0.0")

    assert machine.read(script_extension.NOTES).splitlines() == [
        "install 1.0.0 0", "enable 1.0.0 0",
        "enable 1.0.0 1",
        "enable 1.0.0 1",
        "disable 1.0.0 1", "update 2.0.0 1", "uninstall 1.0.0 1", "install 2.0.0 1", "enable 2.0.0 1",
        "disable 2.0.0 1", "uninstall 2.0.0 1",
    ]
    assert machine.platform.problems() == []
