"""The extension commands as the Azure Linux Agent calls them: in any state of its files, twice, in an upgrade, without a
service manager (extension-contract.md 2-4, 7-9; settings.md 3.2 and 3.3)."""

import base64
import concurrent.futures
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
from vm import BINARY, HANDLER, VM, check_status, free_port, http_get, lines, next_version, script, wait_until

VERBS = ("install", "enable", "update", "disable", "uninstall")
CANARY = "c4n4ry-in-the-protected-settings"
FAST = BINARY.parents[2] / "tests/libclock_fast.so"


def first_line(done):
    return done.stderr.split("\n")[0]


# A goal state whose certificate comes late: it waits while the other tests run, and the last test looks at it.

@pytest.fixture(scope="module", autouse=True)
def latecomer(tmp_path_factory, platform):
    with VM(tmp_path_factory.mktemp("late"), platform) as vm:
        vm.command("install")
        vm.start_daemon()
        vm.put(0, script(f'echo "$TOLD" >>{vm.root}/told', environment={"TOLD": {"secretRef": "canary"}}),
               {"secrets": {"canary": CANARY}}, tenant=False)
        vm.command("enable")
        status = vm.deployment()
        assert status["status"] == "transitioning"
        assert ".crt" in vm.says("settings") and "restart the agent" in vm.says("settings")
        vm.put_tenant()
        yield vm


@contextlib.contextmanager
def hung(directory, platform, settle):
    """A VM whose service has stopped answering, and what comes of an enable: it gives up after 20 s, a while before the agent would."""
    with VM(directory, platform) as vm:
        vm.command("install")
        vm.start_daemon()
        if settle:
            vm.enable(0, {})
            vm.settled()
        vm._daemon.send_signal(signal.SIGSTOP)
        vm.put(0, {})
        vm.ended = concurrent.futures.Future()
        threading.Thread(target=lambda: vm.ended.set_result(vm.command("enable", exit_code=None, limit=30))).start()
        try:
            yield vm
        finally:
            vm.ended.result(30)
            vm._daemon.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module", autouse=True)
def hanging(tmp_path_factory, platform):
    with hung(tmp_path_factory.mktemp("hung"), platform, settle=False) as vm:
        yield vm


@pytest.fixture(scope="module", autouse=True)
def hanging_later(tmp_path_factory, platform):
    with hung(tmp_path_factory.mktemp("later"), platform, settle=True) as vm:
        yield vm


# HandlerEnvironment.json

@pytest.mark.parametrize("text, word", [
    (None, "is missing"),
    ("", "is empty"),
    ('[{"name":"x","handlerEnvironment":{"logFolder":"/var/lo', "try again"),
    ("nothing", "try again"),
    ("null", "list"),
    ("[]", "at least"),
    ("{}", "list"),
    ('[{"name":"x"}]', "handlerEnvironment"),
    ('[{"handlerEnvironment":{"logFolder":"/l","configFolder":"/c"}}]', "statusFolder"),
    ('[{"handlerEnvironment":{"logFolder":"l","configFolder":"/c","statusFolder":"/s"}}]', "absolute"),
    ("[" + " " * 70000 + "]", "65536"),
], ids=["missing", "empty", "truncated", "not JSON", "null", "empty list", "object", "no folders", "no status folder",
        "relative", "huge"])
def test_environment_file_that_cannot_be_used(vm, text, word):
    path = vm.folder() / "HandlerEnvironment.json"
    path.unlink() if text is None else path.write_text(text)
    for verb in ("install", "enable"):
        done = vm.command(verb, exit_code=1)
        assert first_line(done).startswith(f"evenkeel {verb}: ")
        assert str(path) in first_line(done) and word in first_line(done), first_line(done)
    for verb in ("disable", "update", "uninstall"):
        vm.command(verb)


def test_environment_file_of_other_agents(vm):
    path = vm.folder() / "HandlerEnvironment.json"
    document = json.loads(path.read_text())
    document[0] |= {"version": "1.0", "seqNo": 3, "foreign": [None]}
    document[0]["handlerEnvironment"] |= {"deploymentid": "d", "rolename": None, "eventsFolder_preview": "/x", "instance": {}}
    path.write_text("\ufeff" + json.dumps(document, indent=4))
    vm.command("install")
    vm.enable(0, {})
    assert vm.deployment()["status"] == "success"


