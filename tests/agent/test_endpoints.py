"""The listening sockets of health.* in the hands of a service manager, which is played here as systemd plays it: it keeps the
descriptors that it is sent, hands them to the next process, and forgets those that it is told to."""

import array
import contextlib
import fcntl
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
from configured import Configured
from vm import SOURCE, free_port, http_get, wait_until

STORE_MAX = 8
# Descriptors as the manager numbers them, in the process that becomes the service.
LAUNCHER = """
import os, sys
count = int(sys.argv[1])
for i, fd in enumerate(map(int, sys.argv[2:2 + count])):
    os.dup2(fd, 3 + i)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
os.execv(sys.argv[2 + count], sys.argv[2 + count:])
"""


class Manager:
    def __init__(self, path):
        self.path = str(path)
        self.kept = []  # (name, descriptor)
        self.lock = threading.Lock()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        while True:
            message, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(4 * 8))
            fds = array.array("i")
            for _, _, data in ancillary:
                fds.frombytes(data)
            if message == b"END":
                return
            fields = dict(line.partition("=")[::2] for line in message.decode().splitlines())
            with self.lock:
                if "FDSTORE" in fields:
                    fds = [fd for fd in fds if not self.keep(fields["FDNAME"], fd)]
                elif "FDSTOREREMOVE" in fields:
                    fds = list(fds) + [fd for name, fd in self.kept if name == fields["FDNAME"]]
                    self.kept = [(name, fd) for name, fd in self.kept if name != fields["FDNAME"]]
            for fd in fds:  # a barrier's descriptor among them: the service waits for this
                os.close(fd)

    def keep(self, name, fd):
        known = [os.fstat(kept).st_ino for _, kept in self.kept]
        if os.fstat(fd).st_ino in known or len(self.kept) >= STORE_MAX:
            return False
        self.kept.append((name, fd))
        return True

    def names(self):
        with self.lock:
            return sorted(name for name, _ in self.kept)

    def sockets(self):
        with self.lock:
            return sorted(os.fstat(fd).st_ino for _, fd in self.kept)

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(b"END", self.path)
        self.thread.join()
        self.socket.close()
        for _, fd in self.kept:
            os.close(fd)


class Managed(Configured):
    """Its daemon is the manager's."""

    def _prepare(self):
        super()._prepare()
        self.manager = Manager(self.directory / "notify")

    def start_daemon(self, binary=None, **environment):
        with self.manager.lock:
            fds = [os.dup(fd) for _, fd in self.manager.kept]
            names = ":".join(name for name, _ in self.manager.kept)
        binary = binary or self.binary
        # above those that it will have
        high = [fd_above(fd, 3 + len(fds)) for fd in fds]
        with open(self.log, "ab") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-S", "-c", LAUNCHER, str(len(high)), *map(str, high), binary, "daemon", "--foreground"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=high, start_new_session=True,
                env={**self.environment(), "NOTIFY_SOCKET": self.manager.path, "LISTEN_FDNAMES": names, **environment})
        for fd in high:
            os.close(fd)
        self._daemon = daemon
        self.daemons.append(daemon)
        return daemon

    def stop(self):
        try:
            super().stop()
        finally:
            self.manager.close()


def fd_above(fd, least):
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least + 100)
    os.close(fd)
    return high


@pytest.fixture
def vm(tmp_path, platform):
    with Managed(tmp_path, platform) as vm:
        vm.readiness, vm.metrics = free_port(), free_port()
        yield vm


def listening(vm, readiness, metrics, **more):
    vm.configure(health={"listen": f"127.0.0.1:{readiness}", **({"metricsListen": f"127.0.0.1:{metrics}"} if metrics else {})}, **more)


def name(port, address="127.0.0.1"):
    return f"listen-{address}_{port}"


def answers(readiness, metrics):
    for port, path, word in ((readiness, "/ready", "ready"), (metrics, "/metrics", "evenkeel_serving 1")):
        wait_until(f"{path} on port {port}", lambda: http_get(f"http://127.0.0.1:{port}{path}")[0] == 200, 20)
        assert word in http_get(f"http://127.0.0.1:{port}{path}")[1]
    return True


def keeps(vm, *names):
    """The manager reads what it is told in its own time."""
    wait_until(f"the manager to keep {names}", lambda: vm.manager.names() == sorted(names), 10)


