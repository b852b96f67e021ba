"""Refreshes that are cut short: a kill at every step, a disk that is full at every write. Afterwards there is the old set or the
new one, and at no moment a key that others can read."""

import json
import os
import pathlib
import subprocess
import time

import pytest
from keys import HOME
from vm import BINARY, SANITIZED, may_mount, may_trace, me, wait_until

# What changes something on disk, in the order of its doing; a kill forestalls the call that it hits.
CHANGES = ("write,fsync,fdatasync,mkdir,mkdirat,symlink,symlinkat,link,linkat,rename,renameat,renameat2,unlink,unlinkat,rmdir,"
           "chmod,fchmod,fchmodat,chown,fchown,fchownat,fsetxattr,setxattr,ftruncate")
TAKES_SPACE = "write,fsync,mkdir,mkdirat,symlink,symlinkat,link,linkat,rename,renameat,renameat2,fsetxattr"
STEPS_MAX = 120


@pytest.fixture
def platform(fresh_platform):
    return fresh_platform


@pytest.fixture
def vm(keys_vm):
    return keys_vm


def no_key_is_open(directory, mark=b"PRIVATE"):
    """Nobody but the owner may read a file that holds a key, under whatever name it stands; an access list shows in the mode."""
    for path in (pathlib.Path(parent) / name for parent, _, names in os.walk(directory) for name in names):
        try:
            if path.is_symlink() or not path.is_file() or mark not in path.read_bytes():
                continue
            assert path.stat().st_mode & 0o077 == 0, f"{path} has mode {path.stat().st_mode & 0o7777:04o}"
        except FileNotFoundError:
            pass  # it has gone since


# The runner, which writes the files: started as the daemon starts it, again and again with another version

class Runner:
    def __init__(self, root):
        self.root = root
        self.directory = root / "etc/tls"
        self.jobs, self.run_jobs = root / "var/lib/evenkeel/jobs", root / "run/evenkeel/jobs"
        self.jobs.mkdir(parents=True)
        self.run_jobs.mkdir(parents=True)
        self.number = 0

    def run(self, files, version=None, prefix=()):
        """files: {name: content, or ("link", target)}"""
        self.number += 1
        name = f"key-{self.number}"
        user, group = me()
        described = [{"name": file, "owner": user, "group": group, **({"link": content[1]} if isinstance(content, tuple) else {
            "content": file, "mode": "0600" if "PRIVATE" in content else "0644"})} for file, content in files.items()]
        (self.jobs / name).mkdir()
        (self.jobs / name / "job.json").write_text(json.dumps({
            "format": 1, "id": name, "handler": "keyRefresh", "kind": "install", "directory": str(self.directory),
            "files": described, "keepVersions": 2, **({"version": version} if version else {})}))
        secrets = self.run_jobs / f"{name}.secrets"
        secrets.touch(0o600)
        secrets.write_text(json.dumps({"values": [{"name": file, "value": content} for file, content in files.items()
                                                  if isinstance(content, str)]}))
        environment = {"PATH": os.environ["PATH"], "EVENKEEL_ROOT": str(self.root), "ASAN_OPTIONS": "detect_leaks=0"}
        done = subprocess.run([*prefix, BINARY, "run", name], env=environment, capture_output=True, text=True, timeout=60)
        result = self.jobs / name / "result.json"
        return done, json.loads(result.read_text()) if result.exists() else {}

    def read(self, name):
        try:
            return (self.directory / name).read_text()
        except FileNotFoundError:
            return None


class OwnSet:
    """Our own layout: one link shows the whole set."""

    def __init__(self, runner):
        self.runner = runner

    def install(self, version, prefix=()):
        return self.runner.run(self.files(version), f"set-{version}", prefix)

    @staticmethod
    def files(version):
        return {"fullchain.pem": f"CERTIFICATE {version}\n" * 50, "privkey.pem": f"PRIVATE {version}\n" * 50}

    def check(self, old, new, whole=False):
        found = {name: self.runner.read(name) for name in self.files(new)}
        if old is None and not whole:
            # At a first install the names come one after the other: there is nothing, or it is right.
            assert all(found[name] in (None, text) for name, text in self.files(new).items())
            return
        assert found == self.files(new) or (not whole and found == self.files(old)), "a mixture"


