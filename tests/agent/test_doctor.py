"""evenkeel doctor: everything is well on a VM that is well, and each check finds what it is for when that is broken. And
evenkeel support-bundle: what is in it, and that nothing secret is."""

import base64
import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import time

import pytest
from configured import NOWHERE, VAULT, VAULT_NAME, Configured
from scripting import ACCOUNT
from vm import BINARY, HANDLER, SANITIZED, me, next_version

CLOCK_SHIFT = BINARY.parents[2] / "tests/libclock_shift.so"
STORAGE = f"{ACCOUNT}.blob.core.windows.net"
CODES = {"ok": 0, "note": 0, "warning": 6, "error": 7}
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs namespaces")


class Patient(Configured):
    """A VM with everything that the doctor looks at, and the doctor."""

    connect_to = None

    def environment(self):
        environment = super().environment()
        to = self.connect_to if self.connect_to is not None else (
            f"{environment['EVENKEEL_CONNECT_TO']},{STORAGE}:443:{self.addresses['blobtls']}")
        return {**environment, "EVENKEEL_CONNECT_TO": to}

    def prepare(self):
        self.command("install")
        self.write("usr/lib/systemd/libsystemd-shared-252.so")
        self.write("usr/lib/systemd/system/app@.service")
        self.write("etc/waagent.conf", "Extensions.Enabled=y\n")
        (self.root / "var/lib/waagent/WALinuxAgent-2.15.0.1").mkdir()
        return self

    def write(self, path, text="", mode=0o644):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def doctor(self, *prefix, binary=None, **environment):
        """{check: [finding]}; the exit code must tell the worst."""
        variables = {**self.environment(), **environment}
        done = subprocess.run([*prefix, binary or self.binary, "doctor", "--json"], capture_output=True, text=True, timeout=60,
                              env={name: value for name, value in variables.items() if value is not None})
        report = json.loads(done.stdout)
        verdicts = [one["verdict"] for one in report["findings"]]
        assert done.returncode == max(map(CODES.get, verdicts)) == CODES[report["worst"]], done.stderr
        found = {}
        for one in report["findings"]:
            found.setdefault(one["check"], []).append(one)
        return found


@pytest.fixture
def vm(tmp_path, platform):
    with Patient(tmp_path, platform) as vm:
        yield vm.prepare()
    platform.clear_faults()
    platform.set_tls_certificate()
    platform.set_identity({"system": {"client_id": "5e29463d-0000-4000-8000-000000000001",
                                      "object_id": "5e29463d-0000-4000-8000-000000000002"}})
    platform.set_vault(VAULT_NAME)
    platform.set_storage()


def says(found, check, verdict, *words):
    """One finding of the check has the verdict and the words; what else than an ok is there has advice."""
    assert all(one["verdict"] == "ok" or one["advice"] for one in found[check])
    fitting = [one for one in found[check] if one["verdict"] == verdict and all(word in json.dumps(one) for word in words)]
    assert fitting, f"{check} should say {verdict}: {words}; it says {json.dumps(found[check], indent=1)}"
    return fitting[0]["found"]


def configure(vm, platform, **sections):
    """Settings that need a vault, storage, an identity, hooks, units and a shutdown delay."""
    platform.put_secret(VAULT_NAME, "web", "the secret value of web")
    platform.put_blob("/box/setup.sh", b"true\n", access="token")
    vm.write("etc/evenkeel/hooks/drain.d/10-hook", "#!/bin/sh\n", 0o755)
    vm.write("etc/systemd/logind.conf.d/50-evenkeel.conf", "[Login]\nInhibitDelayMaxSec=60\n")
    vm.configure(**{
        "keyRefresh": {"secrets": [{"name": "web", "url": f"https://{VAULT}/secrets/web", "path": "/etc/web.secret"}]},
        "customScript": {"scripts": [{"name": "s", "runAs": me()[0], "commandToExecute": "true", "identity": {},
                                      "files": [{"uri": f"https://{STORAGE}/box/setup.sh"}]}]},
        "drain": {"steps": [{"type": "hooks"}, {"type": "stopUnits", "units": ["app@1.service"]}],
                  "shutdown": {"maxDelayInSeconds": 60}}, **sections})


