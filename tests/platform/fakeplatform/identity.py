"""Managed identities: tokens from IMDS, and the check that vaults and blobs make of them."""

import base64
import hashlib
import hmac
import json
import os
import secrets
import threading
import time
import uuid

from .http import Reply
from .steering import steering

TENANT = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
SELECTORS = ("client_id", "object_id", "msi_res_id", "mi_res_id")
VERSIONS = ["2018-02-01", "2018-10-01", "2019-08-01", "2019-08-15", "2019-11-01", "2020-06-01", "2021-02-01", "2023-07-01"]
AUDIENCES = ("https://vault.azure.net", "https://vault.azure.cn", "https://vault.usgovcloudapi.net",
             "https://storage.azure.com", "https://management.azure.com")


def _encode(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class TokenError(Exception):
    pass


class Identities:
    """set_identity() describes them; the default is one system-assigned identity."""

    def __init__(self):
        self._lock = threading.Lock()
        self._key = secrets.token_bytes(32)
        self._cache = {}
        self._revoked_before = 0
        self._issued = 0
        self._lifetime = 86400
        self._error = None
        self._arc_directory = None
        self._arc_realm = None
        self._arc_keys = {}
        self._audiences = set(AUDIENCES)
        self.set_identity({"system": {"client_id": "5e29463d-0000-4000-8000-000000000001",
                                      "object_id": "5e29463d-0000-4000-8000-000000000002"}})

    @property
    def tenant(self):
        return self._tenant

    @steering
    def set_identity(self, identity):
        """{"system": {"client_id", "object_id"} | None, "user": [{"client_id", "object_id", "resource_id"}], "tenant": id}.

        Names left out mean none; tokens given before stay valid."""
        unknown = set(identity) - {"system", "user", "tenant"}
        if unknown:
            raise ValueError(f"unknown names in identity: {sorted(unknown)}")
        with self._lock:
            self._system = identity.get("system")
            self._user = list(identity.get("user") or [])
            self._tenant = identity.get("tenant", TENANT)
            self._cache.clear()

    @steering
    def set_token(self, lifetime_in_seconds=86400, error=None, audiences=None):
        """Lifetime of new tokens; error: {"status", "error", "error_description"} for each token request until reset;
        audiences: the resources this tenant knows."""
        with self._lock:
            self._lifetime = lifetime_in_seconds
            self._error = error
            if audiences is not None:
                self._audiences = set(audiences)
            self._cache.clear()

    @steering
    def revoke_tokens(self):
        """Tokens given so far are refused by their audience; IMDS still has them cached, unless bypass_cache=true."""
        with self._lock:
            self._revoked_before = self._issued + 1

    @steering
    def set_arc(self, directory=None, realm=None):
        """Tokens as on a server outside Azure: each costs a Basic challenge, answered by a key file that is written to
        directory, once. realm: the directory as it is told to the agent, where that sees another root. None: off."""
        with self._lock:
            self._arc_directory = directory
            self._arc_realm = realm or directory

    # IMDS

    def handle(self, request):
        if request.path.rstrip("/") == "/metadata/identity/info":
            return Reply.json(200, {"tenantId": self._tenant})
        if request.path.rstrip("/") != "/metadata/identity/oauth2/token":
            return self._refuse(404, "not_found", "Not found")
        with self._lock:
            if self._arc_directory and not self._arc_answered(request):
                return self._arc_challenge()
            return self._token(request)

    def _arc_answered(self, request):
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        path = self._arc_keys.pop(key, None) if scheme.lower() == "basic" else None
        if path and os.path.exists(path):
            os.unlink(path)
        return path is not None

    def _arc_challenge(self):
        name, key = f"{uuid.uuid4()}.key", secrets.token_hex(32)
        path = os.path.join(self._arc_directory, name)
        with open(path, "w", encoding="ascii", opener=lambda path, flags: os.open(path, flags, 0o640)) as file:
            file.write(key)
        self._arc_keys[key] = path
        reply = self._refuse(401, "unauthorized_client", "Missing Basic Authorization header")
        reply.headers["WWW-Authenticate"] = f"Basic realm={os.path.join(self._arc_realm, name)}"
        return reply

    @staticmethod
    def _refuse(status, error, description):
        return Reply.json(status, {"error": error, "error_description": description})

    def _token(self, request):
        if self._error:
            return self._refuse(self._error.get("status", 400), self._error.get("error", "invalid_request"),
                                self._error.get("error_description", ""))
        resource = request.arg("resource")
        if not resource:
            return self._refuse(400, "invalid_request", "Required audience parameter not specified")
        chosen = [name for name in SELECTORS if request.arg(name) is not None]
        if len(chosen) > 1:
            return self._refuse(400, "invalid_request", "client_id, object_id and msi_res_id are mutually exclusive")
        selector = chosen[0] if chosen else None
        if selector is None and not self._system and len(self._user) > 1:
            return self._refuse(400, "invalid_request", "Multiple user assigned identities exist, please specify the "
                                "clientId / resourceId of the identity in the token request")
        identity = self._select(selector, request.arg(selector) if selector else None)
        if identity is None:
            return self._refuse(400, "invalid_request", "Identity not found")
        if resource.rstrip("/") not in self._audiences:
            return self._refuse(400, "invalid_resource", f"AADSTS500011: The resource principal named {resource} was not "
                                f"found in the tenant named {self._tenant}.")
        return Reply.json(200, self._issue(identity, resource, selector, request.arg("bypass_cache") == "true"))

    def _select(self, selector, wanted):
        if selector is None:
            return self._system or (self._user[0] if self._user else None)
        field = "resource_id" if selector.endswith("res_id") else selector
        for identity in ([self._system] if self._system else []) + self._user:
            if identity.get(field, "").lower() == wanted.lower():
                return identity
        return None

    def _issue(self, identity, resource, selector, bypass_cache):
        now = int(time.time())
        key = (identity["client_id"], resource)
        claims = self._cache.get(key)
        if bypass_cache or not claims or claims["exp"] - now < self._lifetime / 2:
            self._issued += 1
            claims = {"aud": resource, "iss": f"https://sts.windows.net/{self._tenant}/", "tid": self._tenant, "iat": now,
                      "nbf": now, "exp": now + self._lifetime, "appid": identity["client_id"],
                      "oid": identity.get("object_id", ""), "serial": self._issued}
            self._cache[key] = claims
        signed = _encode(b'{"typ":"JWT","alg":"HS256"}') + "." + _encode(json.dumps(claims).encode())
        token = signed + "." + _encode(hmac.digest(self._key, signed.encode(), "sha256"))
        answer = {"access_token": token, "client_id": identity["client_id"], "expires_in": str(claims["exp"] - now),
                  "expires_on": str(claims["exp"]), "ext_expires_in": str(claims["exp"] - now),
                  "not_before": str(claims["nbf"]), "resource": resource, "token_type": "Bearer"}
        if selector == "object_id":
            answer["object_id"] = identity["object_id"]
        elif selector and selector.endswith("res_id"):
            answer["msi_res_id"] = identity["resource_id"]
        return answer

    # Audiences

    def claims(self, token):
        """The claims of a token of ours; TokenError says what is wrong with any other."""
        try:
            head, payload, signature = token.split(".")
            expected = hmac.digest(self._key, f"{head}.{payload}".encode(), "sha256")
            if not hmac.compare_digest(expected, _decode(signature)):
                raise ValueError("signature")
            claims = json.loads(_decode(payload))
        except ValueError:
            raise TokenError("signature") from None
        if claims["exp"] <= time.time():
            raise TokenError("expired")
        if claims["serial"] < self._revoked_before:
            raise TokenError("revoked")
        return claims

    @steering
    def token_hash(self, token):
        """How the journal names a token: the part after "sha256:" in an Authorization header."""
        return hashlib.sha256(token.encode()).hexdigest()
