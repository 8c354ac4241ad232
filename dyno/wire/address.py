"""Addresses as people write them: "HOST:PORT", where HOST is a name, an IPv4 address or an [IPv6 address].

`parse_address` takes them apart and refuses what can be no address with a sentence that says why, so that
the command line, the configuration and member records from the wire all refuse the same. Names are not looked
up here.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final

ADDRESS_CHARS_MAX: Final = 255

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")  # with the interface that it is meant on
_PORT = re.compile(r"[0-9]{1,5}")


def parse_address(text: str, *, lowest_port: int = 1) -> tuple[str, int]:
    """(host, port), an IPv6 host without its brackets. lowest_port: 0 where port 0 means "pick one".
    Raises ValueError with a sentence for people."""
    if len(text) > ADDRESS_CHARS_MAX:
        raise ValueError(f"an address has at most {ADDRESS_CHARS_MAX} characters, not {len(text)}")
    host, colon, digits = text.rpartition(":")
    if not colon or not host or text.endswith("]"):
        raise ValueError(f"{text!r} is not HOST:PORT")
    if not _PORT.fullmatch(digits) or not lowest_port <= int(digits) <= 0xFFFF:
        raise ValueError(f"{text!r}: the port must be a number from {lowest_port} to 65535, not {digits!r}")
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(host[1:-1], text), int(digits)
    if ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address goes in brackets, as in [::1]:7101")
    if not _HOST.fullmatch(host):
        raise ValueError(f"{text!r}: {host!r} is neither a host name nor an address")
    return host, int(digits)


def _ipv6(host: str, text: str) -> str:
    try:
        if _IPV6.fullmatch(host):
            IPv6Address(host)
            return host
    except AddressValueError:
        pass
    raise ValueError(f"{text!r}: {host!r} is no IPv6 address")
