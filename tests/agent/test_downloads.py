"""Downloads of scripts by the built program: bad servers, rights to blobs, names, limits, proxies, and what is told of them
(custom-script.md 0 and 2; the numbers are those of the asks in its section 6)."""

import gzip
import hashlib
import http.server
import json
import os
import pwd
import random
import socket
import socketserver
import threading

import pytest
from misbehaving import Misbehaving, cut, endless, later, part, redirect, status, together, whole
from scripting import ACCOUNT, PATIENCE, Scripts
from vm import SANITIZED, Platform, free_port, me, wait_until

BLOBS = f"https://{ACCOUNT}.blob.core.windows.net"
SYSTEM = {"client_id": "5e29463d-0000-4000-8000-000000000001", "object_id": "5e29463d-0000-4000-8000-000000000002"}
USER = {"client_id": "11111111-0000-4000-8000-000000000001", "object_id": "11111111-0000-4000-8000-000000000002",
        "resource_id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/u"}
ROLE = "Storage Blob Data Reader"


@pytest.fixture(scope="module")
def platform():
    with Platform() as platform:
        platform.set_tls_certificate(names=["files.example.org", "moved.example", f"{ACCOUNT}.z12.blob.storage.azure.net",
                                            f"{ACCOUNT}.blob.local.azurestack.external"])
        yield platform
        assert platform.problems() == []


@pytest.fixture(scope="module")
def web():
    with Misbehaving() as web:
        yield web


@pytest.fixture(scope="module")
def machine(tmp_path_factory, platform, web):
    nowhere = free_port()
    to = [f"other.example:80:127.0.0.1:{web.server_port}", f"{ACCOUNT}.blob.core.windows.net:80:127.0.0.1:{web.server_port}",
          f"closed.example:443:127.0.0.1:{nowhere}", f"plain.example:443:127.0.0.1:{web.server_port}"]
    with Scripts(tmp_path_factory.mktemp("vm"), platform, ",".join(to)) as vm:
        yield vm.start()


@pytest.fixture
def vm(machine, platform, web):
    platform.clear_requests()
    platform.set_identity({"system": SYSTEM})
    platform.set_storage()
    web.pages.clear()
    web.counts.clear()
    web.asked.clear()
    yield machine
    machine.check_secrets()


def blob(platform, name, data=b"#!/bin/sh\necho it runs\n", access="token"):
    platform.put_blob(f"/box/{name}", data, access=access)
    return f"{BLOBS}/box/{name}"


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


# Bad servers

def test_cut_is_resumed_defect_3(vm, web):
    """Defect 3: the peer puts NULs where the first part was. Each of these is cut in the middle."""
    data, other = noise(3_000_000), noise(2_000_000, 2)
    web.pages.update({
        "/resumed": [cut(data, 1_200_000), part(data)],
        "/twice": [cut(data, 1_200_000), lambda page: page.answer(206, data[page.first_byte:], cut=1_500_000, ETag='"one"',
                   Content_Range=f"bytes {page.first_byte}-{len(data) - 1}/{len(data)}"), part(data)],
        "/ignored": [cut(data, 1_200_000), whole(data)],
        "/changed": [cut(data, 1_200_000), status(412), whole(other)],
        "/shorter": [cut(data, 1_200_000), status(416, Content_Range="bytes */5"), whole(other[:5])],
        "/shifted": [cut(data, 1_200_000), part(data, shift=7), whole(data)],
        "/mixed": [cut(data, 1_200_000), part(data, etag='"two"'), whole(data)],
        "/longer": [cut(data, 1_200_000), part(data, total=len(data) + 9), whole(data)],
        "/unnamed": [cut(data, 1_200_000), lambda page: page.answer(206, data[page.first_byte:]), whole(data)],
        "/weak": [cut(data, 1_200_000, ETag='W/"one"'), whole(data)],
        "/partial": [cut(data, 1_200_000), lambda page: page.answer(206, data[page.first_byte:2_500_000], ETag='"one"',
                     Content_Range=f"bytes {page.first_byte}-2499999/{len(data)}"), part(data)],
    })
    files = [{"uri": web.url(path), "sha256": hashlib.sha256(
        {"/changed": other, "/shorter": other[:5]}.get(path, data)).hexdigest()} for path in web.pages]
    done = vm.deploy("ls", files=files, section={"parallelDownloads": 16})
    assert done.ok, done.message
    for path in web.pages:
        want = {"/changed": other, "/shorter": other[:5]}.get(path, data)
        assert (done.work / path[1:]).read_bytes() == want, path
        assert web.requests(path)[0].headers.get("range") is None
    first, second = web.requests("/resumed")
    assert second.headers["range"] == "bytes=1200000-"
    assert second.headers["if-range"] == second.headers["if-match"] == '"one"'
    assert second.time - first.time > 0.8
    assert [one.headers.get("range") for one in web.requests("/twice")] == [None, "bytes=1200000-", "bytes=2700000-"]
    assert [one.headers.get("range") for one in web.requests("/partial")] == [None, "bytes=1200000-", "bytes=2500000-"]
    for path in ("/changed", "/shorter", "/shifted", "/mixed", "/longer", "/unnamed"):
        assert [one.headers.get("range") for one in web.requests(path)] == [None, "bytes=1200000-", None], path
    assert [one.headers.get("range") for one in web.requests("/weak")] == [None, None]
    assert not list(done.work.glob(".*"))


