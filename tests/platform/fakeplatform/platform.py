"""The whole platform: every service on its address, and one set of methods to steer them."""

import os
import tempfile

from .blob import BlobStore
from .certificates import Authority
from .control import Control, Waits
from .events import ScheduledEvents
from .faults import Faults
from .hostga import HostGAPlugin
from .http import Listener
from .identity import Identities
from .imds import Imds
from .journal import Journal
from .steering import steering, steering_functions
from .vault import Vault
from .wire import WireServer

SERVICES = ("imds", "wire", "hostga", "vault", "blob", "blobtls", "control")


class Platform(Waits):
    """`with Platform() as platform:`; every service on 127.0.0.1 and a port of the kernel's choice unless told otherwise.

    Its methods are those of the components below that are marked as steering, under the same names."""

    def __init__(self, state_dir=None, **addresses):
        unknown = set(addresses) - set(SERVICES)
        if unknown:
            raise TypeError(f"no such services: {sorted(unknown)}")
        self._own_dir = None if state_dir else tempfile.TemporaryDirectory(prefix="fakeplatform.")
        self.state_dir = os.path.abspath(state_dir or self._own_dir.name)
        os.makedirs(self.state_dir, exist_ok=True)
        self._listeners = []

        self._journal = Journal(os.path.join(self.state_dir, "requests.jsonl"))
        self._faults = Faults()
        identities = Identities()
        imds = Imds(identities)
        vault = Vault(identities)
        blobs = BlobStore(identities)
        wire = WireServer()
        authority = Authority(self.state_dir)

        methods = {"get_addresses": self.get_addresses}
        for component in (self._journal, self._faults, identities, imds, imds.events, vault, blobs, wire, authority):
            for name in steering_functions(type(component)):
                methods[name] = getattr(component, name)
                setattr(self, name, methods[name])

        self._addresses = {"caFile": authority.ca_file}
        tls = authority.tls_context
        try:
            for name, service, tls_context in (
                    ("imds", imds, None), ("wire", wire, None), ("hostga", HostGAPlugin(wire), None), ("vault", vault, tls),
                    ("blob", blobs, None), ("blobtls", blobs, tls), ("control", Control(methods), None)):
                listener = Listener(service, addresses.get(name) or "127.0.0.1:0", self._faults, self._journal, tls_context)
                self._listeners.append(listener)
                self._addresses[name] = listener.address
        except BaseException:
            self.stop()
            raise

    @steering
    def get_addresses(self):
        return dict(self._addresses)

    @property
    def addresses(self):
        """{"imds": "127.0.0.1:41234", …, "caFile": path}"""
        return self.get_addresses()

    def stop(self):
        for listener in self._listeners:
            listener.stop()
        self._journal.close()
        if self._own_dir:
            self._own_dir.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


STEERING = {name: function
            for component in (Platform, Journal, Faults, Identities, Imds, ScheduledEvents, Vault, BlobStore, WireServer,
                           Authority)
            for name, function in steering_functions(component).items()}
