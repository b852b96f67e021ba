"""The published schema against the documents of tests/data/settings, by an implementation that is not ours."""
import json
import os
import pathlib
import subprocess

import pytest

SOURCE = pathlib.Path(os.environ["EK_TEST_SOURCE_DIR"])
BINARY = pathlib.Path(os.environ["EK_TEST_BINARY_DIR"])
DATA = SOURCE / "tests" / "data" / "settings"
GOOD = ["django.json", "nginx.json", "spot.json", "vault-v1.json", "vault-v3.json", "vault-v4.json"]


@pytest.fixture(scope="module")
def validator():
    jsonschema = pytest.importorskip("jsonschema")
    text = subprocess.run([BINARY / "tests" / "settings_schema"], check=True, capture_output=True, timeout=30).stdout
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", GOOD)
def test_documents_are_valid(validator, name):
    document = json.loads((DATA / name).read_text())
    assert [f"{list(e.absolute_path)}: {e.message}" for e in validator.iter_errors(document)] == []


@pytest.mark.parametrize("document", [
    {},
    {"timestamp": 5, "$schema": "https://x/"},
    {"commandToExecute": "sh a.sh", "fileUris": ["https://h/a.sh"], "skipDos2Unix": True},
    {"drain": {"shutdown": {}, "steps": [{"type": "waitForConnections", "ports": "fromLoadBalancer"},
                                         {"type": "waitForConnections", "ports": [80, 443]}]}},
    {"notify": {"webhooks": [{"name": "a", "url": "https://h/"}]}},
])
def test_more_that_is_valid(validator, document):
    assert [e.message for e in validator.iter_errors(document)] == []


@pytest.mark.parametrize("document", [
    [],
    {"drian": {}},
    {"secrets": {"a": "b"}},
    {"drain": {"leadInSeconds": -1}},
    {"drain": {"leadInSeconds": "60"}},
    {"drain": {"steps": [{"type": "stopUnits", "units": []}]}},
    {"drain": {"steps": [{"type": "sleep"}]}},
    {"drain": {"steps": [{"command": ["a"]}]}},
    {"drain": {"steps": [{"type": "run", "command": ["a"], "units": ["a.service"]}]}},
    {"drain": {"policy": [{"action": "reboot"}]}},
    {"customScript": {}},
    {"customScript": {"scripts": []}},
    {"customScript": {"scripts": [{"name": "-a", "commandToExecute": "x"}]}},
    {"notify": {"webhooks": [{"name": "a", "url": "https://h/", "hmacKey": "open"}]}},
    {"keyRefresh": {"certificates": [{"name": "a"}]}},
    {"health": {"loadBalancerProbe": {"intervalInSeconds": 0}}},
])
def test_mistakes_are_seen(validator, document):
    assert list(validator.iter_errors(document)) != []
