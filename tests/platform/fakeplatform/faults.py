"""Faults on request: a status instead of the answer, a delay, a cut, garbage, slowness, silence."""

import threading
from dataclasses import dataclass, field

from .http import Reply
from .steering import steering

SERVICES = ("imds", "wire", "hostga", "vault", "blob")
GARBAGE = b'{"\x00\xff\xfe not what you asked for ' + bytes(range(256))


@dataclass
class Fault:
    service: str
    path_prefix: str
    status: int = None
    delay_in_seconds: float = 0
    cut_after_bytes: int = None
    garbage: bool | str = False
    body: bytes = None
    headers: dict = field(default_factory=dict)
    times: int = None
    bytes_per_second: int = None
    drop: bool = False
    lose: bool = False

    @property
    def replaces_answer(self):
        return self.status is not None or self.body is not None or self.garbage

    def answer(self, service):
        if self.garbage:
            return Reply(self.status or 200, GARBAGE, "application/json; charset=utf-8")
        if self.body is not None:
            return Reply(self.status or 200, self.body)
        return service.failure(self.status)


class Faults:
    def __init__(self):
        self._lock = threading.Lock()
        self._faults = []

    @steering
    def set_fault(self, service, path_prefix="/", status=None, delay_in_seconds=0, cut_after_bytes=None, garbage=False,
                  body=None, headers=None, times=None, bytes_per_second=None, drop=False, lose=False):
        """From now on, `times` times or until cleared, requests whose target ("/path?query") begins with path_prefix fail.

        status, body, garbage replace the answer, and the service never sees the request; a delay comes before anything
        else; cut_after_bytes counts bytes of the body, after which the connection closes; garbage is True (a body that is
        nothing) or "http" (not even HTTP); drop closes without an answer, and lose does, too, after the service has done what
        it was asked for. The fault set last wins.
        """
        if service not in SERVICES:
            raise ValueError(f"no such service: {service}")
        if isinstance(body, str):
            body = body.encode()
        fault = Fault(service, path_prefix, status, delay_in_seconds, cut_after_bytes, garbage, body, dict(headers or {}),
                      times, bytes_per_second, drop, lose)
        with self._lock:
            self._faults.insert(0, fault)

    @steering
    def clear_faults(self, service=None):
        with self._lock:
            self._faults = [fault for fault in self._faults if service and fault.service != service]

    def take(self, service, target):
        with self._lock:
            for fault in self._faults:
                if fault.service == service and target.startswith(fault.path_prefix):
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times <= 0:
                            self._faults.remove(fault)
                    return fault
        return None
