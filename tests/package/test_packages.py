"""What is delivered: the zip and its manifests, the VM application's script under its limits, the units, embedded texts."""
import json
import os
import shutil
import stat
import textwrap
import xml.etree.ElementTree as xml
import zipfile

import pytest
from delivered import ARCH, HANDLER, MACHINE, OTHER_ARCH, OTHER_MACHINE, ROOT, can_unshare, package, run

# ---- the extension's zip ----

@pytest.fixture
def binary(tmp_path):
    path = tmp_path / "program"
    path.write_bytes(os.urandom(5000))
    path.chmod(0o600)
    return path


def test_zip_is_flat_and_complete(binary, tmp_path):
    path = package("package-zip", binary, tmp_path / "out", "--version", "1.2.3")
    assert path.name.startswith(f"{HANDLER}-1.2.3-")
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        assert {"HandlerManifest.json", "LICENSE", "bin/evenkeel", f"bin/{ARCH}/evenkeel"} <= set(entries)
        assert archive.read(f"bin/{ARCH}/evenkeel") == binary.read_bytes()
        assert archive.read("bin/evenkeel").startswith(b"#!/bin/sh\n") and b"@" not in archive.read("bin/evenkeel").replace(b'"$@"', b"")
    for name in ("bin/evenkeel", f"bin/{ARCH}/evenkeel"):
        assert stat.S_IMODE(entries[name].external_attr >> 16) == 0o755
    assert stat.S_IMODE(entries["HandlerManifest.json"].external_attr >> 16) == 0o644
    assert list(entries) == sorted(entries)


def test_zip_is_the_same_twice(binary, tmp_path):
    first = package("package-zip", binary, tmp_path / "one", "--version", "1.2.3").read_bytes()
    os.utime(binary, (1, 1))
    assert package("package-zip", binary, tmp_path / "two", "--version", "1.2.3").read_bytes() == first
    assert package("package-zip", binary, tmp_path / "three", "--version", "1.2.3", epoch="1").read_bytes() != first


def test_handler_manifest_is_what_the_agent_reads(binary, tmp_path):
    path = package("package-zip", binary, tmp_path / "out", "--version", "1.2.3", "--publisher", "Contoso")
    with zipfile.ZipFile(path) as archive:
        document = json.loads(archive.read("HandlerManifest.json"))
    assert isinstance(document, list) and len(document) == 1
    assert (document[0]["name"], document[0]["version"]) == ("Contoso.EvenKeelForLinux", "1.2.3")
    manifest = document[0]["handlerManifest"]
    for verb in ("install", "enable", "update", "disable", "uninstall"):
        assert manifest.pop(f"{verb}Command") == f"bin/evenkeel {verb}"
    # Agent 2.7.3 takes any non-empty string for true, so these must be booleans.
    assert manifest == {"rebootAfterInstall": False, "reportHeartbeat": False, "updateMode": "UpdateWithInstall",
                        "continueOnUpdateFailure": True, "supportsMultipleExtensions": False, "supportsPolicy": True}
    assert all(isinstance(v, (bool, str)) for v in manifest.values())


def test_publishing_manifest_has_four_numbers(binary, tmp_path):
    path = package("package-zip", binary, tmp_path / "out", "--version", "1.2.3", "--publisher", "Contoso")
    image = xml.fromstring(path.with_suffix(".manifest.xml").read_bytes())
    names = [element.tag.split("}")[1] for element in image]
    assert image.tag == "{http://schemas.microsoft.com/windowsazure}ExtensionImage"
    # in the order in which the publishing service reads them
    assert names == ["ProviderNameSpace", "Type", "Version", "Label", "HostingResources", "MediaLink", "Description", "IsInternalExtension",
                     "Eula", "PrivacyUri", "HomepageUri", "IsJsonExtension", "SupportedOS", "CompanyName"]
    assert [e.text for e in image][:3] == ["Contoso", "EvenKeelForLinux", "1.2.3.0"] and image[-1].text == "Contoso"


