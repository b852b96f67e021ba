"""A Debian machine booted with systemd as PID 1, in namespaces of its own, for one test.

    with Machine(agent=True) as machine:
        machine.start_platform()
        machine.boot()
        machine.run("systemctl status walinuxagent")
        machine.reboot()

A machine is an overlay on the base tree (image.py) whose upper layer is a tmpfs, so it starts clean and
leaves nothing behind. One process, the holder (holder.sh), owns what outlives a boot: the network
namespace, the disk and the cgroup. All of it ends with the holder, and the holder ends when its standard
input closes: at the end of the `with`, or when the test process dies in whatever way.

The platform's addresses belong to the machine's network namespace. The fake platform (tests/platform)
runs in that namespace on the host's file tree; inside() lets the test speak to either from there.
"""

import concurrent.futures
import ctypes
import itertools
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import image

HERE = pathlib.Path(__file__).resolve().parent
PLATFORM = HERE.parent / "platform"

IMDS = "169.254.169.254:80"
WIRE = "168.63.129.16:80"
HOST_PLUGIN = "168.63.129.16:32526"
VAULT_ADDRESS = "127.0.0.2"
BLOB_ADDRESS = "127.0.0.3"
CONTROL = "127.0.0.4:1"

NAMESPACES = ("--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--cgroup")
CLONE_NEWNET = 0x40000000

# Nothing in a machine may reach what belongs to the host: its modules, clock, raw devices and kernel log.
CONFINED = ["setpriv", "--bounding-set=-sys_module,-sys_time,-sys_rawio,-syslog,-mac_admin,-mac_override", "--"]

# The settings that let waagent 2.7.3 live on nothing but the fake platform, with its period at one second.
WAAGENT_CONF = """\
Extensions.Enabled=y
Extensions.GoalStatePeriod=1
Extensions.InitialGoalStatePeriod=1
Provisioning.Agent=disabled
Provisioning.MonitorHostName=n
ResourceDisk.Format=n
ResourceDisk.EnableSwap=n
Logs.Verbose=n
Logs.Console=n
Logs.Collect=n
OS.RootDeviceScsiTimeout=None
OS.EnableFirewall=n
OS.OpensslPath=/usr/bin/openssl
AutoUpdate.Enabled=n
AutoUpdate.UpdateToLatestVersion=n
EnableOverProvisioning=n
Protocol.EndpointDiscovery=static
Debug.EtpCollectionPeriod=20
"""

# A service with ProtectProc= gets a new /proc, and with it the host's boot id; this puts the machine's back into ours.
BOOT_ID_DROP_IN = "[Service]\nBindReadOnlyPaths=/run/machine/boot-id:/proc/sys/kernel/random/boot_id\n"

# Timers of the distribution would work during a test, and a login prompt would sit on the console.
MASKED_UNITS = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer",
    "systemd-tmpfiles-clean.timer", "console-getty.service", "getty.target",
)

COMMAND_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}

libc = ctypes.CDLL(None, use_errno=True)
numbers = itertools.count(1)


class MachineError(Exception):
    """The machine itself did not do what it must."""


