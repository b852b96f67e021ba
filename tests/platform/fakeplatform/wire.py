"""WireServer (168.63.129.16): goal states, packages and the tenant certificate go down, health, telemetry, status come up."""

import base64
import json
import os
import re
import tempfile
import textwrap
import threading
import time

from . import goalstate
from .certificates import make_pfx, openssl, thumbprint
from .http import Reply, Service
from .steering import steering

WIRE_VERSIONS = ("2012-11-30", "2015-04-05")
STATUSES_MAX = 2000
TRANSPORT_CIPHERS = {"AES128_CBC": "-aes128", "DES_EDE3_CBC": "-des3"}
SETTINGS_CIPHERS = {"des3": "-des3", "aes256": "-aes256"}
PLUGIN_KEYS = {"name", "version", "state", "seq_no", "public_settings", "protected_settings", "depends_on_level", "depends_on"}


class _Tenant:
    """The certificate that protected settings are encrypted for."""

    def __init__(self):
        with tempfile.TemporaryDirectory() as scratch:
            key, certificate = os.path.join(scratch, "key"), os.path.join(scratch, "certificate")
            openssl("req", "-x509", "-nodes", "-newkey", "rsa:2048", "-keyout", key, "-out", certificate, "-days", "365",
                    "-subj", "/DC=Windows Azure CRP Certificate Generator")
            with open(key, encoding="ascii") as file:
                self.key = file.read()
            with open(certificate, encoding="ascii") as file:
                self.certificate = file.read()
        self.thumbprint = thumbprint(self.certificate)

    def encrypt(self, text, cipher):
        return base64.b64encode(cms_encrypt(text.encode(), self.certificate, SETTINGS_CIPHERS[cipher])).decode()


def cms_encrypt(data, certificate, cipher):
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(certificate)
        file.flush()
        return openssl("cms", "-encrypt", "-binary", "-outform", "DER", cipher, file.name, stdin=data)


