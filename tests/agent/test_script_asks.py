"""What the users of Custom Script have been asking for (custom-script.md section 6): each row of the table that says "solve" has
a test here with its number in the name, of the real program. What only a booted machine shows is in tests/machine, under the
same numbers: 1 a real reboot, 2 the real Azure agent, 13 a whole cgroup.

1 reboot in a script · 2 the agent restarts · 3 4 KB of output · 4 no progress · 5 several scripts · 6 output fills the disk ·
7 secrets left behind · 8 SAS in protected settings · 9 identities · 10 errors of downloads · 11 large files · 12 package locks ·
13 timeouts · 14 other users · 15 HOME · 16 directories · 17 modes · 18 which scripts may run · 19 proxy · 20 running again ·
21 upgrades · 22 results · 23 text file busy · 24 noexec · 25 encodings"""

import fcntl
import grp
import gzip
import hashlib
import json
import os
import pathlib
import pwd
import re
import subprocess
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from vm import BINARY, SANITIZED, VM, encoded, files_with, lines, me, message, next_version, script, serving, wait_until

NUMBERS = range(1, 26)
ACCOUNT = "fakeaccount"
BLOBS = f"https://{ACCOUNT}.blob.core.windows.net"
CANARY = "c4n4ry6606"

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else and to own files")


class ScriptVM(VM):
    """A VM that reaches the fake platform's storage account; every goal state has the next number."""

    number = -1

    def environment(self):
        environment = super().environment()
        environment["EVENKEEL_CONNECT_TO"] += f",{ACCOUNT}.blob.core.windows.net:443:{self.addresses['blobtls']}"
        return environment

    def begin(self, settings, protected=None):
        self.number += 1
        self.put(self.number, {"network": {"caFile": self.addresses["caFile"]}, **settings}, protected)
        self.command("enable", self.number)
        return self.number

    def ended(self, settings, protected=None, limit=15):
        return self.settled(self.begin(settings, protected), limit=limit)

    def reboot(self):
        """The power goes: nothing ends in good order, and the kernel has another boot id afterwards."""
        path = self.root / "proc/sys/kernel/random/boot_id"
        self.kill_daemon()
        self.end_jobs()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{uuid.uuid4()}\n")
        self.start_daemon()
        self.command("enable", self.number)


@pytest.fixture
def new_vm(platform):
    """A VM with the service running, for the test alone."""
    with serving(ScriptVM, platform) as vm:
        yield vm


@pytest.fixture(scope="module")
def vm(platform):
    """The same, shared by the tests that leave it as it was."""
    with serving(ScriptVM, platform) as vm:
        yield vm


@pytest.fixture
def storage(platform):
    """The storage account, and afterwards nothing of it but its blobs."""
    yield platform
    platform.clear_faults("blob")
    platform.set_storage(public_access=True, allowed=None)


def scripts(*all, **section):
    return {"customScript": {"scripts": [{"name": f"s{i}", **one} for i, one in enumerate(all)], **section}}


def substatus(status, name="customScript/s0"):
    return next(item for item in status["substatus"] if item["name"] == name)


def output(status):
    """The lines of standard output in the message."""
    return message(status).split("[stdout]\n", 1)[1].split("\n[stderr]\n")[0].split("\n")


def job(vm):
    """The directory of the last run."""
    return max((vm.root / "var/lib/evenkeel/jobs").iterdir(), key=lambda path: int(path.name.rpartition("-")[2]))


def test_every_ask_has_a_test():
    names = re.findall(r"^def test_ask_(\d\d)_\w+", pathlib.Path(__file__).read_text(), re.MULTILINE)
    assert sorted(set(map(int, names))) == list(NUMBERS)


# 1, 2: whatever happens in the middle