def test_all_is_well(vm, platform):
    configure(vm, platform)
    vm.start()
    vm.wait_says("keyRefresh/web", "success")
    platform.clear_requests()
    found = vm.doctor()
    listed = subprocess.run([vm.binary, "doctor", "--checks"], capture_output=True, text=True, check=True).stdout
    assert list(found) == [line.split()[0] for line in listed.splitlines()[1:]], "every check tells something, in order"
    bad = [one for of_check in found.values() for one in of_check if one["verdict"] not in ("ok", "note")]
    assert not bad
    says(found, "service", "ok", vm.version)
    says(found, "settings", "ok", "keyRefresh", "drain")
    says(found, "imds", "ok", "this is")
    says(found, "hosts", "ok", VAULT, "127.0.0.1")
    says(found, "hosts", "ok", STORAGE)
    says(found, "identities", "ok", "system-assigned for https://vault.azure.net")
    says(found, "identities", "ok", "system-assigned for https://storage.azure.com/")
    says(found, "vaults", "ok", "web: can be read")
    says(found, "blobs", "ok", "/box/setup.sh: can be read")
    says(found, "agent", "ok", "2.15.0.1")
    says(found, "units", "ok", "app@1.service")
    says(found, "logind", "ok", "60 s")


def test_people_get_a_table_and_advice(vm):
    done = vm.run("doctor")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["VERDICT", "CHECK", "FOUND"]
    assert done.returncode == 7 and "\nerror: service: the service is not running\n  systemctl status" in done.stdout
    assert "\033" not in done.stdout
    assert vm.run("doctor", "--nonsense").returncode == 2


@needs_root
def test_only_root_may():
    with tempfile.TemporaryDirectory(prefix="evenkeel.") as directory:
        os.chmod(directory, 0o755)
        program = shutil.copy2(BINARY, directory)
        for verb in ("doctor", "support-bundle"):
            done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program, verb],
                                  capture_output=True, text=True, cwd="/", env={"PATH": os.environ["PATH"]})
            assert done.returncode == 5 and "sudo" in done.stderr


def test_no_request_for_scheduled_events(vm, platform):
    vm.configure()
    platform.clear_requests()
    vm.doctor()
    asked = [request["path"] for request in platform.requests("imds")]
    assert "/metadata/instance" in asked and not [path for path in asked if "scheduledevents" in path]


# What is broken is found

def test_service(vm, tmp_path):
    says(vm.doctor(), "service", "error", "not running")
    vm.start()
    version, newer = next_version(vm.binary, tmp_path)
    says(vm.doctor(binary=newer), "service", "warning", vm.version, version)
    vm._daemon.send_signal(signal.SIGSTOP)
    says(vm.doctor(), "service", "error", "does not answer")
    vm._daemon.send_signal(signal.SIGCONT)


def test_settings(vm):
    says(vm.doctor(), "settings", "note", "nothing is configured")
    vm.write("etc/evenkeel/evenkeel.json", '{"drain": {"steps": [{"type": "nap"}]}, "log": {"level": 4}}')
    found = vm.doctor()
    says(found, "settings", "error", "drain.steps[0]")
    says(found, "settings", "error", "log.level")
    vm.write("etc/evenkeel/evenkeel.json", "{")
    says(vm.doctor(), "settings", "error", "evenkeel.json")


def test_settings_of_the_extension(vm):
    vm.start_daemon()
    vm.enable(0, {"health": {"listen": "127.0.0.1:0x"}})
    says(vm.doctor(), "settings", "error", "health.listen")
    vm.enable(1, {"drain": {}})
    says(vm.doctor(), "settings", "ok", "drain")
    vm.enable(2, {"drain": {"steps": 5}})
    found = vm.doctor()
    says(found, "settings", "error", "drain.steps")
    says(found, "settings", "note", "accepted before are in force")


