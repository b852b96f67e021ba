"""What Debian's cloud-init makes of user data: its own code (build/cloud-init, put there by scripts/bootstrap), loaded without being
installed. Only its HTTP library is replaced: nothing is fetched."""

import email.policy
import inspect
import os
import pathlib
import sys
import types

ROOT = pathlib.Path(os.environ.get("EK_TEST_SOURCE_DIR") or pathlib.Path(__file__).resolve().parents[2])
TREE = pathlib.Path(os.environ.get("EK_CLOUD_INIT_DIR") or ROOT / "build/cloud-init") / "tree"
MODULES = TREE / "usr/lib/python3/dist-packages"


def available():
    return (MODULES / "cloudinit/user_data.py").exists()


def read_header(_, lines):
    """As email.policy.Compat32 has read headers since 3.12.8, whichever Python runs this."""
    name, value = lines[0].split(":", 1)
    return name, "".join((value, *lines[1:])).lstrip(" \t\r\n").rstrip("\r\n")


class Oracle:
    def __init__(self, urls=None):
        """urls: {URL: bytes} of what includes find."""
        if str(MODULES) not in sys.path:
            sys.path.insert(0, str(MODULES))
        if "requests" not in sys.modules:
            requests = types.ModuleType("requests")
            requests.exceptions = types.ModuleType("requests.exceptions")
            for name in ("RequestException", "SSLError", "ConnectionError", "HTTPError", "Timeout", "InvalidURL"):
                setattr(requests.exceptions, name, type(name, (Exception,), {}))
            requests.__version__ = "2.28.0"
            requests.Response = requests.Session = object
            requests.Timeout = requests.exceptions.Timeout
            sys.modules.update({"requests": requests, "requests.exceptions": requests.exceptions})
        email.policy.Compat32.header_source_parse = read_header
        from cloudinit import user_data, util
        self._user_data, self._util = user_data, util
        self._urls = urls or {}
        user_data.read_file_or_url = self._fetch

    def _fetch(self, url, **_):
        from cloudinit.url_helper import StringResponse
        if url not in self._urls:
            raise OSError(f"no {url}")
        later = {"url": url} if "url" in inspect.signature(StringResponse).parameters else {}
        return StringResponse(self._urls[url], **later)

    def parts(self, data):
        """[(type, file name, payload)] as its handlers get them; an exception where it gives up the whole."""
        processor = self._user_data.UserDataProcessor.__new__(self._user_data.UserDataProcessor)
        processor.ssl_details = {}
        processor.paths = None
        message = processor.process(data)
        found = []
        for part in message.walk():
            if part.get_content_maintype() == "multipart":
                continue
            payload = self._util.fully_decoded_payload(part)
            if isinstance(payload, str):
                payload = payload.encode("utf-8", "surrogateescape")
            found.append((part.get_content_type(), part.get_filename(), payload))
        return found
