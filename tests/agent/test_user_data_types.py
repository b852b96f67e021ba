"""Our reading of user data against cloud-init's own code: every part of every input has the same type and the same bytes, and what
cloud-init gives up we do not run either."""

import base64
import binascii
import bz2
import gzip
import io
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import textwrap
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest

ROOT = pathlib.Path(os.environ.get("EK_TEST_SOURCE_DIR") or pathlib.Path(__file__).resolve().parents[2])
sys.path.insert(0, str(ROOT / "tests/support"))
PROBE = pathlib.Path(os.environ.get("EK_TEST_BINARY_DIR") or ROOT / "build/dev") / "tests/userdata_probe"

import cloudinit_oracle  # noqa: E402
from required import need  # noqa: E402

# What we name and cloud-init has no word for, or the reverse, is not in the way of a comparison of types.
SCRIPTS = {"text/x-shellscript", "text/x-shellscript-per-boot", "text/x-shellscript-per-instance"}
BLANKS = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"
SH = b"#!/bin/sh\necho hello\n"
PREFIXES = ["#include", "#include-once", "#!", "#cloud-config", "#part-handler", "#cloud-boothook", "#cloud-config-archive",
            "#cloud-config-jsonp", "## template: jinja"]
GZIP_TYPES = ["application/gzip", "application/gzip-compressed", "application/gzipped", "application/x-compress",
              "application/x-compressed", "application/x-gunzip", "application/x-gzip", "application/x-gzip-compressed"]


def entity(headers, body):
    return b"\n".join([*(line.encode() for line in headers), b"", body])


def mime(body, *headers):
    return entity(["MIME-Version: 1.0", *headers], body)


def multipart(*parts, boundary="BB", headers=(), end=b"--BB--\n", preamble=b"ignored\n", newline=b"\n"):
    """parts: whole entities."""
    joined = b"".join(b"--" + boundary.encode() + newline + part + newline for part in parts)
    data = mime(preamble + joined + end, f'Content-Type: multipart/mixed; boundary="{boundary}"', *headers)
    return data.replace(b"\n", newline) if newline != b"\n" else data


def uuencode(data):
    lines = [b"begin 644 file"]
    lines += [binascii.b2a_uu(data[i:i + 45]).rstrip(b"\n") for i in range(0, len(data), 45)]
    return b"\n".join([*lines, b"`", b"end", b""])


def plain():
    for prefix in PREFIXES:
        for form in (prefix, prefix.upper(), prefix.title(), "\n  " + prefix, prefix + "x", prefix[:-1], "x" + prefix, "\ufeff" + prefix):
            yield (form + "\nline\n").encode()
    for blank in BLANKS:
        yield (blank + "#!/bin/sh\n").encode()
    yield from (b"", b" ", b"\n", b"#", b"# comment", b"key=value", b"{}", b"\xff\xfe\0\1", b"#!/bin/sh \xff\xfe", b"\xff#!/bin/sh",
                b"#!", b"#!/bin/sh", b"#!/bin/sh\r\necho\r\n", b"\0#!/bin/sh", b"#!/bin/sh\0")


def zipped():
    whole = gzip.compress(SH)
    yield from (whole, whole[:-3], whole + b"\0\0\0", whole + b"garbage", whole + gzip.compress(b"echo more\n"), whole[:10], whole[:2],
                whole[:-8] + b"\0" * 8, b"\x1f\x8b\x08 not gzip", b"\x1f\x8b\x07" + whole[3:], gzip.compress(b""), gzip.compress(whole),
                gzip.compress(b"#cloud-config\n"), gzip.compress(b"\xff\xfe"), bz2.compress(SH),
                gzip.compress(multipart(entity(["Content-Type: text/x-shellscript"], SH))))
    named = io.BytesIO()
    with gzip.GzipFile("a name", "wb", 9, named) as file:
        file.write(SH)
    yield named.getvalue()


