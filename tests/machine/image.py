"""The base tree of the booted test machines: Debian 12 with systemd and waagent.

It is made once by debootstrap, never changed afterwards (machines lay an overlay on it), and cached
under a name that is a hash of what it is made of. A tree is renamed to that name only when it is
whole, so an interrupted build can leave a work directory behind but never a broken tree.

`python3 image.py` makes it ahead of the tests and prints where it is.
"""

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

SUITE = "bookworm"

PACKAGES = (
    # what a Debian image on Azure boots with
    "systemd", "systemd-sysv", "dbus", "waagent", "python3", "python3-distro", "openssl",
    "iproute2", "procps", "ca-certificates", "curl", "acl",
    # a real application to drain and to give certificates to, and what refuses probes
    "nginx-light", "nftables",
    # the other package manager, for our other package
    "rpm",
    # what our Debian build links with
    "libcurl4", "libjson-c5", "libmicrohttpd12", "libsystemd0", "libssl3", "zlib1g",
)

# What the lab (tests/lab) has besides: a load balancer, and a web application worth keeping up.
LAB_PACKAGES = PACKAGES + ("haproxy", "gunicorn", "python3-flask")

# A machine that cloud-init boots (test_cloud_init.py), with what our program links with.
CLOUD_PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "python3", "iproute2", "procps", "ca-certificates", "cloud-init",
    # debootstrap does not find out that this is what one of its dependencies calls python3-cffi-backend-api-min
    "python3-cffi-backend",
    "libcurl4", "libjson-c5", "libmicrohttpd12", "libsystemd0", "libssl3", "zlib1g",
)

# Raise it when build() changes what it makes out of the same packages.
RECIPE = 1


class ImageError(Exception):
    pass


def cache_directory():
    """Where trees are kept: $EK_MACHINE_CACHE, or build/machine-cache of this source tree."""
    given = os.environ.get("EK_MACHINE_CACHE")
    if given:
        return pathlib.Path(given).resolve()
    return pathlib.Path(__file__).resolve().parents[2] / "build" / "machine-cache"


def tree(packages=PACKAGES):
    """Where the tree for this list of packages is, or will be."""
    made_of = "\n".join([SUITE, str(RECIPE), *sorted(packages)])
    return cache_directory() / f"{SUITE}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"


def host_mirror():
    """The archive that this host's own apt takes SUITE from, or another release of Debian: they are all on one mirror."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages", "Component: main",
         "Origin: Debian"], check=True, capture_output=True, text=True).stdout
    found = [line.split(" ", 1) for line in listed.splitlines()]
    for codename, uri in found:
        if codename == SUITE:
            return uri
    for codename, uri in found:
        if "security" not in codename:
            return uri
    raise ImageError(f"no apt source of this host has Debian's main: add one of {SUITE}, or name a finished tree's cache in $EK_MACHINE_CACHE")


def build(directory, packages):
    """Makes the tree with these packages in a new directory."""
    # in mounts of its own: nothing that debootstrap mounts in the tree can outlive it, whatever stops it
    command = ["unshare", "--mount", "--", "debootstrap", "--variant=minbase", "--merged-usr",
               f"--include={','.join(packages)}", SUITE, str(directory), host_mirror()]
    # dpkg need not survive a power cut here: half a tree is thrown away
    environment = dict(os.environ, DPKG_FORCE="unsafe-io", DEBIAN_FRONTEND="noninteractive", LC_ALL="C")
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        log = directory / "debootstrap" / "debootstrap.log"
        detail = log.read_text(errors="replace") if log.exists() else ""
        raise ImageError(f"debootstrap of {SUITE} failed with {done.returncode}:\n{done.stdout[-2000:]}\n{detail[-4000:]}")
    for package in (directory / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()
    # every machine gets names of its own, and nobody's name server
    for name in ("etc/hostname", "etc/resolv.conf", "etc/machine-id"):
        (directory / name).write_text("")


def ensure(packages=PACKAGES):
    """Returns the base tree, made now if there is none for this list of packages."""
    whole = tree(packages)
    if whole.is_dir():
        return whole
    if os.geteuid() != 0:
        raise ImageError("debootstrap needs root")
    whole.parent.mkdir(parents=True, exist_ok=True)
    with open(whole.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if whole.is_dir():
            return whole
        half = whole.with_name(f"{whole.name}.building")
        if half.exists():
            shutil.rmtree(half)
        build(half, packages)
        half.rename(whole)
    return whole


if __name__ == "__main__":
    try:
        print(ensure())
    except ImageError as error:
        sys.exit(f"image: {error}")