class Store4:
    """The store of the peer's version 4: a file for each version, two links, and a note that is written after them."""

    def __init__(self, runner):
        self.runner = runner

    def install(self, version, prefix=()):
        return self.runner.run(self.files(version), None, prefix)

    @staticmethod
    def files(version):
        return {f"v.web.{version}.keyid.1": f"PRIVATE {version}\n" * 50, f"v.web.{version}.pem.1": f"CERTIFICATE {version}\n" * 50,
                "v.web.keyid": ("link", f"v.web.{version}.keyid.1"), "v.web.pem": ("link", f"v.web.{version}.pem.1"),
                "v.web.luma": f"NOTE {version}\n"}

    def shown(self, version):
        return [f"PRIVATE {version}\n" * 50, f"CERTIFICATE {version}\n" * 50, f"NOTE {version}\n"]

    def check(self, old, new, whole=False):
        found = [self.runner.read(name) for name in ("v.web.keyid", "v.web.pem", "v.web.luma")]
        for shown, before, after in zip(found, self.shown(old) if old else [None] * 3, self.shown(new)):
            assert shown in (before, after), "half a file"
        # Who follows the note, as the peer's documents say, never reads a mixture.
        assert not whole and found[2] != self.shown(new)[2] or found == self.shown(new)


class Plain:
    """A plain secret: one file."""

    def __init__(self, runner):
        self.runner = runner

    def install(self, version, prefix=()):
        return self.runner.run(self.files(version), None, prefix)

    @staticmethod
    def files(version):
        return {"word": f"PRIVATE {version}\n" * 50}

    def check(self, old, new, whole=False):
        assert self.runner.read("word") in ({self.files(new)["word"]} | (set() if whole else {old and self.files(old)["word"]}))


@pytest.mark.parametrize("fault, calls", [("signal=SIGKILL", CHANGES), ("error=ENOSPC", TAKES_SPACE)], ids=["kill", "full-disk"])
@pytest.mark.parametrize("layout", [OwnSet, Store4, Plain], ids=lambda layout: layout.__name__)
def test_cut_short_at_every_step(tmp_path, layout, fault, calls):
    if not may_trace():
        pytest.skip("faults at the very call need strace, and the right to trace")
    runner = Runner(tmp_path / "root")
    set_ = layout(runner)
    version, cut, old = 0, 0, None
    for step in range(1, STEPS_MAX, 4 if SANITIZED else 1):
        version += 1
        prefix = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={calls}",
                  "-e", f"inject={calls}:{fault}:when={step}"]
        done, result = set_.install(version, prefix)
        no_key_is_open(runner.root)
        set_.check(old, version)
        hit = "INJECTED" in (tmp_path / "trace").read_text() or done.returncode in (-9, 137)
        if fault.startswith("error") and hit and result:
            # It is told, unless what failed was no part of the install (the result, and what is tidied up after it).
            assert result["end"] == "succeeded" or "No space left" in result["message"], result
            if result["end"] == "succeeded":
                set_.check(old, version, whole=True)
        if not hit:
            assert result["end"] == "succeeded", result
            set_.check(old, version, whole=True)
            break
        cut += 1
        # The next try makes it whole, whatever the last one has left.
        _, result = set_.install(version)
        assert result["end"] == "succeeded", result
        set_.check(old, version, whole=True)
        no_key_is_open(runner.root)
        old = version
    else:
        pytest.fail("the steps do not end")
    assert cut >= (2 if SANITIZED else 7)
    # And nothing of all that is left but what is kept.
    kept = [path for path in runner.directory.rglob("*") if path.is_file() and not path.is_symlink()]
    if layout is OwnSet:
        assert len(kept) == 2 * len(set_.files(0))
    elif layout is Plain:
        assert [path.name for path in kept] == ["word"]


# The whole refresh, as the daemon goes about it