def refused(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


@contextlib.contextmanager
def scraped(*ports):
    """Whatever is answered there: nobody is refused meanwhile."""
    refusals, served, ended = [], [], threading.Event()

    def work():
        while not ended.is_set():
            for port in ports:
                try:
                    with socket.create_connection(("127.0.0.1", port), 30) as client:
                        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                        served.append(client.recv(100))
                except ConnectionResetError:
                    pass  # taken by a process that has ended before it answered
                except OSError as error:
                    refusals.append((port, error))
            ended.wait(0.005)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
        wait_until("some scrapes", lambda: refusals or len(served) > 20, 30)
    finally:
        ended.set()
        thread.join()
    assert refusals == []


def test_both_sockets_outlive_the_process(vm):
    listening(vm, vm.readiness, vm.metrics)
    vm.start_daemon()
    answers(vm.readiness, vm.metrics)
    keeps(vm, name(vm.readiness), name(vm.metrics))
    sockets = vm.manager.sockets()
    with scraped(vm.readiness, vm.metrics):
        for end in (vm.stop_daemon, vm.kill_daemon):
            end()
            # nobody is there, and the caller waits
            with socket.create_connection(("127.0.0.1", vm.metrics), 30) as caller:
                caller.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                vm.start_daemon()
                assert caller.recv(100).startswith(b"HTTP/1.")
            answers(vm.readiness, vm.metrics)
            assert vm.manager.sockets() == sockets


def test_addresses_change_in_the_settings(vm):
    listening(vm, vm.readiness, vm.metrics)
    vm.start_daemon()
    answers(vm.readiness, vm.metrics)
    sockets = vm.manager.sockets()

    # they take each other's
    with scraped(vm.readiness, vm.metrics):
        listening(vm, vm.metrics, vm.readiness)
        assert vm.call("POST", "/v1/goal")[0] == 200
        answers(vm.metrics, vm.readiness)
    assert vm.manager.sockets() == sockets

    # one has another: the former is given back, and taken up again later
    third = free_port()
    listening(vm, vm.metrics, third)
    assert vm.call("POST", "/v1/goal")[0] == 200
    answers(vm.metrics, third)
    keeps(vm, name(vm.metrics), name(third))
    assert refused(vm.readiness)

    # an address that holds the former one
    vm.configure(health={"listen": f"0.0.0.0:{vm.metrics}", "metricsListen": f"0.0.0.0:{vm.metrics}"})
    assert vm.call("POST", "/v1/goal")[0] == 200
    answers(vm.metrics, vm.metrics)
    keeps(vm, name(vm.metrics, "0.0.0.0"))
    assert refused(third)

    # while the service is away
    vm.stop_daemon()
    listening(vm, vm.readiness, None)
    vm.start_daemon()
    wait_until("the readiness", lambda: http_get(f"http://127.0.0.1:{vm.readiness}/ready")[0] == 200, 20)
    keeps(vm, name(vm.readiness))
    assert refused(vm.metrics)
    vm.configure()
    assert vm.call("POST", "/v1/goal")[0] == 200
    keeps(vm)
    assert refused(vm.readiness)


def test_what_is_not_what_its_name_says_is_closed(vm):
    def bound(family, address, listens):
        one = socket.socket(family)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address, 0))
        if listens:
            one.listen()
        return one, one.getsockname()[1]

    other, _ = bound(socket.AF_INET, "127.0.0.1", True)
    six, six_port = bound(socket.AF_INET6, "::1", True)
    deaf, deaf_port = bound(socket.AF_INET, "127.0.0.1", False)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    pipe, end = os.pipe()
    good, good_port = bound(socket.AF_INET, "127.0.0.1", True)

    for wanted, left in ((six_port, [(name(six_port), six.fileno())]),
                         (deaf_port, [(name(deaf_port), deaf.fileno())]),
                         (vm.readiness, [(name(vm.readiness), other.fileno())]),
                         (vm.readiness, [(name(vm.readiness), pipe), (name(vm.readiness), datagrams.fileno())]),
                         (good_port, [(name(good_port), other.fileno()), (name(good_port), good.fileno())]),
                         (good_port, [(name(good_port), good.fileno()), (name(good_port), pipe)])):
        with vm.manager.lock:
            for _, fd in vm.manager.kept:
                os.close(fd)
            vm.manager.kept = [(text, os.dup(fd)) for text, fd in left]
        if wanted == deaf_port:
            deaf.close()
        listening(vm, wanted, None, log={"level": "debug"})
        before = debug_lines(vm)
        vm.start_daemon()
        wait_until("the readiness", lambda: http_get(f"http://127.0.0.1:{wanted}/ready")[0] == 200, 20)
        keeps(vm, name(wanted))
        closed = len(left) - (wanted == good_port)
        assert debug_lines(vm) - before == closed
        if wanted == good_port:
            assert vm.manager.sockets() == [os.fstat(good.fileno()).st_ino]
        vm.stop_daemon()
    for one in (other, six, datagrams, good):
        one.close()
    os.close(pipe)
    os.close(end)


def debug_lines(vm):
    return sum(path.read_text(errors="replace").count("it does not listen there") for path in (vm.root / "var/log/azure").rglob("evenkeel.log*"))


def test_the_manager_has_room_for_them():
    limit = re.search(r"#define LIMIT_KEPT_SOCKETS\s+(\d+)", (SOURCE / "agent/base/limits.h").read_text())[1]
    units = [path for folder in ("agent/app/units", "debian", "rpm") for path in pathlib.Path(SOURCE / folder).rglob("*")
             if path.is_file() and re.search(r"^Type=notify", path.read_text(), re.MULTILINE)]
    assert [path.name for path in units] == ["evenkeel.service.in"]
    assert f"\nFileDescriptorStoreMax={limit}\n" in units[0].read_text() and int(limit) == STORE_MAX