def test_found_without_the_agents_variables(vm):
    """An agent of 2018 sets no variable; a person calls bin/evenkeel from somewhere else."""
    vm.put(7, {})
    none = {"AZURE_GUEST_AGENT_EXTENSION_PATH": None, "AZURE_GUEST_AGENT_EXTENSION_VERSION": None,
            "ConfigSequenceNumber": None, "AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE": None,
            "AZURE_GUEST_AGENT_WIRE_PROTOCOL_ADDRESS": None}
    vm.command("install", **none)
    done = subprocess.run([vm.folder() / "bin/evenkeel", "enable"], cwd="/", env=vm.environment(), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert vm.deployment(7)["status"] == "success"


# N.settings

def wrap(**handler_settings):
    return json.dumps({"runtimeSettings": [{"handlerSettings": handler_settings}]})


def public(text):
    """publicSettings as it is, valid JSON or not."""
    return '{"runtimeSettings":[{"handlerSettings":{"publicSettings":' + text + "}}]}"


NOTHING = "nothing configured"
THUMBPRINT = "0123456789ABCDEF0123456789ABCDEF01234567"
SETTINGS = {
    "no file": (None, "success", NOTHING),
    "empty": ("", "success", NOTHING),
    "blank": (" \r\n", "success", NOTHING),
    "all null": (wrap(publicSettings=None, protectedSettings=None, protectedSettingsCertThumbprint=None), "success", NOTHING),
    "no members": (wrap(), "success", NOTHING),
    "public {}": (wrap(publicSettings={}), "success", NOTHING),
    "protected empty": (wrap(publicSettings={}, protectedSettings="", protectedSettingsCertThumbprint=""), "success", NOTHING),
    "public as text": (wrap(publicSettings="{}"), "success", NOTHING),
    "with a BOM": ("\ufeff" + wrap(publicSettings={"timestamp": 1}), "success", NOTHING),
    "handlerSettings null": ('{"runtimeSettings":[{"handlerSettings":null}]}', "success", NOTHING),
    "not JSON": ("settings: yes", "error", ".settings"),
    "truncated": (wrap(publicSettings={"drain": {}})[:60], "error", ".settings"),
    "NUL bytes": ("\0" * 300, "error", "NUL"),
    "a list": ("[]", "error", ".settings"),
    "no settings in it": ('{"runtimeSettings":[]}', "error", "wrong runtimeSettings count. expected:1, got:0"),
    "two": ('{"runtimeSettings":[{"handlerSettings":{}},{"handlerSettings":{}}]}', "error",
            "wrong runtimeSettings count. expected:1, got:2"),
    "public a list": (public("[]"), "error", "publicSettings"),
    "too large a file": (public('{"x":"' + "y" * (3 << 20) + '"}'), "error", "2621440"),
    # a tab is two bytes in the goal state that goes to the service
    "as large a file as may be": (wrap().ljust(2621440, "\t"), "success", NOTHING),
    "too large a document": (public('{"timestamp":1' + " " * 1100000 + ',"drian":{}}'), "error", "settings"),
    "too deep": (public('{"drain":' + "[" * 40 + "]" * 40 + "}"), "error", "settings"),
    "no thumbprint": (wrap(publicSettings={}, protectedSettings="MIIB"), "error", "protectedSettingsCertThumbprint"),
    "a path as thumbprint": (wrap(protectedSettings="MIIB", protectedSettingsCertThumbprint="../../../../etc/ssl/x"), "error",
                             "40 hexadecimal digits"),
    "unknown section": (public('{"drian":{}}'), "error", 'drian: unknown section; did you mean "drain"?'),
    "out of range": (public('{"drain":{"marginInSeconds":61}}'), "error", "drain.marginInSeconds"),
    "wrong type": (public('{"drain":{"steps":[{"type":"probeDown"}]},"health":[]}'), "error", "health"),
    "secret that is not there": (public(json.dumps(script("true", environment={"A": {"secretRef": "databaseUrl"}}))), "error",
                                 'secretRef "databaseUrl": no such secret'),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory, platform):
    """One VM with the service running, for goal states that leave nothing behind."""
    with VM(tmp_path_factory.mktemp("shared"), platform) as vm:
        vm.numbers = iter(range(1000))
        vm.command("install")
        vm.start_daemon()
        vm.put_tenant()
        yield vm


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_file(shared, name):
    text, level, word = SETTINGS[name]
    number = next(shared.numbers)
    if text is not None:
        shared.put_file(number, text)
    done = shared.command("enable", number, limit=20)  # megabytes take their time on a busy machine
    assert done.stderr == ""
    status = shared.deployment(number)
    assert status["status"] == level
    settings = [item for item in status["substatus"] if item["name"] == "settings"]
    assert settings and settings[0]["status"] == level and word in settings[0]["formattedMessage"]["message"], settings
    if level == "error":
        assert word in status["formattedMessage"]["message"]
        # whose fault it is: the customer's settings, in the number that the peer uses
        assert status["code"] == -21


@pytest.mark.parametrize("blob, word", [
    ("not base64!", "base64"), (base64.b64encode(b"no CMS at all").decode(), "CMS"), ("MIIB", ""),
], ids=["not base64", "not CMS", "cut"])
def test_protected_settings_that_are_none(shared, blob, word):
    thumbprint = shared.platform.tenant_certificate()["thumbprint"]
    number = next(shared.numbers)
    shared.put_file(number, wrap(publicSettings={}, protectedSettings=blob, protectedSettingsCertThumbprint=thumbprint))
    shared.command("enable", number)
    status = shared.deployment(number)
    assert status["status"] == "error" and "apply the extension's settings again" in status["formattedMessage"]["message"]
    assert word in status["formattedMessage"]["message"]


@pytest.mark.parametrize("cipher", ["des3", "aes256"])
def test_protected_settings(service, cipher):
    told = service.root / "told"
    service.put(0, script(f'echo "$TOLD" >{told}', environment={"TOLD": {"secretRef": "canary"}}),
                {"secrets": {"canary": CANARY}}, cipher=cipher)
    service.command("enable")
    assert service.settled()["status"] == "success"
    assert lines(told) == [CANARY]


def test_wrong_key(vm):
    """A key pair that is renewed at this moment: no error yet, and nothing of what was in force is touched."""
    port = free_port()
    vm.command("install")
    vm.start_daemon()
    vm.enable(0, {"health": {"listen": f"127.0.0.1:{port}"}})
    other = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, text=True, check=True).stdout
    vm.put(1, {}, {"secrets": {}}, tenant=False)
    vm.put_tenant(key=other)
    vm.command("enable", 1)
    status = vm.deployment(1)
    assert status["status"] == "transitioning" and ".crt and .prv" in vm.says("settings")
    assert http_get(f"http://127.0.0.1:{port}/ready")[0] == 200
    vm.put_tenant()
    vm.command("enable", 1)  # the agent does so at each goal state
    assert vm.deployment(1)["status"] == "success"