def messages():
    for content_type in ("text/x-shellscript", "text/plain", "text/cloud-config", "TEXT/X-ShellScript", "text/cloud-boothook",
                         "application/octet-stream", "text/x-shellscript-per-boot", "text/x-shellscript-per-instance",
                         "text/x-shellscript-per-once", "application/vnd.evenkeel+json", "text/html", "nonsense", "a/b/c", "text/",
                         "/plain", "text / plain", "", "text/plain; charset=utf-8", "text/x-not-multipart", "message/rfc822"):
        for body in (SH, b"#cloud-config\na: 1\n", b"no kind\n", b""):
            yield mime(body, f"Content-Type: {content_type}")
            yield multipart(entity([f"Content-Type: {content_type}"], body))
    yield mime(SH)
    for encoded, encoding in ((base64.encodebytes(SH), "base64"), (base64.b64encode(SH), "BASE64"), (base64.b64encode(SH)[:-2], "base64"),
                              (base64.b64encode(SH).rstrip(b"="), "base64"), (b" " + base64.b64encode(SH) + b" \t", "base64"),
                              (b"IyEv*YmluL3No", "base64"), (b"IyEvYmluL3No=", "base64"), (b"IyEvYmlu=L3No", "base64"), (b"I", "base64"),
                              (b"IyEvY", "base64"), (b"", "base64"), (base64.b64encode(SH) + b"====" + base64.b64encode(b"more"), "base64"),
                              (b"#!/bin/sh\necho =68i=0A", "quoted-printable"), (b"=23=21/bin/sh=\n -e=\r\n -u=\n", "Quoted-Printable"),
                              (b"#!/bin/sh =ZZ ==41 = x=", "quoted-printable"), (b"#!/bin/sh =4", "quoted-printable"),
                              (uuencode(SH), "x-uuencode"), (uuencode(SH * 20), "uuencode"), (b"no begin\n" + SH, "uue"),
                              (b"\n\n" + uuencode(SH), "x-uue"), (SH, "7bit"), (SH, "8bit"), (SH, "binary"), (SH, "unheard-of")):
        header = f"Content-Transfer-Encoding: {encoding}"
        yield mime(encoded, "Content-Type: text/plain", header)
        yield multipart(entity(["Content-Type: text/x-shellscript", header], encoded), entity(["Content-Type: text/plain"], SH))
        yield multipart(entity(["Content-Type: application/x-gzip", header], encoded))
    for content_type in GZIP_TYPES:
        whole = base64.encodebytes(gzip.compress(SH))
        yield multipart(entity([f"Content-Type: {content_type}", "Content-Transfer-Encoding: base64"], whole))
    yield multipart(entity(["Content-Type: application/gzip", "Content-Transfer-Encoding: base64"],
                           base64.encodebytes(gzip.compress(b"\xff\xfe"))))


