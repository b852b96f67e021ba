"""User data, watched by the built program: what it says, what it keeps, and what it makes of a failing platform."""

import base64
import gzip
import os
import stat
import time

import pytest
from applying import revision
from configured import Configured

LEAF = "/metadata/instance/compute/userData"
SCRIPT = b"#!/bin/sh\necho TOP-SECRET-WORD\n"
COPY = "/var/lib/evenkeel/state/user-data"


@pytest.fixture
def platform(fresh_platform):
    return fresh_platform


@pytest.fixture
def vm(tmp_path, platform):
    with Configured(tmp_path, platform) as vm:
        vm.configure(userData={"pollingIntervalInSeconds": 10})
        yield vm
        # Nothing of the content is anywhere but in the copy.
        told = vm.log_text() + str(vm.status() if vm._daemon else "")
        assert "TOP-SECRET-WORD" not in told


def test_seen_kept_and_told(vm, platform):
    platform.set_user_data(SCRIPT)
    vm.start()
    said = vm.wait_says("userData", "success", f"revision {revision(SCRIPT)}, {len(SCRIPT)} bytes, a shell script (#!)")
    copy = vm.file(COPY)
    assert copy.read_bytes() == SCRIPT
    assert stat.S_IMODE(os.stat(copy).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(copy.with_name("user-data.record")).st_mode) == 0o600
    assert "TOP-SECRET-WORD" not in said
    assert vm.top() == "success"
    [request] = platform.requests("imds", LEAF)
    assert request["headers"]["metadata"] == "true"
    # Nothing is run, and nothing but this was asked for.
    assert not list((vm.root / "var/lib/evenkeel/jobs").glob("*"))
    assert len(platform.requests("imds")) == 1


def test_change_is_seen_at_the_next_poll(vm, platform):
    platform.set_user_data(SCRIPT)
    vm.start()
    vm.wait_says("userData", "success", revision(SCRIPT))
    newer = gzip.compress(b"#cloud-config\npackages: [nginx]\n")
    platform.set_user_data(newer)
    vm.wait_says("userData", "success", f"revision {revision(newer)}, {len(newer)} bytes, gzip of #cloud-config")
    assert vm.file(COPY).read_bytes() == newer
    first, second = (request["time"] for request in platform.requests("imds", LEAF)[:2])
    assert 8.9 < second - first < 12


def test_removal_counts_after_three_looks_and_keeps_the_copy(vm, platform):
    platform.set_user_data(SCRIPT)
    vm.start()
    vm.wait_says("userData", "success", revision(SCRIPT))
    vm.stop_daemon()
    platform.set_user_data(None)
    platform.clear_requests()
    vm.start()
    vm.wait_says("userData", "success", "1 of 3 looks")
    said = vm.wait_says("userData", "success", "User data was removed", 40)
    assert revision(SCRIPT) in said
    assert vm.file(COPY).read_bytes() == SCRIPT
    times = [request["time"] for request in platform.requests("imds", LEAF)]
    assert len(times) == 3 and times[2] - times[0] > 17
    # It survives a restart, and what comes back is known.
    platform.set_user_data(SCRIPT)
    vm.restart()
    vm.wait_says("userData", "success", f"User data revision {revision(SCRIPT)}")


def test_never_set(vm, platform):
    vm.configure(userData={"pollingIntervalInSeconds": 10, "source": "customData"})
    vm.start()
    vm.wait_says("userData", "transitioning", "no custom data has been seen so far")
    vm.wait_says("userData", "success", "No custom data is set", 40)
    assert not vm.file(COPY).exists()
    assert vm.top() == "success"
    # That there is none says nothing of another source, where it takes as many looks, and what is found at first is no change.
    vm.configure(userData={"pollingIntervalInSeconds": 10})
    vm.reload()
    vm.wait_says("userData", "transitioning", "no user data has been seen so far")
    platform.set_user_data(SCRIPT)
    vm.wait_says("userData", "success", "it was there at the first look", 40)


@pytest.mark.parametrize("fault", [
    {"status": 429, "headers": {"Retry-After": "1"}}, {"status": 500}, {"status": 404}, {"status": 410}, {"garbage": True},
    {"garbage": "http"}, {"drop": True}, {"body": base64.b64encode(SCRIPT), "cut_after_bytes": 7},
    {"body": b"this is no base64!"}, {"body": base64.b64encode(b"x" * 70000)}],
    ids=lambda fault: "-".join(str(key) + str(value)[:8] for key, value in fault.items() if key != "headers"))