# Sequence numbers

def counting(vm, name="ran"):
    return script(f"echo {name} >>{vm.root}/ran")


def ran(vm):
    return lines(vm.root / "ran")


def test_the_same_number_again_does_nothing(service):
    service.enable(3, counting(service))
    assert service.settled(3)["status"] == "success"
    before, content = service.status_path(3).stat(), service.content(3)
    for _ in range(2):
        service.enable(3, counting(service))
    time.sleep(0.2)
    assert service.status_path(3).stat() == before, "a terminal status is not written again for the same content"
    service.restart_daemon()
    service.enable(3, counting(service))
    time.sleep(0.2)
    assert service.content(3) == content
    assert ran(service) == ["ran"]


def test_a_lost_status_file_is_written_again_with_the_same_content(service):
    service.enable(3, counting(service))
    service.settled(3)
    before = service.content(3)
    service.status_path(3).unlink()
    service.command("enable", 3)
    assert service.content(3) == before
    assert ran(service) == ["ran"]


def test_number_of_the_newest_file(service):
    now = time.time()
    for number, age in ((9, 60), (2, 0), (4, 30)):
        service.put(number, counting(service, f"n{number}"))
        os.utime(service.folder() / f"config/{number}.settings", (now - age, now - age))
    (service.folder() / "config/name.11.settings").write_text("")
    (service.folder() / "config/HandlerState").write_text("Installed")
    service.command("enable", ConfigSequenceNumber=None)
    assert service.settled(2)["status"] == "success"
    assert ran(service) == ["n2"]
    assert sorted(path.name for path in service.status_path().parent.iterdir()) == ["2.status"]