def structures():
    script, config = entity(["Content-Type: text/x-shellscript"], SH), entity(["Content-Type: text/cloud-config"], b"#cloud-config\na: 1")
    named = entity(["Content-Type: text/x-shellscript", 'Content-Disposition: attachment; filename="a b.sh"'], SH)
    yield multipart(script, config, named)
    yield multipart(script, config, end=b"")
    yield multipart(script, end=b"--BB")
    yield multipart(script, end=b"--BB--")
    yield multipart(script, end=b"--BB--\nepilogue\n--BB\nContent-Type: text/plain\n\n#!/bin/false\n")
    yield multipart(script, preamble=b"")
    yield multipart(script, newline=b"\r\n")
    yield multipart(script, newline=b"\r")
    yield multipart(b"", script, b"")
    yield multipart()
    yield multipart(script).replace(b"--BB\n", b"--BB  \t\n")
    yield multipart(script).replace(b"--BB\n", b"--BB\n--BB\n")
    yield multipart(script).replace(b"--BB\n", b"--BB--\n--BB\n")
    yield multipart(script).replace(b'boundary="BB"', b"boundary=BB")
    yield multipart(script).replace(b'boundary="BB"', b"Boundary = BB ; charset=x")
    yield multipart(script).replace(b'boundary="BB"', b"boundary=<BB>")
    yield multipart(script).replace(b'; boundary="BB"', b";\n boundary=\"BB\"")
    yield multipart(script).replace(b'; boundary="BB"', b"")
    yield multipart(script).replace(b'boundary="BB"', b'boundary="other"')
    yield multipart(script).replace(b'boundary="BB"', b'x="a;b\\"c"; boundary="BB"')
    inner = multipart(script, config, boundary="II", end=b"--II--\n")
    yield multipart(inner, named)
    yield multipart(multipart(script, boundary="II", end=b""), named)
    yield multipart(multipart(inner, boundary="JJ", end=b"--JJ--\n"), named)
    yield multipart(entity(["Content-Type: message/rfc822"], script), named)
    yield multipart(b"\n" + SH, script).replace(b"multipart/mixed", b"multipart/alternative")
    yield multipart(b"\n" + script, named).replace(b"multipart/mixed", b"multipart/digest")
    # headers that are none, or not as they should be
    yield b"#!/bin/sh\n# mime-version: 1.0\necho\n"
    yield b"#!/bin/sh:\nMIME-Version: 1.0\n\n#!/bin/sh\n"
    yield b"From somebody\nMIME-Version: 1.0\nContent-Type: text/plain\n\n" + SH
    yield b" folded\nMIME-Version: 1.0\n\n" + SH
    yield b"MIME-Version: 1.0\n: nameless\nContent-Type: text/plain\n\n" + SH
    yield b"MIME-Version: 1.0\nContent-Type: text/plain\n" + SH
    yield b"MIME-Version: 1.0\nContent-Type: text/cloud-config\nContent-Type: text/x-shellscript\n\n" + SH
    yield b"MIME-Version: 1.0\nContent-Type:\n\ttext/x-shellscript\n\n" + SH
    yield b"MIME-Version: 1.0"
    yield b"MIME-Version: 1.0\n\xff\n\n" + SH
    yield b"x" * 4085 + b"mime-version:\n"
    yield b"x" * 4083 + b"mime-version:\n"
    yield b"#" * 4000 + b"\n" + b"MIME-Version: 1.0\n\n" + SH
    # as tools write them
    made = MIMEMultipart()
    for subtype, text in (("x-shellscript", SH.decode()), ("cloud-config", "#cloud-config\nü: 1\n"), ("x-shellscript", "#!/bin/sh\necho ü\n")):
        part = MIMEText(text, subtype, "utf-8")
        part.add_header("Content-Disposition", f'attachment; filename="{subtype}.txt"')
        made.attach(part)
    packed = MIMEBase("application", "x-gzip")
    packed.set_payload(base64.encodebytes(gzip.compress(SH)).decode())
    packed["Content-Transfer-Encoding"] = "base64"
    made.attach(packed)
    yield made.as_bytes()


def archives():
    def archive(text):
        return b"#cloud-config-archive\n" + textwrap.dedent(text).encode()
    yield archive("""\
        - type: text/cloud-config
          content: |
            packages: [nginx]
        - filename: "a.sh"
          content: |
            #!/bin/sh
            echo one   # not a comment

              indented
        - |
          #!/bin/sh
          echo two
        # a comment
        - '#!/bin/sh'
        - "#!/bin/sh\\necho \\"three\\"\\n\\tü \\u00fc \\x41"
        - #cloud-boothook
          type: text/cloud-boothook
          content: |-
            #cloud-boothook
            #!/bin/sh
        - plain text
        """)
    yield archive("""\
        ---
          - content: >
              #!/bin/sh
              folded
              lines

              and a paragraph
                more indented
              end
            launch-index: 0
          - content: |2
                two more than said
              said
          - content: >-
              #!/bin/sh
          - content: |+
              kept


          - content: 'it''s: quoted' # comment
            type: text/plain
        """)
    yield archive("- content: |\n    no end of line")
    yield archive("- content: |\n\n\n    #!/bin/sh\n    after blank lines\n")
    yield archive("""[{"type": "text/x-shellscript", "content": "#!/bin/sh\\n"}, "#!/bin/sh", {"content": "#cloud-config\\n", "filename": "x"}]""")
    yield archive("- type: text/x-include-url\n  content: https://example.invalid/\n- |\n  #include\n  https://example.invalid/\n")
    yield archive("- |\n  #cloud-config-archive\n  - x\n")
    yield archive("-\n  type: text/x-shellscript\n  content: |\n   #!/bin/sh\n")
    yield multipart(entity(["Content-Type: text/cloud-config-archive"], archive("- |\n  #!/bin/sh\n")))
    yield gzip.compress(archive("- |\n  #!/bin/sh\n"))