def test_a_part_that_nobody_asked_for(vm, web):
    web.pages["/a"] = [lambda page: page.answer(206, b"part", Content_Range="bytes 0-3/9"), whole(b"whole")]
    done = vm.deploy("cat a", files=[web.url("/a")])
    assert done.ok and done.stdout == b"whole"


def test_retry_after_in_seconds_and_as_date(vm, web):
    web.pages.update({"/seconds": [later(429, 4), whole(b"x")], "/date": [later(503, 4, as_date=True), whole(b"x")]})
    done = vm.deploy(files=[web.url("/seconds"), web.url("/date")])
    assert done.ok, done.message
    for path in ("/seconds", "/date"):
        first, second = web.requests(path)
        assert second.time - first.time > 3.8, path  # without the header it would be three seconds


def test_what_is_stored_compressed_comes_as_it_was(vm, web):
    """As with the peer; a limit and a checksum are of the file itself."""
    text = b"#!/bin/sh\necho unpacked\nexit\n" + noise(100_000).hex().encode()
    packed = gzip.compress(text)
    web.pages.update({
        "/a.sh": [cut(packed, 60_000, Content_Encoding="gzip"), whole(packed, Content_Encoding="gzip", ETag='"one"')],
        "/b": [whole(b"plain", Content_Encoding="utf-8")],
        "/c.gz": [whole(packed)]})
    done = vm.deploy("sh a.sh; cat b; gzip -dc c.gz | cmp - a.sh", files=[
        {"uri": web.url("/a.sh"), "sha256": hashlib.sha256(text).hexdigest()}, web.url("/b"), web.url("/c.gz")])
    assert done.ok and done.stdout == b"unpacked\nplain", done.message
    assert all(one.headers.get("accept-encoding") in ("identity", None) and "range" not in one.headers for one in web.asked)
    done = vm.deploy(files=[{"uri": web.url("/a.sh"), "maxSizeInBytes": 10_000}])
    assert not done.ok and "larger than maxSizeInBytes" in done.message


def test_redirects_defect_7(vm, web):
    """The peer tells the target the whole URI that led there."""
    signature = vm.secret("c4n4ry-signature")
    web.pages.update({
        "/loop": [redirect("/loop")], "/start": [redirect("http://other.example/middle")], "/middle": [redirect("/end")],
        "/end": [whole(b"arrived")], "/file": [redirect("file:///etc/passwd")]})
    done = vm.deploy("cat start", files=[{"uri": {"secretRef": "u"}, "name": "start"}],
                     secrets={"u": web.url(f"/start?sig={signature}")})
    assert done.ok and done.stdout == b"arrived"
    assert [one.path for one in web.asked] == [f"/start?sig={signature}", "/middle", "/end"]
    for one in web.asked:
        assert "referer" not in one.headers and "authorization" not in one.headers
    done = vm.deploy(files=[web.url("/loop")])
    assert not done.ok and "too many redirects" in done.message and "attempt 1 of 7" in done.message
    assert len(web.requests("/loop")) == 6 and done.codes == [54]
    done = vm.deploy(files=[web.url("/file")])
    assert not done.ok and "redirects to a protocol that is not allowed" in done.message


