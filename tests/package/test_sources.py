"""Where scripts/lib/apt.sh finds packages: the host's own sources, made those of another architecture or of another name."""
import pytest
from delivered import ROOT, can_unshare, run

SCENE = """\
set -eu
mount -t tmpfs tmpfs /etc/apt
mkdir /etc/apt/sources.list.d
mount --bind "$1/os-release" /etc/os-release
[ ! -e "$1/list" ] || cp "$1/list" /etc/apt/sources.list
[ ! -e "$1/sources" ] || cp "$1/sources" /etc/apt/sources.list.d/own.sources
die() { echo "$*"; exit 1; }
. "$2/scripts/lib/apt.sh"
write_source_list noble deb "$1/out"
other_archive "$1/out" "$3"
cat "$1/out/own.list" "$1/out/own.sources"
"""

UBUNTU_24 = """\
# See the manual
Types: deb
URIs: http://azure.archive.ubuntu.com/ubuntu/
Suites: noble noble-updates noble-backports
Components: main universe
Architectures: amd64
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

Types: deb
URIs: http://security.ubuntu.com/ubuntu
Suites: noble-security
Components: main universe
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
"""


@pytest.fixture
def sources(tmp_path):
    if not can_unshare():
        pytest.skip("needs root and mount namespaces")
    (tmp_path / "os-release").write_text("ID=ubuntu\nVERSION_CODENAME=noble\n")
    (tmp_path / "scene.sh").write_text(SCENE)

    def made(arch, **files):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        options = {"env": {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **({"EK_OTHER_ARCHIVE": made.archive} if made.archive else {})}}
        return run("unshare", "-m", "bash", tmp_path / "scene.sh", tmp_path, ROOT, arch, **options).stdout
    made.archive = None
    return made


def test_ubuntu_has_other_architectures_elsewhere(sources):
    said = sources("arm64", sources=UBUNTU_24)
    assert [line for line in said.splitlines() if line.startswith("URIs:")] == ["URIs: http://ports.ubuntu.com/ubuntu-ports/"] * 2
    assert said.count("Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg") == 2 and "Architectures" not in said
    assert "Suites: noble noble-updates noble-backports" in said and "Suites: noble-security" in said
    assert "URIs: http://archive.ubuntu.com/ubuntu/" in sources("amd64", sources=said)


def test_the_one_line_form(sources):
    text = "deb [arch=amd64 signed-by=/k.gpg] http://de.archive.ubuntu.com/ubuntu noble main\ndeb-src http://archive.ubuntu.com/ubuntu noble main\n"
    assert sources("arm64", list=text).split("]")[1].strip() == "http://ports.ubuntu.com/ubuntu-ports/ noble main"


def test_a_mirror_of_ones_own_is_named(sources):
    own = UBUNTU_24.replace("azure.archive.ubuntu.com", "mirror.example").replace("security.ubuntu.com", "mirror.example")
    assert "EK_OTHER_ARCHIVE" in sources("arm64", sources=own)
    sources.archive = "https://mirror.example/ports"
    assert sources("arm64", sources=own).count("URIs: https://mirror.example/ports\n") == 2


def test_debian_has_all_on_one_mirror(sources):
    own = UBUNTU_24.replace("azure.archive.ubuntu.com/ubuntu", "mirror.example/debian")
    assert "URIs: http://mirror.example/debian/" in sources("arm64", sources=own, **{"os-release": "ID=debian\nVERSION_CODENAME=noble\n"})