class CommandError(Exception):
    """A command in the machine failed; the text has all it said."""

    def __init__(self, command, status, stdout, stderr):
        super().__init__(f"{command!r} ended with {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
        self.status = status
        self.stdout = stdout
        self.stderr = stderr


def unavailable(packages=image.PACKAGES):
    """Why no machine can be booted here, or None."""
    if os.geteuid() != 0:
        return "booting a machine needs root"
    for tool in ("unshare", "nsenter", "setpriv", "ip", "pivot_root"):
        if shutil.which(tool) is None:
            return f"booting a machine needs {tool}"
    if not image.tree(packages).is_dir() and shutil.which("debootstrap") is None:
        return "making a machine's base tree needs debootstrap"
    probe = subprocess.run(
        ["unshare", *NAMESPACES, "--", "sh", "-c", "mount -t tmpfs tmpfs /mnt && mkdir /mnt/c && mount -t cgroup2 cgroup2 /mnt/c"],
        capture_output=True, text=True)
    if probe.returncode != 0:
        return f"namespaces are refused here: {probe.stderr.strip()}"
    return None


def wait_until(predicate, timeout, what, pause=0.05):
    """Returns the first true value of predicate(); says what was awaited when it does not come in time."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise MachineError(f"waited {timeout} s in vain for {what}; last value: {value!r}")
        time.sleep(pause)


def connect(one, other):
    """Lays a cable between two network namespaces: each end is (a process's id, interface, address with prefix length).

    A machine has none until this gives it one. The cable goes with the first of the two namespaces."""
    (pid, interface, _), (other_pid, other_interface, _) = one, other
    subprocess.run(["ip", "link", "add", interface, "netns", str(pid), "type", "veth",
                    "peer", "name", other_interface, "netns", str(other_pid)], check=True)
    for pid, interface, address in (one, other):
        for command in (["address", "add", address, "dev", interface], ["link", "set", interface, "up"]):
            subprocess.run(["nsenter", f"--target={pid}", "--net", "--", "ip", *command], check=True)


class Console:
    """The terminal behind /dev/console; keeps what was written to it."""

    def __init__(self):
        self.master, self.slave = pty.openpty()
        self.path = os.ttyname(self.slave)
        self.stop_read, self.stop_write = os.pipe()
        self.written = bytearray()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while True:
            ready, _, _ = select.select([self.master, self.stop_read], [], [])
            if self.master not in ready:
                return
            self.written += os.read(self.master, 4096)

    def text(self):
        return bytes(self.written).decode(errors="replace").replace("\r\n", "\n")

    def close(self):
        os.close(self.stop_write)
        self.reader.join()
        for descriptor in (self.master, self.slave, self.stop_read):
            os.close(descriptor)


class Inside:
    """An object whose methods run in the machine's network namespace."""

    def __init__(self, machine, target):
        self._machine = machine
        self._target = target

    def __getattr__(self, name):
        method = getattr(self._target, name)
        return lambda *args, **kwargs: self._machine.inside(method, *args, **kwargs)


class Machine:
    """One machine. Nothing runs in it before boot(); files can be put in place from the start."""

    def __init__(self, agent=False, disk_size="1g", packages=image.PACKAGES):
        """agent: waagent starts at boot. disk_size: what the machine may write before its disk is full.

        packages: what is installed on it, one of image.py's lists."""
        self.agent = agent
        self.disk_size = disk_size
        self.packages = packages
        self.name = f"ek-{os.getpid()}-{next(numbers)}"
        # what the firmware says at the next boot: another one makes the disk a clone's
        self.vm_id = str(uuid.uuid4())
        self.platform = None
        self.platform_info = None
        self.boot_seconds = None
        self._holder = None
        self._init = None
        self._init_pid = None
        self._platform_process = None
        self._console = None
        self._threads = None
        self._scratch = None

    # -- life

    def __enter__(self):
        try:
            self._create()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def _create(self):
        base_tree = image.ensure(self.packages)
        cache = image.cache_directory()
        self._scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=cache))
        # an empty directory for every machine: each mounts on it in a mount namespace of its own
        self._mount_point = cache / "mnt"
        self._mount_point.mkdir(exist_ok=True)
        self._console = Console()

        holder_log = open(self._scratch / "holder.log", "wb")
        with holder_log:
            self._holder = subprocess.Popen(
                ["unshare", "--mount", "--net", "--", "sh", str(HERE / "holder.sh"),
                 str(self._mount_point), str(base_tree), self.disk_size, self.name],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=holder_log,
                # a ^C at the terminal is for the test, which then closes the machine
                start_new_session=True)
        if self._holder.stdout.readline() != b"ready\n":
            self._holder.wait(timeout=10)
            raise MachineError(f"the machine's holder did not start: {(self._scratch / 'holder.log').read_text()}")
        self._threads = concurrent.futures.ThreadPoolExecutor(4, initializer=self._enter_network)
        self._furnish()

    def _furnish(self):
        """What distinguishes this machine from the base tree."""
        self.write("/etc/hostname", self.name + "\n")
        self.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n::1 localhost\n")
        self.write("/etc/machine-id", uuid.uuid4().hex + "\n")
        self.write("/usr/lib/systemd/system/evenkeel.service.d/10-machine.conf", BOOT_ID_DROP_IN)
        script = ["mkdir -p /var/log/journal"]
        script += [f"ln -sf /dev/null /etc/systemd/system/{unit}" for unit in MASKED_UNITS]
        script.append("rm -f /etc/systemd/system/multi-user.target.wants/nginx.service")
        if self.agent:
            self.write("/etc/waagent.conf", WAAGENT_CONF)
            self.write("/etc/systemd/system/walinuxagent.service.d/10-machine.conf", "[Unit]\nConditionVirtualization=\n")
        else:
            script.append("rm -f /etc/systemd/system/multi-user.target.wants/walinuxagent.service")
        self.run("\n".join(["set -e", *script]))

    def boot(self, timeout=30):
        """Powers the machine on and waits until systemd has started everything; sets boot_seconds."""
        if self.is_on():
            raise MachineError("the machine is on already")
        began = time.monotonic()
        with open(self._scratch / "boot.log", "wb") as boot_log:
            self._init = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", "--", *CONFINED, "nsenter", f"--target={self._holder.pid}", "--mount", "--net", "--",
                 "unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--",
                 "sh", str(HERE / "boot.sh"), str(self._mount_point), self.name, self.name, self.vm_id, str(uuid.uuid4()), self._console.path],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=boot_log)
        if self._init.stdout.readline() != b"entered\n":
            self._init.wait(timeout=10)
            raise MachineError(f"the machine did not boot: {(self._scratch / 'boot.log').read_text()}")
        children = pathlib.Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()
        self._init_pid = int(children[0])

        wait_until(lambda: self._alive() and self.exists("/run/systemd/private"), timeout, "systemd to answer")
        state = self.run(["systemctl", "is-system-running", "--wait"], timeout=timeout, check=False).strip()
        self.boot_seconds = time.monotonic() - began
        if state != "running":
            failed = self.run("systemctl --failed --no-legend --plain; systemctl list-jobs --no-legend", check=False)
            raise MachineError(f"the machine is {state} after boot:\n{failed}\n{self.console()}")

    def _alive(self):
        if self._init.poll() is not None:
            raise MachineError(f"the machine went off while booting ({self._init.returncode}):\n{self.console()}")
        return True

    def is_on(self):
        return self._init is not None and self._init.poll() is None

    def reboot(self, timeout=60, off_seconds=0):
        """Restarts in an orderly way, as `systemctl reboot` does."""
        self.run(["systemctl", "--no-block", "reboot"], check=False)
        self.follow_reboot(timeout, off_seconds)

    def follow_reboot(self, timeout=60, off_seconds=0):
        """Waits for a reboot that somebody in the machine has asked for, and boots again after so many seconds."""
        self._await_off(timeout)
        if self._init.returncode != -signal.SIGHUP:
            raise MachineError(f"the machine went off instead of rebooting ({self._init.returncode}):\n{self.console()}")
        time.sleep(off_seconds)
        self.boot()

    def power_off(self, timeout=60):
        """Shuts down in an orderly way."""
        self.run(["systemctl", "--no-block", "poweroff"], check=False)
        self._await_off(timeout)

    def kill_hard(self):
        """Cuts the power: everything in the machine is gone at once."""
        os.kill(self._init_pid, signal.SIGKILL)
        self._await_off(10)

    def freeze(self):
        """Stops every process of the machine where it stands, as a host does that is moved or updated under it."""
        self._set_frozen(True)

    def thaw(self):
        self._set_frozen(False)

    def _set_frozen(self, frozen):
        cgroup = self._mount_point / "cgroup" / self.name
        subprocess.run(
            ["nsenter", f"--target={self._holder.pid}", "--mount", "--", "sh", "-c",
             'set -e; echo "$2" >"$1/cgroup.freeze"; while ! grep -qx "frozen $2" "$1/cgroup.events"; do sleep 0.01; done',
             "sh", str(cgroup), str(int(frozen))], check=True, timeout=10)

    def _await_off(self, timeout):
        try:
            self._init.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise MachineError(f"the machine did not go off within {timeout} s:\n{self.console()}") from None
        self._init.stdout.close()
        self._init_pid = None

    def close(self):
        """Ends the machine and removes all there is of it. May be called twice."""
        if self._platform_process is not None:
            self._platform_process.stdin.close()
            try:
                self._platform_process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._platform_process.kill()
                self._platform_process.wait()
            self._platform_process.stdout.close()
            self._platform_process = None
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None
        failure = None
        if self._holder is not None:
            self._holder.stdin.close()
            status = self._holder.wait(timeout=30)
            self._holder.stdout.close()
            self._holder = None
            if status != 0:
                failure = f"the machine's holder ended with {status}: {(self._scratch / 'holder.log').read_text()}"
        if self._init is not None:
            self._init.wait(timeout=10)
            self._init.stdout.close()
            self._init = None
        if self._console is not None:
            self._console.close()
            self._console = None
        if self._scratch is not None:
            shutil.rmtree(self._scratch)
            self._scratch = None
        if failure:
            raise MachineError(failure)

    # -- commands and files

    def _enter(self):
        """The command prefix that runs what follows in the machine; on its disk alone while it is off."""
        if self.is_on():
            return ["nsenter", f"--target={self._init_pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]
        return ["nsenter", f"--target={self._holder.pid}", "--mount", "--net", "--", "chroot", str(self._mount_point / "root")]

    def _execute(self, command, timeout, data):
        """Runs a command to its end; returns (status, stdout, stderr) as bytes."""
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else [str(word) for word in command]
        process = subprocess.Popen(
            [*CONFINED, *self._enter(), *argv], env=COMMAND_ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True)
        try:
            stdout, stderr = process.communicate(data, timeout=timeout)
        except BaseException as error:
            # nsenter forks: its child is in the same process group
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise CommandError(command, f"no end within {timeout} s", stdout.decode(errors="replace"),
                                   stderr.decode(errors="replace")) from None
            raise
        return process.returncode, stdout, stderr

    def run(self, command, timeout=30, check=True, input=None):
        """Runs a shell line or an argument vector as root; returns what it wrote to standard output."""
        data = input.encode() if isinstance(input, str) else input
        status, stdout, stderr = self._execute(command, timeout, data)
        stdout, stderr = stdout.decode(errors="replace"), stderr.decode(errors="replace")
        if check and status != 0:
            raise CommandError(command, status, stdout, stderr)
        return stdout

    def status(self, command, timeout=30):
        """Runs a command and returns its exit status."""
        return self._execute(command, timeout, None)[0]

    def exists(self, path):
        return self.status(["test", "-e", path]) == 0

    def read_bytes(self, path):
        status, stdout, stderr = self._execute(["cat", "--", path], 30, None)
        if status != 0:
            raise CommandError(["cat", path], status, "", stderr.decode(errors="replace"))
        return stdout

    def read(self, path):
        return self.read_bytes(path).decode()

    def write(self, path, content, mode=0o644):
        """Writes a file whole, with the directories above it."""
        data = content.encode() if isinstance(content, str) else content
        self.run(["/bin/sh", "-c", 'set -e; mkdir -p "$(dirname "$1")"; cat >"$1"; chmod "$2" "$1"', "sh", path, f"{mode:o}"], input=data)

    def copy_in(self, source, path):
        """Copies a file or a directory of the host to that path."""
        source = pathlib.Path(source)
        if source.is_dir():
            packed = subprocess.run(["tar", "-C", str(source), "--owner=0", "--group=0", "-cf", "-", "."], check=True, stdout=subprocess.PIPE)
            self.run(["/bin/sh", "-c", 'set -e; mkdir -p "$1"; tar -C "$1" -xf -', "sh", path], input=packed.stdout)
        else:
            self.write(path, source.read_bytes(), source.stat().st_mode & 0o7777)

    def copy_out(self, path, target):
        """Copies a file of the machine to the host."""
        pathlib.Path(target).write_bytes(self.read_bytes(path))

    def boot_id(self):
        return self.read("/proc/sys/kernel/random/boot_id").strip()

    def journal(self, *arguments):
        """The journal of all boots; arguments are journalctl's, such as "-b" or "-u", "nginx"."""
        return self.run(["journalctl", "--no-pager", "-o", "short-precise", *arguments])

    def console(self):
        """Everything written to /dev/console since the machine was made."""
        return self._console.text()

    def wait_until(self, predicate, timeout, what):
        """Like wait_until() above; predicate may be a command line to run in the machine until it succeeds."""
        if isinstance(predicate, str):
            line = predicate
            return wait_until(lambda: self.status(line) == 0, timeout, what)
        return wait_until(predicate, timeout, what)

    def report(self):
        """What a person wants to see of a machine in which a test has failed."""
        parts = [f"===== console of {self.name}\n{self.console()[-4000:]}"]
        commands = [("journal", "journalctl --no-pager -o short-precise -n 150"),
                    ("failed units", "systemctl --failed --no-legend --plain"),
                    ("waagent.log", "tail -n 80 /var/log/waagent.log"),
                    ("extension logs", "tail -n 60 /var/log/azure/*/*.log")]
        for title, command in commands:
            parts.append(f"===== {title}\n{self.run(f'{command} 2>&1', check=False)}")
        log = self._scratch / "platform.log"
        if log.exists():
            parts.append(f"===== fake platform\n{log.read_text(errors='replace')[-4000:]}")
        return "\n".join(parts)

    # -- network

    @property
    def network_pid(self):
        """A process of the machine's network namespace, which outlives its boots."""
        return self._holder.pid

    def _enter_network(self):
        """Turns the calling thread into one of the machine's network namespace."""
        with open(f"/proc/{self._holder.pid}/ns/net") as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "cannot enter the machine's network namespace")

    def inside(self, function, *args, **kwargs):
        """Calls a function of this process in the machine's network namespace: the sockets it opens are there."""
        return self._threads.submit(function, *args, **kwargs).result()

    def beside(self, function, *args):
        """Begins the same, and returns what its end will tell; it must end before the machine does."""
        return self._threads.submit(function, *args)

    def start_platform(self, vaults=(), accounts=()):
        """Starts the fake platform on the platform's addresses and makes `platform`, its client.

        vaults and accounts: host names of key vaults and storage accounts that the machine shall find there.
        """
        if str(PLATFORM) not in sys.path:
            sys.path.insert(0, str(PLATFORM))
        import fakeplatform

        state = self._scratch / "platform"
        state.mkdir()
        with open(self._scratch / "platform.log", "wb") as log:
            self._platform_process = subprocess.Popen(
                ["nsenter", f"--target={self._holder.pid}", "--net", "--",
                 sys.executable, str(PLATFORM / "serve.py"), "--imds", IMDS, "--wire", WIRE, "--hostga", HOST_PLUGIN,
                 "--vault", f"{VAULT_ADDRESS}:443", "--blob", f"{BLOB_ADDRESS}:80", "--blobtls", f"{BLOB_ADDRESS}:443", "--control", CONTROL, "--state-dir", str(state), "--stop-with-stdin"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        line = self._platform_process.stdout.readline()
        if not line:
            raise MachineError(f"the fake platform did not start: {(self._scratch / 'platform.log').read_text()}")
        self.platform_info = json.loads(line)
        self.platform = Inside(self, fakeplatform.Client(CONTROL))
        names = [f"{VAULT_ADDRESS} {name}\n" for name in vaults] + [f"{BLOB_ADDRESS} {name}\n" for name in accounts]
        self.write("/etc/hosts", self.read("/etc/hosts") + "".join(names))
        self.trust(self.platform_info["caFile"])

    def trust(self, certificate):
        """Adds a host's PEM file to the certificates that the machine trusts, as update-ca-certificates would."""
        pem = pathlib.Path(certificate).read_text()
        digest = subprocess.run(["openssl", "x509", "-in", str(certificate), "-noout", "-subject_hash"],
                                check=True, capture_output=True, text=True).stdout.strip()
        bundle = "/etc/ssl/certs/ca-certificates.crt"
        self.write("/usr/local/share/ca-certificates/fake-platform.crt", pem)
        self.write(f"/etc/ssl/certs/{digest}.0", pem)
        self.write(bundle, self.read(bundle) + pem)