# What we refuse to read, cloud-init may read: the whole archive is named then, and nothing of it is run.
REFUSED_ARCHIVES = [
    b"- &anchor |\n  #!/bin/sh\n- *anchor\n", b"- !!binary IyEvYmluL3No\n", b"- {content: '#!/bin/sh'}\n", b"- content: 5\n", b"- two\n  lines\n",
    b"- 'two\n  lines'\n", b"key: value\n", b"text\n", b"- content: a: b\n", b"- a\n b\n", b"- content:\n", b"\t- x\n", b"- content: |x\n",
]


def mutated(seed, count):
    """Bytes changed, taken away, doubled or swapped in inputs that mean something."""
    source = random.Random(seed)
    grown = [*structures(), *messages(), *plain()]
    for _ in range(count):
        data = bytearray(source.choice(grown))
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(data) + 1)
            what = source.randrange(5)
            if what == 0 and at < len(data):
                data[at] = source.choice(b"\n\r \t-=:;\"#!B/a\0")
            elif what == 1:
                del data[at:at + source.randint(1, 8)]
            elif what == 2:
                data[at:at] = source.choice([b"\n", b"\r\n", b"--BB\n", b"--BB--\n", b"MIME-Version: 1.0\n", b"\n\n", b" ", b"Content-Type: text/x-shellscript\n"])
            elif what == 3:
                data[at:at] = data[at:at + source.randint(1, 60)]
            elif what == 4 and at < len(data) - 1:
                data[at], data[at + 1] = data[at + 1], data[at]
        yield bytes(data)


CORPORA = {"plain": plain, "gzip": zipped, "messages": messages, "structures": structures, "archives": archives,
           "mutated": lambda: mutated(20261120, 3000)}


@pytest.fixture(scope="module")
def oracle():
    here = cloudinit_oracle.available()
    need(None if here else "cloud-init is not in build/cloud-init: scripts/bootstrap puts it there", "EK_MACHINE_REQUIRED")
    return cloudinit_oracle.Oracle()


