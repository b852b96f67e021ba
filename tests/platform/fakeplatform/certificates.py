"""Certificates of every kind, made by the openssl command: the platform's own and those that tests put into vaults."""

import base64
import hashlib
import os
import re
import ssl
import subprocess
import tempfile
import threading
import time
from datetime import datetime, timezone

from .steering import steering

TLS_NAMES = ("*.vault.azure.net", "*.vault.azure.cn", "*.vault.usgovcloudapi.net", "*.blob.core.windows.net",
             "*.blob.core.chinacloudapi.cn", "*.blob.core.usgovcloudapi.net", "localhost")
KEYS = {"ec": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "rsa2048": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]}
PFX = {"keyvault": ["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1", "-iter", "2000"],
       "aes256": [], "rc2-40": ["-legacy"]}

_CONFIG = """
[ca]
default_ca = here
[here]
database = {dir}/index
new_certs_dir = {dir}
rand_serial = yes
default_md = sha256
unique_subject = no
policy = any
[any]
commonName = supplied
[leaf]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
{leaf}
[issuer]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def openssl(*arguments, stdin=b""):
    done = subprocess.run(["openssl", *arguments], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _date(when):
    return datetime.fromtimestamp(when, timezone.utc).strftime("%Y%m%d%H%M%SZ")


def thumbprint(pem):
    return hashlib.sha1(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()


def pem_blocks(pem, kind):
    return [block + "\n" for block in re.findall(f"-----BEGIN {kind}-----.*?-----END {kind}-----", pem, re.DOTALL)]


def pfx_to_pem(pfx):
    """As Key Vault converts: the key as PKCS#8 first, then the certificates, nothing between the blocks."""
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "pfx")
        with open(path, "wb") as file:
            file.write(pfx)
        text = openssl("pkcs12", "-legacy", "-in", path, "-nodes", "-passin", "pass:").decode()
    return "".join(pem_blocks(text, "PRIVATE KEY") + pem_blocks(text, "CERTIFICATE"))


class Certificate:
    """One certificate with its key, both PEM text."""

    def __init__(self, pem, key, not_before, not_after):
        self.pem = pem
        self.key = key
        self.not_before = not_before
        self.not_after = not_after


class Authority:
    """The platform's own certificate authority; its root is ca.pem."""

    def __init__(self, state_dir):
        self._lock = threading.RLock()
        self._tls_context = None
        self._tls_kind = "good"
        self._tls_names = TLS_NAMES
        self._intermediate = None
        self._root = self._issue("Fake Platform Root", None, "ec", "issuer", time.time() + 3650 * 86400)
        self.ca_file = os.path.join(state_dir, "ca.pem")
        with open(self.ca_file, "w", encoding="ascii") as file:
            file.write(self._root.pem)

    def _issue(self, common_name, issuer, key, section, not_after, not_before=None, leaf_extensions=""):
        not_after = int(not_after)
        not_before = int(min(time.time() - 60, not_after - 3600) if not_before is None else not_before)
        key_pem = openssl("genpkey", *KEYS[key]).decode()
        with tempfile.TemporaryDirectory() as scratch:
            def path(name, content=None):
                full = os.path.join(scratch, name)
                if content is not None:
                    with open(full, "w", encoding="ascii") as file:
                        file.write(content)
                return full

            config = path("config", _CONFIG.format(dir=scratch, leaf=leaf_extensions))
            path("index", "")
            key_file = path("key", key_pem)
            openssl("req", "-new", "-key", key_file, "-subj", f"/CN={common_name}", "-out", path("request"))
            signer = ["-selfsign", "-keyfile", key_file]
            if issuer:
                signer = ["-cert", path("issuer", issuer.pem), "-keyfile", path("issuer-key", issuer.key)]
            openssl("ca", "-batch", "-config", config, "-extensions", section, "-notext", *signer,
                    "-startdate", _date(not_before), "-enddate", _date(not_after), "-in", path("request"),
                    "-out", path("certificate"))
            with open(path("certificate"), encoding="ascii") as file:
                pem = file.read()
        return Certificate(pem, key_pem, not_before, not_after)

    def _issuers(self, chain):
        if chain == 0:
            return []
        if chain == 1:
            return [self._root]
        if chain == 2:
            with self._lock:
                if not self._intermediate:
                    self._intermediate = self._issue("Fake Platform Intermediate", self._root, "ec", "issuer",
                                                     time.time() + 3000 * 86400)
            return [self._intermediate, self._root]
        raise ValueError("chain is 0 (self-signed), 1 or 2 issuers")

    @steering
    def make_certificate(self, common_name, days=90, key="rsa2048", chain=0, lifetime_in_seconds=None, not_before=None,
                         names=None, server_auth=True, pfx="keyvault"):
        """{"pem", "pfx_base64", "thumbprint", "notBefore", "notAfter", "key", "leaf", "issuers"}.

        pem is as Key Vault makes it: key first, leaf, issuers up to the root. chain: 0 self-signed, 1 or 2 issuers. pfx is
        its encryption: "keyvault" (3DES), "aes256" or "rc2-40". A negative lifetime has expired. Times are unix seconds."""
        now = time.time()
        end = now + (days * 86400 if lifetime_in_seconds is None else lifetime_in_seconds)
        issuers = self._issuers(chain)
        extensions = "subjectAltName = " + ", ".join(f"DNS:{name}" for name in names or [common_name])
        if server_auth:
            extensions += "\nextendedKeyUsage = serverAuth"
        leaf = self._issue(common_name, issuers[0] if issuers else None, key, "leaf", end, not_before, extensions)
        pem = leaf.key + leaf.pem + "".join(issuer.pem for issuer in issuers)
        return {"pem": pem, "pfx_base64": base64.b64encode(make_pfx(pem, pfx)).decode(), "thumbprint": thumbprint(leaf.pem),
                "notBefore": leaf.not_before, "notAfter": leaf.not_after, "key": leaf.key, "leaf": leaf.pem,
                "issuers": [issuer.pem for issuer in issuers]}

    # The TLS side of vaults and blobs

    @steering
    def set_tls_certificate(self, kind="good", names=()):
        """What vaults and TLS blobs show from the next connection on: good, expired, untrusted or wrong-name; names are
        host names beside the usual ones."""
        if kind not in ("good", "expired", "untrusted", "wrong-name"):
            raise ValueError(f"no such kind of certificate: {kind}")
        with self._lock:
            self._tls_kind = kind
            self._tls_names = (*TLS_NAMES, *names)
            self._tls_context = None

    def tls_context(self):
        with self._lock:
            if not self._tls_context:
                self._tls_context = self._make_tls_context(self._tls_kind)
            return self._tls_context

    def _make_tls_context(self, kind):
        names = [f"DNS:{name}" for name in self._tls_names] + ["IP:127.0.0.1"]
        extensions = "subjectAltName = " + ("DNS:wrong.example" if kind == "wrong-name" else ", ".join(names))
        end = time.time() + (-3600 if kind == "expired" else 30 * 86400)
        own = self._issue("Fake Platform", None if kind == "untrusted" else self._root, "ec", "leaf", end,
                          leaf_extensions=extensions + "\nextendedKeyUsage = serverAuth")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(own.key + own.pem)
            file.flush()
            context.load_cert_chain(file.name)
        return context


def make_pfx(pem, encryption="keyvault"):
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        return openssl("pkcs12", "-export", *PFX[encryption], "-in", file.name, "-passout", "pass:")