@pytest.mark.parametrize("options", [("--version", "1"), ("--version", "1.2-3"), ("--type", "Even-Keel"),
                                     ("--publisher", "Even_Keel"), ("--out",), ("--colour", "red")])
def test_wrong_options_are_refused(binary, tmp_path, options):
    result = run(ROOT / "scripts/package-zip", "--binary", binary, *options)
    assert result.returncode == 1 and result.stdout == ""
    assert options[-1] in result.stderr or options[0] in result.stderr


# ---- the VM application, in a mount namespace where all it writes to is memory ----

# Stands for the program: the script sees of it only exit codes and messages.
PROGRAM = """\
#!/bin/sh
echo "$*" >>/run/calls
libexec=/usr/local/libexec/evenkeel
case $1 in
version) [ ! -e /run/broken ] || { echo "error while loading shared libraries: libssl.so.3"; exit 127; } ;;
validate) ! grep -q bad "$2" || { echo "line 1: bad"; echo more; exit 3; } ;;
service)
	if [ "$2" = remove ]; then
		rm -rf "$libexec" /usr/local/bin/evenkeel
		exit
	fi
	mkdir -p "$libexec/@V@/bin" /usr/local/bin
	[ "$0" = "$libexec/@V@/bin/evenkeel" ] || cp --remove-destination "$0" "$libexec/@V@/bin/evenkeel"
	ln -sfn "$libexec/@V@/bin/evenkeel" /usr/local/bin/evenkeel
	[ ! -e /run/no-luck-@V@ ] || { echo "no luck"; exit 1; }
	;;
esac
"""

SCENE = """\
set -eu
mount -t tmpfs tmpfs /usr/local
mount -t tmpfs tmpfs /etc
mount -t tmpfs tmpfs /run
mount -t tmpfs -o noexec tmpfs /mnt
mkdir -p /run/systemd/system /usr/local/sbin
printf '#!/bin/sh\\necho "systemctl $*" >>/run/calls\\n' >/usr/local/sbin/systemctl
chmod +x /usr/local/sbin/systemctl
cp "$1"/*.sh /mnt/
cd /mnt
ek() { set +e; $SHELL_UNDER_TEST ./ek-"$1".sh "$2" >/run/out 2>&1; code=$?; set -e; echo "$code $(head -n 1 /run/out)"; }
target() { readlink /usr/local/bin/evenkeel; }
"""


@pytest.fixture(params=["dash", "bash"])
def scene(request, tmp_path):
    if not can_unshare():
        pytest.skip("needs root and mount namespaces")
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not here")
    made = tmp_path / "made"
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        program, other = tmp_path / f"program-{version}", tmp_path / "other"
        program.write_text(PROGRAM.replace("@V@", version))
        other.write_bytes(os.urandom(3000))  # of a machine that this is not: before ours in the file, or behind
        both = {ARCH: program, OTHER_ARCH: other}
        order = both if version != "1.1.0" else dict(reversed(both.items()))
        path = package("package-vm-application", order, tmp_path / "out", "--version", version)
        made.mkdir(exist_ok=True)
        path.rename(made / f"ek-{version}.sh")
    package("package-vm-application", {OTHER_ARCH: program}, tmp_path / "out", "--version", "2.0.0").rename(made / "ek-other.sh")
    script = tmp_path / "scene.sh"

    def play(text):
        script.write_text(SCENE + textwrap.dedent(text))
        result = run("unshare", "-m", "sh", script, made, env={**os.environ, "SHELL_UNDER_TEST": request.param})
        assert result.returncode == 0, result.stderr + result.stdout
        return result.stdout.splitlines()
    return play


def test_application_installs_twice_updates_and_goes_back(scene):
    assert scene("""
        ek 1.0.0 install; ek 1.0.0 install; ek 1.1.0 update; ek 1.2.0 update; ls -A /usr/local/libexec/evenkeel
        ek 1.1.0 update; target; ls -A /usr/local/libexec/evenkeel
    """) == ["0 EvenKeel 1.0.0: installed and running"] * 2 + [
        "0 EvenKeel 1.1.0: installed and running", "0 EvenKeel 1.2.0: installed and running", "1.1.0", "1.2.0",
        "0 EvenKeel 1.1.0: installed and running", "/usr/local/libexec/evenkeel/1.1.0/bin/evenkeel", "1.1.0", "1.2.0"]