def test_secrets(vm):
    file = vm.write("etc/evenkeel/secrets.json", "{}", 0o600)
    says(vm.doctor(), "secrets", "ok")
    file.chmod(0o640)
    says(vm.doctor(), "secrets", "error", "0640")
    if ROOT:
        file.chmod(0o600)
        os.chown(file, 65534, 0)
        says(vm.doctor(), "secrets", "error", "user 65534")


def test_metadata_service(vm):
    vm.connect_to = f"169.254.169.254:80:{NOWHERE}"
    says(vm.doctor(), "imds", "error", "connection refused", "rejects")


@needs_root
def test_routes(vm):
    route = ["unshare", "-n", "sh", "-c"]
    says(vm.doctor("unshare", "-n", EVENKEEL_CONNECT_TO=None), "imds", "error", "no route", "primary network interface")
    found = vm.doctor(*route, 'ip link set lo up && ip route add prohibit 169.254.169.254 && exec "$0" "$@"', EVENKEEL_CONNECT_TO=None)
    says(found, "imds", "error", "forbids", "prohibit route")


def test_locked_metadata_service(vm):
    vm.write("proc/cmdline", "quiet systemd.imds.network=locked systemd.imds.network=unlocked\n")
    says(vm.doctor(), "imds-lock", "ok")
    vm.write("proc/cmdline", "systemd.imds.network=locked quiet\n")
    says(vm.doctor(), "imds-lock", "error", "kernel's command line", "unlocked")
    vm.write("proc/cmdline", "quiet\n")
    vm.write("etc/systemd/system/systemd-imdsd@.service.d/lock.conf", "[Service]\nEnvironment=SYSTEMD_IMDS_NETWORK=locked\n")
    says(vm.doctor(), "imds-lock", "error", "lock.conf")


def test_proxy_variables(vm):
    vm.configure()
    vm.start_daemon(binary=vm.binary, https_proxy="http://me:a-password@127.0.0.1:1", no_proxy="x")
    assert "a-password" not in says(vm.doctor(), "proxy", "warning", "https_proxy", "network.proxy")


def test_authorities(vm):
    vm.configure(network={"caFile": str(vm.root / "etc/ca.pem")})
    says(vm.doctor(), "authorities", "error", "No such file")
    vm.write("etc/ca.pem", "nothing\n")
    says(vm.doctor(), "authorities", "error", "holds no certificate")


@pytest.mark.skipif(SANITIZED, reason="a sanitizer must be loaded before everything else")
def test_clock(vm, platform, tmp_path):
    configure(vm, platform)
    shift = tmp_path / "shift"
    shift.write_text("-600")
    says(vm.doctor(LD_PRELOAD=str(CLOCK_SHIFT), EK_CLOCK_SHIFT=str(shift)), "clock", "error", "behind")
    shift.write_text("100")
    says(vm.doctor(LD_PRELOAD=str(CLOCK_SHIFT), EK_CLOCK_SHIFT=str(shift)), "clock", "warning", "ahead")


def test_hosts(vm, platform):
    configure(vm, platform)
    vm.connect_to = f"169.254.169.254:80:{vm.addresses['imds']},{VAULT}:443:nowhere.invalid:443,{STORAGE}:443:{NOWHERE}"
    found = vm.doctor()
    says(found, "hosts", "error", VAULT, "no such name", "private DNS zone")
    says(found, "hosts", "error", STORAGE, "refused", "network security group")
    vm.connect_to = None
    platform.set_tls_certificate("untrusted")
    says(vm.doctor(), "hosts", "error", VAULT, "network.caFile")


@needs_root
def test_private_endpoint(vm, platform):
    """Told also when it does not answer as it should: here it closes every connection."""
    configure(vm, platform)
    listener = ("import os, socket, threading\ns = socket.create_server(('10.1.2.3', 443))\n"
                "def close():\n while True: s.accept()[0].close()\n"
                "threading.Thread(target=close, daemon=True).start()\n"
                "import subprocess, sys\nsys.exit(subprocess.call(sys.argv[1:]))")
    vm.connect_to = f"{VAULT}:443:10.1.2.3:443"
    found = vm.doctor("unshare", "-n", "sh", "-c", 'ip link set lo up && ip addr add 10.1.2.3/32 dev lo && exec "$0" "$@"',
                      "/usr/bin/python3", "-c", listener)
    says(found, "hosts", "error", VAULT, "10.1.2.3", "private endpoint")


