"""nginx and HAProxy as plain processes of a test: as scripts/bootstrap has unpacked them, or as they are installed. Everything
they read and write is below a directory of the test's own."""

import os
import pathlib
import platform
import shutil
import signal
import subprocess

from required import need
from stage import free_port, wait_until

SOURCE = pathlib.Path(__file__).resolve().parents[2]
DIRECTORY = pathlib.Path(os.environ.get("EK_SERVERS_DIR") or SOURCE / "build" / "servers")
LIBRARIES = DIRECTORY / f"usr/lib/{platform.machine()}-linux-gnu"


def program(name):
    """Its path. Skips the test where it is missing, but on CI it must be there."""
    found = shutil.which(name, path=f"{DIRECTORY}/usr/sbin:{os.environ.get('PATH', '')}:/usr/sbin")
    need(None if found else f"needs {name} in {DIRECTORY}: run scripts/bootstrap")
    return found


def command(name, *arguments):
    """argv that runs it with the libraries that came with it, whatever the environment is."""
    return ["/usr/bin/env", f"LD_LIBRARY_PATH={LIBRARIES}", program(name), *map(str, arguments)]


class Server:
    """with Nginx(directory, …) as server: it listens on 127.0.0.1:server.port."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir(parents=True)
        self.port = free_port()
        self.configuration = directory / "configuration"
        self.process = None

    def __enter__(self):
        with open(self.directory / "output", "wb") as output:
            self.process = subprocess.Popen(self.start, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                            start_new_session=True)
        wait_until(f"{self.start[2]} to listen: {(self.directory / 'output').read_text()}", self.listens, 20)
        return self

    def __exit__(self, *_):
        # The first process passes it on to those that it has started.
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def listens(self):
        assert self.process.poll() is None, (self.directory / "output").read_text()
        wanted = f"0100007F:{self.port:04X} 00000000:0000 0A"
        return wanted in pathlib.Path("/proc/net/tcp").read_text()


class Nginx(Server):
    def __init__(self, directory, chain, key):
        super().__init__(directory)
        self.configuration.write_text(f"""
            daemon off; worker_processes 2; pid {directory}/pid; error_log {directory}/log;
            events {{ worker_connections 512; }}
            http {{
                access_log off; client_body_temp_path {directory}/t1; proxy_temp_path {directory}/t2;
                fastcgi_temp_path {directory}/t3; uwsgi_temp_path {directory}/t4; scgi_temp_path {directory}/t5;
                server {{
                    listen 127.0.0.1:{self.port} ssl; ssl_certificate {chain}; ssl_certificate_key {key};
                    location / {{ return 200 "here\\n"; }}
                }}
            }}""")
        base = command("nginx", "-e", directory / "log", "-p", directory, "-c", self.configuration)
        self.start, self.check, self.reload = base, [*base, "-t"], [*base, "-s", "reload"]


class Haproxy(Server):
    def __init__(self, directory, combined):
        super().__init__(directory)
        self.configuration.write_text(f"""
global
    stats socket {directory}/s mode 600 level admin expose-fd listeners
    hard-stop-after 5s
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend tls
    bind 127.0.0.1:{self.port} ssl crt {combined}
    http-request return status 200 content-type text/plain string here
""")
        self.start = command("haproxy", "-W", "-p", directory / "pid", "-f", self.configuration)
        self.check = command("haproxy", "-c", "-f", self.configuration)
        self.reload = ["/bin/sh", "-c", f"kill -USR2 $(head -n 1 {directory}/pid)"]
