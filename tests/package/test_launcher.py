"""The zip's launcher: which program it picks, and the one line that it says where none can run. In mount namespaces."""
import shutil
import textwrap
import zipfile

import pytest
from delivered import ARCH, MACHINE, OTHER_ARCH, OTHER_MACHINE, can_unshare, package, run

# Stands for the program; the launcher sees of it only that it starts.
PROGRAM = """\
#!/bin/sh
case $1 in
version) [ ! -e /run/broken ] || { cat /run/broken; exit 127; } ;;
where) echo "$0 ${AZURE_GUEST_AGENT_EXTENSION_PATH-none}" ;;
esac
echo "@NAME@ $*"
exit 7
"""

# Both loaders are there, so that uname is asked; it says what /run/machine says.
SCENE = """\
set -eu
mount -t tmpfs tmpfs /run
mkdir /run/up /run/work /run/bin
mount -t overlay overlay -o lowerdir=/usr/lib,upperdir=/run/up,workdir=/run/work /usr/lib
mount -t tmpfs tmpfs /usr/local
touch /usr/lib/ld-linux-aarch64.so.1
mkdir -p /run/up64 /run/work64
[ -e /lib64/ld-linux-x86-64.so.2 ] || { mount -t overlay overlay -o lowerdir=/usr/lib64,upperdir=/run/up64,workdir=/run/work64 /usr/lib64
	touch /usr/lib64/ld-linux-x86-64.so.2; }
printf '#!/bin/sh\\ncat /run/machine\\n' >/run/bin/uname
chmod +x /run/bin/uname
echo "$3" >/run/machine
PATH=/run/bin:$PATH
mkdir /run/version
cp -r "$1/bin" /run/version/
cd /run/version
ek() { set +e; "$@" >/run/out 2>&1; code=$?; set -e; echo "$code $(cat /run/out)"; }
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    directory = tmp_path_factory.mktemp("zip")
    programs = {}
    for arch in ("amd64", "arm64"):
        programs[arch] = directory / arch
        # `install` tries the program first, so that has to succeed.
        programs[arch].write_text(PROGRAM.replace("@NAME@", arch).replace("exit 7", '[ "$1" = version ] || exit 7'))
    with zipfile.ZipFile(package("package-zip", programs, directory, "--version", "1.2.3")) as archive:
        archive.extractall(directory / "version")
    for path in (directory / "version/bin").rglob("evenkeel"):
        path.chmod(0o755)  # as the agent does
    return directory / "version"


@pytest.fixture(params=["dash", "bash"])
def scene(request, unpacked, tmp_path):
    if not can_unshare():
        pytest.skip("needs root and mount namespaces")
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not here")
    script = tmp_path / "scene.sh"

    def play(text):
        under = f'mount --bind "$(command -v {request.param})" "$(readlink -f /bin/sh)"\n'
        script.write_text(SCENE + under + textwrap.dedent(text))
        result = run("unshare", "-m", "sh", script, unpacked, "x", MACHINE)
        assert result.returncode == 0, result.stderr + result.stdout
        return result.stdout.splitlines()
    return play


def test_the_program_of_this_machine_is_executed(scene):
    assert scene(f"""
        ek bin/evenkeel enable
        ek bin/evenkeel install "a b"
        cd bin; ek ./evenkeel version; cd /; ek run/version/bin/evenkeel status
        echo {OTHER_MACHINE} >/run/machine; ek /run/version/bin/evenkeel enable
    """) == [f"7 {ARCH} enable", f"7 {ARCH} install a b", f"0 {ARCH} version", f"7 {ARCH} status", f"7 {OTHER_ARCH} enable"]


def test_enable_starts_no_other_program(unpacked):
    """Not even uname: `enable` comes at every goal state, and is timed."""
    done = run(unpacked / "bin/evenkeel", "enable", env={"PATH": "/nonexistent"})
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{ARCH} enable\n", "")


def test_another_machine_is_told_what_there_is(scene):
    assert scene(f"""
        echo s390x >/run/machine; ek bin/evenkeel install
        echo {MACHINE} >/run/machine; rm -r bin/{ARCH}; ek bin/evenkeel enable
    """) == ["51 EvenKeel: this machine is s390x, and the package has no program for it, only amd64/evenkeel arm64/evenkeel",
             f"51 EvenKeel: this machine is {MACHINE}, and the package has no program for it, only {OTHER_ARCH}/evenkeel"]


@pytest.mark.parametrize("system, library, package_name", [
    ("ID=debian", "libsystemd.so.0", "libsystemd0"),
    ("ID=ubuntu\nID_LIKE=debian", "libssl.so.3", "libssl3t64 (before Debian 13 and Ubuntu 24.04: libssl3)"),
    ("ID=azurelinux", "libcrypto.so.3", "openssl-libs"), ('ID="rhel"\nID_LIKE="fedora"', "libsystemd.so.0", "systemd-libs"),
    ('ID="rocky"\nID_LIKE="rhel centos fedora"', "libz.so.1", "zlib (RHEL 10: zlib-ng-compat)"),
    ('ID="sles"\nID_LIKE="suse"', "libssl.so.3", "libopenssl3"), ("ID=debian", "libfoo.so.1", "the package that contains it")])
def test_a_missing_library_is_named_with_its_package(scene, system, library, package_name):
    assert scene(f"""
        cat >/run/os-release <<'END'
        {system.replace(chr(10), chr(10) + "        ")}
        END
        sed -i 's/^ *//' /run/os-release; mount --bind /run/os-release /etc/os-release
        echo "x: error while loading shared libraries: {library}: cannot open shared object file: No such file" >/run/broken
        ek bin/evenkeel install; ek bin/evenkeel update
    """) == [f"52 EvenKeel: this system has no {library}: install {package_name}"] * 2


def test_a_system_that_is_too_old_is_told_by_what(scene):
    said, = scene("""
        printf '%s\\n' "bin/amd64/evenkeel: /lib/libc.so.6: version \\`GLIBC_2.34' not found (required by x)" more >/run/broken
        ek bin/evenkeel install
    """)
    assert said.startswith("51 EvenKeel: this system is too old, its libraries have no GLIBC_2.34: Ubuntu 22.04, ")


def test_what_is_no_program_for_this_kernel_or_system_is_told(scene):
    """By the real kernel: a foreign binary, and one whose loader is not there, as under musl."""
    foreign, loaderless = scene(f"""
        printf '\\177ELF\\001\\001\\001' >bin/{ARCH}/evenkeel; ek bin/evenkeel install
        printf '#!/nonexistent/loader\\n' >bin/{ARCH}/evenkeel; ek bin/evenkeel install
    """)
    assert foreign.startswith(f"51 EvenKeel: the program is not one that this machine ({MACHINE}) executes: ")
    assert loaderless.startswith("51 EvenKeel: ") and ("dynamic loader" in loaderless or "is not one that" in loaderless)


def test_what_cannot_start_any_more_can_be_removed(scene):
    """The agent ends a removal whose disable fails; it goes on past an uninstall that does."""
    assert scene(f"""
        ek bin/evenkeel disable "a b"
        printf '#!/nonexistent/loader\\n' >bin/{ARCH}/evenkeel
        ek bin/evenkeel disable | cut -c 1-2
    """) == [f"7 {ARCH} disable a b", "0 "]


def test_lost_modes_and_noexec(scene):
    """The kernel refuses the launcher itself on such a filesystem; a shell that reads it gets the program from elsewhere."""
    elsewhere = "/usr/local/libexec/evenkeel/launch/bin/evenkeel"
    assert scene(f"""
        chmod 0644 bin/*/evenkeel; ek bin/evenkeel enable
        mkdir /run/noexec; mount -t tmpfs -o noexec tmpfs /run/noexec; cp -r bin /run/noexec/
        cd /run/noexec
        ek sh bin/evenkeel where; ls -A /usr/local/libexec/evenkeel/launch/bin
        AZURE_GUEST_AGENT_EXTENSION_PATH=/told ek sh bin/evenkeel where
        mount -o remount,noexec /usr/local; ek sh bin/evenkeel install
    """) == [f"7 {ARCH} enable", f"7 {elsewhere} /run/noexec", f"{ARCH} where", "evenkeel",
             f"7 {elsewhere} /told", f"{ARCH} where",
             "51 EvenKeel: programs cannot be executed in bin (mounted noexec?), nor in /usr/local/libexec/evenkeel/launch/bin"]
