"""The examples for publishing and deploying: settings that are valid, files that are there, versions that are this one."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
import node  # noqa: E402

EXAMPLES = ROOT / "manifest/examples"
PROGRAM = pathlib.Path(os.environ.get("EK_TEST_BINARY_DIR", ROOT / "build/dev")) / "agent/app/evenkeel"
LISTS = (ROOT / "CMakeLists.txt").read_text()
PUBLISHER, TYPE = (re.search(rf'set\(EK_{name} "([^"]+)"', LISTS)[1] for name in ("PUBLISHER", "TYPE"))
VERSION = re.match(r"\d+\.\d+", re.search(r"^project\(evenkeel VERSION ([\d.]+)", LISTS, re.MULTILINE)[1])[0]
BICEP, TERRAFORM, SHELL = (sorted(EXAMPLES.glob(f"*.{suffix}")) for suffix in ("bicep", "tf", "sh"))
HEALTH = {"protocol": "http", "port": 8008, "requestPath": "/app-health", "intervalInSeconds": 5, "numberOfProbes": 2,
          "gracePeriod": 600}


def name(path):
    return path.name


def run(*argv, **options):
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60, **options)


def test_settings_are_valid():
    answer = run(PROGRAM, "validate", "--secrets", EXAMPLES / "protected.json", EXAMPLES / "settings.json")
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("path", BICEP + TERRAFORM + SHELL, ids=name)
def test_files_that_are_named_are_there(path):
    text = path.read_text()
    named = re.findall(r"(?:loadJsonContent\('|file\(\"\$\{path\.module\}/|settings )([\w-]+\.json)", text)
    for file in named:
        assert (EXAMPLES / file).is_file(), file
    assert named or "application" in path.name


def test_the_load_balancer_probes_as_the_settings_say():
    settings = json.loads((EXAMPLES / "settings.json").read_text())["health"]
    probe = re.search(r"name: 'ready'\n\s*properties: \{(.*?)\}", (EXAMPLES / "scale-set.bicep").read_text(), re.DOTALL)[1]
    told = dict(re.findall(r"(\w+): '?([^'\n]+)'?", probe))
    assert int(told["intervalInSeconds"]) == settings["loadBalancerProbe"]["intervalInSeconds"]
    assert int(told["probeThreshold"]) == settings["loadBalancerProbe"]["unhealthyThreshold"]
    assert told["port"] == settings["listen"].rpartition(":")[2] and told["requestPath"] == "/ready"


@pytest.mark.parametrize("path", BICEP, ids=name)
def test_bicep_is_whole_and_of_this_version(path):
    text = re.sub(r"//.*", "", path.read_text())
    outside = re.sub(r"'(?:[^'\\]|\\.)*'", "''", text)
    opened = []
    for character in outside:
        if character in "([{":
            opened.append(character)
        elif character in ")]}":
            assert opened and "([{".index(opened.pop()) == ")]}".index(character)
    assert not opened
    declared = set(re.findall(r"^(?:param|var|resource) (\w+)", text, re.MULTILINE))
    for used in re.findall(r"\$\{(\w+)", text):
        assert used in declared, used
    assert f"'{PUBLISHER}'" in text and f"'{TYPE}'" in text
    assert re.search(r"typeHandlerVersion: '([^']+)'", text)[1] == VERSION
    for secret in re.findall(r"protectedSettings: (.*)", text):
        assert secret == "protectedSettings", "secrets come from outside"
    if "HealthExtension" in text:
        body = re.search(r"provisionAfterExtensions.*?settings: \{(.*?)\}", text, re.DOTALL)[1]
        told = {key: int(value) if value.isdigit() else value for key, value in re.findall(r"(\w+): '?([^'\n]+)'?", body)}
        assert told == HEALTH


@pytest.fixture(scope="module")
def terraform():
    node.module("hcl2-parser")
    code = ("const hcl = require('hcl2-parser'), fs = require('fs');"
            "const [all, problem] = hcl.parseToObject(fs.readFileSync(0, 'utf8'));"
            "if (problem) { console.error(String(problem)); process.exit(1); } console.log(JSON.stringify(all));")

    def parse(path):
        answer = run("node", "-e", code, input=path.read_text(), env=node.environment())
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    return parse


@pytest.mark.parametrize("path", TERRAFORM, ids=name)
def test_terraform_parses_and_is_of_this_version(path, terraform):
    document = terraform(path)
    extensions = {label: body[0] for kind, bodies in document["resource"].items() for label, body in bodies.items()
                  if kind.endswith("_extension")}
    ours = extensions["evenkeel"]
    assert (ours["publisher"], ours["type"], ours["type_handler_version"]) == (PUBLISHER, TYPE, VERSION)
    assert ours["automatic_upgrade_enabled"] is True and "settings.json" in ours["settings"]
    assert "var.database_url" in ours["protected_settings"]
    secret = document["variable"]["database_url"][0]
    assert secret["sensitive"] is True
    if "health" in extensions:
        told = dict(re.findall(r"(\w+)\s+= \"?([^\"\n]+)\"?", extensions["health"]["settings"]))
        assert {key: int(value) if value.isdigit() else value for key, value in told.items()} == HEALTH


@pytest.mark.parametrize("path", SHELL, ids=name)
def test_commands_are_sound(path):
    assert os.access(path, os.X_OK)
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck here")
    answer = run("shellcheck", path)
    assert answer.returncode == 0, answer.stdout
    text = path.read_text()
    if "az vm extension" in text:
        assert re.findall(r"--publisher EvenKeel --name (\S+) --version (\S+)", text) == [(TYPE, VERSION)] * 2
        assert HEALTH == json.loads(re.search(r"--settings '(\{.*\})'", text)[1])
