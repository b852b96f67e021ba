"""Which label SELinux's policy has for a path: Debian's own policy, as scripts/bootstrap has unpacked it, asked through libselinux,
on any kernel. Nothing is labelled here."""

import bz2
import ctypes
import errno
import os
import pathlib
import shutil
import struct

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
DIRECTORY = pathlib.Path(os.environ.get("EK_SELINUX_DIR") or SOURCE / "build/selinux")
# A policy of another distribution, its rules in order, for a look by hand; with its aliases beside it (.subs_dist).
OTHER = os.environ.get("EK_SELINUX_CONTEXTS")

PACKAGE, CONTEXTS = 0xF97CFF8F, 0xF97CFF90  # magic numbers of a module package and of its part with rules for paths
META = set(".^$?*+|[({")
LABEL_FILE, OPTION_PATH = 0, 3


def rules(module):
    """Lines "REGEX [TYPE] LABEL" of a module package (.pp.bz2)."""
    data = bz2.decompress(module.read_bytes())
    magic, _, parts = struct.unpack_from("<III", data)
    assert magic == PACKAGE, module
    offsets = [*struct.unpack_from(f"<{parts}I", data, 12), len(data)]
    for begin, end in zip(offsets, offsets[1:]):
        if struct.unpack_from("<I", data, begin)[0] == CONTEXTS:
            for line in data[begin + 4:end].decode().splitlines():
                if line.startswith("/"):
                    yield line


def precedence(line):
    """Of the rules that fit a path libselinux takes the last, so those that say more come later, in the order that semodule writes
    them in: without a pattern, a longer beginning before the pattern, longer, and for one kind of file."""
    words = line.split()
    length = stem = 0
    pattern = False
    characters = iter(words[0])
    for c in characters:
        pattern = pattern or c in META
        if c == "\\":
            next(characters, None)
        length += 1
        if not pattern:
            stem = length
    return not pattern, stem, length, len(words) == 3


class Option(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("value", ctypes.c_char_p)]


class Policy:
    """policy.type_of("/usr/bin/env", stat.S_IFREG)"""

    def __init__(self, directory):
        if OTHER:
            path = pathlib.Path(OTHER)
        else:
            path = self.compile(directory)
        self._library = ctypes.CDLL("libselinux.so.1", use_errno=True)
        self._library.selabel_open.restype = ctypes.c_void_p
        self._library.selabel_lookup_raw.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_char_p, ctypes.c_int]
        self._library.freecon.argtypes = [ctypes.c_void_p]
        self._library.freecon.restype = None
        self._handle = self._library.selabel_open(LABEL_FILE, ctypes.byref(Option(OPTION_PATH, os.fsencode(path))), 1)
        assert self._handle, os.strerror(ctypes.get_errno())

    @staticmethod
    def compile(directory):
        """file_contexts, and beside it what paths are aliases of others."""
        modules = sorted((DIRECTORY / "usr/share/selinux/default").glob("*.pp.bz2"))
        if not modules:
            reason = f"needs Debian's SELinux policy in {DIRECTORY}: run scripts/bootstrap"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        path = directory / "file_contexts"
        path.write_text("\n".join(sorted((line for module in modules for line in rules(module)), key=precedence)) + "\n")
        shutil.copy(DIRECTORY / "etc/selinux/default/contexts/files/file_contexts.subs_dist", f"{path}.subs_dist")
        return path

    def type_of(self, path, kind):
        """bin_t of system_u:object_r:bin_t:s0; None where the policy leaves the label as it is."""
        label = ctypes.c_void_p()
        if self._library.selabel_lookup_raw(self._handle, ctypes.byref(label), os.fsencode(path), kind) < 0:
            assert ctypes.get_errno() == errno.ENOENT, f"{path}: {os.strerror(ctypes.get_errno())}"
            return None
        try:
            return ctypes.string_at(label).decode().split(":")[2]
        finally:
            self._library.freecon(label)
