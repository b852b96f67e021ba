"""Scheduled Events: the document, its states, acknowledgements. Time passes when somebody looks."""

import email.utils
import hashlib
import json
import math
import threading
import time
import uuid
from datetime import datetime, timezone

from .http import Reply
from .steering import steering

VERSIONS = ["2017-03-01", "2017-08-01", "2017-11-01", "2019-01-01", "2019-04-01", "2019-08-01", "2020-07-01"]
ADDED_FIELDS = {"Description": "2019-04-01", "EventSource": "2019-08-01", "DurationInSeconds": "2020-07-01"}
UNSET = object()


class ScheduledEvents:
    def __init__(self, vm_name):
        self._vm_name = vm_name  # a function: the name may change
        self._lock = threading.RLock()
        self._events = []
        self._incarnation = 1
        self._acknowledgements = []
        self._ack_to_started = 1
        self._started_to_removed = None
        self._auto_start = True
        self._first_get_delay = 0
        self._first_get_seen = False
        self._offers_etag = False
        self._date_format = "rfc1123"

    # What tests do

    @steering
    def set_event_timing(self, ack_to_started_in_seconds=UNSET, started_to_removed_in_seconds=UNSET, auto_start=UNSET,
                         first_get_delay_in_seconds=UNSET):
        """How events move on by themselves, from now on. started_to_removed_in_seconds None: only remove_event() ends them.

        Without auto_start neither an acknowledgement nor NotBefore starts an event. A first GET delay makes the next GET
        the first one again."""
        with self._lock:
            self._advance()
            if ack_to_started_in_seconds is not UNSET:
                self._ack_to_started = ack_to_started_in_seconds
            if started_to_removed_in_seconds is not UNSET:
                self._started_to_removed = started_to_removed_in_seconds
            if auto_start is not UNSET:
                self._auto_start = auto_start
            if first_get_delay_in_seconds is not UNSET:
                self._first_get_delay = first_get_delay_in_seconds
                self._first_get_seen = False

    @steering
    def set_event_document(self, etag=UNSET, date_format=UNSET):
        """Whether an ETag is offered (and If-None-Match answered with 304); NotBefore as "rfc1123" or "iso8601"."""
        with self._lock:
            if etag is not UNSET:
                self._offers_etag = etag
            if date_format is not UNSET:
                if date_format not in ("rfc1123", "iso8601"):
                    raise ValueError(f"no such date format: {date_format}")
                self._date_format = date_format

    @steering
    def add_event(self, type, resources=None, not_before_in_seconds=None, duration_in_seconds=-1, source="Platform",
                  description="", status="Scheduled", event_id=None):
        """Publishes an event, for this VM unless other resources are named, and returns its id.

        NotBefore is rounded up to the whole second it is told in; without it, or when Started, it is blank."""
        if status not in ("Scheduled", "Started"):
            raise ValueError(f"no such event status: {status}")
        with self._lock:
            now = self._advance()
            event = {"EventId": event_id or str(uuid.uuid4()).upper(), "EventType": type, "ResourceType": "VirtualMachine",
                     "Resources": [self._vm_name()] if resources is None else list(resources), "EventStatus": status,
                     "Description": description, "EventSource": source, "DurationInSeconds": duration_in_seconds,
                     "not_before": None, "acknowledged": None, "started": None}
            if status == "Started":
                event["started"] = now
            elif not_before_in_seconds is not None:
                event["not_before"] = math.ceil(now + not_before_in_seconds)
            self._events.append(event)
            self._incarnation += 1
            return event["EventId"]

    @steering
    def start_event(self, event_id):
        with self._lock:
            now = self._advance()
            event = self._find(event_id)
            if event["EventStatus"] != "Started":
                self._start(event, now)

    @steering
    def remove_event(self, event_id):
        """The only way the platform tells that an event is over, or was cancelled."""
        with self._lock:
            self._advance()
            self._events.remove(self._find(event_id))
            self._incarnation += 1

    @steering
    def events(self):
        """The Events as published now, in the newest api-version."""
        with self._lock:
            self._advance()
            return [self._published(event, VERSIONS[-1]) for event in self._events]

    @steering
    def acknowledgements(self):
        """Accepted StartRequests, oldest first: {"time", "ids"}."""
        with self._lock:
            return [dict(entry) for entry in self._acknowledgements]

    @steering
    def restart_events_service(self):
        """As after 24 hours without a request: DocumentIncarnation starts anew, the next GET may be delayed again."""
        with self._lock:
            self._advance()
            self._incarnation = 1
            self._first_get_seen = False

    # Time

    def _advance(self):
        """Carries out what became due since the last look, in the order it became due; returns the time."""
        now = time.time()
        while True:
            due = [(when, index) for index, event in enumerate(self._events)
                   if (when := self._due(event)) is not None and when <= now]
            if not due:
                return now
            when, index = min(due)
            event = self._events[index]
            if event["EventStatus"] == "Scheduled":
                self._start(event, when)
            else:
                del self._events[index]
                self._incarnation += 1

    def _due(self, event):
        if event["EventStatus"] == "Started":
            return None if self._started_to_removed is None else event["started"] + self._started_to_removed
        if not self._auto_start:
            return None
        times = [] if event["not_before"] is None else [event["not_before"]]
        if event["acknowledged"] is not None:
            times.append(event["acknowledged"] + self._ack_to_started)
        return min(times, default=None)

    def _start(self, event, when):
        event.update(EventStatus="Started", started=when, not_before=None)
        self._incarnation += 1

    def _find(self, event_id):
        for event in self._events:
            if event["EventId"].lower() == event_id.lower():
                return event
        raise KeyError(f"no such event: {event_id}")

    # What the VM sees

    def _published(self, event, version):
        out = {key: value for key, value in event.items()
               if key[0].isupper() and version >= ADDED_FIELDS.get(key, "")}
        out["NotBefore"] = self._date(event["not_before"])
        if version == "2017-03-01":
            out["Resources"] = [f"_{name}" for name in out["Resources"]]
        return out

    def _date(self, when):
        if when is None:
            return ""
        if self._date_format == "iso8601":
            return datetime.fromtimestamp(when, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return email.utils.formatdate(when, usegmt=True)

    def get(self, request):
        with self._lock:
            delay = 0 if self._first_get_seen else self._first_get_delay
            self._first_get_seen = True
        time.sleep(delay)
        with self._lock:
            self._advance()
            version = request.arg("api-version")
            document = {"DocumentIncarnation": self._incarnation,
                        "Events": [self._published(event, version) for event in self._events]}
            offers_etag = self._offers_etag
        reply = Reply.json(200, document)
        if offers_etag:
            etag = f'"{hashlib.sha256(reply.body).hexdigest()[:16]}"'
            if request.headers.get("if-none-match") == etag:
                return Reply(304, headers={"ETag": etag})
            reply.headers["ETag"] = etag
        return reply

    def post(self, request):
        try:
            ids = [start["EventId"] for start in json.loads(request.body)["StartRequests"]]
            if not ids or not all(isinstance(event_id, str) for event_id in ids):
                raise ValueError("no event ids")
        except (ValueError, KeyError, TypeError):
            return Reply.json(400, {"error": "Bad request. The StartRequests payload is malformed"})
        with self._lock:
            now = self._advance()
            try:
                found = [self._find(event_id) for event_id in ids]
            except KeyError:
                return Reply.json(400, {"error": "Bad request. StartRequests names an unknown event"})
            for event in found:
                if event["acknowledged"] is None:
                    event["acknowledged"] = now
            self._acknowledgements.append({"time": now, "ids": ids})
            self._advance()
        return Reply(200)