@pytest.mark.parametrize("number", ["-1", "5x", "18446744073709551616", " 5"])
def test_a_number_that_is_none(shared, number):
    done = shared.command("enable", number, exit_code=1)
    assert first_line(done).startswith("evenkeel enable: ConfigSequenceNumber: expected a number, got")


def test_numbers_that_start_anew(service):
    service.enable(5, counting(service, "five"))
    assert service.settled(5)["status"] == "success"
    service.enable(0, counting(service, "nought"))
    assert service.settled(0)["status"] == "success"
    assert ran(service) == ["five", "nought"]


def test_a_new_number_runs_the_script_again(service):
    for number in (0, 1):
        service.enable(number, counting(service, f"n{number}"))
        service.settled(number)
    assert ran(service) == ["n0", "n1"]


# N.status

def test_status_is_never_torn(service):
    """Rewritten as fast as it goes, while a reader reads as fast as it goes."""
    path = service.status_path(0)
    stop, torn, seen = threading.Event(), [], set()

    def read():
        while not stop.is_set():
            try:
                text = path.read_text()
            except FileNotFoundError:
                if seen:
                    torn.append("gone")
                continue
            try:
                check_status(text)
                seen.add(text)
            except (AssertionError, ValueError) as error:
                torn.append(f"{error}: {text}")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for i in range(30):
            service.enable(0, {"log": {"maxFiles": i % 20 + 1}} if i % 2 else {f"unknown{i}": "x" * 1000})
    finally:
        stop.set()
        reader.join()
    assert not torn and len(seen) > 5


def test_status_with_the_longest_messages_stays_small(service):
    noisy = "i=0; while [ $i -lt 3000 ]; do echo \"\u00e9\\\"\\\\$i\"; i=$((i+1)); done"
    scripts = [{**script(noisy, name=f"s{i:02}", continueOnFailure=True,
                         output={"tailInBytes": 4096})["customScript"]["scripts"][0]} for i in range(8)]
    service.enable(0, {"customScript": {"scripts": scripts}})
    status = service.settled(0, limit=30)
    assert status["status"] == "success"
    assert {f"customScript/s{i:02}" for i in range(8)} <= {item["name"] for item in status["substatus"]}


def test_script_output_and_failure_are_told(service):
    service.enable(0, script("echo to stdout; echo to stderr >&2"))
    message = service.settled(0)["formattedMessage"]["message"]
    assert message == "Enable succeeded: \n[stdout]\nto stdout\n\n[stderr]\nto stderr\n"
    service.enable(1, script("echo why >&2; exit 7"))
    status = service.settled(1)
    assert status["status"] == "error" and status["code"] == 2
    assert status["formattedMessage"]["message"].startswith("Enable failed: ") and "7" in status["formattedMessage"]["message"]
    assert "why" in status["formattedMessage"]["message"]
    clarification = [item for item in status["substatus"] if item["name"] == "ErrorClarification"]
    assert [(item["status"], item["code"]) for item in clarification] == [("error", 2)]
    # Trouble after success is told, and turns nothing back.
    service.enable(2, {})
    assert service.deployment(2)["status"] == "success" and service.deployment(1) == status


