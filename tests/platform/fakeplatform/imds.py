"""The Instance Metadata Service: its common rules, the instance tree, and the way to events and tokens."""

import base64
import copy
import threading
import time

from . import events as scheduled_events
from . import identity as managed_identity
from .http import Reply, Service
from .steering import steering

VERSIONS = ["2017-03-01", "2017-04-02", "2017-08-01", "2017-12-01", "2018-02-01", "2018-04-02", "2018-10-01", "2019-02-01",
            "2019-03-11", "2019-04-30", "2019-06-01", "2019-06-04", "2019-08-01", "2019-08-15", "2019-11-01", "2020-06-01",
            "2020-07-15", "2020-09-01", "2020-10-01", "2020-12-01", "2021-01-01", "2021-02-01", "2021-03-01", "2021-05-01",
            "2021-10-01", "2021-11-01", "2021-11-15", "2021-12-13", "2023-07-01", "2023-11-15", "2024-03-15", "2025-04-07"]
# Which api-version brought a field of compute; what is not named has always been there.
COMPUTE_SINCE = {
    "subscriptionId": "2017-08-01", "tags": "2017-08-01", "resourceGroupName": "2017-08-01", "placementGroupId": "2017-08-01",
    "vmScaleSetName": "2017-12-01", "zone": "2017-12-01", "plan": "2018-04-02", "publicKeys": "2018-04-02",
    "azEnvironment": "2018-10-01", "provider": "2018-10-01", "customData": "2019-02-01", "resourceId": "2019-03-11",
    "storageProfile": "2019-06-01", "tagsList": "2019-06-04", "isHostCompatibilityLayerVm": "2020-06-01",
    "securityProfile": "2020-06-01", "osProfile": "2020-07-15", "licenseType": "2020-09-01", "evictionPolicy": "2020-12-01",
    "priority": "2020-12-01", "userData": "2021-01-01", "virtualMachineScaleSet": "2021-03-01"}
SUBSCRIPTION = "8d10da13-8125-4ba9-a717-bf7490507b3d"


def _compute():
    return {
        "azEnvironment": "AzurePublicCloud", "customData": "", "evictionPolicy": "",
        "isHostCompatibilityLayerVm": "false", "licenseType": "", "location": "westeurope", "name": "vm",
        "offer": "debian-12",
        "osProfile": {"adminUsername": "azureuser", "computerName": "vm", "disablePasswordAuthentication": "true"},
        "osType": "Linux", "placementGroupId": "", "plan": {"name": "", "product": "", "publisher": ""},
        "platformFaultDomain": "0", "platformUpdateDomain": "0", "priority": "", "provider": "Microsoft.Compute",
        "publicKeys": [], "publisher": "Debian", "resourceGroupName": "shop",
        "resourceId": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/vm",
        "securityProfile": {"secureBootEnabled": "true", "virtualTpmEnabled": "true"}, "sku": "12-gen2",
        "storageProfile": {
            "dataDisks": [], "imageReference": {"id": "", "offer": "debian-12", "publisher": "Debian", "sku": "12-gen2",
                                                "version": "latest"},
            "osDisk": {"caching": "ReadWrite", "createOption": "FromImage", "diskSizeGB": "30", "name": "vm_OsDisk_1",
                       "osType": "Linux"},
            "resourceDisk": {"size": "34816"}},
        "subscriptionId": SUBSCRIPTION, "tags": "", "tagsList": [], "userData": "", "version": "0.20250101.1",
        "virtualMachineScaleSet": {"id": ""}, "vmId": "02aab8a4-74ef-476e-8182-f6d2ba4166a6", "vmScaleSetName": "",
        "vmSize": "Standard_D2s_v5", "zone": "",
    }


def _network():
    return {"interface": [{
        "ipv4": {"ipAddress": [{"privateIpAddress": "10.0.0.4", "publicIpAddress": ""}],
                 "subnet": [{"address": "10.0.0.0", "prefix": "24"}]},
        "ipv6": {"ipAddress": []}, "macAddress": "0022480A0B0C"}]}


