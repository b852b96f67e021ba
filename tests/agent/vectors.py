"""Certificates in every shape that people and vaults give them (key-vault.md G.5), made here by the openssl command."""

import base64
import pathlib
import subprocess

VALUE_MAX = 25 * 1024


def openssl(*arguments, stdin=""):
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin.encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


class Made:
    """One certificate with its key, and files of both."""

    def __init__(self, directory, name, issuer=None, key=None, algorithm="ec", authority=False, days=90, identifiers=True):
        self.directory, self.name = pathlib.Path(directory), name
        kind = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"] if algorithm == "ec" else [
            "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
        self.key = key or openssl("genpkey", *kind).decode()
        self.key_file, self.file = self.directory / f"{name}.key", self.directory / f"{name}.pem"
        self.key_file.write_text(self.key)
        extensions = [f"basicConstraints=critical,CA:{'TRUE' if authority else 'FALSE'}"]
        if identifiers:
            extensions += ["subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"]
        config = self.directory / "config"
        config.write_text("[req]\ndistinguished_name = name\n[name]\n")
        signer = ["-CA", issuer.file, "-CAkey", issuer.key_file] if issuer else []
        openssl("req", "-x509", "-new", "-config", config, "-key", self.key_file, "-subj", f"/CN={name.partition('-by-')[0]}", "-days", days,
                *(word for extension in extensions for word in ("-addext", extension)), *signer, "-out", self.file)
        self.pem = self.file.read_text()

    @property
    def thumbprint(self):
        out = openssl("x509", "-noout", "-fingerprint", "-sha1", "-in", self.file).decode()
        return out.partition("=")[2].strip().replace(":", "")


