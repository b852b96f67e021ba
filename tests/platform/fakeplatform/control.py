"""Steering a served platform: POST /control/<method> with JSON arguments, and the Client that does it from Python."""

import http.client
import inspect
import json
import time

from .http import Reply, Service
from .steering import pack, unpack


class PlatformError(Exception):
    """The platform refused what it was told to do."""


class Control(Service):
    name = "control"
    journaled = False

    def __init__(self, methods):
        self._methods = methods

    def handle(self, request):
        prefix, _, method = request.path.rpartition("/")
        if prefix != "/control" or method not in self._methods:
            return Reply.json(404, {"error": f"no such method: {request.path}", "methods": sorted(self._methods)})
        if request.method != "POST":
            return Reply.json(405, {"error": "POST to /control/<method>"})
        try:
            arguments = unpack(json.loads(request.body or b"{}"))
            named = arguments if isinstance(arguments, dict) else {}
            positional = [] if isinstance(arguments, dict) else arguments
            result = self._methods[method](*positional, **named)
        except Exception as error:
            return Reply.json(400, {"error": f"{type(error).__name__}: {error}"})
        return Reply.json(200, pack(result))


class Waits:
    """Waiting for what the agent does, for Platform and Client alike."""

    def wait_for_status(self, handler, predicate, timeout=30, incarnation=None):
        """The first status of this handler, among those reported from now on or last, that satisfies predicate.

        predicate gets the handler's entry in handlerAggregateStatus, or None when it is not reported any more. With
        incarnation, only reports about that goal state count. TimeoutError carries the last entry seen."""
        deadline = time.monotonic() + timeout
        after, last = -1, "no status was reported at all"
        while (left := deadline - time.monotonic()) > 0:
            report = self.next_status(after, min(left, 5))
            if report is None:
                continue
            after = report["number"]
            if incarnation is not None and report["incarnation"] != incarnation:
                continue
            last = handler_entry(report["status"], handler)
            if predicate(last):
                return last
        raise TimeoutError(f"{handler}: no such status in {timeout} s; last seen: {json.dumps(last)}")

    def wait_for_acknowledgement(self, event_id, timeout=10):
        """The acknowledgement that names this event."""
        return self._poll(lambda: next((entry for entry in self.acknowledgements() if event_id.lower() in
                                        [one.lower() for one in entry["ids"]]), None), timeout, f"acknowledgement of {event_id}")

    def wait_for_requests(self, service, path_prefix="", count=1, since=0, timeout=10):
        """All requests of that kind since a time, once there are `count` of them."""
        def enough():
            found = self.requests(service, path_prefix, since)
            return found if len(found) >= count else None

        return self._poll(enough, timeout, f"{count} requests to {service} {path_prefix}")

    @staticmethod
    def _poll(look, timeout, what):
        deadline = time.monotonic() + timeout
        while (found := look()) is None:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"no {what} in {timeout} s")
            time.sleep(0.02)
        return found


def handler_entry(status, handler):
    for entry in status.get("aggregateStatus", {}).get("handlerAggregateStatus", []):
        if entry.get("handlerName", "").lower() == handler.lower():
            return entry
    return None


class Client(Waits):
    """The methods of Platform, over its control port."""

    def __init__(self, address):
        self._address = address

    @property
    def addresses(self):
        return self.get_addresses()

    def __getattr__(self, name):
        from .platform import STEERING

        if name not in STEERING:
            raise AttributeError(name)
        signature = inspect.signature(STEERING[name])

        def call(*args, **kwargs):
            bound = signature.bind(None, *args, **kwargs)
            arguments = dict(bound.arguments)
            arguments.pop("self", None)
            arguments.update(arguments.pop("kwargs", {}))
            return self._call(name, arguments)

        return call

    def _call(self, name, arguments):
        host, _, port = self._address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=120)
        try:
            connection.request("POST", f"/control/{name}", json.dumps(pack(arguments)))
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise PlatformError(answer["error"])
        return unpack(answer)
