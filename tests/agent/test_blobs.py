"""Output that also goes to append blobs, and rights to blobs at Microsoft's own emulator (settings.md 1.2; asks 3, 8 and 9)."""

import hashlib
import random
import re
import secrets
import time

import pytest
from azurite import Azurite
from scripting import ACCOUNT, Scripts
from vm import free_port, wait_until

BLOBS = f"https://{ACCOUNT}.blob.core.windows.net"
AZURITE = "emulated"
REAL = f"https://{AZURITE}.blob.core.windows.net"
BLOCK_MAX = 4 << 20
MARK = re.compile(rb"\n\[evenkeel: (\d+) bytes left out here\]\n")


@pytest.fixture(scope="module")
def account_key():
    return f"YzRuNHJ5{secrets.token_hex(16)}"


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture(scope="module")
def azurite(tmp_path_factory, platform, account_key, port):
    certificate = platform.make_certificate(f"{AZURITE}.blob.core.windows.net", key="ec", chain=1)
    with Azurite(tmp_path_factory.mktemp("azurite"), certificate, AZURITE, account_key, port) as storage:
        storage.make("/box")
        yield storage


@pytest.fixture(scope="module")
def machine(tmp_path_factory, platform, port):
    with Scripts(tmp_path_factory.mktemp("vm"), platform, f"{AZURITE}.blob.core.windows.net:443:127.0.0.1:{port}") as vm:
        yield vm.start()


@pytest.fixture
def vm(machine, platform):
    platform.clear_requests()
    platform.clear_faults()
    platform.set_storage()
    yield machine
    machine.check_secrets()


@pytest.fixture
def place(request, platform, vm):
    """(path, settings) of a blob that this test may append to, by a signature."""
    path = f"/box/{request.node.name}"
    query = platform.make_sas(path, permissions="racw")
    vm.secret(query.partition("sig=")[2])
    return path, {"output": {"stdoutUri": {"secretRef": "o"}}, "secrets": {"o": f"{BLOBS}{path}?{query}"}}


def appends(platform, path, status=None):
    return [one for one in platform.requests("blob", path) if one["query"].get("comp") == "appendblock"
            and status in (None, one["status"])]


# The output, at a storage that is strict and says what it was asked

def test_output_is_appended_while_the_script_runs_3(vm, platform, place):
    """Asks 3 and 4: all of it, live; standard error has a blob of its own, by the identity."""
    path, settings = place
    error = f"/box/{secrets.token_hex(4)}"
    settings["output"]["stderrUri"] = f"{BLOBS}{error}"
    gate = vm.root / "gate"
    number = vm.begin(f"echo one; echo bad >&2; while ! [ -e {gate} ]; do sleep 0.05; done; echo two", identity={}, **settings)
    wait_until("the first output", lambda: platform.get_blob(path) == b"one\n" and platform.get_blob(error) == b"bad\n", 20)
    assert vm.deployment(number)["status"] == "transitioning"
    gate.touch()
    done = vm.settled(number)
    assert done["status"] == "success" and "not sent" not in str(done)
    assert platform.get_blob(path) == b"one\ntwo\n" and platform.get_blob(error) == b"bad\n"
    made = [one for one in platform.requests("blob", path) if one["headers"].get("x-ms-blob-type")]
    assert [one["status"] for one in made] == [201] and made[0]["headers"]["if-none-match"] == "*"
    assert [one["headers"]["x-ms-blob-condition-appendpos"] for one in appends(platform, path)] == ["0", "4"]
    assert all("authorization" in one["headers"] for one in platform.requests("blob", error))


def test_large_output_is_split_and_whole(vm, platform, place):
    path, settings = place
    data = random.Random(3).randbytes(9_000_001)
    (vm.root / "data").write_bytes(data)
    done = vm.deploy(f"cat {vm.root}/data", **settings)
    assert done.ok and platform.get_blob(path) == data
    assert len(appends(platform, path)) > 2 and all(0 < one["body_length"] <= BLOCK_MAX for one in appends(platform, path))