def test_ask_01_reboot_in_a_script_is_told(new_vm):
    vm = new_vm
    vm.begin(scripts({"commandToExecute": f"echo one >>{vm.root}/ran; sleep 1000"}))
    wait_until("the script to begin", lambda: lines(vm.root / "ran"), 10)
    vm.reboot()
    status = vm.settled(vm.number)
    assert (status["status"], status["code"]) == ("error", 3)
    assert re.search(r"interrupted by a reboot after \d+ m?s", message(status))
    assert lines(vm.root / "ran") == ["one"]
    # by setting it is run again, as often as it takes, and a script that asks for the reboot itself is followed by the next one
    vm.begin(scripts({"onReboot": "rerun", "commandToExecute": f"echo two >>{vm.root}/ran; [ -e {vm.root}/go ] || sleep 1000"},
                     {"commandToExecute": f"echo three >>{vm.root}/ran"}))
    wait_until("the script to begin", lambda: lines(vm.root / "ran") == ["one", "two"], 10)
    (vm.root / "go").touch()
    vm.reboot()
    assert vm.settled(vm.number)["status"] == "success"
    assert lines(vm.root / "ran") == ["one", "two", "two", "three"]


def test_ask_01_reboots_that_scripts_ask_for_are_three_at_most(new_vm):
    """Without a service manager nobody reboots: that is this test's part."""
    vm = new_vm
    vm.begin(scripts(*({"rebootExitCode": 194, "commandToExecute": f"echo {i} >>{vm.root}/ran; exit 194"} for i in range(5))))
    for count in (1, 2, 3):
        wait_until(f"{count} scripts to run", lambda: len(lines(vm.root / "ran")) == count, 10)
        wait_until("the reboot to be waited for", lambda: "waiting for the reboot" in vm.says(f"customScript/s{count}"), 10)
        assert vm.deployment(vm.number)["status"] == "transitioning"
        vm.reboot()
    status = vm.settled(vm.number)
    assert status["status"] == "error" and "asks for a reboot once more, after 3" in message(status)
    assert lines(vm.root / "ran") == ["0", "1", "2", "3"]


def test_ask_02_a_restart_loses_neither_the_script_nor_its_result(vm):
    """Our service is restarted, the agent asks again: the same process runs on, and its end is told."""
    root = vm.root
    vm.begin(script(f"echo $$ >>{root}/pid-02; until [ -e {root}/go-02 ]; do sleep 0.05; done; cat {root}/pid-02"))
    wait_until("the script to begin", lambda: lines(root / "pid-02"), 10)
    vm.restart_daemon()
    vm.command("enable", vm.number)
    assert vm.deployment(vm.number)["status"] == "transitioning"
    (root / "go-02").touch()
    assert output(vm.settled(vm.number))[:1] == lines(root / "pid-02")


# 3 to 6: output, progress, several scripts

def test_ask_03_the_tail_is_as_long_as_it_is_asked_for(vm):
    text = "".join(f"line {i:05}\n" for i in range(3000))
    command = "i=0; while [ $i -lt 3000 ]; do printf 'line %05d\\n' $i; i=$((i+1)); done"
    for size in (100, 4096, 16384):
        status = vm.ended(scripts({"commandToExecute": command, "output": {"tailInBytes": size}}))
        assert "\n".join(output(status)) == text[-size:]
        assert len(substatus(status)["formattedMessage"]["message"]) <= 4096
    # it is the same after a restart, and all of it stays on the machine
    before = vm.content(vm.number)
    vm.restart_daemon()
    vm.command("enable", vm.number)
    assert vm.content(vm.number) == before and "recorded anew" not in vm.log_text()
    assert (job(vm) / "stdout").read_text() == text
    # several scripts share the room there is
    status = vm.ended(scripts(*({"commandToExecute": command, "output": {"tailInBytes": 16384}} for _ in range(2))))
    for name in ("customScript/s0", "customScript/s1"):
        assert len(substatus(status, name)["formattedMessage"]["message"]) > 15000


def test_ask_04_progress_and_the_live_tail_are_in_the_status(vm):
    root = vm.root
    vm.begin(script(f"echo half way; echo with care >&2; until [ -e {root}/go-04 ]; do sleep 0.05; done"))
    status = wait_until("the tail in the status", lambda: "half way" in message(vm.deployment(vm.number)) and vm.deployment(vm.number), 20)
    assert status["status"] == "transitioning"
    assert re.search(r"running for \d+ s\n\[stdout\]\nhalf way\n\n\[stderr\]\nwith care\n", message(status)), message(status)
    (root / "go-04").touch()
    assert vm.settled(vm.number)["status"] == "success"


