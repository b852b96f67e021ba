"""nginx with separate files and HAProxy with a combined one serve a certificate while clients shake hands all the time and the
vault has new versions: nobody is turned away, and the new certificate is served."""

import contextlib
import hashlib
import socket
import ssl
import threading
import time

import pytest
from keys import HOME
from servers import Haproxy, Nginx
from vm import wait_until

NAMES = ("nginx", "haproxy")
ROTATIONS = 3
CLIENTS = 2  # of each server


@pytest.fixture
def platform(fresh_platform):
    return fresh_platform


@pytest.fixture
def vm(keys_vm):
    return keys_vm


class Clients:
    """Connections one after the other: a handshake that checks the certificate, a request, its answer."""

    def __init__(self, port, name, ca_file):
        self.address, self.name = ("127.0.0.1", port), f"{name}.example"
        self.context = ssl.create_default_context(cafile=ca_file)
        self.served, self.failures = [], []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def once(self):
        with socket.create_connection(self.address, timeout=10) as plain, \
                self.context.wrap_socket(plain, server_hostname=self.name) as connection:
            shown = hashlib.sha1(connection.getpeercert(binary_form=True)).hexdigest().upper()
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {self.name}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while piece := connection.recv(4096):
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 "), answer[:100]
        return shown

    def run(self):
        while not self.stopping.is_set():
            started = time.time()
            try:
                self.served.append((started, time.time(), self.once()))
            except (OSError, AssertionError) as error:
                self.failures.append((started, repr(error)))
            time.sleep(0.002)


def test_rotation_under_load(vm, platform):
    made = {name: [vm.make(name)] for name in NAMES}
    versions = {name: vm.put(made[name][0], name) for name in NAMES}
    nginx = Nginx(vm.root / "nginx", vm.file(f"{HOME}/nginx/fullchain.pem"), vm.file(f"{HOME}/nginx/privkey.pem"))
    haproxy = Haproxy(vm.root / "haproxy", vm.file(f"{HOME}/haproxy/site.pem"))
    servers = {"nginx": nginx, "haproxy": haproxy}
    files = {"nginx": {"fullchain": "fullchain.pem", "key": "privkey.pem"}, "haproxy": {"combined": "site.pem"}}
    # The first install comes before there is anything to reload.
    vm.refresh(*({"name": name, "files": files[name]} for name in NAMES))
    vm.start()
    for name in NAMES:
        vm.wait_installed(versions[name], name)
    with contextlib.ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(servers[name])
        vm.refresh(*({"name": name, "files": files[name], "activate": {
            "check": servers[name].check, "commands": [servers[name].reload],
            "verify": {"endpoint": f"127.0.0.1:{servers[name].port}", "serverName": f"{name}.example",
                       "timeoutInSeconds": 20}}} for name in NAMES))
        vm.reload()
        clients = {name: stack.enter_context(Clients(servers[name].port, name, platform.addresses["caFile"])) for name in NAMES}
        for name in NAMES:
            wait_until(f"{name} to be asked", lambda name=name: len(clients[name].served) > 5, 20)
        changed = []
        for _ in range(ROTATIONS):
            for name in NAMES:
                made[name].append(vm.make(name))
                versions[name] = vm.put(made[name][-1], name)
            done = vm.run("certs", "refresh")
            assert done.returncode == 0, done.stdout + done.stderr + vm.log_text()[-2000:]
            changed.append(time.time())
            for name in NAMES:
                assert f"{name}: installed, version {versions[name]}" in done.stdout, done.stdout
                assert clients[name].once() == made[name][-1]["thumbprint"]
            before = {name: len(clients[name].served) for name in NAMES}
            wait_until("more clients", lambda: all(len(clients[name].served) > before[name] + 5 for name in NAMES), 20)
    for name in NAMES:
        served, thumbprints = clients[name].served, [one["thumbprint"] for one in made[name]]
        assert clients[name].failures == [], f"{name}: {clients[name].failures[:5]} of {len(served)}"
        assert len(served) > 40
        # Only what was installed is ever shown, and nothing but the new one once the refresh has said that it is in use.
        assert {shown for _, _, shown in served} == set(thumbprints)
        for number, moment in enumerate(changed):
            later = {shown for started, _, shown in served if started > moment}
            assert not later & set(thumbprints[: number + 1]), f"{name} still shows an old certificate"
        print(f"{name}: {len(served)} connections through {ROTATIONS} rotations, none failed")


def test_a_renewal_that_the_server_refuses_changes_nothing(vm, platform):
    """nginx -t sees the new files before anybody else does, and does not take them: the old certificate goes on being served."""
    certificate = vm.make("nginx")
    version = vm.put(certificate, "nginx")
    vm.refresh({"name": "nginx"})
    vm.start()
    vm.wait_installed(version, "nginx")
    nginx = Nginx(vm.root / "nginx", vm.file(f"{HOME}/nginx/fullchain.pem"), vm.file(f"{HOME}/nginx/privkey.pem"))
    with nginx, Clients(nginx.port, "nginx", platform.addresses["caFile"]) as clients:
        vm.refresh({"name": "nginx", "activate": {"check": nginx.check, "commands": [nginx.reload]}})
        vm.reload()
        wait_until("clients", lambda: len(clients.served) > 5, 20)
        good = nginx.configuration.read_text()
        # A mistake of somebody else's that a reload would have brought to light.
        nginx.configuration.write_text(good.replace("worker_processes 2", "worker_processes many"))
        newest = vm.make("nginx")
        rejected = vm.put(newest, "nginx")
        done = vm.run("certs", "refresh", "nginx")
        assert done.returncode == 1 and rejected in done.stderr and "worker_processes" in done.stderr, done.stdout + done.stderr
        assert clients.once() == certificate["thumbprint"]
        assert vm.set_of("nginx")["privkey.pem"] == certificate["key"].encode()
        # Put right, an operator's order tries the rejected version again at once.
        nginx.configuration.write_text(good)
        done = vm.run("certs", "refresh", "nginx")
        assert done.returncode == 0 and f"installed, version {rejected}" in done.stdout, done.stdout + done.stderr
        wait_until("the new certificate", lambda: clients.once() == newest["thumbprint"], 20)
    assert clients.failures == []