def test_invalid_settings_leave_the_former_number_in_force(vm):
    port = free_port()
    vm.command("install")
    vm.start_daemon()
    vm.enable(0, {"health": {"listen": f"127.0.0.1:{port}"}})
    assert vm.deployment(0)["status"] == "success"
    vm.enable(1, {"health": {"listen": f"127.0.0.1:{free_port()}", "aplication": {}}})
    status = vm.content(1)
    assert status["status"] == "error"
    assert "health.aplication" in status["formattedMessage"]["message"]
    assert 'did you mean "application"?' in status["formattedMessage"]["message"]
    for _ in range(2):
        assert http_get(f"http://127.0.0.1:{port}/ready") == (200, "ready")
        assert vm.content(1) == status
        vm.restart_daemon()
    vm.enable(2, {})
    assert vm.deployment(2)["status"] == "success"
    assert http_get(f"http://127.0.0.1:{port}/ready")[0] == 0


# Twice, and in any order

def test_every_command_twice(service):
    service.put(0, counting(service))
    upgrade = {"VERSION": "0.0.9", "AZURE_GUEST_AGENT_UPDATING_FROM_VERSION": "0.0.9",
               "AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE": "0"}
    for verb, variables in (("install", {}), ("enable", {}), ("disable", {}), ("enable", {}), ("disable", {}),
                            ("update", upgrade), ("uninstall", {}), ("install", upgrade), ("enable", upgrade)):
        for _ in range(2):
            service.command(verb, **variables)
        if verb == "enable":
            assert service.settled()["status"] == "success"
    assert ran(service) == ["ran"]
    for _ in range(2):
        service.command("disable")
    for _ in range(2):
        service.command("uninstall")
    assert not (service.root / "var/lib/evenkeel").exists()
    assert not (service.root / "usr/local/bin/evenkeel").is_symlink()
    assert list((service.root / "etc/systemd/system").iterdir()) == []


def test_commands_without_an_installation(vm):
    for verb in ("disable", "uninstall", "update"):
        for _ in range(2):
            vm.command(verb, 12)
    # an agent whose updateMode skips install
    vm.enable(0, {})
    assert vm.deployment()["status"] == "success"


def test_disable_takes_the_status_folder_away(service):
    service.enable(0, counting(service))
    service.settled()
    service.command("disable")
    service.status_path(0).unlink()
    service.call("POST", "/v1/goal")
    time.sleep(0.1)
    assert service.deployment(0) is None
    service.command("enable")
    assert service.deployment(0)["status"] == "success"
    assert ran(service) == ["ran"]


# Without a daemon

def test_enable_in_the_foreground(vm):
    """Where no service manager answers, enable does the service's work until its jobs have ended."""
    vm.command("install")
    vm.put(0, script(f"sleep 0.7; echo ran >>{vm.root}/ran"))
    start = time.monotonic()
    done = vm.command("enable", limit=10)
    assert time.monotonic() - start > 0.7
    assert done.stderr == ""
    assert vm.deployment()["status"] == "success"
    assert ran(vm) == ["ran"]
    assert vm.status() is None
    log = (vm.root / f"var/log/azure/{HANDLER}/evenkeel.log").read_text()
    assert log.count("is running") == 1
    vm.command("enable")
    assert ran(vm) == ["ran"]


def test_enable_in_the_foreground_of_a_failing_script(vm):
    vm.command("install")
    vm.put(0, script("exit 3"))
    vm.command("enable", limit=10)
    assert vm.deployment()["status"] == "error"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_enable_where_systemd_does_not_answer(vm):
    """It is there: then its service runs the scripts, not a command that the agent ends with its patience."""
    wrapper = vm.root / "mute"
    wrapper.write_text("#!/bin/sh\nexec unshare -m sh -c 'mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec \"$@\"' sh"
                       f" {vm.folder()}/bin/evenkeel \"$@\"\n")
    wrapper.chmod(0o755)
    vm.put(0, counting(vm))
    done = vm.command("enable", binary=wrapper, exit_code=1, limit=20, EVENKEEL_SYSTEMD="1")
    assert first_line(done).startswith("evenkeel enable: cannot reach systemd"), done
    assert vm.deployment()["status"] == "error" and not ran(vm)
    vm.command("enable")
    assert vm.deployment()["status"] == "success" and ran(vm) == ["ran"], "the next one begins anew"