def test_daemon_and_runner_killed_at_steps_of_a_refresh(vm, platform):
    """Each counts its own steps, so that at least one of them dies of it, in the middle of a renewal."""
    if not may_trace():
        pytest.skip("faults at the very call need strace, and the right to trace")
    certificates = {vm.put(certificate): certificate for certificate in [vm.make()]}
    vm.refresh({"name": "web"})
    vm.start()
    [version] = certificates
    vm.wait_installed(version)
    died = 0
    for step in (1, 4, 7, 10, 13, 17, 22, 28) if not SANITIZED else (3, 10):
        certificate = vm.make()
        newest = vm.put(certificate)
        certificates[newest] = certificate
        tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(vm._daemon.pid), "-e", f"trace={CHANGES}",
                                   "-e", f"inject={CHANGES}:signal=SIGKILL:when={step}"], stderr=subprocess.DEVNULL)
        try:
            wait_until("the tracer", lambda: "TracerPid:\t0" not in
                       pathlib.Path(f"/proc/{vm._daemon.pid}/status").read_text(), 10)
            vm._daemon.send_signal(1)

            def over():
                no_key_is_open(vm.root / "var/lib/evenkeel/certificates")
                if vm._daemon.poll() is not None:
                    return True
                # It lives: then what it has begun comes to its end, although the runner was killed.
                return newest in os.readlink(vm.file(f"{HOME}/web/current"))

            wait_until("the kill, or the end", over, 30)
            died += vm._daemon.poll() is not None
        finally:
            if vm._daemon.poll() is None:
                vm.kill_daemon()
            tracer.wait(20)
        shown = vm.set_of()
        assert any(shown == {"fullchain.pem": "".join([one["leaf"], *one["issuers"]]).encode(),
                             "privkey.pem": one["key"].encode()} for one in certificates.values()), "a mixture"
        no_key_is_open(vm.root / "var/lib/evenkeel/certificates")
        vm.start()
        vm.wait_installed(newest, limit=60)
    assert died >= 1
    assert len(list(vm.file(f"{HOME}/web/versions").iterdir())) == 2


def test_full_disk_keeps_the_old_set(vm, platform):
    """Full to the last byte when a renewal comes: it is told, the old set goes on, and it is made good when there is room."""
    if not may_mount():
        pytest.skip("mounting a small file system needs root and a mount namespace")
    version = vm.put(vm.make())
    vm.refresh({"name": "web"})
    state = vm.root / "var/lib/evenkeel"
    state.mkdir(parents=True, exist_ok=True)
    vm.online = True
    vm.start_daemon(binary=BINARY, prefix=["unshare", "-m", "sh", "-c",
                                           'mount -t tmpfs -o size=2m,mode=711 none "$0" && exec "$@"', str(state)])
    vm.wait_installed(version)
    inside = pathlib.Path(f"/proc/{vm._daemon.pid}/root{state}")
    shown = {name: (inside / f"certificates/web/{name}").read_bytes() for name in ("fullchain.pem", "privkey.pem")}
    with open(inside / "ballast", "wb", buffering=0) as ballast, pytest.raises(OSError):
        while True:
            ballast.write(bytes(4096))
    newest = vm.put(vm.make())
    done = vm.run("certs", "refresh")
    assert done.returncode == 1 and "o space left" in done.stderr, done.stdout + done.stderr
    assert f"Version {version}" in vm.say() and vm.top() == "success"
    assert shown == {name: (inside / f"certificates/web/{name}").read_bytes() for name in shown}
    no_key_is_open(inside)
    (inside / "ballast").unlink()
    assert newest in vm.run("certs", "refresh").stdout
    vm.wait_installed(newest)
    assert (inside / "certificates/web/privkey.pem").read_bytes() == vm.made[-1]["key"].encode()
    no_key_is_open(inside)


def test_keys_are_never_open_while_they_come(vm, platform):
    """Looked at as fast as it goes, while one version after the other is installed."""
    version = vm.put(vm.make())
    vm.refresh({"name": "web", "mode": "0600", "files": {"fullchain": "f.pem", "key": "k.pem", "combined": "c.pem"}})
    vm.start()
    looks, deadline = 0, time.monotonic() + 60
    for again in range(3):
        if again:
            version = vm.put(vm.make())
            vm.reload()
        while f"Version {version}" not in vm.say():
            no_key_is_open(vm.root / "var/lib/evenkeel")
            no_key_is_open(vm.root / "run/evenkeel")
            looks += 1
            assert time.monotonic() < deadline
    assert looks > 3
