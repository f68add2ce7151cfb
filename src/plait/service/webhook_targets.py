"""Where webhooks may go: http(s) URLs on public addresses, and the hosts that the operator allows besides."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx2

from plait.errors import InputError

_PORTS = {"http": 80, "https": 443}
_LONGEST = 4096
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")

# IANA's registries of special-purpose addresses, and multicast. Not Python's is_global, whose answers changed between
# versions. 168.63.129.16 is public by its number, and inside Azure a service of the machine's host.
_NOT_PUBLIC_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
    )
)  # fmt: skip

# IPv6: only what is assigned to the public. Outside of it are loopback, private, link-local, multicast, and addresses
# that hold an IPv4 one (mapped, compatible, NAT64); 2002::/16 (6to4) and 2001::/32 (Teredo) hold one too.
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))

_EXPECTED = "webhook: expected an http or https URL of a public host"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that a webhook may be sent to, once the addresses of its host are known to be public."""

    url: httpx2.URL
    host: str
    """In lower case, without brackets and without the dot at the end: the name that a certificate is for."""
    literal: str | None
    """The address, where the host is one."""
    allowed: bool
    """The operator allows this host, whatever its addresses are."""

    @property
    def port(self) -> int:
        return self.url.port or _PORTS[self.url.scheme]

    def at(self, address: str) -> httpx2.URL:
        """The same URL on one of the host's addresses."""
        return self.url.copy_with(host=address)


def target_of(url: str, hosts: Sequence[str] = ()) -> Target:
    """The target that a URL names. `hosts` are those that the operator allows: names or addresses, with a port or not.

    Raises InputError: for another scheme, credentials, no host, and where the host is this machine or an address that
    is not public, however it is written. What a name stands for is known only when it is looked up.
    """
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, UnicodeError, ValueError) as error:
        raise InputError(f"{_EXPECTED}, found {url[:200]!r}: {error}") from None
    host = parsed.raw_host.decode("ascii").lower().removesuffix(".")
    if len(url) > _LONGEST:
        raise InputError(f"webhook: expected at most {_LONGEST} characters, found {len(url)}")
    if parsed.scheme not in _PORTS or not host:
        raise InputError(f"{_EXPECTED}, found {url[:200]!r}")
    if parsed.userinfo:
        raise InputError("webhook: expected a URL without a user and password, found one with them: leave them out")
    if parsed.port is not None and not 1 <= parsed.port <= 65535:
        raise InputError(f"webhook: expected a port from 1 to 65535, found {parsed.port}")
    literal = _literal(host)
    if literal is None and not _NAME.fullmatch(host):
        raise InputError(f"{_EXPECTED}, found {url[:200]!r}")
    port = parsed.port or _PORTS[parsed.scheme]
    allowed = any(_matches(one, host, port) for one in hosts)
    if not allowed and (host == "localhost" or host.endswith(".localhost") or (literal and not is_public(literal))):
        raise InputError(
            f"webhook: expected a public host, found {host!r}; whoever runs the service can allow it: "
            f"plait serve --webhook-host {_shown(host)}:{port}"
        )
    return Target(parsed, host, literal, allowed)


def check_host(text: str) -> str:
    """A host that an operator allows, as it is compared. Raises InputError for what is no host, or HOST:PORT."""
    try:
        host, port = _split(text)
    except ValueError:
        host, port = "", None
    if (_literal(host) is None and not _NAME.fullmatch(host)) or not (port is None or 1 <= port <= 65535):
        raise InputError(f"expected a host such as hooks.internal, 10.0.0.5:9000 or [::1]:9000, found {text[:200]!r}")
    return text


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, as far as its number tells."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv4Address):
        return not any(found in network for network in _NOT_PUBLIC_4)
    return found in _PUBLIC_6 and not any(found in network for network in _NOT_PUBLIC_6)


def _literal(host: str) -> str | None:
    """The address that a host is, also in the forms that only resolvers know: 127.1, 0x7f000001, 2130706433."""
    try:
        found: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        try:
            found = IPv4Address(socket.inet_aton(host)) if _NAME.fullmatch(host) else IPv6Address(host)
        except (OSError, ValueError):
            return None
    return str(found)


def _matches(allowed: str, host: str, port: int) -> bool:
    name, only = _split(allowed)
    same = name == host or (_literal(name) is not None and _literal(name) == _literal(host))
    return same and only in (None, port)


def _split(text: str) -> tuple[str, int | None]:
    """Host and port; a bare IPv6 address has colons of its own. Raises ValueError for a port that is no number."""
    found = text.strip().lower()
    if found.startswith("["):
        host, closing, rest = found[1:].partition("]")
        if not closing or (rest and not rest.startswith(":")):
            raise ValueError(text)
        port = rest[1:]
    elif found.count(":") > 1:
        host, port = found, ""
    else:
        host, _, port = found.partition(":")
    return host.removesuffix("."), int(port) if port else None


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
