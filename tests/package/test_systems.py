"""The binaries as they are shipped, for both architectures: what they need, how large the zip is, whether it comes out the same
twice, and whether they run in other releases. Nothing of another release is installed: its packages are unpacked below build/,
and programs of the other architecture run under qemu."""
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from delivered import ARCH, MACHINE, OTHER_ARCH, OTHER_MACHINE, ROOT, can_unshare, made, run  # noqa: E402
from stage import free_port  # noqa: E402

LIMIT_ZIP = 1_500_000
HOST = dict(line.rstrip().split("=", 1) for line in open("/etc/os-release") if "=" in line)
# A later release's compiler and C library make binaries that need that release.
OLDEST = HOST.get("VERSION_CODENAME") in ("bookworm", "jammy")
SETTINGS = {"health": {"listen": "127.0.0.1:0"}, "drain": {"steps": [{"type": "probeDown"}]}}

OFFLINE = len(pathlib.Path("/proc/net/route").read_text().splitlines()) < 2

pytestmark = [
    pytest.mark.skipif(HOST.get("ID") != "debian", reason="Debian's archive has both architectures on one mirror"),
    pytest.mark.skipif(OFFLINE, reason="packages of other releases come from the mirror: needs a network"),
]


@pytest.fixture(scope="module")
def zipped():
    return made("package-zip", "--out", ROOT / "build/delivery", epoch="1700000001", timeout=900)


@pytest.fixture(scope="module")
def unpacked(zipped, tmp_path_factory):
    directory = tmp_path_factory.mktemp("version")
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(directory)
    for path in (directory / "bin").rglob("evenkeel"):
        path.chmod(0o755)
    return directory


def system(suite, arch=ARCH):
    """A directory with what of this release the program and its launcher need."""
    ssl = "libssl3" if suite == "bookworm" else "libssl3t64"
    return made("debian-root", "--suite", suite, "--arch", arch, "dash", "coreutils", "libc6", "libsystemd0", ssl, "zlib1g",
                timeout=300)


# ---- what is in the zip ----

def test_both_architectures_fit(zipped):
    assert zipped.stat().st_size <= LIMIT_ZIP
    with zipfile.ZipFile(zipped) as archive:
        machines = {arch: archive.read(f"bin/{arch}/evenkeel")[18] for arch in ("amd64", "arm64")}
    assert machines == {"amd64": 62, "arm64": 183}  # ELF's e_machine


def test_the_bill_names_what_is_inside(zipped):
    """The versions that the binary itself tells are those of the bill, and the notices have their licences."""
    with zipfile.ZipFile(zipped) as archive:
        bill = json.loads(archive.read("evenkeel.spdx.json"))
        notices = archive.read("THIRD-PARTY-NOTICES").decode()
        program = archive.read(f"bin/{ARCH}/evenkeel")
    versions = {package["name"]: package.get("versionInfo", "") for package in bill["packages"]}
    for name in ("curl", "json-c", "libmicrohttpd"):
        upstream = versions[name].rpartition("-")[0]
        assert f"{name}_{versions[name]}.dsc" in notices and f"==== {name} ====" in notices
        assert upstream.encode() in program


def test_the_same_bytes_twice(zipped, tmp_path):
    """Compiled again, not only packed again: what was compiled for this machine is thrown away before."""
    before = hashlib.sha256(zipped.read_bytes()).hexdigest()
    objects = ROOT / "build/release-static/agent/app/CMakeFiles/evenkeel.dir"
    changed = [path for path in objects.rglob("*.o") if path.name.startswith(("main", "cli_version", "installation"))]
    assert changed
    with open(ROOT / "build/package.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # nobody builds there meanwhile
        for path in changed:
            path.unlink()
    again = made("package-zip", "--out", tmp_path, epoch="1700000001", timeout=900)
    assert hashlib.sha256(again.read_bytes()).hexdigest() == before


@pytest.mark.skipif(not OLDEST, reason="a build for every supported system is made on Debian 12 or Ubuntu 22.04")
def test_every_supported_system_has_what_the_binaries_need(unpacked):
    done = run(ROOT / "scripts/check-symbols", *(unpacked / f"bin/{arch}/evenkeel" for arch in ("amd64", "arm64")))
    assert done.returncode == 0, done.stdout
    for name in ("Ubuntu 22.04", "Ubuntu 26.04", "Debian 12", "Debian 13", "Azure Linux 3", "RHEL 9", "RHEL 10"):
        assert done.stdout.count(f"  {name} ") == 2, done.stdout


def test_the_check_of_symbols_can_say_no(tmp_path):
    """A program that asks for more than Ubuntu 22.04 has, or for another library."""
    source = tmp_path / "new.c"
    source.write_text("int sd_new(void);\nint main(void) { return sd_new(); }\n")
    (tmp_path / "lib.c").write_text("int sd_new(void) { return 0; }\n")
    (tmp_path / "map").write_text("LIBSYSTEMD_251 { global: sd_new; };\n")
    for argv in (("cc", "-shared", "-fPIC", "-Wl,-soname,libsystemd.so.0", f"-Wl,--version-script={tmp_path}/map", "-o",
                  tmp_path / "libnew.so", tmp_path / "lib.c"),
                 ("cc", "-o", tmp_path / "new", source, "-L", tmp_path, "-lnew")):
        built = run(*argv)
        assert built.returncode == 0, built.stderr
    done = run(ROOT / "scripts/check-symbols", tmp_path / "new")
    assert done.returncode == 1
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "Ubuntu 22.04   no, it lacks LIBSYSTEMD_251" in lines and "Debian 12      yes" in lines
    assert "has inside what should stay dynamic: libcrypto.so.3, libssl.so.3, libz.so.1" in lines
    done = run(ROOT / "scripts/check-symbols", source)
    assert done.returncode == 1 and "readelf cannot read it" in done.stderr


# ---- running ----

def inside(root, *argv, prelude=""):
    """Runs it with this directory as its root, in mounts of its own that end with it."""
    # /dev/null at least; nothing of the host's system is seen
    script = 'set -e; mount --bind "$0" "$0"; mkdir -p "$0/dev"; touch "$0/dev/null"; mount --bind /dev/null "$0/dev/null"; ' \
             + prelude + 'exec chroot "$0" "$@"'
    return run("unshare", "-m", "sh", "-c", script, root, *argv, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"})


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "sid"])
def test_it_runs_in_other_releases(unpacked, suite):
    if not can_unshare():
        pytest.skip("needs root and mount namespaces")
    root = system(suite)
    put = 'mkdir -p "$0/mnt"; mount --bind ' + str(unpacked) + ' "$0/mnt"; '
    (unpacked / "settings.json").write_text(json.dumps({**SETTINGS, "health": {"listen": "127.0.0.1:8008"}}))
    (unpacked / "wrong.json").write_text('{"drian": {}}')
    done = inside(root, "/mnt/bin/evenkeel", "version", "--json", prelude=put)
    assert done.returncode == 0, done.stderr
    version = json.loads(done.stdout)
    assert version["architecture"] == ARCH
    openssl = next(root.glob(f"usr/lib/{MACHINE}-linux-gnu/libcrypto.so.3")).read_bytes()
    assert f"OpenSSL {version['libraries']['openssl']} ".encode() in openssl  # that of the release, not the host's
    done = inside(root, "/mnt/bin/evenkeel", "validate", "/mnt/settings.json", prelude=put)
    assert done.returncode == 0, done.stderr
    done = inside(root, "/mnt/bin/evenkeel", "validate", "/mnt/wrong.json", prelude=put)
    assert done.returncode == 3 and 'did you mean "drain"' in done.stdout + done.stderr