def test_identities(vm, platform):
    configure(vm, platform)
    platform.set_identity({})
    found = vm.doctor()
    says(found, "identities", "error", "system-assigned for https://vault.azure.net", "assign the identity")
    says(found, "identities", "error", "https://storage.azure.com/")
    says(found, "vaults", "note", "web", "no token")
    if ROOT:
        found = vm.doctor("unshare", "-n", EVENKEEL_CONNECT_TO=None)
        says(found, "identities", "error", "no route", "see imds")


def test_vaults(vm, platform):
    configure(vm, platform)
    platform.set_vault(VAULT_NAME, allowed=[])
    says(vm.doctor(), "vaults", "error", "403", "Key Vault Secrets User")
    platform.set_vault(VAULT_NAME, firewall=True)
    says(vm.doctor(), "vaults", "error", "firewall")


def test_blobs(vm, platform):
    configure(vm, platform)
    platform.set_storage(allowed=[])
    says(vm.doctor(), "blobs", "error", "403", "Storage Blob Data Reader")
    platform.set_storage()
    platform.delete_blob("/box/setup.sh")
    says(vm.doctor(), "blobs", "error", "404")


def test_signatures_are_not_shown(vm, platform):
    query = platform.make_sas("/box/setup.sh", expires_in_seconds=-60)
    configure(vm, platform, customScript={"scripts": [{"name": "s", "commandToExecute": "true", "files": [
        {"uri": f"https://{STORAGE}/box/setup.sh?{query}"}]}]})
    found = vm.doctor()
    says(found, "blobs", "error", "expired")
    assert query.partition("sig=")[2] not in json.dumps(found)


def test_agent(vm):
    vm.write("etc/waagent.conf", "Extensions.Enabled=n\n")
    says(vm.doctor(), "agent", "error", "switches extensions off")
    vm.write("etc/waagent.conf", "AutoUpdate.Enabled=n\n")
    says(vm.doctor(), "agent", "note", "does not update itself")
    shutil.rmtree(vm.root / "var/lib/waagent")
    says(vm.doctor(), "agent", "error", "not installed")


def test_cloud_init(vm):
    vm.write("run/cloud-init/status.json")
    says(vm.doctor(), "cloud-init", "warning", "not done")
    vm.write("run/cloud-init/result.json", '{"v1": {"datasource": "x", "errors": ["one", "two"]}}')
    says(vm.doctor(), "cloud-init", "warning", "2 errors")


def test_rivals(vm, tmp_path):
    rival = tmp_path / "azure-scheduledevents-manager"
    shutil.copy2(shutil.which("sleep"), rival)
    listener = tmp_path / "scheduledEventsListener.py"
    listener.write_text("import time\ntime.sleep(60)\n")
    for name, command in ((rival.name, [rival, "60"]), (listener.name, [sys.executable, listener])):
        with subprocess.Popen(command) as running:
            try:
                says(vm.doctor(), "rivals", "warning", name, str(running.pid))
            finally:
                running.kill()
    with subprocess.Popen(["tail", "-f", listener], stdout=subprocess.DEVNULL) as reader:
        found = vm.doctor()
        reader.kill()
    assert [one["verdict"] for one in found["rivals"]] == ["ok"]


def test_systemd(vm):
    library = vm.root / "usr/lib/systemd/libsystemd-shared-252.so"
    library = library.rename(library.with_name("libsystemd-shared-245.4-4ubuntu3.so"))
    says(vm.doctor(), "systemd", "warning", "245")
    library.rename(library.with_name("libsystemd-shared-219.so"))
    says(vm.doctor(), "systemd", "error", "219")


