"""Custom Script v2's settings as they are (custom-script.md 1 to 3, 5): an operator changes publisher and type, and reads the
same words and numbers, gets the same files, the same shell and the same output as from its version 2.1.16."""

import gzip
import json
import os
import pathlib
import re
import stat
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from vm import VM, encoded, message, wait_until

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="Custom Script's scripts run as root")

GUID, GUID_2 = "11112222-bbbb-3333-cccc-4444dddd5555", "00001111-aaaa-2222-bbbb-3333cccc4444"
FAILED = "Enable failed: failed to get configuration: "
INVALID = FAILED + "invalid configuration: "


def schema(part, sentence):
    return FAILED + f"json validation error: invalid {part} settings JSON: {sentence}"


class Files:
    """A web server with files that differ by the path; what was asked for is in `seen`."""

    def __init__(self, files):
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                seen.append(self.path)
                body = files.get(self.path.partition("?")[0])
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


SCRIPT = "#!/bin/sh\necho fetched \"$0\"\n"
DOS_PYTHON = b"\xef\xbb\xbf#!/usr/bin/python3\r\nprint('python')\r\n"
BINARY = bytes(range(256)) * 16


@pytest.fixture(scope="module")
def vm(tmp_path_factory, platform):
    """One VM with the service, and a web server; every test takes the next number."""
    files = Files({"/a.sh": SCRIPT.encode(), "/x/b%20c.sh": SCRIPT.encode(), "/dos.py": DOS_PYTHON, "/data.bin": BINARY,
                   "/dos.sh": SCRIPT.replace("\n", "\r\n").encode(), "/wide.txt": "a\r\né".encode("utf-16"),
                   "/exact.bin": b"\xef\xbb\xbfa\r\n"})
    with VM(tmp_path_factory.mktemp("parity"), platform) as vm:
        vm.files, vm.number = files, -1
        vm.command("install")
        vm.start_daemon()
        vm.put_tenant()
        yield vm
    files.close()


def settled(vm, public=None, protected=None, raw=None):
    """The status of the next number with these settings."""
    vm.number += 1
    if raw is None:
        vm.put(vm.number, public, protected)
    else:
        vm.put_file(vm.number, raw)
    vm.command("enable", vm.number)
    return vm.settled(vm.number)


def work(vm):
    """The directory of the last run: where its files and its output are."""
    runs = (vm.root / "var/lib/evenkeel/jobs").iterdir()
    return max(runs, key=lambda path: int(path.name.rpartition("-")[2])) / "work"


# Validation: (public, protected, message, code), in the peer's order