def test_size_limit_while_streaming(vm, web):
    web.pages.update({"/endless": [endless()], "/told": [whole(noise(100_000))], "/fits": [whole(b"12345")],
                      "/cut": [cut(b"123456", 3), part(b"123456")]})
    done = vm.deploy(files=[{"uri": web.url("/endless"), "maxSizeInBytes": 200_000}])
    assert not done.ok and "larger than maxSizeInBytes, 200000" in done.message and done.codes == [55]
    assert web.sent < 64 << 20
    done = vm.deploy(files=[{"uri": web.url("/told"), "maxSizeInBytes": 99_999}])
    assert not done.ok and "larger than maxSizeInBytes, 99999" in done.message
    done = vm.deploy("cat fits", files=[{"uri": web.url("/fits"), "maxSizeInBytes": 5}])
    assert done.ok
    done = vm.deploy(files=[{"uri": web.url("/cut"), "maxSizeInBytes": 5}])
    assert not done.ok and "larger" in done.message


def test_checksum(vm, web):
    web.pages["/a"] = [whole(b"other")]
    done = vm.deploy("touch ran", files=[{"uri": web.url("/a"), "sha256": "0" * 64}])
    assert not done.ok and done.codes == [55]
    assert f"its SHA-256 is {hashlib.sha256(b'other').hexdigest()}, the settings say {'0' * 64}" in done.message
    assert not list(done.work.iterdir())


@pytest.mark.parametrize("answer, code, says", [
    (status(400), -41, "the server says 400"),
    (status(401), 52, "not public"),
    (status(403, x_ms_error_code="AuthenticationFailed", x_ms_request_id="9f00-7"), 54, "403 AuthenticationFailed (request id 9f00-7)"),
    (status(404), 53, "does not exist, or is not public"),
    (status(409, x_ms_error_code="PublicAccessNotPermitted"), 54, "409 PublicAccessNotPermitted; it is not public"),
    (status(204), 54, "the server says 204"),
    (whole(b"x", x_ms_error_code="\tsecond\r\n line"), 0, ""),
], ids=["400", "401", "403", "404", "409", "204", "200"])
def test_codes_and_words_of_refusals(vm, web, answer, code, says):
    web.pages["/a.sh"] = [answer]
    done = vm.deploy("true", files=[web.url("/a.sh?key=hunter2")])
    assert done.codes == ([code] if code else []) and done.ok == (not code)
    assert says in done.message and "hunter2" not in done.message
    if code:
        assert f"cannot download a.sh from {web.url('/a.sh')}?[redacted]: attempt 1 of 7: " in done.message
        assert len(web.requests("/a.sh")) == 1


def test_what_is_under_way_when_time_is_up_10(vm, web):
    """Ask 10: host, address, phase and attempt of what did not come."""
    for uri, says in (("https://closed.example/a", "connecting to closed.example"),
                      ("https://plain.example/a", "TLS with plain.example (127.0.0.1) failed after 0.")):
        done = vm.deploy(files=[uri], timeoutInSeconds=2)
        assert not done.ok and "its files were still being downloaded: a: " + says in done.message, done.message
        assert done.codes == [56]


def test_secret_uri_is_told_by_its_host(vm, web):
    """Of what came from a secret the path may be one, too."""
    path = vm.secret("c4n4ry-path")
    web.pages[f"/{path}/a"] = [status(404)]
    done = vm.deploy(files=[{"uri": {"secretRef": "u"}, "name": "a"}], secrets={"u": web.url(f"/{path}/a")})
    assert not done.ok and "/[redacted]: attempt 1 of 7: the server says 404" in done.message, done.message


def test_uri_without_a_name_defect_7(vm):
    """The peer puts the whole URI into status and log."""
    signature = vm.secret("c4n4ry-nameless")
    done = vm.deploy_peer({"commandToExecute": "true"}, {"fileUris": [f"{BLOBS}/?sig={signature}"]})
    assert not done.ok and done.codes == [25] and "holds no file name" in done.message