def test_ask_05_several_scripts_in_order(vm):
    ran = vm.root / "ran-05"
    status = vm.ended(scripts({"commandToExecute": f"sleep 0.2; echo a >>{ran}; exit 1", "continueOnFailure": True,
                               "treatFailureAsDeploymentFailure": False},
                              {"commandToExecute": f"echo b >>{ran}", "name": "second"},
                              {"commandToExecute": f"echo c >>{ran}; exit 9"}, {"commandToExecute": f"echo d >>{ran}"}))
    assert lines(ran) == ["a", "b", "c"]
    assert status["status"] == "error" and message(status).startswith("Enable failed: script s2: exit code 9")
    told = {name: substatus(status, f"customScript/{name}") for name in ("s0", "second", "s2", "s3")}
    assert [one["status"] for one in told.values()] == ["error", "success", "error", "error"]
    assert told["s3"]["formattedMessage"]["message"] == "not run: script s2 before it failed"
    status = vm.ended(scripts({"commandToExecute": "exit 1", "treatFailureAsDeploymentFailure": False}))
    assert status["status"] == "success" and substatus(status)["status"] == "error"


def test_ask_06_output_cannot_fill_the_disk(vm):
    status = vm.ended(scripts({"commandToExecute": "echo first; head -c 20000000 /dev/zero | tr '\\0' 'x'; echo; echo last",
                               "output": {"maxInBytes": 65536}}))
    assert output(status)[-2:] == ["last", ""]
    kept = (job(vm) / "stdout").read_bytes()
    assert len(kept) <= 65536 and kept.startswith(b"first\n") and kept.endswith(b"\nlast\n") and b" bytes left out here]" in kept


# 7 to 11, 16, 17, 19: files

def test_ask_07_nothing_secret_stays_after_the_run(vm, storage):
    storage.put_blob("/c/tool.sh", f"#!/bin/sh\n# {CANARY}\necho tool\n".encode())
    own = encoded(f"#!/bin/sh\n# {CANARY}\nsh tool.sh; echo \"$TOKEN\" | wc -c\n")
    status = vm.ended(scripts({"script": {"secretRef": "own"}, "files": [f"{BLOBS}/c/tool.sh"], "wipe": True,
                               "environment": {"TOKEN": {"secretRef": "token"}}}), {"secrets": {"own": own, "token": CANARY}})
    assert output(status)[:2] == ["tool", str(len(CANARY) + 1)]
    assert files_with(vm.root, CANARY) == [] and files_with(vm.root, own[:60]) == []
    assert not (job(vm) / "work").exists() and (job(vm) / "stdout").exists()


def test_ask_08_a_signature_in_the_protected_settings(vm, storage):
    storage.put_blob("/c/signed.sh", b"echo signed\n", access="sas")
    sas = storage.make_sas("/c/signed.sh")
    status = vm.ended({"commandToExecute": "sh signed.sh"}, {"fileUris": [f"{BLOBS}/c/signed.sh?{sas}"]})
    assert output(status)[0] == "signed"
    signature = re.search(r"sig=([^&]+)", sas)[1]
    assert signature not in json.dumps(status) + vm.log_text() and files_with(vm.root, signature) == []


def test_ask_09_identity_first_and_the_role_that_is_missing(vm, storage):
    storage.set_storage(public_access=False)
    storage.put_blob("/c/private.sh", b"echo private\n", access="token")
    settings = scripts({"commandToExecute": "sh private.sh", "files": [f"{BLOBS}/c/private.sh"], "identity": {}})
    assert output(vm.ended(settings))[0] == "private"
    storage.set_storage(public_access=False, allowed=["00001111-aaaa-2222-bbbb-3333cccc4444"])
    status = vm.ended(settings, limit=30)
    assert status["status"] == "error" and status["code"] == 71
    for word in (f"{ACCOUNT}.blob.core.windows.net", "403", "Storage Blob Data Reader"):
        assert word in message(status)