def probe(directory, inputs):
    """What the program makes of each, in one go."""
    paths = []
    for number, data in enumerate(inputs):
        path = directory / f"{number:05}"
        path.write_bytes(data)
        paths.append(str(path))
    done = subprocess.run([PROBE, *paths], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def script_of(content_type, payload):
    """What of a script is run: without the blanks before it, and a boot hook without its first line's word."""
    payload = payload.decode("utf-8", "surrogateescape").lstrip()
    if content_type == "text/cloud-boothook" and payload.lower().startswith("#cloud-boothook"):
        payload = payload[len("#cloud-boothook"):].lstrip()
    return payload.encode("utf-8", "surrogateescape")


def judged(oracle, data):
    try:
        return oracle.parts(data)
    except Exception as error:
        return error


def as_told(content_type):
    """A type that is no word is recorded like any text that others have written."""
    clean = re.sub("[\0-\b\v-\x1f\x7f]", "\ufffd", content_type).replace("\n", " ").replace("\t", " ")
    return clean.encode()[:96].decode(errors="ignore")


# Base64 that goes on after its padding ends there for us, as for Python until 2026; later ones read on, or give the part up.
AFTER_PADDING = re.compile(rb"==\s*[A-Za-z0-9+/]")


def compare(data, theirs, ours):
    if isinstance(theirs, Exception):
        # It gives up the whole; we may name a part that is damaged, or run the rest, but never what it was about.
        assert "error" in ours or any("problem" in part for part in ours["parts"]), (data, theirs, ours)
        return
    assert "error" not in ours, (data, theirs, ours)
    # An archive that cannot be read: it warns and goes on without, we name it. A message in a message: it takes what is inside twice.
    ours = {"parts": [part for part in ours["parts"] if "the archive cannot be read" not in part.get("problem", "")]}
    if any(part["type"].startswith("message/") for part in ours["parts"]):
        inside = {part["type"] for part in ours["parts"] if not part["type"].startswith("message/")}
        assert inside == {kind for kind, _, _ in theirs if not kind.startswith("message/")}, (data, theirs, ours)
        return
    told = [as_told(content_type) for content_type, _, _ in theirs]
    assert [part["type"] for part in ours["parts"]] == told, (data, theirs, ours)
    if AFTER_PADDING.search(data):
        return
    for part, (content_type, name, payload) in zip(ours["parts"], theirs):
        # Bytes beyond ASCII in a message are mangled by Python's email package (raw-unicode-escape); not by us.
        if content_type in SCRIPTS | {"text/cloud-boothook"} and (payload or b"").isascii() and data.isascii():
            expected = script_of(content_type, payload)
            assert (expected[:2] == b"#!") == ("problem" not in part), (data, part)
            if "content" in part:
                assert base64.b64decode(part["content"]) == expected, (data, part, expected)


@pytest.mark.parametrize("corpus", CORPORA)
def test_same_types_and_bytes(oracle, tmp_path, corpus):
    # Includes are fetched by neither here.
    inputs = [data for data in CORPORA[corpus]()]
    ours = probe(tmp_path, inputs)
    assert len(ours) == len(inputs)
    compared = 0
    for data, mine in zip(inputs, ours):
        includes = [part for part in mine.get("parts", []) if part["kind"] == "include" and "problem" not in part]
        theirs = judged(oracle, data)
        if includes:
            # cloud-init has tried to fetch it: that is how it tells that it is one.
            assert isinstance(theirs, Exception) or not any("include" in kind for kind, _, _ in theirs), (data, theirs)
            continue
        compare(data, theirs, mine)
        compared += 1
    assert compared > len(inputs) * 0.7


def test_includes_are_those_that_cloud_init_fetches(tmp_path):
    if not cloudinit_oracle.available():
        pytest.skip("no cloud-init")
    asked = []

    class Recording(cloudinit_oracle.Oracle):
        def _fetch(self, url, **_):
            asked.append(url)
            return super()._fetch(url)

    urls = {"https://a.example/": SH, "http://b.example/x": multipart(entity(["Content-Type: text/x-shellscript"], SH))}
    data = b"#include\nhttps://a.example/\n# comment\n\n  http://b.example/x  \n#include-once http://b.example/x\n#include https://a.example/\n"
    oracle = Recording(urls)
    oracle._user_data.UserDataProcessor._get_include_once_filename = lambda self, entry: "/nonexistent"
    oracle._user_data.util.write_file = lambda *args, **more: None
    assert [kind for kind, _, _ in oracle.parts(data)] == ["text/x-shellscript"] * 4
    [mine] = probe(tmp_path, [data])
    [part] = mine["parts"]
    assert part["kind"] == "include"
    assert base64.b64decode(part["content"]) == data
    assert asked == ["https://a.example/", "http://b.example/x", "http://b.example/x", "https://a.example/"]


@pytest.mark.parametrize("text", REFUSED_ARCHIVES)
def test_archives_that_are_not_read_are_named(tmp_path, text):
    [ours] = probe(tmp_path, [b"#cloud-config-archive\n" + text])
    [part] = ours["parts"]
    assert "the archive cannot be read: line " in part["problem"] and "content" not in part


def test_every_kind_of_input_is_there(tmp_path):
    """The corpus is one: all types, and inputs that cloud-init gives up, are in it."""
    inputs = [data for corpus in CORPORA.values() for data in corpus()]
    seen, errors = set(), 0
    for mine in probe(tmp_path, inputs):
        errors += "error" in mine
        seen.update(part["type"] for part in mine.get("parts", []))
    assert {"text/x-shellscript", "text/cloud-config", "text/cloud-boothook", "text/x-include-url", "text/x-include-once-url",
            "text/part-handler", "text/cloud-config-jsonp", "text/jinja2", "application/vnd.evenkeel+json"} <= seen and errors