def test_large_script_is_converted_in_constant_memory_11(vm, web):
    """Defect 9: the peer reads it whole. The runner is the script's parent."""
    lines = b"".join(b"# line %d\r\n" % i for i in range(100_000)) * 20
    script = b"#!/bin/sh\r\nsed -n 's/VmHWM:[^0-9]*//p' /proc/$PPID/status\r\nexit\r\n" + lines
    web.pages["/large.sh"] = [whole(script)]
    done = vm.deploy("exec sh large.sh", files=[web.url("/large.sh")])
    assert done.ok, done.message
    assert (done.work / "large.sh").read_bytes() == script.replace(b"\r\n", b"\n") and len(script) > 27_000_000
    assert SANITIZED or int(done.stdout.split()[0]) < 20_000  # KiB


# Names and places

def test_names_modes_and_directories_16_17(vm, web):
    """Asks 16 and 17."""
    web.pages.update({"/a%2Fb.sh": [whole(b"echo b\r\n")], "/my%20file.sh": [whole(b"echo spaces\r\n")], "/x": [whole(b"x\r\n")]})
    user, group = me()
    done = vm.deploy("sh b.sh; sh 'my file.sh'; stat -c '%a %U %G %s %n' etc/app/x.conf; stat -c %a b.sh", files=[
        web.url("/a%2Fb.sh"), web.url("/my%20file.sh"),
        {"uri": web.url("/x"), "name": "etc/app/x.conf", "mode": "0640", "owner": f"{user}:{group}"}])
    assert done.ok, done.message
    assert done.stdout.decode() == f"b\nspaces\n640 {user} {group} 3 etc/app/x.conf\n500\n"


def test_clashes_and_taken_names_are_refused(vm, web):
    web.pages.update({name: [whole(b"x")] for name in ("/a", "/b", "/v1/a")})
    for files, says in (
            ([web.url("/a"), {"uri": web.url("/b"), "name": "a/b"}], "would have to be a directory"),
            ([{"uri": web.url("/b"), "name": "a/b/c"}, {"uri": web.url("/b"), "name": "a/b"}], "would have to be a directory"),
            ([web.url("/a"), web.url("/v1/a")], "already the name of files[0]"),
            ([{"uri": web.url("/a"), "name": "stdout"}], "where the script's output goes"),
            ([{"uri": web.url("/a"), "name": ".evenkeel-tmp-0"}], "taken by the agent"),
            ([{"uri": web.url("/a"), "name": "../a"}], "without"),
            ([web.url("/..")], "files[0]")):
        done = vm.deploy("touch ran", files=files)
        assert not done.ok and says in done.message, (files, done.message)
    assert not web.asked
    done = vm.deploy(script="ZWNobyBoaQo=", files=[{"uri": web.url("/a"), "name": "script.sh"}])
    assert not done.ok and "taken by the agent" in done.message and not web.asked
    done = vm.deploy_peer({"fileUris": [web.url("/a"), web.url("/v1/a")], "commandToExecute": "true"})
    assert not done.ok and "two files cannot be there at once: a and a" in done.message
    done = vm.deploy_peer({"fileUris": [web.url("/a"), web.url("/a")], "commandToExecute": "cat a"})
    assert done.ok and done.stdout == b"x"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can run a script as somebody else")
def test_directory_is_nobodys_until_all_files_are_there(vm, web):
    """Root makes files in it by name: whoever could put a link there meanwhile would choose where."""
    seen = []

    def look(page):
        work = max((vm.root / "var/lib/evenkeel/jobs").glob("cs-*/work"), key=lambda path: path.stat().st_ctime_ns)
        seen.append((work.stat().st_uid, work.stat().st_mode & 0o777))
        page.answer(200, b"x")

    web.pages["/a"] = [look]
    done = vm.deploy(runAs="nobody", files=[{"uri": web.url("/a"), "name": "below/a"}])
    nobody = pwd.getpwnam("nobody").pw_uid
    assert seen == [(0, 0o700)]
    assert [path.stat().st_uid for path in (done.work, done.work / "below", done.work / "below/a")] == [nobody] * 3


