"""What goes wrong by chance.

429           refused although no limit is reached, with Retry-After
429-silent    the same without Retry-After
500 502 503   a server error; 502 is a proxy's HTML page
529           overloaded, as Anthropic says
reset         the connection is reset before the headers
cut           the connection is reset in the middle: after a stream's first token, after half of a plain body
truncate      the same places, but the connection closes in peace: JSON that ends too early
stall         nothing is ever sent
drip          the answer comes in pieces, `drip_s` apart
content-type  a good answer that says it is text/plain
"""

from __future__ import annotations

from dataclasses import replace

from plait.simulator.behaviours import Behaviour
from plait.simulator.dialects import retry_headers
from plait.simulator.draws import Draw
from plait.simulator.profiles import FaultKind, Profile

_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_BEHAVIOURS: dict[FaultKind, Behaviour] = {
    "429": Behaviour(status=429),
    "429-silent": Behaviour(status=429),
    "500": Behaviour(status=500),
    "502": Behaviour(status=502, body=_PAGE, content_type="text/html"),
    "503": Behaviour(status=503),
    "529": Behaviour(status=529, error={"message": "Overloaded", "type": "overloaded_error", "code": None}),
    "reset": Behaviour(reset_before_headers=True),
    "cut": Behaviour(cut_after_chunks=1, truncate_json=True, reset=True),
    "truncate": Behaviour(cut_after_chunks=1, truncate_json=True),
    "stall": Behaviour(stall=True),
    "drip": Behaviour(),
    "content-type": Behaviour(content_type="text/plain"),
}


def drawn_fault(profile: Profile, draw: Draw, wall: float) -> Behaviour | None:
    """The fault that strikes this request, if any does."""
    if not profile.faults:
        return None
    left = draw.uniform("fault")
    for kind, chance in profile.faults.items():
        left -= chance
        if left < 0:
            return _made(kind, profile, wall)
    return None


def _made(kind: FaultKind, profile: Profile, wall: float) -> Behaviour:
    behaviour = replace(_BEHAVIOURS[kind], kind=kind)
    if kind == "drip":
        return replace(behaviour, drip_s=profile.drip_s)
    if kind == "429":
        # A provider that says nothing of its limits elsewhere says when to come back here: it is this kind's point.
        said = profile if profile.retry_after != "none" else profile.but(retry_after="seconds")
        return replace(behaviour, headers=retry_headers(said, 1.0, wall))
    return behaviour