def test_faults_are_told_and_outlived(vm, platform, fault):
    platform.set_user_data(SCRIPT)
    platform.set_fault("imds", LEAF, **fault)
    vm.start()
    vm.wait_says("userData", "warning", "User data cannot be read: ")
    assert "no user data has been seen so far" in vm.says("userData")
    assert not vm.file(COPY).exists()
    platform.clear_faults()
    vm.wait_says("userData", "success", f"revision {revision(SCRIPT)}")
    assert "can be read again" in vm.log_text()


def test_offline_the_last_good_copy_stands(vm, platform):
    platform.set_user_data(SCRIPT)
    vm.start()
    vm.wait_says("userData", "success", revision(SCRIPT))
    vm.restart(online=False)
    said = vm.wait_says("userData", "warning", "User data cannot be read: ")
    assert f"the last good copy is kept: revision {revision(SCRIPT)}" in said and "last confirmed" in said
    assert vm.file(COPY).read_bytes() == SCRIPT
    assert vm.top() == "success"


def test_killed_at_any_time_the_copy_and_the_record_agree(vm, platform):
    platform.set_user_data(SCRIPT)
    for wait in (0, 0.02, 0.05, 0.1):
        vm.start()
        time.sleep(wait)
        vm.kill_daemon()
    # A copy that was lost or spoilt is made again.
    for spoil in (lambda path: path.unlink(missing_ok=True), lambda path: path.write_bytes(b"other")):
        spoil(vm.file(COPY))
        vm.start()
        vm.wait_says("userData", "success", revision(SCRIPT))
        assert vm.file(COPY).read_bytes() == SCRIPT
        vm.stop_daemon()
    # And without a record the copy is taken for what was seen.
    vm.file(COPY).with_name("user-data.record").unlink()
    vm.start(online=False)
    vm.wait_says("userData", "warning", f"the last good copy is kept: revision {revision(SCRIPT)}")


def test_damaged_record(vm, platform):
    platform.set_user_data(SCRIPT)
    vm.start()
    vm.wait_says("userData", "success", revision(SCRIPT))
    vm.kill_daemon()
    record = vm.file(COPY).with_name("user-data.record")
    record.write_bytes(os.urandom(record.stat().st_size))
    vm.start()
    vm.wait_says("userData", "success", revision(SCRIPT))


@pytest.mark.parametrize("data, kind", [
    (b"#cloud-config\n", "#cloud-config,"), (b"#include\nhttps://x\n", "a list of URLs (#include)"),
    (b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n", "a MIME message"),
    (b"#cloud-boothook\n", "a boot hook"), (b"\xff\xfe\x00\x01", "binary data"), (b"key=value\n", "no kind that cloud-init knows")])
def test_formats(vm, platform, data, kind):
    platform.set_user_data(data)
    vm.start()
    assert kind in vm.wait_says("userData", "success", revision(data))


def test_without_the_section_nothing_is_asked(vm, platform):
    platform.set_user_data(SCRIPT)
    vm.start()
    vm.wait_says("userData", "success", revision(SCRIPT))
    platform.clear_requests()
    # No section: nothing is asked, nothing is told.
    vm.configure()
    vm.reload()
    deadline = time.monotonic() + 10
    while vm.substatus("userData"):
        assert time.monotonic() < deadline
    assert platform.requests("imds") == []
    vm.configure(userData={"pollingIntervalInSeconds": 10})
    vm.reload()
    vm.wait_says("userData", "success", revision(SCRIPT))


def test_state_that_cannot_be_written(vm, platform):
    platform.set_user_data(SCRIPT)
    vm.start()
    vm.wait_says("userData", "success", revision(SCRIPT))
    vm.stop_daemon()
    # A directory in the copy's place cannot be replaced by a file, not even by root.
    vm.file(COPY).unlink()
    vm.file(COPY).mkdir()
    vm.start()
    vm.wait_says("userData", "warning", "it cannot be kept: ")
    vm.stop_daemon()
    vm.file(COPY).rmdir()
    vm.start()
    vm.wait_says("userData", "success", revision(SCRIPT))
    assert vm.file(COPY).read_bytes() == SCRIPT
