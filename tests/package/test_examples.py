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


# What a scale set's example must have, as each language says it.
PARTS = {
    ".bicep": ("'UserAssigned'", "enableAutomaticUpgrade: true", "provisionAfterExtensions: ['EvenKeelForLinux']", "mode: 'Rolling'",
               "terminateNotificationProfile: { enable: true, notBeforeTimeout: 'PT5M' }"),
    ".tf": ('"UserAssigned"', "auto_upgrade_minor_version", '= ["EvenKeelForLinux"]', 'upgrade_mode = "Rolling"', "termination_notification {"),
    ".sh": ("az vmss identity assign", "--enable-auto-upgrade true", "--provision-after-extensions EvenKeelForLinux",
            "az vmss update-instances", "--enable-terminate-notification true"),
}


@pytest.mark.parametrize("path", [path for path in BICEP + TERRAFORM + SHELL if "scale-set" in path.name or path.name == "extension.sh"],
                         ids=name)
def test_scale_sets_are_shown_whole(path):
    text = path.read_text()
    for part in PARTS[path.suffix]:
        assert part in text, part
    settings = json.loads((EXAMPLES / "settings.json").read_text())["health"]
    probe = {".bicep": r"requestPath: '/ready'\n\s*intervalInSeconds: (\d+)\n\s*probeThreshold: (\d+)",
             ".tf": r'request_path\s*= "/ready"\n\s*interval_in_seconds\s*= (\d+)\n\s*probe_threshold\s*= (\d+)',
             ".sh": r"--path /ready \\\n\s*--interval (\d+) --probe-threshold (\d+)"}[path.suffix]
    assert [int(number) for number in re.search(probe, text).groups()] == [
        settings["loadBalancerProbe"]["intervalInSeconds"], settings["loadBalancerProbe"]["unhealthyThreshold"]]
    port = settings["listen"].rpartition(":")[2]
    assert set(re.findall(r"port\b['\" ]*[:= ] *(8\d\d\d)\b", text)) == {port}


def test_both_orchestration_modes_are_shown():
    text = "".join(path.read_text() for path in TERRAFORM)
    assert "azurerm_linux_virtual_machine_scale_set" in text and "azurerm_orchestrated_virtual_machine_scale_set" in text
    assert "@allowed(['Uniform', 'Flexible'])" in (EXAMPLES / "scale-set.bicep").read_text()


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
    [machine] = [body[0] for kind, bodies in document["resource"].items() if "_machine" in kind and not kind.endswith("_extension")
                 for body in bodies.values()]
    assert machine["identity"][0]["type"] == "UserAssigned"
    extensions = {body[0]["type"]: body[0] for kind, bodies in document["resource"].items() if kind.endswith("_extension")
                  for body in bodies.values()}
    extensions |= {body["type"]: body for body in machine.get("extension", [])}
    ours = extensions[TYPE]
    assert (ours["publisher"], ours["type_handler_version"]) == (PUBLISHER, VERSION)
    # What azurerm does not have for flexible sets is told in the file.
    assert ours.get("automatic_upgrade_enabled") is True or "automatic_upgrade_enabled: switch that on" in path.read_text()
    assert "settings.json" in ours["settings"] and "var.database_url" in ours["protected_settings"]
    assert document["variable"]["database_url"][0]["sensitive"] is True
    if "ApplicationHealthLinux" in extensions:
        told = dict(re.findall(r"(\w+)\s+= \"?([^\"\n]+)\"?", extensions["ApplicationHealthLinux"]["settings"]))
        assert {key: int(value) if value.isdigit() else value for key, value in told.items()} == HEALTH
    else:
        assert "scale-set" not in path.name


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
