"""Microsoft's own emulator of blob storage, over TLS, with one account; and a client of its that shares nothing with ours."""

import base64
import email.utils
import hashlib
import hmac
import http.client
import pathlib
import ssl
import subprocess
import time
from urllib.parse import quote, urlencode

import node
from stage import StageError, wait_until

VERSION = "2021-08-06"


class Azurite:
    """with Azurite(directory, certificate, account, key, port) as storage: storage.make("/box"), storage.put("/box/a", b"…")"""

    def __init__(self, directory, certificate, account, key, port):
        self.account, self.port, self._key = account, port, base64.b64decode(key)
        directory = pathlib.Path(directory)
        (directory / "cert.pem").write_text(certificate["leaf"] + "".join(certificate["issuers"]))
        (directory / "key.pem").write_text(certificate["key"])
        script = node.module("azurite") / "dist/src/blob/main.js"
        self._log = open(directory / "azurite.log", "w+b")
        self._process = subprocess.Popen(
            node.command(script, "--blobPort", str(port), "--inMemoryPersistence", "--disableTelemetry", "--silent",
                         "--skipApiVersionCheck", "--oauth", "basic", "--cert", str(directory / "cert.pem"), "--key",
                         str(directory / "key.pem"), "--extentMemoryLimit", "256"),
            cwd=directory, env={**node.environment(), "AZURITE_ACCOUNTS": f"{account}:{key}"}, stdin=subprocess.DEVNULL,
            stdout=self._log, stderr=self._log)

    def __enter__(self):
        wait_until("azurite to answer", self._answers, 60)
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def _answers(self):
        if self._process.poll() is not None:
            self._log.seek(0)
            raise StageError(f"azurite did not start: {self._log.read().decode()}")
        try:
            return self.ask("GET", "/", {"comp": "list"})[0] == 200
        except OSError:
            return False

    def _authorization(self, method, path, query, headers, body):
        """SharedKey (https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key)."""
        special = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()) if name.startswith("x-ms-"))
        resource = f"/{self.account}{path}" + "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
        length = str(len(body)) if body else ""
        text = f"{method}\n\n\n{length}\n\n\n\n\n\n\n\n\n{special}{resource}"
        signed = hmac.digest(self._key, text.encode(), hashlib.sha256)
        return f"SharedKey {self.account}:{base64.b64encode(signed).decode()}"

    def ask(self, method, path, query=None, body=b"", **headers):
        """(status, headers, body), as the account's owner."""
        path = f"/{self.account}{path}"
        headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": VERSION,
                   **{f"x-ms-{name.replace('_', '-')}": value for name, value in headers.items()}}
        headers["Authorization"] = self._authorization(method, quote(path), query or {}, headers, body)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=ssl._create_unverified_context())
        try:
            connection.request(method, quote(path) + (f"?{urlencode(query)}" if query else ""), body or None,
                               {**headers, "Content-Length": str(len(body))} if method == "PUT" else headers)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def make(self, container):
        assert self.ask("PUT", container, {"restype": "container"})[0] == 201

    def put(self, path, data, kind="BlockBlob"):
        assert self.ask("PUT", path, body=data, blob_type=kind)[0] == 201

    def get(self, path):
        """(type, bytes), or (None, None)."""
        status, headers, data = self.ask("GET", path)
        return (headers["x-ms-blob-type"], data) if status == 200 else (None, None)

    def sign(self, path, permissions):
        """The query of a service SAS of a version newer than the agent's own."""
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
        fields = [permissions, "", end, f"/blob/{self.account}{path}", "", "", "", VERSION, "b", "", "", "", "", "", "", ""]
        signature = base64.b64encode(hmac.digest(self._key, "\n".join(fields).encode(), hashlib.sha256)).decode()
        return urlencode({"sv": VERSION, "sr": "b", "sp": permissions, "se": end, "sig": signature})
