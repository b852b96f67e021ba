"""Who asks the listener all the time, and is never refused."""

import collections
import contextlib
import http.client
import threading
import time

PORT = 8008


class Client:
    """A load balancer, the platform's health extension, and perhaps who collects metrics on a port of its own."""

    def __init__(self, metrics_port=None):
        self.questions = [(PORT, "/ready"), (PORT, "/app-health")] + ([(metrics_port, "/metrics")] if metrics_port else [])
        self.answers = collections.Counter()
        self.cut = 0
        self.longest = 0
        self.unanswered = []
        self.ended = threading.Event()

    def work(self):
        while not self.ended.wait(0.02):
            for port, path in self.questions:
                begun = time.monotonic()
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                try:
                    connection.request("GET", path)
                    self.answers[path, connection.getresponse().status] += 1
                except (ConnectionResetError, http.client.RemoteDisconnected):
                    self.cut += 1
                except (OSError, http.client.HTTPException) as error:
                    self.unanswered.append(f"{time.strftime('%T')} {path}: {error!r}")
                finally:
                    connection.close()
                self.longest = max(self.longest, time.monotonic() - begun)


@contextlib.contextmanager
def asked(machine, metrics_port=None, kills=0, ready=(200, 503)):
    """While this lasts the listener is asked, and answers; what /ready may say is in `ready`.

    kills: so often may the service be killed meanwhile. Who is being answered at that moment is not; one such answer is below
    every threshold."""
    client = Client(metrics_port)
    work = machine.beside(client.work)
    try:
        yield client
    finally:
        client.ended.set()
        work.result(60)
    assert client.unanswered == [] and sum(client.answers.values()) > 20, (client.unanswered, client.answers)
    assert client.cut <= kills, (client.cut, client.answers)
    assert all(status in (ready if path == "/ready" else (200,)) for path, status in client.answers), client.answers
    assert {path for path, _ in client.answers} == {path for _, path in client.questions}