def test_enable_whose_service_cannot_start(vm):
    """The one case in which the agent hears a failure from enable."""
    vm.command("install")
    (vm.root / "etc/machine-id").unlink()
    vm.put(0, {})
    done = vm.command("enable", exit_code=1)
    assert "cannot be told from its clones" in first_line(done)
    status = vm.deployment()
    assert status["status"] == "error" and "cannot be told from its clones" in status["formattedMessage"]["message"]


# Upgrade, downgrade, removal

@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    return next_version(BINARY, tmp_path_factory.mktemp("newer"))


def owner(vm):
    return json.loads((vm.root / "var/lib/evenkeel/state/owner.json").read_text())


def test_upgrade_and_downgrade(service, newer):
    version, binary = newer
    service.unpack(version, binary)
    service.enable(4, counting(service))
    service.settled(4)
    before = service.content(4)
    first = owner(service)
    assert first["version"] == service.version

    service.go_over(4, service.version, version)
    assert service.content(4, version=version) == before
    assert service.status()["version"] == version
    assert owner(service) == {**first, "version": version}
    assert not (service.root / "var/lib/evenkeel/state/upgrade.json").exists()
    unit = (service.root / "etc/systemd/system/evenkeel.service").read_text()
    assert f"/usr/local/libexec/evenkeel/{version}/bin/evenkeel daemon" in unit

    service.unpack(service.version, service.binary)
    service.go_over(4, version, service.version, downgrade=True)
    assert service.content(4) == before
    assert service.status()["version"] == service.version
    assert owner(service) == first
    assert ran(service) == ["ran"]

    service.enable(5, counting(service, "again"))
    assert service.settled(5)["status"] == "success"
    assert ran(service) == ["ran", "again"]


def test_upgrade_while_a_script_runs(service, newer):
    version, binary = newer
    service.unpack(version, binary)
    service.enable(0, script(f"echo begun >>{service.root}/ran; sleep 2; echo ended >>{service.root}/ran"))
    wait_until("the script to begin", lambda: ran(service) == ["begun"], 5)
    service.go_over(0, service.version, version)
    assert service.settled(0, version=version)["status"] == "success"
    assert ran(service) == ["begun", "ended"]


def test_an_upgrade_that_is_given_up(service):
    """update of the new version has failed half-way: the goal state goes back, and only enable of the old one is called."""
    service.enable(0, counting(service))
    service.settled()
    service.command("disable")
    service.command("update", VERSION="0.9.9", AZURE_GUEST_AGENT_UPDATING_FROM_VERSION=service.version)
    service.command("enable")
    assert service.deployment()["status"] == "success" and ran(service) == ["ran"]
    service.command("disable")
    service.command("uninstall")
    assert not (service.root / "var/lib/evenkeel/state").exists(), "the mark of an upgrade that never was kept it alive"


@pytest.fixture
def half_way(service, newer):
    """An upgrade whose former version has gone by now, with its directory: what is installed next looks like a first one."""
    version, binary = newer
    service.enable(0, script(f"echo ran >>{service.root}/ran"))
    service.settled()
    service.coming, service.coming_binary = version, binary
    service.unpack(version, binary)
    service.command("disable")
    service.command("update", version=version, VERSION=version, AZURE_GUEST_AGENT_UPDATING_FROM_VERSION=service.version)
    service.command("uninstall")
    return service


def ran_once(vm, version=None, times=1, program=None):
    """The same settings, enabled in this version, have run so often; program: what the version's program calls itself."""
    if version:
        shutil.copy2(vm.folder() / "config/0.settings", vm.folder(version) / "config")
    vm.stop_daemon()
    vm.start_daemon(version=program or version)
    vm.command("enable", version=version)
    return vm.settled(version=version)["status"] == "success" and ran(vm) == ["ran"] * times


def test_the_way_back_from_an_upgrade_whose_install_failed(half_way):
    vm = half_way
    vm.command("install")
    assert ran_once(vm)
    # and then it is over: removed and added again it is another one
    vm.command("disable")
    vm.command("uninstall")
    vm.command("install")
    vm.start_daemon()
    vm.command("enable")
    assert vm.settled()["status"] == "success" and ran(vm) == ["ran"] * 2


