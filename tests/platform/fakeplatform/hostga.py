"""HostGAPlugin (168.63.129.16:32526): takes status for the agent, fetches packages for it; without Fast Track."""

import base64
import json
from urllib.parse import urlsplit

from . import goalstate
from .http import Reply, Service

API_VERSION = "2015-09-01"


class HostGAPlugin(Service):
    name = "hostga"

    def __init__(self, wire):
        self._wire = wire

    def handle(self, request):
        route = (request.method, request.path.rstrip("/"))
        if route == ("GET", "/versions"):
            return Reply.json(200, [API_VERSION])
        if route == ("GET", "/health"):
            return Reply(200)
        answer = {("GET", "/vmSettings"): lambda request: Reply(404),
                  ("GET", "/extensionArtifact"): self._artifact,
                  ("PUT", "/status"): self._put_status,
                  ("PUT", "/vmAgentLog"): lambda request: Reply(200)}.get(route)
        if not answer:
            return Reply(404)
        if request.headers.get("x-ms-version") != API_VERSION:
            return Reply.text(400, "x-ms-version is missing or unknown")
        if request.headers.get("x-ms-containerid") != goalstate.CONTAINER_ID:
            return Reply(410)  # the VM has moved: the agent asks for a new goal state
        if request.headers.get("x-ms-host-config-name") != goalstate.CONFIG_NAME:
            return Reply.text(400, "x-ms-host-config-name is missing or unknown")
        return answer(request)

    def _artifact(self, request):
        location = urlsplit(request.headers.get("x-ms-artifact-location", ""))
        return self._wire.artifact(location.path, f"{location.scheme}://{location.netloc}")

    def _put_status(self, request):
        try:
            envelope = json.loads(request.body)
            if not urlsplit(envelope["requestUri"]).path.startswith("/status/"):
                return Reply.text(400, "requestUri is not this VM's status blob")
            headers = {header["headerName"].lower(): header["headerValue"] for header in envelope["headers"]}
            if headers.get("x-ms-blob-type") != "BlockBlob":
                return Reply.text(400, "the status blob is a block blob")
            self._wire.receive_status(base64.b64decode(envelope["content"], validate=True))
        except (ValueError, KeyError, TypeError) as error:
            return Reply.text(400, f"malformed status: {error}")
        return Reply(200)