def test_application_checks_its_settings_before_it_changes_anything(scene):
    assert scene("""
        echo good >evenkeel-config
        ek 1.0.0 install; stat -c '%a %u' /etc/evenkeel/evenkeel.json; ls -A /etc/evenkeel; grep -c systemctl /run/calls
        ek 1.0.0 install; grep -c systemctl /run/calls
        echo bad >evenkeel-config
        ek 1.1.0 update; target; cat /etc/evenkeel/evenkeel.json
        ls -A /usr/local/libexec/evenkeel
    """) == ["0 EvenKeel 1.0.0: installed and running", "600 0", "evenkeel.json", "1",
             "0 EvenKeel 1.0.0: installed and running", "1",
             "3 EvenKeel 1.1.0: evenkeel-config: line 1: bad", "/usr/local/libexec/evenkeel/1.0.0/bin/evenkeel", "good", "1.0.0"]


def test_application_says_in_one_line_what_failed(scene):
    assert scene("""
        head -c -50 ek-1.1.0.sh >ek-cut.sh; ek cut install; test ! -e /usr/local/libexec/evenkeel
        ek 1.0.0 shout
        touch /run/broken; ek 1.0.0 install; rm /run/broken
        ek other install
        rmdir /run/systemd/system; ek 1.0.0 install; mkdir /run/systemd/system
        mount -t tmpfs -o noexec tmpfs /usr/local/libexec; ek 1.0.0 install; umount /usr/local/libexec
        mount -t tmpfs -o ro tmpfs /usr/local/libexec; ek 1.0.0 install; wc -l </run/out
    """) == ["10 EvenKeel 1.1.0: this file is damaged (checksum of the program differs): upload it again",
             "2 EvenKeel 1.0.0: usage: sh ./evenkeel.sh install | update | remove",
             "52 EvenKeel 1.0.0: the program cannot start: error while loading shared libraries: libssl.so.3",
             f"51 EvenKeel 2.0.0: this VM is {MACHINE}, and this package has programs for {OTHER_MACHINE} only",
             "51 EvenKeel 1.0.0: this system does not run systemd",
             "11 EvenKeel 1.0.0: programs cannot be executed in /usr/local/libexec/evenkeel (mounted noexec?)",
             "11 EvenKeel 1.0.0: cannot create /usr/local/libexec/evenkeel", "1"]


def test_application_keeps_the_former_version_when_the_new_one_fails(scene):
    assert scene("""
        ek 1.0.0 install; touch /run/no-luck-1.1.0; ek 1.1.0 update; target; tail -n 1 /run/calls
        echo newer >evenkeel-config; ek 1.1.0 update; test ! -e /etc/evenkeel/evenkeel.json
        echo good >evenkeel-config; ek 1.0.0 install; echo newer >evenkeel-config; ek 1.1.0 update
        cat /etc/evenkeel/evenkeel.json; stat -c %a /etc/evenkeel/evenkeel.json; ls -A /etc/evenkeel
    """) == ["0 EvenKeel 1.0.0: installed and running",
             "12 EvenKeel 1.1.0: the service could not be set up: no luck",
             "/usr/local/libexec/evenkeel/1.0.0/bin/evenkeel", "service install"] + [
             "12 EvenKeel 1.1.0: the service could not be set up: no luck", "0 EvenKeel 1.0.0: installed and running",
             "12 EvenKeel 1.1.0: the service could not be set up: no luck", "good", "600", "evenkeel.json"]


