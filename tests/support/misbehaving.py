"""A web server with bad manners on request, for downloads: each path has a list of things to do, one for each request, and the
last of them again and again. What was asked is kept."""

import email.utils
import http.server
import re
import socketserver
import threading
import time


class Asked:
    def __init__(self, method, path, headers, peer):
        self.method, self.path, self.headers, self.peer = method, path, headers, peer
        self.time = time.monotonic()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        headers = {name.lower(): value for name, value in self.headers.items()}
        with server.lock:
            path = self.path.partition("?")[0]
            server.asked.append(Asked(self.command, self.path, headers, self.client_address))
            steps = server.pages.get(path, [status(404)])
            step = steps[min(server.counts.get(path, 0), len(steps) - 1)]
            server.counts[path] = server.counts.get(path, 0) + 1
        try:
            step(self)
        except OSError:
            self.close_connection = True

    def answer(self, code, body=b"", cut=None, **headers):
        """`cut`: only so many bytes of the body, then the connection ends."""
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers and "Transfer_Encoding" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True

    @property
    def first_byte(self):
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(match[1]) if match else 0


class Misbehaving(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """with Misbehaving() as web: web.pages["/a"] = [cut(data, 10), whole(data)]"""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.pages, self.counts, self.asked = {}, {}, []

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        pass

    def url(self, path, host="127.0.0.1"):
        return f"http://{host}:{self.server_port}{path}"

    def requests(self, path):
        with self.lock:
            return [one for one in self.asked if one.path.partition("?")[0] == path]


# What to do with a request

def whole(data, **headers):
    return lambda page: page.answer(200, data, **headers)


def cut(data, after, **headers):
    """The head of a whole answer, and a part of its body."""
    return lambda page: page.answer(200, data, cut=after, **{"ETag": '"one"', **headers})


def part(data, shift=0, total=None, etag='"one"', code=206):
    """What Range asks for; `shift` bytes from there, of `total`, when it lies."""
    def step(page):
        first = page.first_byte + shift
        page.answer(code, data[first:], Content_Range=f"bytes {first}-{len(data) - 1}/{total or len(data)}", ETag=etag)
    return step


def status(code, body=b"", **headers):
    return lambda page: page.answer(code, body, **headers)


def later(code, seconds, as_date=False):
    """Retry-After in either form; a date has whole seconds, so it is the next one after."""
    def step(page):
        value = email.utils.formatdate(int(time.time()) + 1 + seconds, usegmt=True) if as_date else str(seconds)
        page.answer(code, b"", Retry_After=value)
    return step


def redirect(where, code=302):
    return lambda page: page.answer(code, b"moved", Location=where)


def endless(piece=b"x" * 65536, pieces=10000):
    """Chunks, without a length; how many were taken stands in the page's server."""
    def step(page):
        page.send_response(200)
        page.send_header("Transfer-Encoding", "chunked")
        page.end_headers()
        for _ in range(pieces):
            page.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            page.server.sent = getattr(page.server, "sent", 0) + len(piece)
    return step


def together(barrier, data):
    """Answers when so many are asking at the same time."""
    def step(page):
        barrier.wait(10)
        page.answer(200, data)
    return step
