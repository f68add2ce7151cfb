"""Where the service may listen: beyond this machine only with callers that say who they are."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from plait.errors import SettingsError
from plait.service.auth.authorities import OpenAuthority
from plait.service.callers import Authority


def check_bind(host: str, authority: Authority, insecure: bool) -> None:
    """Raise SettingsError where others could reach a service that asks nobody who they are, unless `insecure`.

    `host` is a name, an address or a Unix socket (`unix:...` or a path). A name other than localhost counts as public:
    what it stands for may change.
    """
    if insecure or not isinstance(authority, OpenAuthority) or is_local(host):
        return
    shown = host or "0.0.0.0"  # noqa: S104 - it is only named
    raise SettingsError(
        f"--host {shown}: expected a loopback address such as 127.0.0.1, since the service asks for no keys and "
        f"anybody who reaches {shown} could run workflows at your expense: make a key with `plait keys create NAME`, "
        'name an Auth in langgraph.json ("auth"), or give --insecure if something before it checks who asks'
    )


def is_local(host: str) -> bool:
    """Whether only this machine reaches a server there."""
    if host.startswith(("unix:", "/")) or host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
