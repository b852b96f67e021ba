"""The example hooks, each with the program it is for or with one that notes what it was asked."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from required import need  # noqa: E402
from stage import free_port  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOOKS = ROOT / "manifest/examples/hooks"
ALL = sorted(path for path in HOOKS.glob("*/*.d/*"))
SERVERS = ROOT / "build/servers"


def program(name):
    """nginx and haproxy, installed or unpacked by scripts/bootstrap."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:{SERVERS}/usr/sbin")
    need(None if found else f"needs {name}: run scripts/bootstrap")
    return found


def environment(tmp_path, **more):
    libraries = ":".join(str(path) for path in SERVERS.glob("usr/lib/*-linux-gnu*"))
    return {**os.environ, "PATH": f"{tmp_path}/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH": libraries,
            **more}


def run(path, env, **options):
    return subprocess.run([str(path)], env=env, capture_output=True, text=True, timeout=30, **options)


def stub(tmp_path, name, text):
    path = tmp_path / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho \"{name} $*\" >>{tmp_path}/calls\n{text}\n")
    path.chmod(0o755)


def calls(tmp_path):
    return (tmp_path / "calls").read_text().splitlines()


def wait(what, look, limit=15):
    deadline = time.monotonic() + limit
    while not look():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.mark.parametrize("path", ALL, ids=lambda path: f"{path.parts[-3]}-{path.parts[-2]}")
def test_hooks_are_what_would_be_run(path):
    """Executable, not writable by others, without a complaint; each drain hook has its undo of the same name."""
    assert os.access(path, os.X_OK) and not path.stat().st_mode & 0o022
    assert (path.parents[1] / {"drain.d": "restore.d", "restore.d": "drain.d"}[path.parent.name] / path.name).exists()
    if shutil.which("shellcheck"):
        checked = run_args("shellcheck", path)
        assert checked.returncode == 0, checked.stdout


def run_args(*argv):
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=30)


def test_nginx_finishes_what_it_serves(tmp_path):
    nginx, port = program("nginx"), free_port()
    root = tmp_path / "nginx"
    (root / "logs").mkdir(parents=True)
    (root / "nginx.conf").write_text(
        f"user root; error_log {root}/logs/error.log; pid {root}/nginx.pid; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c;"
        f" uwsgi_temp_path {root}/d; scgi_temp_path {root}/e; keepalive_timeout 60;"
        f" server {{ listen 127.0.0.1:{port}; location / {{ limit_rate 1000; root {root}; }} }} }}\n")
    (root / "file").write_bytes(b"x" * 2500)
    env = environment(tmp_path, NGINX_COMMAND=f"{nginx} -p {root} -e {root}/logs/error.log -c {root}/nginx.conf",
                      NGINX_PID_FILE=f"{root}/nginx.pid")
    # The daemon keeps what it was started with: no pipe of ours.
    assert subprocess.run(env["NGINX_COMMAND"].split(), env=env, stdout=subprocess.DEVNULL, timeout=30).returncode == 0
    wait("nginx", (root / "nginx.pid").exists)
    got = []

    def slow_client():
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n")
            while piece := connection.recv(65536):
                got.append(piece)

    client = threading.Thread(target=slow_client)
    client.start()
    wait("the answer to begin", lambda: got)
    drained = run(HOOKS / "nginx/drain.d/50-nginx", env)
    assert drained.returncode == 0, drained.stderr
    client.join(20)
    assert b"".join(got).endswith(b"x" * 2500), "what was being served has been served"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    # A second time there is nothing to do.
    assert run(HOOKS / "nginx/drain.d/50-nginx", env).returncode == 0
    stub(tmp_path, "systemctl", "exit 0")
    assert run(HOOKS / "nginx/restore.d/50-nginx", env).returncode == 0
    assert calls(tmp_path) == ["systemctl start nginx.service"]


def test_gunicorn_s_master_ends_alone(tmp_path):
    stub(tmp_path, "systemctl", f"case $1 in is-active) [ ! -e {tmp_path}/told ] ;; kill) touch {tmp_path}/told ;; esac")
    env = environment(tmp_path, GUNICORN_UNIT="shop.service")
    assert run(HOOKS / "gunicorn/drain.d/50-gunicorn", env).returncode == 0
    assert calls(tmp_path) == ["systemctl is-active --quiet shop.service",
                               "systemctl kill --kill-who=main --signal=TERM shop.service",
                               "systemctl is-active --quiet shop.service"]
    assert run(HOOKS / "gunicorn/drain.d/50-gunicorn", env).returncode == 0
    assert run(HOOKS / "gunicorn/restore.d/50-gunicorn", env).returncode == 0
    assert calls(tmp_path)[-1] == "systemctl start shop.service"


def test_haproxy_s_server_is_drained_and_ready_again(tmp_path):
    haproxy, front, back = program("haproxy"), free_port(), free_port()
    program("socat")
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(
        f"global\n  stats socket {tmp_path}/admin.sock mode 600 level admin\n"
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n"
        f"listen shop\n  bind 127.0.0.1:{front}\n  server local 127.0.0.1:{back}\n")
    env = environment(tmp_path, HAPROXY_SOCKET=f"{tmp_path}/admin.sock")
    with socket.create_server(("127.0.0.1", back)) as server:
        process = subprocess.Popen([haproxy, "-db", "-f", configuration], env=env, stderr=subprocess.DEVNULL)
        try:
            wait("haproxy", (tmp_path / "admin.sock").exists)
            client = socket.create_connection(("127.0.0.1", front), timeout=10)
            session = server.accept()[0]
            drain = subprocess.Popen([HOOKS / "haproxy/drain.d/20-haproxy"], env=env)
            with pytest.raises(subprocess.TimeoutExpired):
                drain.wait(1)
            client.close()
            session.close()
            assert drain.wait(15) == 0, "it returns when the last session has ended"
            with socket.create_connection(("127.0.0.1", front), timeout=10) as refused:
                assert refused.recv(1) == b"", "nothing new gets through"
            assert run(HOOKS / "haproxy/restore.d/20-haproxy", env).returncode == 0
            with socket.create_connection(("127.0.0.1", front), timeout=10):
                server.settimeout(10)
                server.accept()[0].close()
            wrong = run(HOOKS / "haproxy/drain.d/20-haproxy", {**env, "HAPROXY_SERVER": "shop/other"})
            assert wrong.returncode == 1 and "No such server" in wrong.stderr
        finally:
            process.kill()
            process.wait()


def test_postgresql_writes_a_checkpoint_and_is_waited_for(tmp_path):
    stub(tmp_path, "runuser", "exit 0")
    stub(tmp_path, "pg_isready", f"[ -e {tmp_path}/asked ] || {{ touch {tmp_path}/asked; exit 1; }}")
    env = environment(tmp_path)
    assert run(HOOKS / "postgresql/drain.d/80-postgresql", env).returncode == 0
    assert run(HOOKS / "postgresql/restore.d/80-postgresql", env).returncode == 0
    assert calls(tmp_path) == ["runuser -u postgres -- psql -XAtq -c CHECKPOINT", "pg_isready -q", "pg_isready -q"]