def test_ask_10_a_failed_download_says_enough(vm, storage):
    sas = storage.make_sas("/c/none.sh")
    status = vm.ended(scripts({"commandToExecute": "true", "files": [f"{BLOBS}/c/none.sh?{sas}"]}))
    assert (status["status"], status["code"]) == ("error", 53)
    for word in ("none.sh", f"{ACCOUNT}.blob.core.windows.net", "404", "BlobNotFound", "request id"):
        assert word in message(status), message(status)
    assert re.search(r"sig=([^&]+)", sas)[1] not in message(status)


def test_ask_11_large_files_take_no_memory(vm, storage):
    """24 MiB of script and as much of anything else, downloaded, converted, hashed and run."""
    large = b"#!/bin/sh\r\ngrep VmHWM /proc/$PPID/status; wc -c <data; exit\r\n" + b"# 0123456789\r\n" * (24 << 16)
    data = bytes(256) * (24 << 12)
    storage.put_blob("/c/large.sh", large)
    storage.put_blob("/c/data", data)
    status = vm.ended(scripts({"commandToExecute": "exec sh large.sh", "files": [
        f"{BLOBS}/c/large.sh", {"uri": f"{BLOBS}/c/data", "sha256": hashlib.sha256(data).hexdigest()}]}), limit=60)
    peak, size = output(status)[:2]
    assert size == str(len(data))
    assert SANITIZED or int(peak.split()[1]) < 20 * 1024


def test_ask_16_files_go_where_they_are_named(vm, storage):
    storage.put_blob("/c/app/conf/site.conf", b"site\n")
    storage.put_blob("/c/other/site.conf", b"other\n")
    status = vm.ended(scripts({"commandToExecute": "find . -type f -name '*.conf' | sort; cat conf/deep/site.conf",
                               "files": [{"uri": f"{BLOBS}/c/app/conf/site.conf", "name": "conf/deep/site.conf"},
                                         f"{BLOBS}/c/other/site.conf"]}))
    assert output(status)[:3] == ["./conf/deep/site.conf", "./site.conf", "site"]
    elsewhere = vm.root / "srv"
    elsewhere.mkdir()
    assert output(vm.ended(scripts({"commandToExecute": "pwd", "workingDirectory": str(elsewhere)})))[0] == str(elsewhere)


def test_ask_17_modes_and_owners(vm, storage):
    storage.put_blob("/c/app/conf/site.conf", b"site\n")
    uri = f"{BLOBS}/c/app/conf/site.conf"
    status = vm.ended(scripts({"commandToExecute": "stat -c '%a %U %G %n' a b c", "files": [
        {"uri": uri, "name": "a"}, {"uri": uri, "name": "b", "mode": "0640", "owner": "nobody"},
        {"uri": uri, "name": "c", "mode": "0755", "owner": "daemon:nogroup"}]}))
    assert output(status)[:3] == ["500 root root a", "640 nobody nogroup b", "755 daemon nogroup c"]


class Proxy:
    """Answers for every host by itself; the lines of the requests are in `seen`."""

    def __enter__(self):
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                seen.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"echo by the proxy\n")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_ask_19_downloads_by_the_proxy(vm):
    with Proxy() as proxy:
        settings = scripts({"commandToExecute": "sh a.sh", "files": ["http://downloads.example/x/a.sh"]})
        assert output(vm.ended({**settings, "network": {"proxy": proxy.url}}))[0] == "by the proxy"
        assert proxy.seen == ["http://downloads.example/x/a.sh"]


# 12: waiting for others

def test_ask_12_package_managers_and_cloud_init_are_waited_for(vm):
    ran, lock = vm.root / "ran-12", vm.root / "var/lib/dpkg/lock-frontend"
    (vm.root / "run/cloud-init").mkdir(parents=True)
    (vm.root / "run/cloud-init/enabled").touch()
    lock.parent.mkdir(parents=True)
    lock.touch()
    with open(lock, "r+") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        vm.begin(scripts({"commandToExecute": f"echo ran >>{ran}"}, waitFor=["cloudInit", "packageLocks"]))
        wait_until("cloud-init to be waited for", lambda: "waiting for cloud-init" in message(vm.deployment(vm.number)), 10)
        (vm.root / "run/cloud-init/result.json").touch()
        wait_until("the lock to be waited for", lambda: "waiting for the package manager's lock" in vm.says("customScript/s0"), 20)
        assert lines(ran) == []
        fcntl.lockf(held, fcntl.LOCK_UN)
        assert vm.settled(vm.number)["status"] == "success"
    assert lines(ran) == ["ran"] and lock.exists()
    # a file that is only there means nothing
    assert vm.ended(scripts({"commandToExecute": "true"}, waitFor=["packageLocks"]), limit=5)["status"] == "success"


