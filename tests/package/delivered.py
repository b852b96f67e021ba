"""What the tests of the packages have in common: running the scripts that make them, and namespaces to try them in."""
import os
import pathlib
import platform
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
HANDLER = "EvenKeel.EvenKeelForLinux"
MACHINE = platform.machine()
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[MACHINE]
OTHER_ARCH, OTHER_MACHINE = {"amd64": ("arm64", "aarch64"), "arm64": ("amd64", "x86_64")}[ARCH]


def run(*argv, **options):
    options = {"timeout": 120, **options}
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, errors="replace", **options)


def made(script, *options, epoch="1700000001", timeout=120):
    """The path that one of scripts/ prints last."""
    result = run(ROOT / "scripts" / script, *options, timeout=timeout, env={**os.environ, "SOURCE_DATE_EPOCH": epoch})
    assert result.returncode == 0, result.stderr
    return pathlib.Path(result.stdout.splitlines()[-1])


def package(script, binary, out, *options, **more):
    """The same of a binary that is given, or of one for each architecture."""
    binaries = binary if isinstance(binary, dict) else {ARCH: binary}
    named = [part for arch, path in binaries.items() for part in ("--binary", f"{arch}={path}")]
    return made(script, *named, "--out", out, *options, **more)


def can_unshare():
    return os.geteuid() == 0 and run("unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt").returncode == 0
