"""What an operator may set of the service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Bounds of one service process."""

    max_running: int = 1000
    """Runs at once; the calls they make are bounded by the gate."""
    max_queued: int = 1000
    """Runs that wait for their turn; a further one is refused with 429 and Retry-After."""
    grace_s: float = 30.0
    """Seconds that running runs have to finish after SIGTERM, before they are parked for the next start."""
    max_body_bytes: int = 10_000_000
    max_depth: int = 64
    """How deep the JSON of a request may be nested."""
    max_recursion: int = 1000
    """The highest `recursion_limit` a client may ask for."""
    timeout_s: float = 3600.0
    """Seconds a run may take."""
    max_attempts: int = 3
    """How often a run is begun again after its server died, the first time included."""
    keep_events_s: float = 86_400.0
    """How long the stream of a resumable run can be read again after its end."""
    cors_origins: tuple[str, ...] = ("local",)
    """Origins whose pages may call the service from a browser; none: no CORS headers."""
    hosts: tuple[str, ...] = ("local",)
    """Names that requests may call the service by where it asks nobody who they are; `*`: any."""
    webhook_hosts: tuple[str, ...] = ()
    """Hosts that webhooks may go to although they are not public: `hooks.internal`, `127.0.0.1:9000`."""
    log_content: bool = False
    """Whether logs may hold what was asked and answered."""