def test_so_many_at_once_and_no_more(vm, web):
    barrier = threading.Barrier(8)
    web.pages.update({f"/{i}": [together(barrier, b"%d" % i)] for i in range(8)})
    done = vm.deploy("cat *", files=[web.url(f"/{i}") for i in range(8)], section={"parallelDownloads": 8})
    assert done.ok and done.stdout == b"01234567"

    running, most, lock = [0], [0], threading.Lock()

    def slow(page):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.05)
        with lock:
            running[0] -= 1
        page.answer(200, b"x")

    web.pages.update({f"/{i}": [slow] for i in range(8)})
    done = vm.deploy(files=[web.url(f"/{i}") for i in range(8)], section={"parallelDownloads": 2})
    assert done.ok and most[0] == 2


# Proxies

class Proxy(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Every name leads to the same two servers: ports 80 to the web, 443 to storage."""

    daemon_threads = True

    def __init__(self, plain, tls, refuse=None):
        self.asked, self.plain, self.tls, self.refuse = [], plain, tls, refuse
        super().__init__(("127.0.0.1", 0), _ProxyHandler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _ProxyHandler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append((self.command, self.path, self.headers.get("Proxy-Authorization")))
        self.send_response(200)
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(b"via proxy")

    def do_CONNECT(self):
        self.server.asked.append((self.command, self.path, self.headers.get("Proxy-Authorization")))
        if self.server.refuse:
            self.send_error(self.server.refuse)
            return
        host, port = self.server.tls.split(":")
        self.send_response(200)
        self.end_headers()
        with socket.create_connection((host, int(port))) as to:
            back = threading.Thread(target=self._pump, args=(to, self.connection))
            back.start()
            self._pump(self.connection, to)
            back.join()

    @staticmethod
    def _pump(source, to):
        try:
            while data := source.recv(65536):
                to.sendall(data)
        except OSError:
            pass
        finally:
            try:
                to.shutdown(socket.SHUT_WR)
            except OSError:
                pass


def test_proxy_and_exceptions_19(vm, web, platform):
    """Ask 19; the metadata service is never asked through it."""
    web.pages["/direct"] = [whole(b"direct")]
    proxy = Proxy(web.server_port, platform.addresses["blobtls"])
    password = vm.secret("c4n4ry-proxy")
    network = {"proxy": {"secretRef": "p"}, "noProxy": ["other.example"]}
    secrets = {"p": f"http://me:{password}@127.0.0.1:{proxy.server_port}"}
    done = vm.deploy("cat there direct tls", network=network, secrets=secrets, identity={}, files=[
        "http://somewhere.example/there", "http://other.example/direct", blob(platform, "tls", b" tls")])
    assert done.ok and done.stdout == b"via proxydirect tls"
    # Storage by the address that this test gives it.
    assert sorted(one[:2] for one in proxy.asked) == [
        ("CONNECT", platform.addresses["blobtls"]), ("GET", "http://somewhere.example/there")]
    assert all(one[2].startswith("Basic ") for one in proxy.asked)
    assert len(platform.requests("imds", "/metadata/identity")) == 1
    proxy.shutdown()
    proxy.server_close()

    proxy = Proxy(0, "", refuse=407)
    done = vm.deploy(network={"proxy": {"secretRef": "p"}}, secrets={"p": f"http://127.0.0.1:{proxy.server_port}"},
                     files=[f"{BLOBS}/box/tls"], timeoutInSeconds=2)
    assert f"the proxy refuses the way to {ACCOUNT}.blob.core.windows.net with status 407" in done.message
    proxy.shutdown()
    proxy.server_close()


# Rights

def test_signature_goes_to_storage_and_nowhere_else_8(vm, platform):
    """Ask 8: it stands in the protected settings, and in no file, log or status of the VM."""
    uri, query = blob(platform, "a.sh", access="sas"), platform.make_sas("/box/a.sh")
    vm.secret(query.partition("sig=")[2])
    done = vm.deploy("sh a.sh", identity={}, files=[{"uri": {"secretRef": "u"}, "name": "a.sh"}], secrets={"u": f"{uri}?{query}"})
    assert done.ok and done.stdout == b"it runs\n"
    assert not platform.requests("imds", "/metadata/identity")
    expired = platform.make_sas("/box/a.sh", expires_in_seconds=-60)
    done = vm.deploy(files=[{"uri": {"secretRef": "u"}, "name": "a.sh"}], secrets={"u": f"{uri}?{expired}"})
    assert not done.ok and "403 AuthenticationFailed (request id " in done.message and "has expired" in done.message
    assert done.codes == [54]


@pytest.mark.parametrize("identity, query", [
    ({}, {}), ({"clientId": USER["client_id"]}, {"client_id": USER["client_id"]}),
    ({"objectId": USER["object_id"]}, {"object_id": USER["object_id"]}),
    ({"resourceId": USER["resource_id"]}, {"msi_res_id": USER["resource_id"]})], ids=["system", "clientId", "objectId", "resourceId"])
def test_identity_first_and_one_token_for_all_9(vm, platform, identity, query):
    platform.set_identity({"system": SYSTEM, "user": [USER]})
    uris = [blob(platform, f"{name}.sh", access) for name, access in (("a", b"echo a\n"), ("b", b"echo b\n"), ("c", b"echo c\n"))]
    done = vm.deploy("sh a.sh; sh b.sh; sh c.sh", identity=identity, files=uris)
    assert done.ok and done.stdout == b"a\nb\nc\n"
    tokens = platform.requests("imds", "/metadata/identity")
    assert len(tokens) == 1
    assert {name: value for name, value in tokens[0]["query"].items() if name not in ("api-version", "resource")} == query
    asked = platform.requests("blob")
    assert len(asked) == 3 and all("authorization" in one["headers"] and "x-ms-date" in one["headers"] for one in asked)


@pytest.mark.parametrize("host", [f"{ACCOUNT}.z12.blob.storage.azure.net", f"{ACCOUNT}.blob.local.azurestack.external",
                                  f"{ACCOUNT}.blob.core.chinacloudapi.cn"])
def test_identity_for_every_blob_host(vm, platform, host):
    blob(platform, "a.sh")
    done = vm.deploy("sh a.sh", identity={}, files=[f"https://{host}/box/a.sh"])
    assert done.ok and done.stdout == b"it runs\n"


def test_identity_for_custom_domains_that_are_named(vm, platform, web):
    blob(platform, "a.sh")
    uri = "https://files.example.org/box/a.sh"
    done = vm.deploy(identity={}, files=[uri])
    assert not done.ok and not platform.requests("imds", "/metadata/identity")
    done = vm.deploy("sh a.sh", identity={}, files=[uri], section={"blobHosts": ["files.example.org"]})
    assert done.ok and done.stdout == b"it runs\n"
    # A token goes nowhere in the clear, and to no other host.
    web.pages["/box/a.sh"] = [whole(b"clear")]
    done = vm.deploy("cat a.sh", identity={}, files=[f"http://{ACCOUNT}.blob.core.windows.net/box/a.sh"])
    assert done.ok and "authorization" not in web.asked[0].headers


def test_token_does_not_follow_to_another_host(vm, platform):
    uri = blob(platform, "moved.sh")
    platform.put_blob("/box/there.sh", b"echo there\n")
    platform.set_fault("blob", "/box/moved.sh", status=302, headers={"Location": "https://moved.example/box/there.sh"})
    done = vm.deploy("sh moved.sh", identity={}, files=[uri])
    platform.clear_faults()
    assert done.ok and done.stdout == b"there\n"
    first, second = platform.requests("blob")
    assert "authorization" in first["headers"]
    assert second["headers"]["host"] == "moved.example" and not {"authorization", "referer"} & set(second["headers"])


def test_identity_without_a_role_9(vm, platform):
    """Who, which role, on what; the service's word and number for its support."""
    platform.set_storage(public_access=False, allowed=[USER["client_id"]])
    done = vm.deploy("touch ran", identity={}, files=[blob(platform, "a.sh")])
    assert not done.ok and done.codes == [71]
    assert f"the identity (client id {SYSTEM['client_id']}) needs {ROLE} on storage account {ACCOUNT}" in done.message
    asked = platform.requests("blob")
    assert [one["status"] for one in asked] == [403, 409]  # with the token, and as nobody
    assert "403 AuthorizationPermissionMismatch (request id " in done.message
    assert "without the identity the server says 409 PublicAccessNotPermitted" in done.message


def test_identity_does_not_hide_what_is_public(vm, platform):
    platform.set_storage(allowed=[USER["client_id"]])
    done = vm.deploy("sh a.sh", identity={}, files=[blob(platform, "a.sh", access="public")])
    assert done.ok
    platform.set_identity({})
    done = vm.deploy("sh a.sh", identity={}, files=[f"{BLOBS}/box/a.sh"])
    assert done.ok, done.message


def test_identity_that_does_not_exist_or_finds_nothing(vm, platform):
    done = vm.deploy(identity={}, files=[f"{BLOBS}/box/absent.sh"])
    assert not done.ok and done.codes == [70] and "404 BlobNotFound" in done.message
    assert "without the identity" not in done.message
    platform.set_identity({})
    done = vm.deploy(identity={}, files=[blob(platform, "a.sh")])
    assert not done.ok and done.codes == [-30] and "the VM has no such identity" in done.message


def test_token_that_is_refused_is_renewed_once(vm, platform):
    uri = blob(platform, "a.sh")
    assert vm.deploy(identity={}, files=[uri]).ok
    platform.revoke_tokens()  # the metadata service has it cached
    platform.clear_requests()
    done = vm.deploy("sh a.sh", identity={}, files=[uri])
    assert done.ok, done.message
    assert [one["status"] for one in platform.requests("blob")] == [401, 200]
    assert [one["query"].get("bypass_cache") for one in platform.requests("imds", "/metadata/identity")] == [None, "true"]


def test_identity_in_settings_of_custom_script(vm, platform):
    """Where the peer asks as nobody first; the codes are its own."""
    platform.set_identity({"system": SYSTEM, "user": [USER]})
    public = {"fileUris": [blob(platform, "a.sh")], "commandToExecute": "sh a.sh", "network": {"caFile": platform.addresses["caFile"]}}
    done = vm.deploy_peer(public, {"managedIdentity": {"clientId": USER["client_id"]}})
    assert done.ok and done.stdout == b"it runs\n"
    assert [one["status"] for one in platform.requests("blob")] == [200]
    platform.set_storage(public_access=False, allowed=[])
    done = vm.deploy_peer(public, {"managedIdentity": {"objectId": USER["object_id"]}})
    assert not done.ok and done.codes == [71] and ROLE in done.message
    done = vm.deploy_peer(public, {"managedIdentity": {"clientId": USER["client_id"], "objectId": USER["object_id"]}})
    assert not done.ok and "only one of 'clientId' or 'objectId'" in done.message and 27 in done.codes


def test_retry_counts_for_downloads(vm, platform):
    """A role that has just been assigned."""
    uri = blob(platform, "a.sh")
    platform.set_storage(public_access=False, allowed=[])
    sequence = vm.begin("sh a.sh", identity={}, files=[uri], retry={"times": 9, "delayInSeconds": 1})
    wait_until("the first try", lambda: "tried again in" in json.dumps(vm.deployment(sequence)), PATIENCE)
    platform.set_storage()
    assert vm.settled(sequence, limit=PATIENCE)["status"] == "success"


def test_account_key(vm, platform):
    key = vm.secret("a2V5IG9mIHRoZSBhY2NvdW50IGM0bjRyeQ==")
    platform.set_storage(key=key)
    blob(platform, "a.sh", access="sas")
    script = {"storageAccountName": ACCOUNT, "storageAccountKey": {"secretRef": "k"}, "secrets": {"k": key}}
    done = vm.deploy("sh a.sh", files=["http://other.blob.core.windows.net/box/a.sh"], **script)
    assert done.ok and done.stdout == b"it runs\n"
    (asked,) = platform.requests("blob")
    assert asked["query"]["sp"] == "r" and asked["query"]["sv"] == "2018-03-28"
    done = vm.deploy("sh a.sh", files=["https://files.example.org/box/a.sh"], section={"blobHosts": ["files.example.org"]}, **script)
    assert done.ok, done.message
    platform.set_storage(key="b3RoZXI=")
    done = vm.deploy(files=[f"{BLOBS}/box/a.sh"], **script)
    assert not done.ok and f"the key in storageAccountKey is not the one of storage account {ACCOUNT} now" in done.message
    done = vm.deploy(files=["https://example.org/a.sh"], **script)
    assert not done.ok and "opens blobs only" in done.message and done.codes == [25]