@pytest.mark.parametrize("name", ["run/.tdnf-instance-lockfile", "usr/lib/sysimage/rpm/.rpm.lock"])
def test_ask_12_locks_of_other_distributions(vm, name):
    lock = vm.root / name
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX) if "tdnf" in name else fcntl.lockf(held, fcntl.LOCK_EX)
        status = vm.ended(scripts({"commandToExecute": "true"}, waitFor=["packageLocks"], waitTimeoutInSeconds=1))
        assert (status["status"], status["code"]) == ("error", 56)
        assert re.search(r"nothing was run: waited \d+ s for the package manager's lock", message(status))
    assert vm.ended(scripts({"commandToExecute": "true"}, waitFor=["packageLocks"]))["status"] == "success"


def test_ask_12_exit_codes_that_are_worth_another_try(vm):
    count = vm.root / "count-12"
    status = vm.ended(scripts({"commandToExecute": f"echo try >>{count}; [ $(wc -l <{count}) -ge 3 ] || exit 100",
                               "retry": {"times": 5, "delayInSeconds": 0, "onExitCodes": [100]}}))
    assert status["status"] == "success" and lines(count) == ["try"] * 3
    status = vm.ended(scripts({"commandToExecute": f"echo once >>{count}; exit 99",
                               "retry": {"times": 5, "delayInSeconds": 0, "onExitCodes": [100]}}))
    assert status["status"] == "error" and lines(count) == ["try"] * 3 + ["once"]


# 13 to 15: how it runs

def test_ask_13_a_timeout_ends_everything_and_is_called_so(vm):
    path = vm.root / "pid-13"
    status = vm.ended(scripts({"commandToExecute": f"(setsid sleep 1000 & echo $! >{path}); sleep 1000", "timeoutInSeconds": 1}),
                      limit=30)
    assert (status["status"], status["code"]) == ("error", 56)
    assert re.search(r"timed out after \d+ s and was ended with all it had started", message(status))
    assert not os.path.exists(f"/proc/{lines(path)[0]}")


def test_ask_13_what_takes_longer_than_the_platform_waits(vm):
    root = vm.root
    status = vm.ended(scripts({"commandToExecute": f"until [ -e {root}/go-13 ]; do sleep 0.05; done; echo later; exit 5",
                               "asynchronous": True}))
    assert status["status"] == "success" and "started" in substatus(status)["formattedMessage"]["message"]
    (root / "go-13").touch()
    wait_until("the result to be told", lambda: vm.substatus("customScript/s0").get("status") == "error", 10)
    assert "exit code 5" in vm.says("customScript/s0") and "later" in vm.says("customScript/s0")
    assert vm.deployment(vm.number)["status"] == "success", "what was a success stays one"


def test_ask_14_another_user(vm):
    status = vm.ended(scripts({"runAs": "nobody", "commandToExecute": "id -un; id -gn; pwd; touch mine && stat -c %U mine"}))
    assert output(status)[:4] == ["nobody", "nogroup", str(job(vm) / "work"), "nobody"]
    status = vm.ended(scripts({"runAs": "daemon:nogroup", "commandToExecute": "id -un; id -gn; cat /etc/shadow"}))
    assert output(status)[:2] == ["daemon", "nogroup"] and status["status"] == "error"
    status = vm.ended(scripts({"runAs": "nobody-at-all", "commandToExecute": "true"}))
    assert status["status"] == "error" and 'there is no user "nobody-at-all"' in message(status)


