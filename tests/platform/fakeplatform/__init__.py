"""A fake Azure platform on loopback: what a guest agent sees of Azure, strict where Azure is strict."""

from .control import Client, PlatformError
from .platform import Platform

__all__ = ["Client", "Platform", "PlatformError"]
