"""The architecture's arrows where the linker does not see them: what each source file includes."""

import fnmatch
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = sorted(path for top in ("agent", "handlers") for path in (ROOT / top).rglob("*.[ch]"))

# The layers that a layer may include, beside itself.
BELOW = {
    "agent/base": set(),
    "agent/codec": {"agent/base"},
    "agent/core": {"agent/base", "agent/codec"},
    "agent/io": {"agent/base"},
    "agent/azure": {"agent/base", "agent/codec", "agent/core", "agent/io"},
}
LAYERS_OF_HANDLERS = {"handlers/common", *BELOW}

# The libraries, and the only files that know them.
LIBRARIES = {
    "json-c/*": "agent/codec/json*.[ch]",
    "curl/*": "agent/io/http*.[ch]",
    "microhttpd.h": "agent/io/listener*.[ch]",
    "systemd/*": "agent/io/*.[ch]",
    "openssl/*": "agent/codec/*.[ch]",
    "zlib.h": "agent/codec/gzip.c",
}
PRIVATE = ("*_internal.h", "*_private.h")

# What would let core act, or ask the clock.
FORBIDDEN_IN_CORE = ("unistd.h", "fcntl.h", "dirent.h", "time.h", "pthread.h", "sys/*")


def included(path, form):
    return re.findall(rf"^\s*#\s*include\s+{form}", path.read_text(), re.MULTILINE)


def relative(path):
    return path.relative_to(ROOT).as_posix()


def layer(name):
    return "/".join(name.split("/")[:2])


@pytest.mark.parametrize("name", [*BELOW, "agent/app", "handlers"])
def test_there_is_something_to_look_at(name):
    assert any(relative(path).startswith(f"{name}/") for path in SOURCES)


def test_layers_include_only_what_is_below_them():
    wrong = []
    for path in SOURCES:
        here = layer(relative(path))
        if here == "agent/app":
            continue
        allowed = {here} | (LAYERS_OF_HANDLERS if here.startswith("handlers/") else BELOW[here])
        wrong += [f"{relative(path)}: {name}" for name in included(path, '"([^"]+)"') if layer(name) not in allowed]
    assert wrong == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_known_to_few_files(library):
    users = [path for path in SOURCES if fnmatch.filter(included(path, "<([^>]+)>"), library)]
    assert users
    assert [relative(path) for path in users if not fnmatch.fnmatch(relative(path), LIBRARIES[library])] == []
    public = [relative(path) for path in users if path.suffix == ".h" and not any(fnmatch.fnmatch(path.name, p) for p in PRIVATE)]
    assert public == []


def test_core_is_pure():
    wrong = [f"{relative(path)}: {name}" for path in SOURCES if layer(relative(path)) == "agent/core"
             for name in included(path, "<([^>]+)>") if any(fnmatch.fnmatch(name, f) for f in FORBIDDEN_IN_CORE)]
    assert wrong == []