class Imds(Service):
    name = "imds"

    def __init__(self, identities):
        self._lock = threading.Lock()
        self._compute = _compute()
        self._network = _network()
        self._load_balancer = None
        self._rate = None
        self._recent = []
        self.identities = identities
        self.events = scheduled_events.ScheduledEvents(lambda: self._compute["name"])
        # path: (methods, api-versions, who answers)
        self._routes = {
            "instance": (("GET",), VERSIONS, self._instance),
            "scheduledevents": (("GET", "POST"), scheduled_events.VERSIONS, self._events),
            "identity": (("GET",), managed_identity.VERSIONS, self.identities.handle),
            "loadbalancer": (("GET",), VERSIONS, self._balancer),
        }

    # What tests do

    @steering
    def set_instance(self, name=None, vm_id=None, scale_set=None, compute=None):
        """Who this VM is; compute: any other fields of the compute object, replaced as they are given."""
        with self._lock:
            if name is not None:
                self._compute["name"] = name
                self._compute["resourceId"] = self._compute["resourceId"].rpartition("/")[0] + "/" + name
            if vm_id is not None:
                self._compute["vmId"] = vm_id
            if scale_set is not None:
                self._compute["vmScaleSetName"] = scale_set
                self._compute["virtualMachineScaleSet"] = {"id": scale_set and (
                    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{self._compute['resourceGroupName']}"
                    f"/providers/Microsoft.Compute/virtualMachineScaleSets/{scale_set}")}
            self._compute.update(compute or {})

    @steering
    def set_user_data(self, data):
        """The bytes a person gave as user data (None or empty: unset); they are served in base64."""
        with self._lock:
            self._compute["userData"] = base64.b64encode(data or b"").decode()

    @steering
    def set_load_balancer(self, backend_ports=None):
        """Inbound rules to these ports of the VM; None: not behind a load balancer."""
        with self._lock:
            self._load_balancer = backend_ports

    @steering
    def set_rate_limit(self, requests_per_second=None):
        """Beyond it 429, as the real one does at 5; tokens are not counted, they have a limit of their own. Off by default."""
        with self._lock:
            self._rate = requests_per_second

    # What the VM sees

    @staticmethod
    def _bad(text, **more):
        return Reply.json(400, {"error": f"Bad request. {text}", **more})

    def failure(self, status):
        words = {404: "Not found", 405: "Method not allowed", 410: "Gone", 429: "Too many requests",
                 500: "Internal server error"}
        return Reply.json(status, {"error": words.get(status, f"Error {status}")})

    def handle(self, request):
        if not request.path.startswith("/metadata/identity/") and self._too_many():
            return self.failure(429)
        # The forms in which a request might have been forged through a proxy or a page come first.
        if "x-forwarded-for" in request.headers:
            return self._bad("X-Forwarded-For header is not allowed")
        if request.headers.get("metadata", "").lower() != "true":
            return self._bad("Required metadata header not specified")
        parts = [part for part in request.path.split("/") if part]
        if parts == ["metadata", "versions"]:
            return Reply.json(200, {"apiVersions": VERSIONS}) if request.method == "GET" else self._not_allowed(("GET",))
        if len(parts) < 2 or parts[0] != "metadata" or parts[1] not in self._routes:
            return self.failure(404)
        methods, versions, answer = self._routes[parts[1]]
        if request.method not in methods:
            return self._not_allowed(methods)
        if repeated := request.repeated_arg():
            return self._bad(f"Query parameter {repeated} was specified more than once")
        version = request.arg("api-version")
        if version not in versions:
            text = "api-version was not specified in the request" if version is None else \
                "api-version is invalid or was not specified in the request"
            return self._bad(f"{text}. For more information refer to aka.ms/azureimds",
                             **{"newest-versions": versions[:-4:-1]})
        return answer(request)

    def _not_allowed(self, methods):
        reply = self.failure(405)
        reply.headers["Allow"] = ", ".join(methods)
        return reply

    def _too_many(self):
        with self._lock:
            if self._rate is None:
                return False
            now = time.monotonic()
            self._recent = [when for when in self._recent if when > now - 1]
            if len(self._recent) >= self._rate:
                return True
            self._recent.append(now)
            return False

    def _events(self, request):
        if request.path.rstrip("/") != "/metadata/scheduledevents":
            return self.failure(404)
        return self.events.get(request) if request.method == "GET" else self.events.post(request)

    def _balancer(self, request):
        with self._lock:
            ports = self._load_balancer
        if request.path.rstrip("/") != "/metadata/loadbalancer" or ports is None:
            return Reply.json(404, {"error": "No load balancer metadata is found. Please check if your VM is using any "
                                             "non-basic SKU load balancer and retry later."})
        rules = [{"frontendIpAddress": "20.0.0.1", "protocol": "tcp", "frontendPort": port, "backendPort": port,
                  "privateIpAddress": "10.0.0.4"} for port in ports]
        return Reply.json(200, {"loadbalancer": {
            "publicIpAddresses": [{"frontendIpAddress": "20.0.0.1", "privateIpAddress": "10.0.0.4"}],
            "inboundRules": rules, "outboundRules": []}})

    def _instance(self, request):
        with self._lock:
            compute = {name: value for name, value in self._compute.items()
                       if request.arg("api-version") >= COMPUTE_SINCE.get(name, "")}
            node = copy.deepcopy({"compute": compute, "network": self._network})
        for part in [part for part in request.path.split("/") if part][2:]:
            try:
                node = node[int(part)] if isinstance(node, list) else node[part]
            except (KeyError, IndexError, ValueError, TypeError):
                return self.failure(404)
        style = request.arg("format", "json")
        if style == "text":
            if isinstance(node, str):
                return Reply.text(200, node)
            names = node if isinstance(node, dict) else map(str, range(len(node)))
            return Reply.text(200, "\n".join(
                name if isinstance(node, dict) and isinstance(node[name], str) else name + "/" for name in names))
        if style != "json":
            return self._bad("The requested format is not supported")
        if isinstance(node, str):
            return self._bad("A leaf node needs format=text")
        return Reply.json(200, node)