@needs_root
def test_mounts(vm):
    inside = ["unshare", "-m", "sh", "-c"]
    jobs = vm.root / "var/lib/evenkeel/jobs"
    jobs.mkdir(parents=True, exist_ok=True)
    found = vm.doctor(*inside, f'mount --bind {jobs} {jobs} && mount -o remount,noexec,bind {jobs} && exec "$0" "$@"')
    says(found, "noexec", "error", str(jobs), "scripts cannot be run")
    state = vm.root / "var/lib/evenkeel"
    found = vm.doctor(*inside, f'mount -t tmpfs -o size=2m,nr_inodes=20 none {state} && exec "$0" "$@"')
    says(found, "space", "error", f"{state}: 2 MiB are free")
    says(found, "space", "error", "inodes are free")


def test_packages(vm):
    with open(vm.write("var/lib/dpkg/lock-frontend"), "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        says(vm.doctor(), "packages", "note", "/var/lib/dpkg/lock-frontend")


def test_permissions(vm):
    vm.start()
    says(vm.doctor(), "permissions", "ok")
    vm.stop_daemon()
    state = vm.root / "var/lib/evenkeel/state"
    record = next(path for path in state.iterdir() if path.is_file())
    record.chmod(0o644)
    (vm.root / "etc/systemd/system/evenkeel.service").chmod(0o666)
    found = vm.doctor()
    says(found, "permissions", "error", record.name, "0644", "0600")
    says(found, "permissions", "error", "evenkeel.service", "0666")
    (vm.root / "run/evenkeel/jobs").rmdir()
    state.chmod(0o755)
    found = vm.doctor()
    says(found, "permissions", "warning", "run/evenkeel/jobs is missing")
    says(found, "permissions", "error", str(state), "0755")
    if ROOT:
        os.chown(record, 65534, 0)
        says(vm.doctor(), "permissions", "error", "user 65534")


def test_logind(vm, platform):
    configure(vm, platform)
    vm.write("etc/systemd/logind.conf.d/99-other.conf", "[Login]\nInhibitDelayMaxSec=5s\n")
    says(vm.doctor(), "logind", "error", "99-other.conf", "5 s", "60 s")
    (vm.root / "etc/systemd/logind.conf.d/50-evenkeel.conf").unlink()
    says(vm.doctor(), "logind", "error", "is missing")


def test_hooks(vm, platform):
    configure(vm, platform)
    hooks = vm.root / "etc/evenkeel/hooks/drain.d"
    (hooks / "10-hook").chmod(0o644)
    vm.write("etc/evenkeel/hooks/restore.d/20-open", "#!/bin/sh\n", 0o777)
    found = vm.doctor()
    says(found, "hooks", "warning", "10-hook", "not executable")
    says(found, "hooks", "error", "20-open", "written by others")
    hooks.chmod(0o777)
    says(vm.doctor(), "hooks", "error", str(hooks))


def test_units(vm, platform):
    configure(vm, platform, drain={"steps": [{"type": "parallel", "steps": [
        {"type": "stopUnits", "units": ["app@1.service", "ngnix.service"]}, {"type": "hooks"}]}]})
    found = vm.doctor()
    says(found, "units", "ok", "app@1.service")
    says(found, "units", "error", "ngnix.service", "does not exist")


def test_certificates(vm, platform):
    configure(vm, platform)
    vm.write("etc/evenkeel/hooks/activate.d/10-tell", "#!/bin/sh\n", 0o666)
    vm.start()
    vm.wait_says("keyRefresh/web", "success")
    says(vm.doctor(), "certificates", "ok", "web")
    file = vm.root / "etc/web.secret"
    file.chmod(0o644)
    found = vm.doctor()
    says(found, "certificates", "error", "web.secret", "0644")
    says(found, "hooks", "warning", "10-tell")
    file.unlink()
    says(vm.doctor(), "certificates", "error", "is missing")


@needs_root
def test_certificates_that_their_users_cannot_read(vm, platform):
    """What is above the root of this VM does not let nobody in, or the directory that it stands in does not."""
    configure(vm, platform, keyRefresh={"secrets": [{"name": "web", "url": f"https://{VAULT}/secrets/web", "owner": "nobody",
                                                     "path": "/etc/app/web.secret"}]})
    vm.start()
    vm.wait_says("keyRefresh/web", "success")
    (vm.root / "etc/app").chmod(0o700)
    says(vm.doctor(), "certificates", "error", "nobody", "web")


def test_what_hangs_is_waited_for_together(vm, platform):
    configure(vm, platform)
    platform.set_fault("imds", "/metadata/instance", delay_in_seconds=30)
    platform.set_fault("vault", "/secrets", delay_in_seconds=30)
    platform.set_fault("blob", "/", delay_in_seconds=30)
    start = time.monotonic()
    found = vm.doctor()
    assert time.monotonic() - start < 30
    says(found, "imds", "warning", "not known after 20 s")
    says(found, "hosts", "error", VAULT, "timed out")
    says(found, "vaults", "warning", "web", "not known after 20 s")


# The bundle

class Bundle:
    def __init__(self, path):
        with tarfile.open(path) as archive:
            self.members = archive.getmembers()
            self.files = {one.name.removeprefix("evenkeel-support/"): archive.extractfile(one).read() for one in self.members}
        self.whole = b"\n".join(self.files.values())

    def document(self, name):
        return json.loads(self.files[name])


@pytest.fixture
def secrets():
    """One of each kind, all different: {kind: value}."""
    return {kind: f"a-{kind}-\"not\\for%others" for kind in
            ("protected command", "environment value", "header", "secrets file", "webhook path", "hmac key", "proxy password",
             "body", "argument", "inline")}


def test_bundle_has_all_but_secrets(vm, platform, secrets, tmp_path):
    signature = platform.make_sas("/box/signed.sh", expires_in_seconds=600)
    platform.put_blob("/box/signed.sh", b"echo a line that was downloaded\n", access="sas")
    key = subprocess.run(["openssl", "genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], check=True,
                         capture_output=True, text=True).stdout
    platform.put_secret(VAULT_NAME, "web", "what the vault gave")
    platform.set_user_data(b"#!/bin/sh\necho words that user data has\n")
    vm.start_daemon()
    vm.write("etc/evenkeel/secrets.json", json.dumps({"secrets": {"file": secrets["secrets file"]}}), 0o600)
    vm.write("etc/evenkeel/evenkeel.json", json.dumps({"notify": {"webhooks": [
        {"name": "w", "url": "http://127.0.0.1:1/" + "webhook-path", "hmacKey": {"secretRef": "file"}}]}}))
    vm.enable(0, {
        "network": {"caFile": vm.addresses["caFile"]}, "userData": {},
        "keyRefresh": {"secrets": [{"name": "web", "url": f"https://{VAULT}/secrets/web", "path": "/etc/web.secret"}]},
        "drain": {"steps": [{"type": "http", "url": "http://127.0.0.1:1/x", "headers": {"X-Key": secrets["header"]},
                             "body": secrets["body"]}]},
        "customScript": {"scripts": [{
            "name": "s", "runAs": me()[0], "commandToExecute": {"secretRef": "command"},
            "environment": {"PLAIN": secrets["environment value"], "KEY": {"secretRef": "key"}},
            "files": [{"uri": f"https://{STORAGE}/box/signed.sh?{signature}"}]},
            {"name": "t", "runAs": me()[0], "arguments": [secrets["argument"]],
             "script": base64.b64encode(f"#!/bin/sh\n# {secrets['inline']}\n".encode()).decode()}]}},
        {"secrets": {"command": f"echo '{secrets['protected command']}'; echo token eyJ{'a1B2' * 20}.x; exit 3", "key": key}})
    vm.settled(0)
    vm.wait_says("keyRefresh/web", "success")
    # Somebody has logged what should not be: the filter is the second fence.
    log = vm.root / f"var/log/azure/{HANDLER}/evenkeel.log"
    with open(log, "a") as file:
        file.write(f"{key}\n{json.dumps(secrets['secrets file'])}\n{secrets['header']}\nBearer abcdef.ghi\nAccountKey=Zm9v/YmFy+g==;\n"
                   f"GET https://x.blob.core.windows.net/a?se=1&sig=abc%2Bdef&sp=r\nthe last line\n")
    target = tmp_path / "bundle.tar.gz"
    done = vm.run("support-bundle", str(target))
    assert done.returncode == 0 and done.stdout == f"{target}\n", done.stderr
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    bundle = Bundle(target)
    assert all(one.isreg() and one.mode == 0o600 and one.name.startswith("evenkeel-support/") for one in bundle.members)

    assert set(bundle.files) >= {"CONTENTS.txt", "version.json", "doctor.json", "status.json", "events.json", "scripts.json",
                                 "settings.json", "logs/evenkeel.log", "files.txt", "state/owner.json", "state/drain.json",
                                 "state/deployment.json", "state/user-data.record.json", "state/key-refresh/web.json"}
    assert bundle.document("version.json")["version"] == vm.version
    assert bundle.document("status.json")["status"][0]["status"]["status"] == "error"
    assert "0/" in bundle.document("state/deployment.json")["key"]
    assert {"imds", "service"} < {one["check"] for one in bundle.document("doctor.json")["findings"]}
    assert b"the last line" in bundle.files["logs/evenkeel.log"]
    assert b"state/goal.json" in bundle.files["files.txt"]
    settings = bundle.document("settings.json")
    assert settings["customScript"]["scripts"][0]["environment"]["PLAIN"] == "[left out]"
    assert settings["customScript"]["scripts"][0]["files"][0]["uri"] == f"https://{STORAGE}/[left out]"
    assert settings["keyRefresh"]["secrets"][0]["url"] == f"https://{VAULT}/secrets/web"
    contents = bundle.files["CONTENTS.txt"].decode()
    assert "Left out, always:" in contents and "goal.json" in contents and "user data" in contents
    for name in bundle.files:
        assert name in contents or name == "CONTENTS.txt"

    hidden = [*secrets.values(), json.dumps(secrets["header"])[1:-1], signature.partition("sig=")[2], "what the vault gave",
              "words that user data has", "webhook-path", "a line that was downloaded", "eyJa1B2", "abcdef.ghi", "Zm9v/YmFy", "abc%2Bdef",
              *[line for line in key.splitlines() if "-----" not in line], platform.storage_key()]
    # Tokens that were given out: the platform knows them by their digests only, and what they begin with.
    assert b"eyJ" not in bundle.whole
    for one in hidden:
        assert one.encode() not in bundle.whole, f"{one} is in {[n for n, text in bundle.files.items() if one.encode() in text]}"


def test_bundle_without_the_service(vm, tmp_path):
    target = tmp_path / "bundle.tar.gz"
    assert vm.run("support-bundle", str(target)).returncode == 0
    bundle = Bundle(target)
    assert b"status.json                      missing: the service is not running" in bundle.files["CONTENTS.txt"]
    again = vm.run("support-bundle", str(target))
    assert again.returncode == 1 and "is there already" in again.stderr
    assert vm.run("support-bundle", "--nothing").returncode == 2
    done = vm.run("support-bundle", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / done.stdout.strip()).exists()


def test_bundle_of_broken_settings(vm, tmp_path):
    """What cannot be understood is not shown, but learnt: nothing of it is shown elsewhere either."""
    vm.write("etc/evenkeel/secrets.json", '{"secrets": {"a": "half a secret", "b": ', 0o600)
    vm.write("etc/evenkeel/evenkeel.json", "{}")
    vm.write(f"var/log/azure/{HANDLER}/evenkeel.log", "somebody wrote half a secret here\n")
    target = tmp_path / "bundle.tar.gz"
    assert vm.run("support-bundle", str(target)).returncode == 0
    bundle = Bundle(target)
    assert "settings.json" not in bundle.files and b"settings.json                    missing" in bundle.files["CONTENTS.txt"]
    assert b"somebody wrote [left out] here" in bundle.files["logs/evenkeel.log"] and b"half a secret" not in bundle.whole
