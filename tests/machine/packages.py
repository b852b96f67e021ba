"""The packages as they are shipped, built from this source tree by its own scripts; once for each state of the tree."""

import functools
import hashlib
import pathlib
import shutil
import subprocess
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "machine-packages"

SOURCES = ("CMakeLists.txt", "CMakePresets.json", "LICENSE", "agent", "handlers", "manifest", "debian", "scripts")


class PackageError(Exception):
    pass


@functools.cache
def state():
    """A hash of everything that packages are made of."""
    hashed = hashlib.sha256()
    for name in SOURCES:
        top = ROOT / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                hashed.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
                hashed.update(path.read_bytes())
    return hashed.hexdigest()[:16]


@functools.cache
def built(script, *arguments):
    """What one of scripts/ makes with these arguments: the path that it prints last."""
    directory = OUT / "-".join([script, *arguments, state()]).replace("--", "")
    known = directory / "path"
    if not known.exists():
        done = subprocess.run([str(ROOT / "scripts" / script), *arguments, "--out", str(directory)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise PackageError(f"scripts/{script} failed with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}")
        known.write_text(done.stdout.splitlines()[-1])
        forget_others(script, *arguments)
    return pathlib.Path(known.read_text())


def forget_others(script, *arguments):
    """Packages of former states of the tree."""
    name = "-".join([script, *arguments, ""]).replace("--", "")
    for directory in OUT.glob(f"{name}*"):
        if directory.name != name + state():
            shutil.rmtree(directory)


def extension(version):
    return built("package-zip", "--arch", "native", "--version", version)


def in_front(version, name, program, like):
    """A package of this version in which a program stands in front of ours; else it is the extension of version `like`."""
    source = extension(like)
    target = source.with_name(f"{name}-{version}.zip")
    with zipfile.ZipFile(source) as good, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as changed:
        for entry in good.namelist():
            data = good.read(entry)
            changed.writestr(entry, data.replace(b"bin/evenkeel ", f"bin/{name} ".encode()) if entry == "HandlerManifest.json" else data)
        changed.writestr(f"bin/{name}", program)
    return target


def broken(version, verb, like):
    """A package of this version that fails in one of the agent's commands; in all others it is the extension of version `like`."""
    return in_front(version, f"broken-{verb}", f'#!/bin/sh\n[ "$1" != {verb} ] || {{ echo "broken on purpose" >&2; exit 1; }}\n'
                                               'exec "$(dirname "$0")/evenkeel" "$@"\n', like)


def vm_application(version):
    return built("package-vm-application", "--arch", "native", "--version", version)


def debian():
    """Nothing less than a package in which lintian finds nothing."""
    return built("package-deb", "--lint")


def debian_of_version(package, version):
    """The same package under another version: what dpkg and its scripts make of an upgrade depends on that alone."""
    target = package.with_name(f"evenkeel_{version}.deb")
    if target.exists():
        return target
    tree = package.parent / "tree"
    if tree.exists():
        shutil.rmtree(tree)
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True)
    control = tree / "DEBIAN" / "control"
    lines = [f"Version: {version}" if line.startswith("Version:") else line for line in control.read_text().splitlines()]
    control.write_text("\n".join(lines) + "\n")
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", str(tree), str(target)], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return target
