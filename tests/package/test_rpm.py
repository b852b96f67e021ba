"""The RPM package: it builds from the tree without a network, and is looked at without installing it."""
import json
import re
import shutil
import stat
import sys
import textwrap

import pytest
from delivered import MACHINE, ROOT, can_unshare, run

sys.path += [str(ROOT / "tests/machine"), str(ROOT / "tests/support")]

import packages  # noqa: E402
from selinux_policy import Policy  # noqa: E402

pytestmark = pytest.mark.skipif(not shutil.which("rpmbuild"), reason="rpmbuild is not here")


@pytest.fixture(scope="module")
def rpm():
    return packages.rpm()


def asked(rpm, *options):
    done = run("rpm", "-qp", *options, rpm)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_contents(rpm):
    project = re.search(r"^project\(evenkeel VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text(), re.M).group(1)
    assert asked(rpm, "--queryformat", "%{NAME} %{VERSION} %{ARCH} %{LICENSE}") == f"evenkeel {project} {MACHINE} MIT"
    files = asked(rpm, "--list").split()
    for name in ("/usr/bin/evenkeel", "/usr/lib/systemd/system/evenkeel.service", "/usr/lib/systemd/system/evenkeel.socket",
                 "/usr/lib/systemd/system/evenkeel-jobs.slice", "/usr/lib/systemd/system/evenkeel-drained.target",
                 "/usr/share/bash-completion/completions/evenkeel", "/usr/share/zsh/site-functions/_evenkeel",
                 "/etc/evenkeel/evenkeel.d", "/etc/evenkeel/hooks/drain.d"):
        assert name in files
    for page in ("man1/evenkeel.1", "man5/evenkeel.json.5", "man7/evenkeel-hooks.7"):
        assert any(name.startswith(f"/usr/share/man/{page}") for name in files)
    assert not any(name.startswith("/usr/local") or "/tests/" in name for name in files)


def test_selinux_lets_systemd_start_what_is_where_it_is(rpm, tmp_path):
    """rpm gives the policy's labels."""
    policy = Policy(tmp_path)
    listed = [line.split() for line in asked(rpm, "--queryformat", "[%{FILEMODES} %{FILENAMES}\\n]").splitlines()]
    types = {name: policy.type_of(name, stat.S_IFMT(int(mode))) for mode, name in listed}
    assert types.pop("/usr/bin/evenkeel") == "bin_t"
    units = {types.pop(name) for name in [*types] if name.startswith("/usr/lib/systemd/system/")}
    assert len(units) == 1 and units <= {"systemd_unit_t", "systemd_unit_file_t"}
    assert {kind for name, kind in types.items() if name.startswith("/etc/")} == {"etc_t"}
    assert {kind for name, kind in types.items() if name.startswith("/usr/share/")} <= {"usr_t", "man_t", "doc_t"}


def test_requirements_are_those_of_the_program(rpm):
    wanted = asked(rpm, "--requires")
    for name in ("libcurl.so.4", "libjson-c.so.5", "libmicrohttpd.so.12", "libsystemd.so.0", "libcrypto.so.3", "systemd >= 249"):
        assert name in wanted
    assert "ca-certificates" in asked(rpm, "--recommends")


def test_unit_and_bill_of_materials(rpm, tmp_path):
    cpio = run("sh", "-c", 'cd "$0" && rpm2cpio "$1" | cpio -id --quiet', tmp_path, rpm)
    assert cpio.returncode == 0, cpio.stderr
    assert "ExecStart=/usr/bin/evenkeel daemon" in (tmp_path / "usr/lib/systemd/system/evenkeel.service").read_text()
    bill = json.loads(next(tmp_path.rglob("evenkeel.spdx.json")).read_text())
    assert bill["name"].endswith("-rpm")
    assert run(tmp_path / "usr/bin/evenkeel", "version").stdout.startswith("evenkeel ")


def test_rpmlint_finds_nothing(rpm, tmp_path):
    if not shutil.which("rpmlint"):
        pytest.skip("rpmlint is not here")
    [source] = rpm.parent.glob("*.src.rpm")
    spec = packages.unpacked_rpm(source, tmp_path / "source") / "evenkeel.spec"
    done = run("rpmlint", "--config", ROOT / "rpm/rpmlint.toml", spec, rpm, source)
    assert done.returncode == 0 and "0 errors, 0 warnings" in done.stdout, done.stdout


# ---- scriptlets, with stand-ins for what they call ----

SCENE = """\
set -eu
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /etc
mkdir -p /run/systemd/system /run/bin /etc/systemd/system
for name in systemctl evenkeel; do
	printf '#!/bin/sh\\necho "%s $*" >>/run/calls\\n' $name >/run/bin/$name
done
chmod +x /run/bin/*
: >/run/calls
PATH=/run/bin:/usr/bin:/bin
extension() { echo "ExecStart=/usr/local/libexec/evenkeel/0.1.0/bin/evenkeel daemon" >/etc/systemd/system/evenkeel.service; }
"""


@pytest.fixture
def scene(rpm, tmp_path):
    if not can_unshare():
        pytest.skip("needs root and mount namespaces")
    names = {"POSTIN": "post", "PREUN": "preun", "POSTUN": "postun"}
    for tag, name in names.items():
        (tmp_path / name).write_text(asked(rpm, "--queryformat", f"%{{{tag}}}"))

    def play(text):
        script = tmp_path / "scene.sh"
        script.write_text(SCENE + f"cd {tmp_path}\n" + textwrap.dedent(text) + "\ncat /run/calls\n")
        done = run("unshare", "-m", "sh", script)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()
    return play


def test_scriptlets_of_installation_and_upgrade(scene):
    assert scene("sh -e post 1") == ["systemctl --no-reload preset evenkeel.socket evenkeel.service"]
    assert scene("sh -e post 2; sh -e preun 1; sh -e postun 1") == ["systemctl daemon-reload", "systemctl try-restart evenkeel.service"]


def test_before_removal_what_is_drained_is_restored(scene):
    assert scene("sh -e preun 0; sh -e postun 0") == [
        "evenkeel service retire", "systemctl --no-reload disable --now evenkeel.socket evenkeel.service", "systemctl daemon-reload"]
    failing = "printf '#!/bin/sh\\nexit 1\\n' >/run/bin/evenkeel; sh -e preun 0 && echo removed"
    assert scene(failing)[0] == "removed"


def test_the_extensions_service_is_not_the_packages(scene):
    assert scene("extension; sh -e post 1; sh -e preun 1; sh -e postun 1; sh -e preun 0; sh -e postun 0") == ["systemctl daemon-reload"] * 2


def test_in_an_image_units_are_enabled_and_disabled(scene):
    assert scene("rmdir /run/systemd/system; sh -e post 1; sh -e preun 0; sh -e postun 0") == [
        "systemctl --no-reload preset evenkeel.socket evenkeel.service", "systemctl --no-reload disable evenkeel.socket evenkeel.service"]
