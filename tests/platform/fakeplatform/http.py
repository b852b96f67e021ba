"""The HTTP/1.1 server under every service: threads, keep-alive, faults applied, every request in the journal."""

import json
import socket
import socketserver
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, unquote, urlsplit

BODY_MAX = 64 << 20


class Request:
    def __init__(self, method, target, headers, body, client=None):
        self.method = method
        self.target = target
        parts = urlsplit(target)
        self.path = unquote(parts.path)
        self.query = parse_qsl(parts.query, keep_blank_values=True)
        self.headers = headers
        self.body = body
        self.client = client  # (address, port): one connection each
        self.host = headers.get("host", "")

    def arg(self, name, default=None):
        return next((value for key, value in self.query if key == name), default)

    def repeated_arg(self):
        """The first query name, without case, that occurs more than once."""
        seen = set()
        for name, _ in self.query:
            if name.lower() in seen:
                return name
            seen.add(name.lower())
        return None


class Reply:
    def __init__(self, status=200, body=b"", content_type=None, headers=None):
        self.status = status
        self.body = body
        self.headers = dict(headers or {})
        if content_type:
            self.headers.setdefault("Content-Type", content_type)

    @classmethod
    def json(cls, status, value, headers=None):
        return cls(status, json.dumps(value).encode(), "application/json; charset=utf-8", headers)

    @classmethod
    def text(cls, status, value, headers=None):
        return cls(status, value.encode(), "text/plain; charset=utf-8", headers)

    @classmethod
    def xml(cls, status, value, headers=None):
        return cls(status, value.encode(), "text/xml; charset=utf-8", headers)


class Service:
    """Answers requests. A subclass has a name and handle(); failure() words an injected status as the service would."""

    name = None
    journaled = True

    def handle(self, request):
        raise NotImplementedError

    def failure(self, status):
        return Reply(status)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __getattr__(self, name):
        # Every method reaches the service: that a verb is not allowed is the service's answer.
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, format, *args):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # the client went away, or the listener stops

    def _body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
                if len(body) > BODY_MAX:
                    raise ConnectionError("request body too large")
            while self.rfile.readline().strip():
                pass
            return body
        size = int(self.headers.get("Content-Length") or 0)
        if size > BODY_MAX:
            raise ConnectionError("request body too large")
        return self.rfile.read(size)

    def _serve(self):
        started = time.time()
        headers = {}
        for name, value in self.headers.items():
            name = name.lower()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        request = Request(self.command, self.path, headers, self._body(), self.client_address[:2])
        listener = self.server
        fault = listener.faults.take(listener.service.name, request.target)
        if fault and fault.delay_in_seconds:
            listener.stopping.wait(fault.delay_in_seconds)
        if fault and fault.drop:
            listener.record(request, 0, started)
            self.close_connection = True
            return

        problem = None
        if fault and fault.replaces_answer:
            reply = fault.answer(listener.service)
        else:
            try:
                reply = listener.service.handle(request)
            except Exception:  # a mistake of the fake itself: kept, so that a test can ask for it
                problem = traceback.format_exc()
                reply = Reply.text(500, problem)
        if fault:
            reply.headers.update(fault.headers)
        # Before the answer: whoever has it may ask for the journal at once.
        listener.record(request, reply.status, started, problem)
        if fault and fault.lose:
            self.close_connection = True
            return
        if fault and fault.garbage == "http":
            self.wfile.write(bytes(range(256)))
            self.close_connection = True
            return
        self._send(reply, fault)

    def _send(self, reply, fault):
        bodyless = self.command == "HEAD" or reply.status in (204, 304)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status not in (204, 304) and "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body)))
        head = b"".join(self._headers_buffer) + b"\r\n"
        self._headers_buffer = []
        body = b"" if bodyless else reply.body
        if fault and fault.cut_after_bytes is not None:
            body = body[: fault.cut_after_bytes]
            self.close_connection = True
        if fault and fault.bytes_per_second:
            self.wfile.write(head)
            self._send_slowly(body, fault.bytes_per_second)
        else:
            self.wfile.write(head + body)

    def _send_slowly(self, body, bytes_per_second):
        step = max(1, bytes_per_second // 20)
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            if self.server.stopping.wait(step / bytes_per_second):
                raise ConnectionError("the listener stops")

    def send_response(self, code, message=None):
        self.send_response_only(code, message)
        self.send_header("Date", self.date_time_string())


class Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """One service on one address. Stopping closes the connections too, so that no thread outlives it."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, service, address, faults, journal, tls_context=None):
        self.service = service
        self.faults = faults
        self.journal = journal
        self.tls_context = tls_context  # a function, so that the certificate may change while we run
        self.stopping = threading.Event()
        self._connections = set()
        host, _, port = address.rpartition(":")
        super().__init__((host, int(port)), _Connection)
        threading.Thread(target=self._accept_loop, daemon=True, name=f"{service.name} listener").start()

    @property
    def address(self):
        host, port = self.server_address[:2]
        return f"{host}:{port}"

    def record(self, request, status, started, problem=None):
        if self.service.journaled:
            self.journal.record(self.service.name, request, status, started, problem)

    def _accept_loop(self):
        while not self.stopping.is_set():
            try:
                connection, peer = self.socket.accept()
            except OSError:
                continue  # stopping, or the client was gone before we looked
            if self.tls_context:
                # The handshake happens at the first read, in the connection's own thread.
                connection = self.tls_context().wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            self._connections.add(connection)
            self.process_request(connection, peer)

    def shutdown_request(self, request):
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        pass  # broken requests and handshakes are what clients under test do

    def stop(self):
        self.stopping.set()
        for connection in [self.socket, *self._connections]:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.server_close()
