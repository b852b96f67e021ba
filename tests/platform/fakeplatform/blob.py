"""Blob storage: ranges, conditions, append blobs; public, SAS-signed or token access, with Azure's XML errors."""

import base64
import email.utils
import hmac
import re
import secrets
import threading
import time
import uuid
from datetime import datetime, timezone
from urllib.parse import urlencode

from .http import Reply, Service
from .identity import TokenError
from .steering import steering

ACCOUNT = "fakeaccount"
APPEND_MAX = 4 << 20
STORAGE_AUDIENCE = "https://storage.azure.com"
ACCESS = ("public", "sas", "token")
SAS_VERSION = "2018-03-28"


class _Blob:
    def __init__(self, data, access, kind="BlockBlob", content_type="application/octet-stream"):
        self.access = access
        self.kind = kind
        self.content_type = content_type
        self.blocks = 0
        self.replace(data)

    def replace(self, data):
        self.data = bytes(data)
        self.modified = time.time()
        self.etag = f'"0x{secrets.token_hex(8).upper()}"'


class _Refused(Exception):
    def __init__(self, status, code, message, detail=None, headers=None):
        self.reply = _error(status, code, message, detail, headers)


def _error(status, code, message, detail=None, headers=None):
    more = f"<AuthenticationErrorDetail>{detail}</AuthenticationErrorDetail>" if detail else ""
    text = (f'\ufeff<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}\n'
            f"RequestId:{uuid.uuid4()}\nTime:{datetime.now(timezone.utc).isoformat()}</Message>{more}</Error>")
    return Reply(status, text.encode(), "application/xml", {"x-ms-error-code": code, **(headers or {})})


def _iso_seconds(text):
    for form in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d"):
        try:
            return datetime.strptime(text, form).replace(tzinfo=timezone.utc).timestamp()
        except ValueError:
            continue
    raise ValueError(text)


