"""The bill of materials: SPDX 2.3 with what that says is required, of the libraries that are really inside."""
import json
import os
import re

import pytest
from delivered import ROOT, run

COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: thing

Files: debian/*
Copyright: 2020 Somebody Else
License: GPL-2+

Files: *
Copyright: 2001 One,
           2002 Two
License: @LICENCE@
 Permission is hereby granted.

License: GPL-2+
 Long text.
"""


@pytest.fixture
def prefix(tmp_path):
    """What scripts/build-static leaves."""
    for name, licence in (("curl", "curl"), ("json-c", "Expat"), ("libmicrohttpd", "LGPL-2.1+")):
        (tmp_path / f"share/doc/{name}").mkdir(parents=True)
        (tmp_path / f"share/doc/{name}/copyright").write_text(COPYRIGHT.replace("@LICENCE@", licence))
    (tmp_path / "complete").write_text("./curl_7.88.1-10+deb12u15.dsc\n./json-c_0.16-2.dsc\n./libmicrohttpd_0.9.75-6.dsc\n")
    return tmp_path


def sbom(*options, epoch="1700000001"):
    return run(ROOT / "scripts/sbom", *options, env={**os.environ, "SOURCE_DATE_EPOCH": epoch})


def check(document):
    """The fields that SPDX 2.3 requires, with values as it has them."""
    assert document["spdxVersion"] == "SPDX-2.3" and document["dataLicense"] == "CC0-1.0"
    assert document["SPDXID"] == "SPDXRef-DOCUMENT" and document["name"]
    assert re.fullmatch(r"https?://[^#\s]+", document["documentNamespace"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["creationInfo"]["created"])
    creators = document["creationInfo"]["creators"]
    assert creators and all(re.match(r"(Person|Organization|Tool): \S", creator) for creator in creators)
    identifiers = [package["SPDXID"] for package in document["packages"]]
    assert len(set(identifiers)) == len(identifiers)
    for package in document["packages"]:
        assert re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", package["SPDXID"])
        assert package["name"] and package["downloadLocation"] and package["filesAnalyzed"] is False
        assert re.fullmatch(r"NOASSERTION|[A-Za-z0-9.-]+", package["licenseConcluded"])
        assert package["licenseDeclared"] and package["copyrightText"]
        for reference in package.get("externalRefs", []):
            assert set(reference) == {"referenceCategory", "referenceType", "referenceLocator"}
            assert reference["referenceLocator"].startswith("pkg:")
    kinds = {"DESCRIBES", "STATIC_LINK", "DYNAMIC_LINK"}
    for relationship in document["relationships"]:
        assert relationship["relationshipType"] in kinds
        assert {relationship["spdxElementId"], relationship["relatedSpdxElement"]} <= {"SPDXRef-DOCUMENT", *identifiers}
    described = [r["relatedSpdxElement"] for r in document["relationships"] if r["relationshipType"] == "DESCRIBES"]
    assert described == ["SPDXRef-evenkeel"]
    related = {r["relatedSpdxElement"] for r in document["relationships"]}
    assert related == set(identifiers)


def linked(document, kind):
    return {r["relatedSpdxElement"].removeprefix("SPDXRef-") for r in document["relationships"] if r["relationshipType"] == kind}


def test_what_the_zip_carries(prefix):
    done = sbom("--package", "zip", "--version", "1.2.3", "--prefix", prefix)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    check(document)
    by_name = {package["name"]: package for package in document["packages"]}
    assert by_name["evenkeel"]["versionInfo"] == "1.2.3"
    assert {name: (by_name[name]["versionInfo"], by_name[name]["licenseConcluded"]) for name in ("curl", "json-c", "libmicrohttpd")} == {
        "curl": ("7.88.1-10+deb12u15", "curl"), "json-c": ("0.16-2", "MIT"), "libmicrohttpd": ("0.9.75-6", "LGPL-2.1-or-later")}
    assert by_name["curl"]["copyrightText"] == "2001 One,\n2002 Two"
    assert by_name["curl"]["externalRefs"][0]["referenceLocator"] == "pkg:deb/debian/curl@7.88.1-10%2Bdeb12u15?arch=source"
    assert linked(document, "STATIC_LINK") == {"curl", "json-c", "libmicrohttpd"}
    assert linked(document, "DYNAMIC_LINK") == {"glibc", "systemd", "openssl", "zlib"}
    assert document["creationInfo"]["created"] == "2023-11-14T22:13:21Z"


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_what_packages_link(kind):
    document = json.loads(sbom("--package", kind).stdout)
    check(document)
    assert linked(document, "STATIC_LINK") == set()
    assert linked(document, "DYNAMIC_LINK") == {"curl", "json-c", "libmicrohttpd", "glibc", "systemd", "openssl", "zlib"}
    versions = {package["name"]: package.get("versionInfo") for package in document["packages"]}
    assert versions["curl"] == run("pkg-config", "--modversion", "libcurl").stdout.strip()
    project = re.search(r"^project\(evenkeel VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text(), re.M).group(1)
    assert versions["evenkeel"] == project


def test_the_same_twice_and_another_when_something_differs(prefix):
    options = ("--package", "zip", "--prefix", prefix)
    first = sbom(*options).stdout
    assert sbom(*options).stdout == first
    (prefix / "complete").write_text((prefix / "complete").read_text().replace("0.16-2", "0.16-3"))
    other = sbom(*options).stdout
    assert json.loads(other)["documentNamespace"] != json.loads(first)["documentNamespace"]


def test_what_is_not_known_is_refused(prefix):
    path = prefix / "share/doc/json-c/copyright"
    path.write_text(COPYRIGHT.replace("@LICENCE@", "Strange-1"))
    done = sbom("--package", "zip", "--prefix", prefix)
    assert done.returncode == 1 and '"Strange-1"' in done.stderr and done.stdout == ""
    path.write_text("no paragraphs\n")
    assert "no paragraph for Files: *" in sbom("--package", "zip", "--prefix", prefix).stderr
    assert sbom("--package", "zip").returncode == 2 and sbom("--package", "deb", "--prefix", prefix).returncode == 2