def test_ask_14_supplementary_groups(vm):
    users = {user.pw_name for user in pwd.getpwall()}
    user = next((name for group in grp.getgrall() for name in group.gr_mem if name in users), "daemon")
    groups = sorted(os.getgrouplist(user, pwd.getpwnam(user).pw_gid))
    assert sorted(map(int, output(vm.ended(scripts({"runAs": user, "commandToExecute": "id -G"})))[0].split())) == groups


def test_ask_14_limits(vm):
    """Without a service manager only nice can be done, and that is said; tests/machine has the rest."""
    status = vm.ended(scripts({"commandToExecute": "nice", "limits": {"memoryInBytes": 33554432, "nice": 7}}))
    assert output(status)[0] == "7"
    assert "ran without its limits of memory and processor time" in substatus(status)["formattedMessage"]["message"]


def test_ask_15_environment(vm):
    command = "echo $HOME,$USER,$LOGNAME,$SHELL,$LANG; echo $PATH; echo $GIVEN; env | cut -d= -f1 | sort | tr '\\n' ' '"
    for user, home, shell in (("root", "/root", "/bin/"), ("nobody", "/nonexistent", "/")):
        told = output(vm.ended(scripts({"runAs": user, "commandToExecute": command, "environment": {"GIVEN": "a b"}})))
        assert re.fullmatch(f"{home},{user},{user},{shell}\\S+,C.UTF-8", told[0]), told
        assert told[1] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" and told[2] == "a b"
        assert set(told[3].split()) - {"PWD", "OLDPWD", "SHLVL", "_"} == {
            "GIVEN", "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "USER"}


# 18: which scripts may run

def test_ask_18_only_what_hashes_right(vm, storage):
    good, ran = b"#!/bin/sh\r\necho checked\r\n", vm.root / "ran-18"
    storage.put_blob("/c/checked.sh", good)
    file = {"uri": f"{BLOBS}/c/checked.sh", "sha256": hashlib.sha256(good).hexdigest()}
    assert output(vm.ended(scripts({"commandToExecute": "sh checked.sh", "files": [file]})))[0] == "checked"
    status = vm.ended(scripts({"commandToExecute": f"touch {ran}", "files": [{**file, "sha256": "0" * 64}]}))
    assert status["status"] == "error" and "sha256" in message(status).lower().replace("-", "") and not ran.exists()


@pytest.fixture
def policy(vm):
    """Writes what the Azure agent makes of runtimePolicy in /etc/waagent_policy.json."""
    path = vm.folder() / "config/waagent_runtime_policy.json"
    yield lambda value: path.write_text(value if isinstance(value, str) else json.dumps(value))
    path.unlink()


def test_ask_18_only_what_the_machine_s_policy_names(vm, storage, policy):
    """Files and inline scripts by their checksum after conversion, commands to the letter."""
    ran = vm.root / "ran-18p"
    unix = f"#!/bin/sh\ntouch {ran}; echo allowed\n".encode()
    digest = hashlib.sha256(unix).hexdigest()
    storage.put_blob("/c/allowed.sh", unix.replace(b"\n", b"\r\n"))
    by_file = scripts({"commandToExecute": "./allowed.sh", "files": [f"{BLOBS}/c/allowed.sh"]})
    inline = scripts({"script": encoded(unix)})
    policy({"allowedScripts": [digest.upper()]})
    for settings in (by_file, inline):
        assert output(vm.ended(settings))[0] == "allowed"
        ran.unlink()
    policy({"AllowedScripts": ["0" * 64]})
    for settings, name in ((by_file, "allowed.sh"), (inline, "this script")):
        status = vm.ended(settings)
        assert (status["status"], status["code"]) == ("error", 80)
        assert f"the policy of this machine does not allow {name}: its SHA-256 {digest} is not among" in message(status)
        assert not ran.exists() and not list(job(vm).glob("work/*.sh"))
    policy({"AllowedCommandToExecute": ["date", "echo to the letter"]})
    assert output(vm.ended(scripts({"commandToExecute": "echo to the letter"})))[0] == "to the letter"
    status = vm.ended(scripts({"commandToExecute": f"echo to the letter; touch {ran}"}))
    assert (status["status"], status["code"]) == ("error", 80) and "allowedCommandToExecute" in message(status)
    # what is not understood allows nothing
    for text, code in (({"requireSigning": True, "fileRootCertCA": "x"}, 80), ({"allowdScripts": []}, 81), ("{", 81)):
        policy(text)
        status = vm.ended(scripts({"commandToExecute": f"touch {ran}"}))
        assert (status["status"], status["code"]) == ("error", code), status
    # nor by hand, and what it says now counts
    hand = vm.directory / "hand-18.sh"
    hand.write_bytes(unix)
    policy({"requireSigning": True})
    done = vm.run("scripts", "run", "--user", me()[0], hand)
    assert done.returncode != 0 and "requires signed scripts" in done.stderr and not ran.exists()
    policy({"allowedScripts": ["0" * 64]})
    done = vm.run("scripts", "run", "--user", me()[0], hand)
    assert done.returncode != 0 and "does not allow this script" in done.stdout + done.stderr and not ran.exists()
    policy({})
    assert vm.run("scripts", "run", "--user", me()[0], hand).returncode == 0 and ran.exists()
    ran.unlink()
    assert vm.ended(scripts({"commandToExecute": "true"}))["status"] == "success" and not ran.exists()


# 20 to 23

def test_ask_20_when_a_script_runs_again(new_vm):
    vm = new_vm
    def run(text, policy, key="A"):
        vm.ended(scripts({"commandToExecute": f"echo {text} >>{vm.root}/ran", "runPolicy": policy, "environment": {"KEY": key}}))
        return lines(vm.root / "ran")

    assert run("sequence", "oncePerSequence") == ["sequence"]
    assert run("sequence", "oncePerSequence") == ["sequence"] * 2
    assert run("content", "oncePerContent")[2:] == ["content"]
    assert run("content", "oncePerContent")[2:] == ["content"]
    assert run("changed", "oncePerContent")[3:] == ["changed"]
    assert run("boot", "everyBoot")[4:] == ["boot"]
    vm.reboot()
    wait_until("the script to run again", lambda: lines(vm.root / "ran")[4:] == ["boot", "boot"], 10)
    assert vm.settled(vm.number)["status"] == "success"


def test_ask_20_newer_settings_wait_for_what_still_runs(vm):
    root = vm.root
    former = vm.begin(scripts({"commandToExecute": f"echo former >>{root}/ran-20; until [ -e {root}/go-20 ]; do sleep 0.05; done"}))
    wait_until("the script to begin", lambda: lines(root / "ran-20"), 10)
    vm.begin(scripts({"commandToExecute": f"echo newer >>{root}/ran-20"}))
    wait_until("that to be told", lambda: f"waiting for s0 of sequence {former}, running" in message(vm.deployment(vm.number)), 10)
    (root / "go-20").touch()
    assert vm.settled(vm.number)["status"] == "success" and lines(root / "ran-20") == ["former", "newer"]


def test_ask_21_upgrades_keep_files_and_run_nothing_again(new_vm, tmp_path):
    vm = new_vm
    version, binary = next_version(BINARY, tmp_path)
    vm.unpack(version, binary)
    vm.begin(scripts({"commandToExecute": f"echo ran >>{vm.root}/ran; echo kept >kept"},
                     {"commandToExecute": f"until [ -e {vm.root}/go ]; do sleep 0.05; done; echo over >>{vm.root}/ran"}))
    wait_until("the first script to end", lambda: vm.substatus("customScript/s0").get("status") == "success", 10)
    kept = job(vm).parent
    vm.go_over(vm.number, vm.version, version)
    (vm.root / "go").touch()
    assert vm.settled(vm.number, version=version)["status"] == "success"
    assert lines(vm.root / "ran") == ["ran", "over"]
    assert [path.read_text() for path in kept.glob("cs-s0-*/work/kept")] == ["kept\n"]


def test_ask_22_how_it_ended(vm):
    for command, code, words in (("echo last words >&2; exit 7", 2, ("exit code 7 after ", "[stderr]\nlast words")),
                                 ("kill -SEGV $$", 2, ("killed by SIGSEGV (11) after ",))):
        status = vm.ended(scripts({"commandToExecute": command}))
        assert (status["status"], status["code"]) == ("error", code)
        for word in words:
            assert word in message(status) and word in substatus(status)["formattedMessage"]["message"]
        assert substatus(status, "ErrorClarification")["code"] == code
    status = vm.ended(scripts({"commandToExecute": "sleep 1000 & sleep 1000 & exit 0"}))
    assert status["status"] == "success"
    assert "; 2 processes left running" in substatus(status)["formattedMessage"]["message"]


def test_ask_23_a_program_that_is_still_open_for_writing(vm):
    """Its writer goes away within a second, and the program is run; nothing of ours is a script that needs other programs."""
    name = "busy-0001"
    directory = vm.root / f"var/lib/evenkeel/jobs/{name}"
    directory.mkdir(parents=True)
    program = vm.root / "busy"
    program.write_bytes(pathlib.Path("/bin/true").resolve().read_bytes())
    program.chmod(0o755)
    (directory / "job.json").write_text(json.dumps({"format": 1, "id": name, "handler": "test", "title": "busy", "kind": "command",
                                                    "argv": [str(program)]}))
    with open(program, "r+b"):
        with pytest.raises(OSError):
            subprocess.run([program])
        runner = subprocess.Popen([vm.binary, "run", name], env=vm.environment())
        wait_until("the runner to begin", lambda: (directory / "started").exists(), 10)
        time.sleep(0.3)
        assert runner.poll() is None
    assert runner.wait(10) == 0
    assert json.loads((directory / "result.json").read_text())["end"] == "succeeded"
    manifest = (pathlib.Path(__file__).parents[2] / "manifest/HandlerManifest.json.in").read_text()
    assert set(re.findall(r'Command": "(\S+) ', manifest)) == {"bin/evenkeel"}
    # The launcher is for the POSIX shell, and starts nothing else.
    done = subprocess.run([vm.folder() / "bin/evenkeel", "version"], env={"PATH": "/nonexistent"}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"evenkeel {vm.version}\n", "")


# 24, 25

def test_ask_24_no_file_below_var_may_be_executed(new_vm):
    vm = new_vm
    vm.stop_daemon()
    vm.start_daemon(prefix=["unshare", "-m", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,noexec,bind "$0" && exec "$@"',
                            str(vm.root / "var/lib/evenkeel")])
    perl = "#!/usr/bin/perl -w\nprint \"perl @ARGV\\n\";"
    status = vm.ended(scripts({"script": encoded(perl), "arguments": ["one", "two"]}))
    assert output(status)[0] == "perl one two", status
    assert output(vm.ended(scripts({"script": encoded("echo no first line")})))[0] == "no first line"
    assert output(vm.ended(scripts({"commandToExecute": "echo shell text"})))[0] == "shell text"


def test_ask_25_what_is_no_text_is_told_as_text(vm):
    """Bytes of another encoding and a character cut at the border of the tail; a binary is not touched."""
    status = vm.ended(scripts({"commandToExecute": "printf 'caf\\351 \\000 \\033[1m\\n'"}))
    assert output(status)[0].startswith("caf\ufffd")
    tail = "é" * 3000
    status = vm.ended(scripts({"commandToExecute": f"printf '%s' '{tail}'", "output": {"tailInBytes": 101}}))
    assert "\n".join(output(status)) == "é" * 50
    wide = "\ufeff#!/bin/sh\r\necho wide é\r\n".encode("utf-16-le")
    assert output(vm.ended(scripts({"script": encoded(gzip.compress(wide))})))[0] == "wide é"


def test_ask_25_binaries_are_not_converted(vm, storage):
    binary = b"\x7fELF\r\n\xff\xfe\r\n" + bytes(range(256)) * 8
    storage.put_blob("/c/tool", binary)
    storage.put_blob("/c/tool.sh", binary)
    status = vm.ended(scripts({"commandToExecute": "sha256sum tool tool.sh", "files": [f"{BLOBS}/c/tool", f"{BLOBS}/c/tool.sh"]}))
    assert [line.split()[0] for line in output(status)[:2]] == [hashlib.sha256(binary).hexdigest()] * 2
