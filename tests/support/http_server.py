"""A server with good and bad manners for test_http: on loopback, ports chosen by the kernel.

Prints "PORT TLSPORT CAFILE" on one line, then serves until its standard input ends.
"""
import http.server
import os
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time

done = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, code, body, *headers):
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def raw(self, data):
        self.wfile.write(data)
        self.wfile.flush()
        self.close_connection = True

    def serve(self):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        path = self.path.split("?")[0]
        if path.endswith("/echo"):
            self.answer(200, ("%s %s\n%s%s" % (self.command, self.path, self.headers, body.decode())).encode())
        elif path == "/hello":
            self.answer(200, b"hello", ("X-Thing", "  one "), ("x-thing", "two"), ("Retry-After", "7"))
        elif path == "/big":
            self.answer(200, b"x" * 5000)
        elif path == "/big-error":
            self.answer(500, b"e" * 50000)
        elif path == "/hang":
            done.wait(5)
            self.close_connection = True
        elif path == "/hang-body":
            self.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
            done.wait(5)
        elif path == "/redirect":
            self.answer(302, b"moved", ("Location", "/hello"))
        elif path == "/loop":
            self.answer(302, b"", ("Location", "/loop"))
        elif path == "/to-file":
            self.answer(302, b"", ("Location", "file:///etc/passwd"))
        elif path == "/to-other-host":
            self.answer(302, b"", ("Location", "http://other.example:%d/echo" % self.server.server_port))
        elif path == "/to-clear":
            self.answer(302, b"", ("Location", "http://localhost:%d/hello" % plain.server_port))
        elif path == "/cut":
            self.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        elif path == "/garbage":
            self.raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        elif path == "/nothing":
            self.close_connection = True
        elif path == "/flood":
            self.raw(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 1000) for i in range(1000)) + b"\r\n")
        elif path == "/many-headers":
            self.raw(b"HTTP/1.1 200 OK\r\nFirst: 1\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 1000) for i in range(30)) +
                     b"Last: 1\r\nContent-Length: 2\r\n\r\nok")
        elif path == "/port":
            self.answer(200, str(self.client_address[1]).encode())
        elif path == "/slow-hello":
            time.sleep(0.1)
            self.answer(200, b"hello")
        else:
            self.answer(404, b"no")

    do_GET = do_POST = do_PUT = do_DELETE = serve

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", "12345")
        self.end_headers()


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


with tempfile.TemporaryDirectory() as directory:
    key, cert = os.path.join(directory, "key.pem"), os.path.join(directory, "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=vault.example",
                    "-addext", "subjectAltName=DNS:vault.example"], check=True, stderr=subprocess.DEVNULL)
    plain, tls = Server(("127.0.0.1", 0), Handler), Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    tls.socket = context.wrap_socket(tls.socket, server_side=True)
    for server in plain, tls:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(plain.server_port, tls.server_port, cert, flush=True)
    sys.stdin.read()
    done.set()
