"""A handler for the Azure Linux Agent in one small script: it notes what it is told and says so in its status."""

import json
import zipfile

NAME = "EvenKeel.ScriptTest"

# where the handler notes its commands: not in its own directory, which the agent deletes
NOTES = "/var/lib/script-test/commands"

HANDLER = r'''#!/usr/bin/python3
import base64, hashlib, json, os, subprocess, sys

command = sys.argv[1]
version = os.environ["AZURE_GUEST_AGENT_EXTENSION_VERSION"]
number = os.environ["ConfigSequenceNumber"]
os.makedirs("/var/lib/script-test", exist_ok=True)
with open("/var/lib/script-test/commands", "a") as notes:
    print(command, version, number, file=notes)
if command != "enable":
    sys.exit(0)

with open(f"config/{number}.settings") as file:
    settings = json.load(file)["runtimeSettings"][0]["handlerSettings"]
key = "../" + settings["protectedSettingsCertThumbprint"]
secret = subprocess.run(
    ["openssl", "cms", "-inform", "DER", "-decrypt", "-recip", key + ".crt", "-inkey", key + ".prv"],
    input=base64.b64decode(settings["protectedSettings"]), stdout=subprocess.PIPE, check=True).stdout
message = f"{settings['publicSettings']['greeting']} and {json.loads(secret)['word']} from {version}"
status = {"name": "script", "operation": "Enable", "status": "success", "code": 0,
          "formattedMessage": {"lang": "en-US", "message": message}}
with open(f"status/{number}.status.new", "w") as file:
    json.dump([{"version": 1.0, "timestampUTC": "2026-11-20T08:00:00Z", "status": status}], file)
os.rename(f"status/{number}.status.new", f"status/{number}.status")
'''


def build(path, version):
    """Writes the handler's package; every version has a file of its own name, to tell the directories apart."""
    commands = {f"{command}Command": f"handler.py {command}" for command in ("install", "enable", "disable", "update", "uninstall")}
    manifest = [{"name": NAME, "version": 1.0, "handlerManifest": {
        **commands, "rebootAfterInstall": False, "reportHeartbeat": False, "updateMode": "UpdateWithInstall"}}]
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("HandlerManifest.json", json.dumps(manifest))
        package.writestr("handler.py", HANDLER)
        package.writestr(f"this-is-{version}", "")
    return path