def test_lost_answer_neither_doubles_nor_loses(vm, platform, place):
    path, settings = place
    platform.set_fault("blob", f"{path}?", lose=True, times=2)  # the blob is made, then the first block is appended
    done = vm.deploy("echo once; sleep 1.5; echo and again", **settings)
    assert done.ok, done.message
    assert platform.get_blob(path) == b"once\nand again\n"
    assert [one["method"] for one in platform.requests("blob", path)].count("HEAD") >= 1


def test_lost_block_where_nothing_may_be_read(vm, platform, request):
    path = f"/box/{request.node.name}"
    uri = f"{BLOBS}{path}?{platform.make_sas(path, permissions='acw')}"
    settings = {"output": {"stdoutUri": {"secretRef": "o"}}, "secrets": {"o": uri}}
    assert vm.deploy("echo first", **settings).ok
    assert platform.get_blob(path) == b"first\n"
    # It exists now and its end is not known; from the first block on it is.
    gate = vm.root / "gate2"
    number = vm.begin(f"echo second; while ! [ -e {gate} ]; do sleep 0.05; done; echo third", **settings)
    wait_until("the second", lambda: platform.get_blob(path) == b"first\nsecond\n", 20)
    platform.set_fault("blob", f"{path}?", lose=True, times=1)
    gate.touch()
    assert vm.settled(number)["status"] == "success"
    assert platform.get_blob(path) == b"first\nsecond\nthird\n"


def test_append_only_signature(vm, platform, request):
    path = f"/box/{request.node.name}"
    settings = {"output": {"stdoutUri": {"secretRef": "o"}},
                "secrets": {"o": f"{BLOBS}{path}?{platform.make_sas(path, permissions='acw')}"}}
    assert vm.deploy("echo made", **settings).ok
    settings["secrets"]["o"] = f"{BLOBS}{path}?{platform.make_sas(path, permissions='a')}"
    assert vm.deploy("echo more", **settings).ok
    assert platform.get_blob(path) == b"made\nmore\n"


def test_server_that_is_busy(vm, platform, place):
    path, settings = place
    platform.set_fault("blob", f"{path}?", status=503, headers={"Retry-After": "1"}, times=2)
    done = vm.deploy("echo late", **settings)
    assert done.ok and platform.get_blob(path) == b"late\n" and "not sent" not in done.told


def test_no_more_than_the_maximum_and_always_the_end(vm, platform, place):
    """Ask 6."""
    path, settings = place
    settings["output"]["maxInBytes"] = 40_000
    done = vm.deploy("seq -w 1 40000; echo the end", **settings)
    assert done.ok
    blob = platform.get_blob(path)
    (mark,) = MARK.finditer(blob)
    whole = b"".join(b"%05d\n" % i for i in range(1, 40001)) + b"the end\n"
    assert len(blob) <= 40_000 and blob[:mark.start()] == whole[:mark.start()] and mark.start() > 10_000
    assert blob[mark.end():] == whole[-len(blob) + mark.end():] and len(blob) - mark.end() > 5000
    assert int(mark[1]) == len(whole) - mark.start() - (len(blob) - mark.end())


@pytest.mark.parametrize("kind", ["block", "role", "signature", "nobody"])
def test_trouble_is_told_and_fails_no_script_9(vm, platform, place, kind):
    path, settings = place
    says = ""
    if kind == "block":
        platform.put_blob(path, b"something else")
        says = "the blob is there already, as a BlockBlob, and only an AppendBlob grows"
    elif kind == "role":
        settings = {"output": {"stdoutUri": f"{BLOBS}{path}"}, "identity": {}}
        platform.set_storage(allowed=[])
        says = f"needs Storage Blob Data Contributor on storage account {ACCOUNT}"
    elif kind == "signature":
        settings["secrets"]["o"] = f"{BLOBS}{path}?{platform.make_sas(path, permissions='r')}"
        says = "the signature in the URI does not allow appending; make one with sp=racw"
    else:
        settings = {"output": {"stdoutUri": f"{BLOBS}{path}"}}
        says = "the URI needs a valid signature, or the script an identity"
    done = vm.deploy("echo ran", **settings)
    assert done.ok and done.stdout == b"ran\n"
    assert f"the standard output was not sent to {BLOBS}{path}" in done.told and says in done.told, done.told
    assert "(0 of 4 bytes are there)" in done.told and says in done.result["notice"]
    assert platform.get_blob(path) == (b"something else" if kind == "block" else None)