COMMAND = {"commandToExecute": "echo ran >>$RAN"}
REFUSED = {
    "nothing to run": ({"fileUris": ["https://h/a"]}, None, INVALID + "'commandToExecute' is not specified", 23),
    "nothing but a flag": ({"skipDos2Unix": False}, None, INVALID + "'commandToExecute' is not specified", 23),
    "empty texts": ({"commandToExecute": ""}, {"script": ""}, INVALID + "'commandToExecute' is not specified", 23),
    "command twice": (COMMAND, COMMAND, INVALID + "'commandToExecute' was specified both in public and protected settings; "
                      "it must be specified only once", 20),
    "script twice": ({"script": "eA=="}, {"script": "eA=="}, INVALID + "'script' was specified both in public and protected "
                     "settings; it must be specified only once", 28),
    "files twice": ({**COMMAND, "fileUris": ["https://h/a"]}, {"fileUris": ["https://h/b"]},
                    INVALID + "'fileUris' were specified both in public and protected settings; it must be specified only once",
                    22),
    "command and script": (COMMAND, {"script": "eA=="}, INVALID + "'commandToExecute' and 'script' were both specified, but "
                           "only one is validate at a time", 29),
    "both in one part": ({**COMMAND, "script": "eA=="}, None, INVALID + "'commandToExecute' and 'script' were both specified, "
                         "but only one is validate at a time", 29),
    "name without key": (COMMAND, {"storageAccountName": "abc"}, INVALID + "both 'storageAccountName' and 'storageAccountKey' "
                         "must be specified", 30),
    "key without name": (COMMAND, {"storageAccountKey": "a2V5"}, INVALID + "both 'storageAccountName' and 'storageAccountKey' "
                         "must be specified", 30),
    "key and identity": (COMMAND, {"storageAccountName": "abc", "storageAccountKey": "a2V5", "managedIdentity": {}},
                         INVALID + "'storageAccountName' or 'storageAccountKey' must not be specified with "
                         "'managedServiceIdentity'", 26),
    "two ids": (COMMAND, {"managedIdentity": {"clientId": GUID, "objectId": GUID_2}}, INVALID + "only one of 'clientId' or "
                "'objectId' must be specified with 'managedServiceIdentity'", 27),
    "several: the first of its list": ({**COMMAND, "script": "eA=="}, {**COMMAND, "storageAccountName": "abc"},
                                       INVALID + "'commandToExecute' was specified both in public and protected settings; it "
                                       "must be specified only once", 20),
    "unknown member": ({**COMMAND, "foo": 1}, None, schema("public", "(root): Additional property foo is not allowed"), -21),
    "wrong case": ({**COMMAND, "CommandToExecute": "x"}, None,
                   schema("public", "(root): Additional property CommandToExecute is not allowed"), -21),
    "not a URI": ({**COMMAND, "fileUris": ["a.sh"]}, None, schema("public", "fileUris.0: Does not match format 'uri'"), -21),
    "timestamp as text": ({**COMMAND, "timestamp": "1"}, None,
                          schema("public", "timestamp: Invalid type. Expected: integer, given: string"), -21),
    "command no text": ({"commandToExecute": 7}, None,
                        schema("public", "commandToExecute: Invalid type. Expected: string, given: integer"), -21),
    "flag in protected": (COMMAND, {"skipDos2Unix": True},
                          schema("protected", "(root): Additional property skipDos2Unix is not allowed"), -21),
    "account in public": ({**COMMAND, "storageAccountName": "abc"}, None,
                          schema("public", "(root): Additional property storageAccountName is not allowed"), -21),
    "account name": (COMMAND, {"storageAccountName": "ABC"},
                     schema("protected", "storageAccountName: Does not match pattern '^[a-z0-9]{3,24}$'"), -21),
    "no GUID": (COMMAND, {"managedIdentity": {"clientId": "x"}},
                schema("protected", "managedIdentity.clientId: Does not match pattern "
                       "'^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'"), -21),
    "identity no object": (COMMAND, {"managedIdentity": True},
                           schema("protected", "managedIdentity: Invalid type. Expected: object, given: boolean"), -21),
    "name of version 1": ({**COMMAND, "retrycount": 3}, None,
                          schema("public", "(root): Additional property retrycount is not allowed"), -21),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(vm, name):
    public, protected, sentence, code = REFUSED[name]
    ran = vm.root / f"ran-{vm.number + 1}"
    public = {key: value.replace("$RAN", str(ran)) if key == "commandToExecute" and value != 7 else value
              for key, value in public.items()}
    status = settled(vm, public, protected)
    assert (status["status"], status["code"], message(status)) == ("error", code, sentence)
    clarification = [item for item in status["substatus"] if item["name"] == "ErrorClarification"]
    assert [(item["status"], item["code"]) for item in clarification] == [("error", code)]
    assert not ran.exists()


@pytest.mark.parametrize("text, word", [
    ("settings", "line 1, column 1"), ('{"runtimeSettings":[{},{}]}', "wrong runtimeSettings count. expected:1, got:2"),
    ('{"runtimeSettings":[{"handlerSettings":{"protectedSettings":"MIIB"}}]}', "protectedSettingsCertThumbprint"),
], ids=["no JSON", "two", "no thumbprint"])
def test_settings_file_refused(vm, text, word):
    status = settled(vm, raw=text)
    assert status["status"] == "error" and status["code"] == -21 and word in message(status)


# What is run

@pytest.mark.parametrize("part", ["public", "protected"])
@pytest.mark.parametrize("kind", ["command", "script", "script gzip", "script in lines"])
def test_sources(vm, part, kind):
    text = f"#!/bin/sh\necho {part} {kind}\n"
    script = encoded(gzip.compress(text.encode()) if kind == "script gzip" else text)
    if kind == "script in lines":
        script = "\r\n".join(script[i:i + 20] for i in range(0, len(script), 20))
    settings = {"commandToExecute": f"echo {part} {kind}"} if kind == "command" else {"script": script}
    timestamp = {"timestamp": 2 ** 40}
    status = settled(vm, timestamp if part == "protected" else {**settings, **timestamp},
                     settings if part == "protected" else None)
    assert status["status"] == "success"
    assert message(status) == f"Enable succeeded: \n[stdout]\n{part} {kind}\n\n[stderr]\n"


@pytest.mark.parametrize("script, word", [
    ("_-_-", "base64"), ("eA", "base64"), ("e A=!", "base64"), ("eA==" * 66000, "262144"),
], ids=["URL alphabet", "no padding", "other characters", "too long"])
def test_script_that_is_none(vm, script, word):
    status = settled(vm, {"script": script})
    assert status["status"] == "error" and word in message(status)


def test_largest_script(vm):
    body = "echo end\n"
    text = body.rjust(196608, "#").replace("#echo", "\necho", 1)
    script = encoded(text)
    assert len(script) == 262144
    assert "[stdout]\nend\n" in message(settled(vm, {"script": script}))


@pytest.mark.parametrize("text, told", [
    (b"#!/bin/sh\r\necho dos\r\n", "dos"),
    (b"\xef\xbb\xbf#!/bin/sh\necho mark\n", "mark"),
    ("\ufeff#!/bin/sh\r\necho wide é\r\n".encode("utf-16-le"), "wide é"),
    ("\ufeff#!/bin/sh\necho big\n".encode("utf-16-be"), "big"),
    (b"echo no interpreter", "no interpreter"),
    (b"#!/usr/bin/python3\nprint('python')\n", "python"),
    (b"#!/bin/sh -e\nfalse\necho not reached\n", None),
], ids=["CRLF", "UTF-8 mark", "UTF-16 little", "UTF-16 big", "no first line", "python", "argument"])
def test_script_as_people_save_it(vm, text, told):
    status = settled(vm, {"script": encoded(text)})
    if told is None:
        assert status["status"] == "error" and "exit status=1" in message(status)
    else:
        assert message(status) == f"Enable succeeded: \n[stdout]\n{told}\n\n[stderr]\n"


def test_the_shell(vm):
    """The directory of the run, /bin/sh, root, nothing on stdin, nobody else's variables."""
    status = settled(vm, {"commandToExecute": "pwd; id -u; cat; umask; set -o noglob && echo sh; echo \"[$HOME]\"; "
                          "env | grep -c ^AZURE_GUEST_AGENT"})
    told = message(status).split("\n")
    assert told[2] == str(work(vm)) and told[3] == "0" and told[4] == "0022" and told[5] == "sh" and told[6] == "[/root]"
    assert status["status"] == "error", "grep -c found no line, so it failed"


# Files

def test_files(vm):
    """Named by the decoded end of the path, 0500, in the working directory; scripts converted, nothing else touched."""
    uris = ["a.sh?sv=1&sig=x", "x/b%20c.sh", "dos.py", "dos.sh", "wide.txt", "data.bin", "exact.bin"]
    status = settled(vm, {"fileUris": [f"{vm.files.url}/{uri}" for uri in uris],
                          "commandToExecute": "./a.sh && './b c.sh' && ./dos.py && ./dos.sh && stat -c '%a %U %n' *"})
    assert status["status"] == "success", status
    told = message(status).split("[stdout]\n")[1]
    assert told.startswith("fetched ./a.sh\nfetched ./b c.sh\npython\nfetched ./dos.sh\n")
    assert {line for line in told.split("\n") if line.startswith("500 root ")} == {
        f"500 root {name}" for name in ("a.sh", "b c.sh", "dos.py", "dos.sh", "wide.txt", "data.bin", "exact.bin")}
    assert (work(vm) / "wide.txt").read_bytes() == "a\né".encode()
    assert (work(vm) / "data.bin").read_bytes() == BINARY
    assert (work(vm) / "exact.bin").read_bytes() == b"\xef\xbb\xbfa\r\n"


def test_files_of_the_protected_part(vm):
    status = settled(vm, {"commandToExecute": "sh a.sh"}, {"fileUris": [f"{vm.files.url}/a.sh?sig=protected"]})
    assert "fetched a.sh" in message(status)
    assert "/a.sh?sig=protected" in vm.files.seen


def test_line_endings_left_alone(vm):
    status = settled(vm, {"skipDos2Unix": True, "fileUris": [f"{vm.files.url}/dos.sh"], "commandToExecute": "wc -c <dos.sh"})
    assert f"[stdout]\n{len(SCRIPT) + 2}\n" in message(status)


def test_file_that_is_not_there(vm):
    status = settled(vm, {"fileUris": [f"{vm.files.url}/none.sh"], "commandToExecute": "true"})
    assert status["status"] == "error" and status["code"] == 53 and "404" in message(status)


def test_file_without_a_name(vm):
    status = settled(vm, {"fileUris": [f"{vm.files.url}/?sig=hidden"], "commandToExecute": "true"})
    assert status["status"] == "error" and status["code"] == 25 and "hidden" not in json.dumps(status)


# Results

def test_failure_in_the_peer_s_words(vm):
    status = settled(vm, {"commandToExecute": "echo out; echo why >&2; exit 7"})
    assert (status["status"], status["code"]) == ("error", 2)
    assert message(status) == ("Enable failed: failed to execute command: command terminated with exit status=7"
                               "\n[stdout]\nout\n\n[stderr]\nwhy\n")


def test_tails_of_4096_bytes_each(vm):
    status = settled(vm, {"commandToExecute": "i=0; while [ $i -lt 1000 ]; do printf 'out %05d\\n' $i; printf 'err %05d\\n' $i >&2; "
                          "i=$((i+1)); done"})
    told = re.fullmatch(r"Enable succeeded: \n\[stdout\]\n(.*)\n\[stderr\]\n(.*)", message(status), re.DOTALL)
    for name, stream in zip(("out", "err"), told.groups()):
        whole = "".join(f"{name} {i:05}\n" for i in range(1000))
        assert stream == whole[-4096:]
    # all of it is in the files beside the run
    for name, file in (("out", "stdout"), ("err", "stderr")):
        path = work(vm).parent / file
        assert path.read_text() == "".join(f"{name} {i:05}\n" for i in range(1000))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_once_per_number(vm):
    ran = vm.root / "ran-once"
    settled(vm, {"commandToExecute": f"echo ran >>{ran}"})
    for _ in range(2):
        vm.command("enable", vm.number)
    vm.restart_daemon()
    vm.command("enable", vm.number)
    wait_until("the status to be told", lambda: vm.settled(vm.number), 10)
    assert ran.read_text() == "ran\n"
    # another number runs it again, also with the same settings; timestamp is what people change
    settled(vm, {"commandToExecute": f"echo ran >>{ran}", "timestamp": 2})
    assert ran.read_text() == "ran\nran\n"


def peak_memory(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", text)[1])


def test_conversion_takes_no_more_memory_than_copying(vm):
    """48 MiB of text with CRLF; the peer takes it into memory whole, twice."""
    lines = 3 << 20
    vm.files.server.RequestHandlerClass.do_GET = large(lines, vm.files.server.RequestHandlerClass.do_GET)
    status = settled(vm, {"fileUris": [f"{vm.files.url}/large.txt"],
                          "commandToExecute": "wc -c <large.txt; grep -c \"$(printf '\\r')\" large.txt; grep VmHWM /proc/$PPID/status"})
    told = message(status).split("\n")
    assert told[2:4] == [str(lines * 15), "0"], told
    assert int(told[4].split()[1]) < (24 if b"__asan_init" not in vm.binary.read_bytes() else 400) * 1024


def large(lines, other):
    def answer(self):
        if self.path != "/large.txt":
            return other(self)
        self.send_response(200)
        self.send_header("Content-Length", str(lines * 16))
        self.end_headers()
        piece = b"0123456789abcd\r\n" * 4096
        for _ in range(lines // 4096):
            self.wfile.write(piece)
    return answer
