#!/usr/bin/python3
"""Serves the fake platform until SIGTERM; prints its addresses as one line of JSON when all services listen."""

import argparse
import json
import os
import pathlib
import signal
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from fakeplatform.platform import SERVICES, Platform  # noqa: E402

EPILOG = """Steer it with fakeplatform.Client in Python, or by hand:
  curl -d '{"type": "Freeze", "not_before_in_seconds": 60}' http://CONTROL/control/add_event
  curl -d '{"data": {"text": "#!/bin/sh"}}' http://CONTROL/control/set_user_data
  curl -d '{}' http://CONTROL/control/requests"""


def wait_for_end_of_stdin(stop):
    """Reads the file descriptor itself: a thread inside sys.stdin keeps the interpreter from ending."""
    while os.read(0, 4096):
        pass
    stop.set()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EPILOG)
    for service in SERVICES:
        parser.add_argument(f"--{service}", metavar="ADDR:PORT", default="127.0.0.1:0")
    parser.add_argument("--state-dir", metavar="DIR", help="default: a temporary directory, removed at the end")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop also when stdin reaches its end")
    options = parser.parse_args()

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.stop_with_stdin:
        threading.Thread(target=wait_for_end_of_stdin, args=(stop,), daemon=True).start()
    with Platform(options.state_dir, **{service: getattr(options, service) for service in SERVICES}) as platform:
        print(json.dumps(platform.addresses), flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