def test_without_libsystemd_the_package_is_named(unpacked):
    """The real loader's words, in a root where the library is not."""
    if not can_unshare():
        pytest.skip("needs root and mount namespaces")
    hide = 'mount -t tmpfs tmpfs /run; mkdir /run/up /run/work; mount -t overlay overlay ' \
           '-o "lowerdir=$0,upperdir=/run/up,workdir=/run/work" "$0"; rm "$0"/usr/lib/*/libsystemd.so.0; ' \
           'mkdir -p "$0/mnt" "$0/etc"; echo ID=debian >"$0/etc/os-release"; mount --bind ' + str(unpacked) + ' "$0/mnt"; '
    done = inside(system("trixie"), "/mnt/bin/evenkeel", "install", prelude=hide)
    assert (done.returncode, done.stdout) == (52, "")
    assert done.stderr == "EvenKeel: this system has no libsystemd.so.0: install libsystemd0\n"


def answer(url):
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as reply:
            return reply.read().decode()
    except OSError:
        return None


def emulated(unpacked, suite):
    emulator = shutil.which(f"qemu-{OTHER_MACHINE}")
    if not emulator:
        pytest.skip("qemu-user is not here")
    return [emulator, "-L", system(suite, OTHER_ARCH), unpacked / f"bin/{OTHER_ARCH}/evenkeel"]


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "sid"])
def test_the_other_architecture_runs_under_qemu(unpacked, suite):
    program = emulated(unpacked, suite)
    done = run(*program, "version", "--json")
    assert done.returncode == 0, done.stderr
    version = json.loads(done.stdout)
    assert version["architecture"] == OTHER_ARCH
    openssl = (program[2] / f"usr/lib/{OTHER_MACHINE}-linux-gnu/libcrypto.so.3").read_bytes()
    assert f"OpenSSL {version['libraries']['openssl']} ".encode() in openssl
    (unpacked / "other.json").write_text(json.dumps({**SETTINGS, "health": {"listen": "127.0.0.1:8008"}}))
    done = run(*program, "validate", unpacked / "other.json")
    assert done.returncode == 0, done.stderr


def test_the_other_architectures_service_under_qemu(unpacked, tmp_path):
    """It reads its settings, answers the load balancer and its own commands, and ends when it is told."""
    program = emulated(unpacked, "trixie")
    port = free_port()
    etc = tmp_path / "etc/evenkeel"
    etc.mkdir(parents=True)
    (tmp_path / "etc/machine-id").write_text("5ca1ab1e0000400080000000c0ffee00\n")
    settings = etc / "evenkeel.json"
    settings.write_text(json.dumps({**SETTINGS, "health": {"listen": f"127.0.0.1:{port}"}}))
    settings.chmod(0o600)
    done = run(*program, "validate", settings)
    assert done.returncode == 0, done.stderr
    # In the metadata service's place is a port of loopback where nobody listens: no packet leaves this machine.
    environment = {"PATH": os.environ["PATH"], "EVENKEEL_ROOT": str(tmp_path),
                   "EVENKEEL_CONNECT_TO": f"169.254.169.254:80:127.0.0.1:{free_port()}"}
    with open(tmp_path / "log", "wb") as log:
        daemon = subprocess.Popen([*program, "daemon", "--foreground"], env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while answer(f"http://127.0.0.1:{port}/ready") != "ready\n":
            assert daemon.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        told = run(*program, "status", env=environment)
        assert told.returncode == 0 and "serving and ready" in told.stdout, told.stdout + told.stderr
        assert "answered" not in told.stdout, "nobody may have answered for the metadata service"
        daemon.terminate()
        assert daemon.wait(30) == 0
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
