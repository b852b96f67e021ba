"""Key Vault's secrets over TLS: any vault by Host header, its challenges, versions, pages, conversions and errors."""

import base64
import re
import secrets
import threading
import time
import uuid

from .certificates import pfx_to_pem
from .http import Reply, Service
from .identity import TokenError
from .steering import steering

VERSIONS = ["2016-10-01", "7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-06-01-preview", "2025-07-01", "2026-04-01"]
CONVERSION_SINCE = VERSIONS.index("2025-06-01-preview")
PUBLIC = "vault.azure.net"
VALUE_MAX = 25 * 1024
PEM = "application/x-pem-file"
PFX = "application/x-pkcs12"


class _Refused(Exception):
    def __init__(self, reply):
        self.reply = reply


def _error(status, code, message, inner=None, headers=None):
    error = {"code": code, "message": message}
    if inner:
        error["innererror"] = {"code": inner}
    return Reply.json(status, {"error": error}, headers)


class _Vault:
    def __init__(self, tenant):
        self.secrets = {}  # lower-case name: versions, oldest first
        self.tenant = tenant
        self.allowed = None
        self.firewall = False
        self.listing = True
        self.versions = VERSIONS


class Vault(Service):
    name = "vault"

    def __init__(self, identities):
        self._lock = threading.RLock()
        self._identities = identities
        self._vaults = {}

    # What tests do

    @steering
    def put_secret(self, vault, name, value, content_type=None, enabled=True, exp=None, nbf=None, tags=None, managed=None):
        """A new newest version; returns its id. A certificate's secret (by its content type) is managed and has a kid.

        Versions of one secret never share a creation second, since only that tells which one is newer."""
        if not re.fullmatch("[0-9a-zA-Z-]{1,127}", name):
            raise ValueError(f"Key Vault takes no secret of that name: {name}")
        if len(value) > VALUE_MAX:
            raise ValueError(f"Key Vault takes no value above {VALUE_MAX} bytes")
        version = secrets.token_hex(16)
        with self._lock:
            versions = self._vault(vault).secrets.setdefault(name.lower(), [])
            created = max([int(time.time())] + [entry["created"] + 1 for entry in versions[-1:]])
            versions.append({"version": version, "name": name, "value": value, "content_type": content_type,
                             "enabled": enabled, "exp": exp, "nbf": nbf, "created": created, "updated": created, "tags": tags,
                             "managed": content_type in (PEM, PFX) if managed is None else managed})
        return version

    @steering
    def disable_version(self, vault, name, version=None, enabled=False):
        """Disables (or enables again) a version, the newest unless told."""
        with self._lock:
            versions = self._vault(vault).secrets[name.lower()]
            for entry in versions if version else versions[-1:]:
                if version in (None, entry["version"]):
                    entry.update(enabled=enabled, updated=int(time.time()))
                    return
        raise KeyError(f"no such version: {version}")

    @steering
    def delete_secret(self, vault, name):
        with self._lock:
            del self._vault(vault).secrets[name.lower()]

    @steering
    def set_vault(self, vault, tenant=None, allowed=None, firewall=False, newest_api_version=None, listing=True):
        """A vault's rules: its tenant (None: that of the VM), the client ids that may read (None: everyone's), a firewall
        that lets nobody in, the newest api-version known to an older cloud, whether its access policies allow to list."""
        with self._lock:
            rules = self._vault(vault)
            rules.tenant = tenant
            rules.allowed = allowed
            rules.firewall = firewall
            rules.listing = listing
            rules.versions = VERSIONS[: VERSIONS.index(newest_api_version or VERSIONS[-1]) + 1]

    def _vault(self, name):
        return self._vaults.setdefault(name.lower(), _Vault(None))

    # What the VM sees

    def failure(self, status):
        code, message = {429: ("Throttled", "Request was not processed because too many requests were received."),
                         401: ("Unauthorized", "AKV10000: Request is missing a Bearer or PoP token."),
                         403: ("Forbidden", "Caller is not authorized to perform action on resource."),
                         404: ("NotFound", "Not found")}.get(status, ("InternalServerError", "Internal Server Error"))
        return self._dress(None, _error(status, code, message))

    def handle(self, request):
        try:
            reply = self._answer(request)
        except _Refused as refused:
            reply = refused.reply
        return self._dress(request, reply)

    @staticmethod
    def _dress(request, reply):
        reply.headers.update({
            "Cache-Control": "no-cache", "x-ms-keyvault-region": "westeurope",
            "x-ms-client-request-id": request.headers.get("x-ms-client-request-id", str(uuid.uuid4())) if request
            else str(uuid.uuid4()),
            "x-ms-request-id": str(uuid.uuid4()), "x-ms-keyvault-service-version": "1.9.2784.1",
            "x-ms-keyvault-network-info": "conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;",
            "X-Content-Type-Options": "nosniff", "Strict-Transport-Security": "max-age=31536000;includeSubDomains"})
        return reply

    def _answer(self, request):
        host = request.host.rpartition(":")[0] if re.search(r":\d+$", request.host) else request.host
        name, _, suffix = host.lower().partition(".")
        if not suffix or suffix.replace(".", "").isdigit():
            suffix = PUBLIC  # localhost, an address
        with self._lock:
            vault = self._vault(name)
            claims = self._authenticate(request, vault, "https://" + suffix)
            self._authorize(vault, claims)
            if request.method != "GET":
                return _error(405, "MethodNotAllowed", f"The method {request.method} is not allowed here.",
                              headers={"Allow": "GET"})
            version = request.arg("api-version")
            if version not in vault.versions:
                return _error(400, "BadParameter", "api-version must be specified" if version is None else
                              f"The specified version ({version}) is not recognized. Consider using the latest supported "
                              f"version ({[v for v in vault.versions if 'preview' not in v][-1]}).")
            parts = [part for part in request.path.split("/") if part]
            if not parts or parts[0] != "secrets" or not 2 <= len(parts) <= 3:
                return _error(404, "NotFound", "No such resource in this fake vault.")
            if not re.fullmatch("[0-9a-zA-Z-]{1,127}", parts[1]):
                return _error(400, "BadParameter", f"The request URI contains an invalid name: {parts[1]}")
            versions = vault.secrets.get(parts[1].lower())
            if not versions:
                return self._not_found(parts[1])
            if parts[2:] == ["versions"]:
                if not vault.listing:
                    return _error(403, "Forbidden", f"The user, group or application 'appid={claims['appid']};oid={claims['oid']}' "
                                  f"does not have secrets list permission on key vault '{name};location=westeurope'.", "AccessDenied")
                return self._list(request, host, versions)
            return self._get(request, host, vault, versions, parts)

    def _authenticate(self, request, vault, resource):
        tenant = vault.tenant or self._identities.tenant
        challenge = f'Bearer authorization="https://login.microsoftonline.com/{tenant}", resource="{resource}"'

        def refuse(message, invalid=True):
            more = f', error="invalid_token", error_description="{message}"' if invalid else ""
            raise _Refused(_error(401, "Unauthorized", message, headers={"WWW-Authenticate": challenge + more}))

        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            refuse("AKV10000: Request is missing a Bearer or PoP token.", invalid=False)
        try:
            claims = self._identities.claims(token.strip())
        except TokenError as error:
            refuse({"signature": "AKV10046: Unable to resolve the key used for signature validation."}.get(
                str(error), f"AKV10001: Token validation failed: the token is {error}."))
        if claims["aud"] != resource:
            refuse(f"AKV10022: Invalid audience. Expected {resource}, found: {claims['aud']}.")
        if claims["tid"] != tenant:
            refuse(f"AKV10032: Invalid issuer. Expected one of https://sts.windows.net/{tenant}/, found {claims['iss']}.")
        return claims

    @staticmethod
    def _authorize(vault, claims):
        if vault.firewall:
            raise _Refused(_error(403, "Forbidden", "Client address is not authorized and caller is not a trusted service.\r\n"
                                  "Client address: 10.0.0.4", "ForbiddenByFirewall"))
        if vault.allowed is not None and claims["appid"] not in vault.allowed:
            raise _Refused(_error(
                403, "Forbidden", "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny "
                "assignments or role definitions were changed recently, please observe propagation time.\r\nCaller: "
                f"appid={claims['appid']};oid={claims['oid']};iss={claims['iss']}\r\nAction: "
                "'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\n",
                "ForbiddenByRbac"))

    @staticmethod
    def _not_found(name):
        return _error(404, "SecretNotFound", f"A secret with (name/id) {name} was not found in this key vault. If you recently "
                      "deleted this secret you may be able to recover it using the correct recovery command. For help "
                      "resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182")

    @staticmethod
    def _item(host, entry):
        attributes = {"enabled": entry["enabled"], "created": entry["created"], "updated": entry["updated"],
                      "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90}
        attributes.update({key: entry[key] for key in ("nbf", "exp") if entry[key] is not None})
        item = {"id": f"https://{host}/secrets/{entry['name']}/{entry['version']}", "attributes": attributes}
        if entry["content_type"]:
            item["contentType"] = entry["content_type"]
        if entry["tags"]:
            item["tags"] = entry["tags"]
        if entry["managed"]:
            item["managed"] = True
        return item

    def _list(self, request, host, versions):
        try:
            size = int(request.arg("maxresults", "25"))
            start = int(base64.urlsafe_b64decode(request.arg("$skiptoken", "MA==")))
        except ValueError:
            size = start = 0
        if not 1 <= size <= 25:
            return _error(400, "BadParameter", "maxresults must be between 1 and 25.")
        ordered = sorted(versions, key=lambda entry: entry["version"])  # as the real one: by no order in time
        following = None
        if start + size < len(ordered):
            token = base64.urlsafe_b64encode(str(start + size).encode()).decode().replace("=", "%3D")
            authority = request.host if request.host != host else f"{host}:443"
            following = (f"https://{authority}/secrets/{versions[0]['name']}/versions?api-version="
                         f"{request.arg('api-version')}&$skiptoken={token}&maxresults={size}")
        return Reply.json(200, {"value": [self._item(host, entry) for entry in ordered[start : start + size]],
                                "nextLink": following})

    def _get(self, request, host, vault, versions, parts):
        entry = versions[-1]
        if len(parts) == 3:
            entry = next((entry for entry in versions if entry["version"] == parts[2].lower()), None)
            if entry is None:
                return self._not_found("/".join(parts[1:]))
        if not entry["enabled"]:
            return _error(403, "Forbidden", "Operation get is not allowed on a disabled secret.", "SecretDisabled")
        bundle = {"value": entry["value"], **self._item(host, entry)}
        if entry["managed"]:
            bundle["kid"] = f"https://{host}/keys/{entry['name']}/{entry['version']}"
        modern = VERSIONS.index(request.arg("api-version")) >= CONVERSION_SINCE
        wanted = request.arg("outContentType")
        if wanted is not None:
            if not modern or wanted != PEM or entry["content_type"] not in (PEM, PFX):
                return _error(400, "BadParameter", f"outContentType {wanted} is not supported for this secret.")
            if entry["content_type"] == PFX:
                if "pem" not in entry:
                    entry["pem"] = pfx_to_pem(base64.b64decode(entry["value"]))
                bundle.update(value=entry["pem"], contentType=PEM)
        position = versions.index(entry)
        if modern and position > 0:
            bundle["previousVersion"] = versions[position - 1]["version"]
        return Reply.json(200, bundle)