class BlobStore(Service):
    name = "blob"

    def __init__(self, identities):
        self._lock = threading.RLock()
        self._identities = identities
        self._blobs = {}
        self._keys = {}
        self._default_key = base64.b64encode(secrets.token_bytes(64)).decode()
        self._public_access = True
        self._allowed = None

    # What tests do

    @steering
    def put_blob(self, path, data, access="public", content_type="application/octet-stream"):
        """A block blob at /container/name. access says what a read needs: nothing ("public"), a SAS, or a token ("token").

        A correct SAS or token is accepted everywhere, and a wrong one refused everywhere; writes always need one."""
        if access not in ACCESS:
            raise ValueError(f"no such access: {access}")
        with self._lock:
            self._blobs[self._key(path)] = _Blob(data, access, content_type=content_type)

    @steering
    def get_blob(self, path):
        """Its bytes, None if there is none."""
        with self._lock:
            blob = self._blobs.get(self._key(path))
            return blob and blob.data

    @steering
    def delete_blob(self, path):
        with self._lock:
            del self._blobs[self._key(path)]

    @steering
    def make_sas(self, path, permissions="r", expires_in_seconds=3600, account=ACCOUNT):
        """The query string of a service SAS for one blob (r read, a add, c create, w write, d delete)."""
        fields = {"sv": SAS_VERSION, "sr": "b", "sp": permissions,
                  "se": datetime.fromtimestamp(time.time() + expires_in_seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")}
        return urlencode({**fields, "sig": self._signature(account, self._key(path), fields)})

    @steering
    def set_storage(self, account=ACCOUNT, key=None, public_access=True, allowed=None):
        """The account's key (base64); whether anonymous reads are allowed at all; the client ids whose tokens have a role."""
        with self._lock:
            if key is not None:
                base64.b64decode(key, validate=True)
                self._keys[account] = key
            self._public_access = public_access
            self._allowed = allowed

    @steering
    def storage_key(self, account=ACCOUNT):
        return self._keys.get(account, self._default_key)

    @staticmethod
    def _key(path):
        return "/" + path.lstrip("/")

    # Who may

    def _signature(self, account, path, fields):
        """Of a service SAS; https://learn.microsoft.com/rest/api/storageservices/create-service-sas, string-to-sign."""
        version = fields.get("sv", "")
        order = ["sp", "st", "se", "RESOURCE", "si", "sip", "spr", "sv"]
        if version >= "2018-11-09":
            order += ["sr", "SNAPSHOT"]
        if version >= "2020-12-06":
            order += ["ses"]
        order += ["rscc", "rscd", "rsce", "rscl", "rsct"]
        resource = f"/blob/{account}{path}" if fields.get("sr") == "b" else f"/blob/{account}/{path.split('/')[1]}"
        text = "\n".join(resource if name == "RESOURCE" else fields.get(name, "") for name in order)
        return base64.b64encode(hmac.digest(base64.b64decode(self.storage_key(account)), text.encode(), "sha256")).decode()

    def _check_sas(self, request, needed):
        def refuse(detail):
            raise _Refused(403, "AuthenticationFailed", "Server failed to authenticate the request. Make sure the value of "
                           "Authorization header is formed correctly including the signature.", detail)

        if repeated := request.repeated_arg():
            refuse(f"{repeated} is specified more than once")
        fields = dict(request.query)
        if fields.get("sr") not in ("b", "c"):
            refuse("sr is mandatory. Cannot be empty")
        try:
            start, end = _iso_seconds(fields.get("st", "2000-01-01")), _iso_seconds(fields.get("se", ""))
        except ValueError:
            refuse("Signature fields not well formed.")
        host = request.host.partition(":")[0]
        account = host.split(".")[0] if ".blob." in host else ACCOUNT
        expected = self._signature(account, request.path, fields)
        if not hmac.compare_digest(expected.encode(), fields.get("sig", "").encode()):
            refuse("Signature did not match. String to sign used was not the one that was signed.")
        if not start <= time.time() < end:
            refuse(f"Signed expiry time [{email.utils.formatdate(end, usegmt=True)}] must be after signed start time and now")
        if not set(needed) & set(fields.get("sp", "")):
            raise _Refused(403, "AuthorizationPermissionMismatch",
                           "This request is not authorized to perform this operation using this permission.")

    def _check_token(self, request):
        challenge = {"WWW-Authenticate": f"Bearer authorization_uri=https://login.microsoftonline.com/"
                                         f"{self._identities.tenant}/oauth2/authorize resource_id={STORAGE_AUDIENCE}"}
        message = ("Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly "
                   "including the signature.")
        scheme, _, token = request.headers["authorization"].partition(" ")
        if request.headers.get("x-ms-version", "") < "2017-11-09":
            raise _Refused(403, "AuthenticationFailed", message, "Bearer tokens need x-ms-version 2017-11-09 or later")
        if scheme.lower() != "bearer":
            raise _Refused(403, "AuthenticationFailed", message, f"Authentication scheme {scheme} is not supported")
        try:
            claims = self._identities.claims(token.strip())
        except TokenError as error:
            raise _Refused(401, "InvalidAuthenticationInfo", message, f"the token is {error}", challenge) from None
        if claims["aud"].rstrip("/") != STORAGE_AUDIENCE:
            raise _Refused(401, "InvalidAuthenticationInfo", message, "Audience validation failed", challenge)
        if self._allowed is not None and claims["appid"] not in self._allowed:
            raise _Refused(403, "AuthorizationPermissionMismatch",
                           "This request is not authorized to perform this operation using this permission.")

    def _authorize(self, request, needed):
        if "authorization" in request.headers:
            self._check_token(request)
        elif request.arg("sig") is not None:
            self._check_sas(request, needed)
        elif needed != "r":
            raise _Refused(401, "NoAuthenticationInformation",
                           "Server failed to authenticate the request. Please refer to the information in the "
                           "www-authenticate header.", headers={"WWW-Authenticate": "Bearer"})
        elif not self._public_access:
            raise _Refused(409, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")
        else:
            blob = self._blobs.get(request.path)
            if blob and blob.access != "public":
                # A private container hides its blobs from the anonymous.
                raise _Refused(404, "ResourceNotFound", "The specified resource does not exist.")

    # What the VM sees

    def failure(self, status):
        code, message = {403: ("AuthenticationFailed", "Server failed to authenticate the request."),
                         404: ("BlobNotFound", "The specified blob does not exist."),
                         429: ("TooManyRequests", "Too many requests."),
                         500: ("InternalError", "Server encountered an internal error."),
                         503: ("ServerBusy", "The server is busy.")}.get(status, ("Error", "Error."))
        return self._dress(_error(status, code, message))

    def handle(self, request):
        try:
            with self._lock:
                reply = self._answer(request)
        except _Refused as refused:
            reply = refused.reply
        return self._dress(reply)

    @staticmethod
    def _dress(reply):
        reply.headers.update({"Server": "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0", "x-ms-request-id": str(uuid.uuid4()),
                              "x-ms-version": SAS_VERSION})
        return reply

    def _answer(self, request):
        if request.method in ("GET", "HEAD"):
            self._authorize(request, "r")
            return self._read(request, self._existing(request))
        if request.method == "PUT" and request.arg("comp") == "appendblock":
            self._authorize(request, "aw")
            return self._append(request, self._existing(request))
        if request.method == "PUT" and request.arg("comp") is None:
            self._authorize(request, "cw")
            return self._create(request)
        if request.method == "DELETE":
            self._authorize(request, "d")
            self._existing(request)
            del self._blobs[request.path]
            return Reply(202)
        raise _Refused(405, "UnsupportedHttpVerb", "The resource doesn't support specified Http Verb.")

    def _existing(self, request):
        blob = self._blobs.get(request.path)
        if not blob:
            raise _Refused(404, "BlobNotFound", "The specified blob does not exist.")
        if request.headers.get("if-match", blob.etag) not in (blob.etag, "*"):
            raise _Refused(412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
        return blob

    def _read(self, request, blob):
        headers = {"ETag": blob.etag, "Last-Modified": email.utils.formatdate(blob.modified, usegmt=True),
                   "Accept-Ranges": "bytes", "x-ms-blob-type": blob.kind}
        if request.headers.get("if-none-match") == blob.etag:
            return Reply(304, headers=headers)
        wanted = request.headers.get("x-ms-range", request.headers.get("range", ""))
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
        if not match:  # Azure gives the whole blob for a range that it does not understand, suffix ranges too
            return Reply(200, blob.data, blob.content_type, headers)
        first, last = int(match[1]), min(int(match[2] or len(blob.data)), len(blob.data) - 1)
        if first >= len(blob.data):
            raise _Refused(416, "InvalidRange", "The range specified is invalid for the current size of the resource.",
                           headers={"Content-Range": f"bytes */{len(blob.data)}"})
        if last < first:
            return Reply(200, blob.data, blob.content_type, headers)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(blob.data)}"
        return Reply(206, blob.data[first : last + 1], blob.content_type, headers)

    def _create(self, request):
        kind = request.headers.get("x-ms-blob-type")
        if kind not in ("BlockBlob", "AppendBlob"):
            raise _Refused(400, "MissingRequiredHeader" if kind is None else "InvalidHeaderValue",
                           "An HTTP header that's mandatory for this request is not specified or invalid: x-ms-blob-type.")
        if kind == "AppendBlob" and request.body:
            raise _Refused(400, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.")
        if request.headers.get("if-none-match") == "*" and request.path in self._blobs:
            raise _Refused(409, "BlobAlreadyExists", "The specified blob already exists.")
        blob = self._blobs[request.path] = _Blob(request.body, "sas", kind, request.headers.get(
            "x-ms-blob-content-type", request.headers.get("content-type", "application/octet-stream")))
        return Reply(201, headers={"ETag": blob.etag, "Last-Modified": email.utils.formatdate(blob.modified, usegmt=True)})

    def _append(self, request, blob):
        if blob.kind != "AppendBlob":
            raise _Refused(409, "InvalidBlobType", "The blob type is invalid for this operation.")
        if not request.body:
            raise _Refused(400, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.")
        if len(request.body) > APPEND_MAX:
            raise _Refused(413, "RequestBodyTooLarge", "The request body is too large and exceeds the maximum permissible limit.")
        position = request.headers.get("x-ms-blob-condition-appendpos")
        if position is not None and position != str(len(blob.data)):
            raise _Refused(412, "AppendPositionConditionNotMet", "The append position condition specified was not met.")
        limit = request.headers.get("x-ms-blob-condition-maxsize")
        if limit is not None and len(blob.data) + len(request.body) > int(limit):
            raise _Refused(412, "MaxBlobSizeConditionNotMet", "The max blob size condition specified was not met.")
        offset = len(blob.data)
        blob.replace(blob.data + request.body)
        blob.blocks += 1
        return Reply(201, headers={"ETag": blob.etag, "Last-Modified": email.utils.formatdate(blob.modified, usegmt=True),
                                   "x-ms-blob-append-offset": str(offset), "x-ms-blob-committed-block-count": str(blob.blocks)})