class WireServer(Service):
    name = "wire"

    def __init__(self):
        self._changed = threading.Condition(threading.RLock())
        self._incarnation = 1
        self._ticks = 638000000000000000
        self._plugins = []
        self._cipher = "aes256"
        self._sealed = {}  # encrypted texts, so that one goal state reads the same each time
        self._tenant = None
        self._packages = {}
        self._statuses = []
        self._next_status = 0
        self._health = []
        self._telemetry = []

    # What tests do

    @steering
    def publish_extension(self, name, version, zip_path):
        """Makes a package available to goal states; the file is read now."""
        with open(zip_path, "rb") as file:
            data = file.read()
        with self._changed:
            self._packages.setdefault(name, {})[version] = data

    @steering
    def set_goal_state(self, plugins, cipher="aes256"):
        """The extensions that the VM shall have; returns the new incarnation.

        plugins: [{"name", "version", "state" ("enabled" or "uninstall"), "seq_no" (None: no settings at all),
        "public_settings", "protected_settings" (a plain object, encrypted here with cipher "des3" or "aes256"),
        "depends_on_level", "depends_on" ([handler names])}]."""
        if cipher not in SETTINGS_CIPHERS:
            raise ValueError(f"no such cipher: {cipher}")
        for plugin in plugins:
            if unknown := set(plugin) - PLUGIN_KEYS:
                raise ValueError(f"unknown names in plugin {plugin.get('name')}: {sorted(unknown)}")
            if plugin["version"] not in self._packages.get(plugin["name"], {}):
                raise ValueError(f"not published: {plugin['name']} {plugin['version']}")
        with self._changed:
            self._plugins = [dict(plugin) for plugin in plugins]
            self._cipher = cipher
            return self._renew()

    @steering
    def rotate_tenant_certificate(self):
        """A new tenant certificate and a goal state that is encrypted for it; returns {"thumbprint", "incarnation"}."""
        with self._changed:
            self._tenant = _Tenant()
            return {"thumbprint": self._tenant.thumbprint, "incarnation": self._renew()}

    @steering
    def tenant_certificate(self):
        """{"thumbprint", "certificate", "key"} as PEM, for tests that play the agent's part."""
        tenant = self._current_tenant()
        return {"thumbprint": tenant.thumbprint, "certificate": tenant.certificate, "key": tenant.key}

    @steering
    def encrypt_settings(self, settings, cipher="aes256"):
        """protectedSettings as a settings file carries it, for tests without an agent."""
        return self._current_tenant().encrypt(json.dumps(settings), cipher)

    @steering
    def statuses(self):
        """Each status blob received, oldest first: {"number", "time", "incarnation", "status"}."""
        with self._changed:
            return list(self._statuses)

    @steering
    def next_status(self, after=-1, timeout=10):
        """The first report with a number above `after`; for -1 the last one there is. Waits for it; None when none came."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = [entry for entry in self._statuses if entry["number"] > after]
                if found:
                    return found[-1] if after < 0 else found[0]
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)

    @steering
    def latest_handler_status(self, name):
        """The handler's entry in the last report, None when it is not in it."""
        from .control import handler_entry

        with self._changed:
            return handler_entry(self._statuses[-1]["status"], name) if self._statuses else None

    @steering
    def reports(self):
        """Health and telemetry as received: {"health": [xml], "telemetry": [xml]}."""
        with self._changed:
            return {"health": list(self._health), "telemetry": list(self._telemetry)}

    def _renew(self):
        self._incarnation += 1
        self._ticks += 1
        self._sealed.clear()
        self._changed.notify_all()
        return self._incarnation

    def _current_tenant(self):
        with self._changed:
            if not self._tenant:
                self._tenant = _Tenant()  # at its first use: RSA keys take their time
            return self._tenant

    # What comes up

    def receive_status(self, text):
        """Stores one status blob; ValueError when it is not one."""
        status = json.loads(text)
        if not isinstance(status, dict) or "aggregateStatus" not in status:
            raise ValueError("not a status blob")
        goal = (status["aggregateStatus"].get("vmArtifactsAggregateStatus") or {}).get("goalStateAggregateStatus") or {}
        with self._changed:
            self._statuses.append({"number": self._next_status, "time": time.time(), "status": status,
                                   "incarnation": int(goal["inSvdSeqNo"]) if "inSvdSeqNo" in goal else None})
            del self._statuses[:-STATUSES_MAX]
            self._next_status += 1
            self._changed.notify_all()

    # What the VM sees

    def handle(self, request):
        parts = [part for part in request.path.split("/") if part]
        component = (request.arg("comp") or "").lower()
        if not parts and request.method == "GET" and component == "versions":
            return Reply.xml(200, goalstate.VERSIONS)
        if parts[:1] == ["extensions"] and request.method in ("GET", "HEAD"):
            return self.artifact(request.path, f"http://{request.host}")
        if parts[:1] == ["status"] and request.method == "PUT":
            return self._put_status(request)
        if parts == ["HealthService"] and request.method == "POST":
            return Reply(200)
        if parts[:1] != ["machine"]:
            return Reply(404)
        if request.headers.get("x-ms-version") not in WIRE_VERSIONS:
            return Reply.xml(400, "<Error><Code>InvalidVersion</Code><Message>x-ms-version is missing or unknown</Message></Error>")
        handler = {("GET", "goalstate"): self._goal_state, ("GET", "config"): self._config,
                   ("GET", "certificates"): self._certificates, ("POST", "health"): self._post_health,
                   ("POST", "telemetrydata"): self._post_telemetry,
                   ("POST", "roleproperties"): lambda request: Reply(202)}.get((request.method, component))
        if not handler:
            return Reply(404)
        with self._changed:
            return handler(request)

    def artifact(self, path, base):
        """A version manifest or package by its path; the host plugin serves the same."""
        match = re.fullmatch(r"/extensions/([^/]+)/(manifest\.xml|([^/]+)\.zip)", path)
        with self._changed:
            versions = self._packages.get(match[1], {}) if match else {}
            if versions and match[2] == "manifest.xml":
                return Reply.xml(200, goalstate.version_manifest(base, match[1], versions))
            if versions and match[3] in versions:
                return Reply(200, versions[match[3]], "application/octet-stream")
        return Reply(404)

    def _put_status(self, request):
        if request.headers.get("x-ms-blob-type") != "BlockBlob":
            return Reply(400)
        try:
            self.receive_status(request.body)
        except ValueError:
            return Reply(400)
        return Reply(201)

    def _goal_state(self, request):
        return Reply.xml(200, goalstate.goal_state(f"http://{request.host}", self._incarnation))

    def _config(self, request):
        if request.arg("incarnation") != str(self._incarnation):
            return Reply(410)  # the agent then asks for the goal state again
        kind = request.arg("type")
        if kind == "hostingEnvironmentConfig":
            return Reply.xml(200, goalstate.hosting_environment(self._incarnation))
        if kind == "sharedConfig":
            return Reply.xml(200, goalstate.shared_config(self._incarnation))
        if kind == "extensionsConfig":
            return Reply.xml(200, goalstate.extensions_config(
                f"http://{request.host}", self._incarnation, self._ticks, self._plugins, self._seal,
                self._current_tenant().thumbprint))
        return Reply(404)

    def _seal(self, text):
        if text not in self._sealed:
            self._sealed[text] = self._current_tenant().encrypt(text, self._cipher)
        return self._sealed[text]

    def _certificates(self, request):
        transport = request.headers.get("x-ms-guest-agent-public-x509-cert")
        cipher = TRANSPORT_CIPHERS.get(request.headers.get("x-ms-cipher-name"))
        if not transport or not cipher:
            return Reply(400)
        if request.arg("incarnation") != str(self._incarnation):
            return Reply(410)
        tenant = self._current_tenant()
        bundle = make_pfx(tenant.key + tenant.certificate, "aes256")
        armour = "\n".join(["-----BEGIN CERTIFICATE-----", *textwrap.wrap(transport, 64), "-----END CERTIFICATE-----", ""])
        cms = cms_encrypt(bundle, armour, cipher)
        lines = "\n".join(textwrap.wrap(base64.b64encode(cms).decode(), 64))
        return Reply.xml(200, goalstate.certificate_file(self._incarnation, lines))

    def _post_health(self, request):
        self._health.append(request.body.decode(errors="replace"))
        return Reply(200)

    def _post_telemetry(self, request):
        self._telemetry.append(request.body.decode(errors="replace"))
        del self._telemetry[:-STATUSES_MAX]
        return Reply(200)
