"""The packages as they are shipped, built from this source tree by its own scripts; once for each state of the tree."""

import fcntl
import functools
import hashlib
import pathlib
import re
import shutil
import subprocess
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "machine-packages"

SOURCES = ("CMakeLists.txt", "CMakePresets.json", "LICENSE", "agent", "handlers", "manifest", "debian", "rpm", "scripts")


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
    OUT.mkdir(parents=True, exist_ok=True)
    # Tests in other processes want the same.
    with open(OUT / f"{script}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
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


def rpm():
    """Compiled without optimising: what is looked at is the package."""
    return built("package-rpm", "--quick")


def unpacked_rpm(package, directory):
    directory.mkdir(parents=True)
    subprocess.run(f"rpm2cpio '{package}' | (cd '{directory}' && cpio --extract --make-directories --quiet)", shell=True, check=True)
    return directory


def rpm_of_version(package, version):
    """Built again by its own spec, with its own scriptlets, out of the files of the first build: only the version is another."""
    target = package.with_name(package.name.replace(package.name.split("-")[1], version))
    if target.exists():
        return target
    work = package.parent / "again"
    if work.exists():
        shutil.rmtree(work)
    source = unpacked_rpm(next(package.parent.glob("*.src.rpm")), work / "SOURCES")
    files = unpacked_rpm(package, work / "files")
    spec = (source / "evenkeel.spec").read_text()
    former = re.search(r"^Version:\s*(.*)$", spec, re.M).group(1)
    spec = re.sub(r"^Version:.*$", f"Version: {version}", spec, flags=re.M)
    spec = re.sub(r"^Source0:.*$", f"Source0: %{{name}}-{former}.tar.gz", spec, flags=re.M)
    spec = spec.replace("%setup -q", f"%setup -q -n %{{name}}-{former}")
    # The documents are installed out of the source tree by %files.
    spec = re.sub(r"^%build\n.*?^%install\n.*?^(?=%if|%post)",
                  f"%install\nmkdir -p %{{buildroot}}\ncp -a {files}/. %{{buildroot}}/\n"
                  "rm -rf %{buildroot}%{_docdir}/evenkeel-* %{buildroot}%{_datadir}/licenses\n\n",
                  spec, flags=re.M | re.S)
    (work / "evenkeel.spec").write_text(spec)
    subprocess.run(["rpmbuild", "-bb", "--quiet", "--nodeps", "--without", "check", "--define", f"_topdir {work}",
                    "--define", "debug_package %{nil}", "--define", "_build_id_links none", str(work / "evenkeel.spec")],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shutil.copy(next(work.glob("RPMS/*/*.rpm")), target)
    shutil.rmtree(work)
    return target
