"""Opens connections: looks names up, tries their addresses, begins TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from asyncio.staggered import staggered_race
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, zip_longest

_KNOWN_S = 10.0
"""A name's addresses are remembered for so long."""
_NEXT_ADDRESS_S = 0.25
"""After so long the next address is tried beside the last (RFC 8305, section 8: Connection Attempt Delay)."""

Address = tuple[socket.AddressFamily, tuple[object, ...]]


class Names:
    """Looks names up in threads of its own: in a loop's default executor, waiting nodes could keep them all."""

    _threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="plait-dns")

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, list[Address]]] = {}

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Where a host is, IPv6 and IPv4 by turns. Raises socket.gaierror."""
        for family in (socket.AF_INET, socket.AF_INET6):
            if _is_address(family, host):
                return [(family, (host, port))]
        at, found = self._known.get((host, port), (0.0, []))
        if found and time.monotonic() - at < _KNOWN_S:
            return found
        lines = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        places: list[Address] = [(family, address) for family, _, _, _, address in lines]
        ours = [place for place in places if place[0] == places[0][0]]
        others = [place for place in places if place[0] != places[0][0]]
        mixed = [place for place in chain.from_iterable(zip_longest(ours, others)) if place is not None]
        self._known[host, port] = (time.monotonic(), mixed)
        return mixed

    def forget(self, host: str, port: int) -> None:
        """Look the name up again the next time: it led nowhere."""
        self._known.pop((host, port), None)


async def dial(
    names: Names, host: str, port: int, trust: ssl.SSLContext | None, protocol: Callable[[], asyncio.Protocol]
) -> None:
    """Connect a protocol; with TLS where there is somebody to `trust`. Raises OSError."""
    loop = asyncio.get_running_loop()
    addresses = await names.addresses(host, port)
    connected: socket.socket | None = None
    try:
        connected = await _first(addresses)
        await loop.create_connection(protocol, sock=connected, ssl=trust, server_hostname=host if trust else None)
    except BaseException:
        names.forget(host, port)
        if connected is not None:
            connected.close()
        raise


async def _first(addresses: Sequence[Address]) -> socket.socket:
    if len(addresses) == 1:
        return await _connect(addresses[0])
    won, _, failures = await staggered_race([partial(_connect, each) for each in addresses], _NEXT_ADDRESS_S)
    if isinstance(won, socket.socket):
        return won
    raise next((error for error in failures if error is not None), OSError("no address to connect to"))


async def _connect(address: Address) -> socket.socket:
    family, place = address
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(made, place)
    except BaseException:
        made.close()
        raise
    return made


def _is_address(family: socket.AddressFamily, host: str) -> bool:
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    return True