class Vectors:
    """pems(): name -> (value, full chain, key in PKCS#8); pfxs(): the same, of PKCS#12; bad(): name -> (value, content
    type, what is said)."""

    def __init__(self, directory):
        directory.mkdir()
        self.directory = directory
        self.root = Made(directory, "Root", authority=True)
        self.old_root = Made(directory, "Old Root", authority=True)
        self.cross = Made(directory, "Root-by-Old Root", self.old_root, self.root.key, authority=True)
        self.inter = Made(directory, "Inter", self.root, authority=True)
        self.ec = Made(directory, "ec.example", self.inter)
        self.rsa = Made(directory, "rsa.example", self.inter, algorithm="rsa")
        self.other = Made(directory, "other.example", self.inter)
        self.bare_root = Made(directory, "Bare Root", authority=True, identifiers=False)
        self.bare_inter = Made(directory, "Bare Inter", self.bare_root, authority=True, identifiers=False)
        self.bare = Made(directory, "bare.example", self.bare_inter, identifiers=False)

    def keys(self):
        """Of whom no line of the key may be found anywhere but in the files asked for."""
        return [self.ec.key, self.rsa.key, self.other.key, self.bare.key]

    def pems(self):
        ec, rsa, inter, root = self.ec, self.rsa, self.inter, self.root
        chain = ec.pem + inter.pem + root.pem
        usual = ec.key + chain
        sec1 = openssl("ec", "-in", ec.key_file).decode()
        parameters = openssl("ecparam", "-name", "prime256v1").decode()
        pkcs1 = openssl("rsa", "-in", rsa.key_file, "-traditional").decode()
        padding = VALUE_MAX - len(usual)
        largest = ec.key + ec.pem + "# padding\n" * (padding // 10) + "#" * (padding % 10 - 1) + "\n" * (padding % 10 > 0) + inter.pem
        largest += root.pem
        assert "RSA PRIVATE" in pkcs1 and "EC PRIVATE" in sec1 and len(largest) == VALUE_MAX
        return {
            "key-first": (usual, chain, ec.key),
            "key-last": (chain + ec.key, chain, ec.key),
            "key-in-the-middle": (root.pem + ec.key + inter.pem + ec.pem, chain, ec.key),
            "pkcs1": (pkcs1 + rsa.pem + inter.pem + root.pem, rsa.pem + inter.pem + root.pem, rsa.key),
            "rsa": (rsa.key + rsa.pem + inter.pem, rsa.pem + inter.pem, rsa.key),
            "sec1": (sec1 + chain, chain, ec.key),
            "ec-parameters": (parameters + sec1 + chain, chain, ec.key),
            "crlf": (usual.replace("\n", "\r\n"), chain, ec.key),
            "no-final-newline": (usual.rstrip("\n"), chain, ec.key),
            "bom": ("\ufeff" + usual, chain, ec.key),
            "with-text": ("Bag Attributes\n    friendlyName: web\n" + ec.key + "subject=CN = ec.example\n\n" + chain, chain, ec.key),
            "shuffled": (root.pem + inter.pem + ec.pem + ec.key, chain, ec.key),
            "duplicates": (usual + ec.pem + inter.pem + root.pem + inter.pem, chain, ec.key),
            "no-identifiers": (self.bare.key + self.bare_root.pem + self.bare_inter.pem + self.bare.pem,
                               self.bare.pem + self.bare_inter.pem + self.bare_root.pem, self.bare.key),
            "cross-signed": (ec.key + root.pem + self.old_root.pem + self.cross.pem + inter.pem + ec.pem,
                             ec.pem + inter.pem + self.cross.pem + self.old_root.pem + root.pem, ec.key),
            "without-root": (ec.key + inter.pem + ec.pem, ec.pem + inter.pem, ec.key),
            "largest": (largest, chain, ec.key),
        }

    def pfx(self, made, *how, password="", chain=()):
        path = self.directory / "one.pfx"
        certificates = self.directory / "chain.pem"
        certificates.write_text(made.pem + "".join(one.pem for one in chain))
        openssl("pkcs12", "-export", "-inkey", made.key_file, "-in", certificates, "-passout", f"pass:{password}", *how, "-out", path)
        return base64.b64encode(path.read_bytes()).decode()

    def pfxs(self):
        ec, rsa, inter, root = self.ec, self.rsa, self.inter, self.root
        shuffled, chain = (root, inter), inter.pem + root.pem
        old = ("-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1")
        one = self.pfx(ec, chain=shuffled)
        lines = "\r\n".join(one[n:n + 64] for n in range(0, len(one), 64))
        return {
            "pfx-key-vault": (self.pfx(rsa, *old, "-iter", 2000, chain=shuffled), rsa.pem + chain, rsa.key),
            "pfx-rc2": (self.pfx(rsa, "-legacy", chain=shuffled), rsa.pem + chain, rsa.key),
            "pfx-rc2-ec": (self.pfx(ec, "-legacy", chain=shuffled), ec.pem + chain, ec.key),
            "pfx-rc2-key": (self.pfx(ec, "-legacy", "-keypbe", "PBE-SHA1-RC2-40", chain=shuffled), ec.pem + chain, ec.key),
            "pfx-rc4": (self.pfx(ec, "-legacy", "-keypbe", "PBE-SHA1-RC4-128", "-certpbe", "PBE-SHA1-RC4-40", chain=shuffled),
                        ec.pem + chain, ec.key),
            "pfx-pbes2": (self.pfx(rsa, chain=shuffled), rsa.pem + chain, rsa.key),
            "pfx-ec": (self.pfx(ec, chain=shuffled), ec.pem + chain, ec.key),
            "pfx-mac-1": (self.pfx(ec, *old, "-nomaciter", chain=shuffled), ec.pem + chain, ec.key),
            "pfx-no-mac": (self.pfx(ec, "-nomac", chain=shuffled), ec.pem + chain, ec.key),
            "pfx-open": (self.pfx(ec, "-keypbe", "NONE", "-certpbe", "NONE", chain=shuffled), ec.pem + chain, ec.key),
            "pfx-leaf": (self.pfx(ec), ec.pem, ec.key),
            "pfx-lines": (lines, ec.pem + chain, ec.key),
        }

    def bad(self):
        pem, pfx = "application/x-pem-file", "application/x-pkcs12"
        ec, other = self.ec, self.other
        locked = openssl("pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:word", "-in", ec.key_file).decode()
        dear = base64.b64decode(self.pfx(ec, "-iter", 99999))
        assert dear.count(b"\x02\x03\x01\x86\x9f") >= 2
        dear = base64.b64encode(dear.replace(b"\x02\x03\x01\x86\x9f", b"\x02\x03\x7f\xff\xff")).decode()
        return {
            "two-keys": (ec.key + other.key + ec.pem, pem, "more than one private key"),
            "mismatch": (other.key + ec.pem + self.inter.pem, pem, "none of 2 certificates belongs to the private key"),
            "no-key": (ec.pem + self.inter.pem, pem, "no private key"),
            "no-certificate": (ec.key, pem, "no certificate"),
            "locked": (locked + ec.pem, pem, "the private key is encrypted"),
            "cut": ((ec.key + ec.pem)[:-60], pem, "damaged or cut off"),
            "no-pem": ("hello", pem, "no private key"),
            "empty": ("", pem, "no private key"),
            "pfx-password": (self.pfx(ec, password="word"), pfx, "the PKCS#12 has a password"),
            "pfx-dear": (dear, pfx, "iteration count"),
            "pfx-cut": (self.pfx(ec)[:400], pfx, "not readable as PKCS#12"),
            "pfx-is-text": ("hello", pfx, "not readable as PKCS#12"),
        }