def test_an_install_that_is_repeated(half_way):
    """Its end was not seen by an agent that was killed."""
    for variables in ({"AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE": "0"}, {}):
        half_way.command("install", version=half_way.coming, **variables)
    assert ran_once(half_way, half_way.coming)


def test_a_third_version_after_an_install_that_failed(half_way):
    """The directory of the one that failed stays when the next one is installed, which repeats nothing."""
    half_way.unpack("9.9.9", half_way.coming_binary)
    half_way.command("install", version="9.9.9")
    assert ran_once(half_way, "9.9.9", program=half_way.coming)


def test_a_removal_after_an_install_that_failed(half_way):
    """The agent deletes what has not been installed without a command. Added again, the same version is another installation."""
    shutil.rmtree(half_way.folder(half_way.coming))
    half_way.unpack(half_way.coming, half_way.coming_binary)
    half_way.command("install", version=half_way.coming)
    assert ran_once(half_way, half_way.coming, 2)


def test_a_removal_before_the_first_enable(half_way):
    half_way.command("install", version=half_way.coming, AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE="0")
    half_way.stop_daemon()
    half_way.command("uninstall", version=half_way.coming)
    assert not (half_way.root / "var/lib/evenkeel/state").exists()


def test_removal_and_return(service):
    """Numbers start anew, and so does everything else."""
    service.enable(0, counting(service))
    service.settled()
    certificates = service.root / "var/lib/evenkeel/certificates/mine"
    certificates.mkdir()
    service.command("disable")
    service.command("uninstall")
    assert service._daemon.wait(1) == 0, "uninstall waits for the end of the service"
    for gone in ("var/lib/evenkeel/state", "var/lib/evenkeel/jobs", "run/evenkeel", "usr/local/libexec/evenkeel",
                 "usr/local/bin/evenkeel"):
        assert not os.path.lexists(service.root / gone), gone
    assert certificates.exists(), "certificates are the customer's until told otherwise"
    shutil.rmtree(service.folder())
    service.unpack(service.version, service.binary)
    service.command("install")
    service.start_daemon()
    service.enable(0, counting(service))
    assert service.settled()["status"] == "success"
    assert ran(service) == ["ran", "ran"]


