"""What tests/node/package.json names, as scripts/bootstrap has installed it: programs and modules for node."""

import os
import pathlib
import shutil

from required import need

SOURCE = pathlib.Path(__file__).resolve().parents[2]
DIRECTORY = pathlib.Path(os.environ.get("EK_NODE_DIR") or SOURCE / "build" / "node")


def module(name):
    """The directory of an installed module. Skips the test where it is missing, but on CI it must be there."""
    directory = DIRECTORY / "node_modules" / name
    there = shutil.which("node") and (directory / "package.json").is_file()
    need(None if there else f"needs node and {name} in {DIRECTORY}: run scripts/bootstrap")
    return directory


def command(script, *arguments):
    """argv that runs a script file with the installed modules in reach."""
    return ["node", str(script), *arguments]


def environment():
    """The environment for it: modules are found from scripts that stand elsewhere, too."""
    return dict(os.environ, NODE_PATH=str(DIRECTORY / "node_modules"))