def test_application_removes_what_it_brought_and_no_more(scene):
    assert scene(f"""
        echo good >evenkeel-config; ek 1.0.0 install
        mount -t tmpfs tmpfs /var/lib; mkdir -p /var/lib/waagent/{HANDLER}-1.0.0
        touch /var/lib/waagent/{HANDLER}-1.0.0/HandlerManifest.json; ek 1.0.0 remove; target
        umount /var/lib; ek 1.0.0 remove; ek 1.0.0 remove; ls -A /usr/local/libexec; test ! -e /etc/evenkeel
        ek 1.0.0 install; echo other >/etc/evenkeel/evenkeel.json; ek 1.0.0 remove; cat /etc/evenkeel/evenkeel.json
    """) == ["0 EvenKeel 1.0.0: installed and running",
             f"0 EvenKeel 1.0.0: removed; program and service stay for the VM extension {HANDLER}",
             "/usr/local/libexec/evenkeel/1.0.0/bin/evenkeel"] + ["0 EvenKeel 1.0.0: removed"] * 2 + [
             "0 EvenKeel 1.0.0: installed and running", "0 EvenKeel 1.0.0: removed", "other"]


# ---- scripts ----

def test_scripts_are_clean(binary, tmp_path):
    """Ours, and those that go into packages as they stand in them."""
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not here")
    named = [path for folder in ("scripts", "scripts/lib", "debian/tests") for path in sorted((ROOT / folder).iterdir())
             if path.is_file() and (path.suffix == ".sh" or path.read_bytes().startswith((b"#!/bin/bash", b"#!/bin/sh")))]
    assert len(named) > 15
    launcher, application = tmp_path / "launcher.sh", tmp_path / "application.sh"
    with zipfile.ZipFile(package("package-zip", binary, tmp_path)) as archive:
        launcher.write_bytes(archive.read("bin/evenkeel"))
    head, end, _ = package("package-vm-application", binary, tmp_path).read_bytes().partition(b"\nexit 0\n")
    application.write_bytes(head + end)
    # SC2016; SC2317, SC2329: quoting for another program, and what a trap calls.
    done = run("shellcheck", "-x", "-e", "SC2016,SC2317,SC2329", *named, launcher, application, cwd=ROOT)
    assert done.returncode == 0, done.stdout


# ---- units ----

@pytest.fixture
def units(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    for source in (ROOT / "agent/app/units").iterdir():
        text = source.read_text().replace("@EK_BINARY@", "/bin/true").replace("@EK_HANDLER@", HANDLER)
        assert "@EK_" not in text
        (tmp_path / source.name.removesuffix(".in")).write_text(text)
    return tmp_path


def test_units_are_understood(units):
    names = [units / name for name in ("evenkeel.service", "evenkeel.socket", "evenkeel-jobs.slice", "evenkeel-drained.target")]
    result = run("systemd-analyze", "verify", "--man=no", *names)
    assert result.returncode == 0 and "evenkeel" not in result.stderr, result.stderr


def test_service_is_confined(units):
    if "--offline" not in run("systemd-analyze", "--help").stdout:
        pytest.skip("this systemd-analyze cannot judge a file")
    result = run("systemd-analyze", "security", "--offline=yes", "--threshold=18", units / "evenkeel.service")
    assert result.returncode == 0, result.stdout


# ---- texts inside the program ----

def test_embedded_text_is_the_file(tmp_path):
    text = 'a "quoted" \\ back; semi [bracket] ??/ \t tab\n\n@EK_BINARY@ @EK_HANDLER@ $x ${y} #[[ ]] 100%\nno newline at the end'
    (tmp_path / "text.in").write_text(text)
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\nextern const char the_text[];\nint main(void)\n{\n\tfputs(the_text, stdout);\n\treturn 0;\n}\n')
    (tmp_path / "CMakeLists.txt").write_text(textwrap.dedent(f"""\
        cmake_minimum_required(VERSION 3.20)
        project(embed C)
        include("{ROOT}/scripts/cmake/Embed.cmake")
        set(EK_HANDLER A.B)
        add_executable(embed main.c)
        ek_embed(embed the_text text.in)
    """))
    for argv in (("cmake", "-G", "Ninja", "-S", tmp_path, "-B", tmp_path / "b"), ("cmake", "--build", tmp_path / "b")):
        result = run(*argv)
        assert result.returncode == 0, result.stdout + result.stderr
    assert run(tmp_path / "b/embed").stdout == text.replace("@EK_HANDLER@", "A.B")