def test_blob_out_of_reach_costs_little_time(vm, platform, place):
    """What the script is given at the most is also what the blob is; a stop ends the waiting at once."""
    path, settings = place
    platform.set_fault("blob", f"{path}?", drop=True)
    done = vm.deploy("echo here", timeoutInSeconds=1, **settings)
    assert done.ok and "(0 of 5 bytes are there)" in done.told and "waiting for" in done.told
    first = vm.begin("echo here", name="slow", **settings)
    wait_until("its end", lambda: list(vm.root.glob("var/lib/evenkeel/jobs/cs-slow-*/stdout")) and
               b"here" in next(iter(vm.root.glob("var/lib/evenkeel/jobs/cs-slow-*/stdout"))).read_bytes(), 20)
    started = time.monotonic()
    assert vm.deploy("echo next", section={"whenBusy": "cancel"}).ok
    assert time.monotonic() - started < 10 and vm.deployment(first)


def test_script_that_fails_and_downloads(vm, platform, place):
    path, settings = place
    platform.put_blob("/box/a.sh", b"echo out; exit 7\n", access="public")
    done = vm.deploy("sh a.sh", files=[f"{BLOBS}/box/a.sh"], **settings)
    assert not done.ok and "exit code 7" in done.message and platform.get_blob(path) == b"out\n"


# The emulator

def test_emulator_account_key(vm, azurite, account_key):
    vm.secret(account_key)
    azurite.put("/box/a key.sh", b"#!/bin/sh\r\necho by key\r\n")
    done = vm.deploy("sh 'a key.sh'; echo bad >&2", storageAccountName=AZURITE, storageAccountKey={"secretRef": "k"},
                     files=[f"{REAL}/box/a%20key.sh"], secrets={"k": account_key},
                     output={"stdoutUri": f"{REAL}/box/key-out", "stderrUri": f"{REAL}/box/key-err"})
    assert done.ok, done.message
    assert azurite.get("/box/key-out") == ("AppendBlob", b"by key\n")
    assert azurite.get("/box/key-err") == ("AppendBlob", b"bad\n")
    wrong = vm.deploy(storageAccountName=AZURITE, storageAccountKey={"secretRef": "k"}, secrets={"k": "b3RoZXI="},
                      files=[f"{REAL}/box/a%20key.sh"])
    assert not wrong.ok and "the server says 403 Auth" in wrong.message and "request id" in wrong.message, wrong.message


def test_emulator_signatures_and_append(vm, azurite):
    data = random.Random(5).randbytes(5_000_000)
    azurite.put("/box/data", data)
    read, write = azurite.sign("/box/data", "r"), azurite.sign("/box/out", "racw")
    for query in (read, write):
        vm.secret(query.partition("sig=")[2])
    script = {"files": [{"uri": {"secretRef": "u"}, "name": "data", "sha256": hashlib.sha256(data).hexdigest()}],
              "output": {"stdoutUri": {"secretRef": "o"}},
              "secrets": {"u": f"{REAL}/box/data?{read}", "o": f"{REAL}/box/out?{write}"}}
    done = vm.deploy("cat data", **script)
    assert done.ok, done.message
    assert azurite.get("/box/out") == ("AppendBlob", data)
    assert vm.deploy("echo more", **script).ok
    assert azurite.get("/box/out") == ("AppendBlob", data + b"more\n")


def test_emulator_identity(vm, azurite):
    azurite.put("/box/id.sh", b"echo by identity\n")
    done = vm.deploy("sh id.sh", identity={}, files=[f"{REAL}/box/id.sh"], output={"stdoutUri": f"{REAL}/box/id-out"})
    assert done.ok, done.message
    assert azurite.get("/box/id-out") == ("AppendBlob", b"by identity\n")


def test_emulator_refuses(vm, azurite):
    azurite.put("/box/private.sh", b"true\n")
    done = vm.deploy(files=[f"{REAL}/box/private.sh"])
    assert not done.ok and re.search(r"the server says 40[349] \w+ \(request id [0-9a-f-]+\)", done.message), done.message
    done = vm.deploy(identity={}, files=[f"{REAL}/box/absent.sh"])
    assert not done.ok and "404 BlobNotFound (request id " in done.message and done.codes == [70]