class HungService(threading.Thread):
    """Holds the service's lock; it ends a connection without a word, is at it when asked again, and done the third time."""

    ANSWERS = (b"", b"HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\n{}\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}\n")

    def __init__(self, root):
        super().__init__(daemon=True)
        self.lock = open(root / "run/evenkeel/daemon.lock", "w")
        fcntl.fcntl(self.lock, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        self.listener = socket.socket(socket.AF_UNIX)
        folder = os.open(root / "run/evenkeel", os.O_RDONLY)
        self.listener.bind(f"/proc/self/fd/{folder}/api.sock")  # the whole path may be too long for an address
        os.close(folder)
        self.listener.listen()
        self.asked = []

    def run(self):
        for answer in self.ANSWERS:
            connection, _ = self.listener.accept()
            with connection:
                self.asked.append(connection.recv(4096).split(b"\r\n")[0])
                connection.sendall(answer)
        self.lock.close()
        self.listener.close()


def test_uninstall_of_a_service_that_hangs_and_is_started_anew(vm):
    """Its watchdog kills it and brings another, which ends what is drained: the first silence is not the end."""
    vm.command("install")
    service = HungService(vm.root)
    service.start()
    vm.command("uninstall", limit=10)
    service.join(5)
    assert [line.rpartition(b" ")[0] for line in service.asked] == [b"POST /v1/retire"] * 3
    assert not (vm.root / "var/lib/evenkeel/state").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_a_disk_that_cannot_be_written_keeps_no_extension_on_the_vm(service):
    """A disable that fails would end the removal."""
    service.enable(0, {})
    service.settled()
    wrapper = service.root / "read-only"
    wrapper.write_text("#!/bin/sh\nexec unshare -m sh -c 'mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$@\"'"
                       f" {service.root}/var/lib/evenkeel {service.folder()}/bin/evenkeel \"$@\"\n")
    wrapper.chmod(0o755)
    assert "ead-only file system" in service.command("enable", 1, binary=wrapper, exit_code=None, limit=10).stderr, "it cannot be written"
    service.command("disable", binary=wrapper, limit=10)


def test_uninstall_of_a_version_that_is_not_the_owner(service, newer):
    version, binary = newer
    service.unpack(version, binary)
    service.enable(0, {})
    service.command("uninstall", version=version)
    assert service.status() and service.deployment()["status"] == "success"
    assert owner(service)["version"] == service.version


def test_package_version_with_four_parts(service):
    """The publisher's pipeline may say 0.1.0.0 for what the program calls 0.1.0."""
    service.enable(0, {}, AZURE_GUEST_AGENT_EXTENSION_VERSION=f"{service.version}.0")
    service.command("disable", AZURE_GUEST_AGENT_EXTENSION_VERSION=f"{service.version}.0")
    service.stop_daemon()
    service.command("uninstall", AZURE_GUEST_AGENT_EXTENSION_VERSION=f"{service.version}.0")
    assert not (service.root / "var/lib/evenkeel/state").exists()


def test_version_directory_that_vanishes(service):
    """The agent drops a handler without a word: nothing of its directory comes back."""
    service.enable(0, {})
    shutil.rmtree(service.folder())
    assert service.call("POST", "/v1/goal")[0] == 200
    time.sleep(0.1)
    assert not service.folder().exists() and service.status()["sequence"] == "0"
    service.unpack(service.version, service.binary)
    service.enable(0, {})
    assert service.deployment()["status"] == "success"


@pytest.mark.skipif(not FAST.exists(), reason="a sanitizer wants to be the first library")
def test_removed_after_an_upgrade_whose_install_failed(service, newer):
    """Nobody is asked to uninstall then: the agent deletes what is left. Half an hour later that upgrade is history."""
    version, _ = newer
    service.enable(0, counting(service))
    service.settled()
    service.command("disable", 1)
    service.command("update", 1, VERSION=version, AZURE_GUEST_AGENT_UPDATING_FROM_VERSION=service.version)
    service.command("uninstall", 1)
    shutil.rmtree(service.folder())
    service.stop_daemon()
    daemon = service.start_daemon(wait=False, LD_PRELOAD=str(FAST), EK_CLOCK_RATE="10000")
    service._daemon = None
    assert daemon.wait(60) == 0
    service.unpack(service.version, service.binary)
    service.command("install")
    service.start_daemon()
    service.enable(0, counting(service))
    assert service.settled()["status"] == "success"
    assert ran(service) == ["ran", "ran"], "the same number of another installation is another deployment"


# Last: what has been waiting since the first

def test_enable_whose_service_hangs(hanging):
    done = hanging.ended.result(30)
    assert done.returncode == 1
    assert first_line(done).startswith("evenkeel enable: the evenkeel service does not answer")
    status = hanging.deployment()
    assert status["status"] == "error" and "does not answer" in status["formattedMessage"]["message"]
    hanging._daemon.send_signal(signal.SIGCONT)
    hanging.command("enable")
    assert hanging.settled()["status"] == "success", "an error may become success"
    # As a hanging service leaves it with a number that was at work.
    told = hanging.status_path()
    content = hanging.content()
    told.with_suffix(".new").write_text(told.read_text().replace('"success"', '"error"', 1))
    told.with_suffix(".new").rename(told)
    hanging.command("enable")
    assert hanging.content() == content, "what the command had to say goes with the next answer"


def test_success_stays_when_the_service_hangs(hanging_later):
    """`enable` comes with every goal state of the VM; who depends on us would be skipped, and a deployment undone."""
    assert hanging_later.ended.result(30).returncode == 1
    assert hanging_later.deployment()["status"] == "success"


def test_certificate_that_comes_late(latecomer):
    assert latecomer.settled(0, limit=20)["status"] == "success"
    assert lines(latecomer.root / "told") == [CANARY]
