"""What was asked of the platform: in memory for tests, in requests.jsonl for people."""

import hashlib
import json
import threading
import time

from .steering import steering

ENTRIES_MAX = 20000


class Journal:
    def __init__(self, path):
        self._lock = threading.Lock()
        self._entries = []
        self._file = open(path, "a", encoding="utf-8")

    def record(self, service, request, status, started, problem=None):
        headers = dict(request.headers)
        if "authorization" in headers:
            scheme, _, credential = headers["authorization"].partition(" ")
            headers["authorization"] = f"{scheme} sha256:{hashlib.sha256(credential.encode()).hexdigest()}"
        entry = {"service": service, "time": started, "took": time.time() - started, "method": request.method,
                 "path": request.path, "query": dict(request.query), "headers": headers, "body_length": len(request.body),
                 "status": status, "client": request.client}
        if problem:
            entry["problem"] = problem
        with self._lock:
            self._entries.append(entry)
            del self._entries[:-ENTRIES_MAX]
            if not self._file.closed:
                self._file.write(json.dumps(entry) + "\n")
                self._file.flush()

    @steering
    def requests(self, service=None, path_prefix="", since=0):
        """Requests so far: method, path, query, lower-case headers (credentials hashed), status (0: dropped), time,
        client (the same for what came over one connection)."""
        with self._lock:
            return [dict(entry) for entry in self._entries
                    if (service is None or entry["service"] == service)
                    and entry["path"].startswith(path_prefix) and entry["time"] >= since]

    @steering
    def clear_requests(self):
        with self._lock:
            self._entries.clear()

    @steering
    def problems(self):
        """Requests that made the fake itself stumble; a test that passes has none."""
        return [entry for entry in self.requests() if "problem" in entry]

    def close(self):
        self._file.close()
