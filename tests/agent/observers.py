"""Who looks at a VM from outside: a receiver of notices, and a scraper of metrics."""

import http.server
import json
import threading
import urllib.request

from configured import PATIENCE
from vm import wait_until

__all__ = ["KEY", "Webhook", "hooks", "scrape", "value"]

KEY = "an HMAC key"


class Webhook:
    """A receiver on loopback; `answers` are the statuses of the next requests, then 200."""

    def __init__(self, answers=()):
        self.requests, self.answers = [], list(answers)
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers.pop(0) if receiver.answers else 200
                receiver.requests.append((status, self.path, dict(self.headers), body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/secret-path/T0"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def taken(self):
        return [json.loads(body) for status, _, _, body in self.requests if status == 200]

    def wait(self, text, limit=PATIENCE):
        wait_until(f"a notice with \"{text}\", there is {self.requests}", lambda: any(text in str(n) for n in self.taken()), limit)
        return next(n for n in self.taken() if text in str(n))


def hooks(vm, *webhooks, **sections):
    """Settings that tell these webhooks, whose urls and key are secrets, beside the sections."""
    secrets = vm.root / "etc/evenkeel/secrets.json"
    secrets.parent.mkdir(exist_ok=True)
    values = {f"u{i}": w["url"] for i, w in enumerate(webhooks)}
    if any("hmacKey" in w for w in webhooks):
        values["h"] = KEY
    secrets.write_text(json.dumps({"secrets": values}))
    secrets.chmod(0o600)
    vm.configure(notify={"webhooks": [{"on": ["problem", "drain", "restore", "event"], **w, "name": f"hook{i}",
                                       "url": {"secretRef": f"u{i}"}} for i, w in enumerate(webhooks)]}, **sections)


def scrape(port, accept=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return reply.headers["Content-Type"], reply.read().decode()


def value(text, series):
    for line in text.splitlines():
        name, _, number = line.rpartition(" ")
        if name == series:
            return float(number)
    return None
