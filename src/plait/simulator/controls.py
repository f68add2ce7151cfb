"""The simulator's own endpoints, by which other processes watch and change it.

GET  /simulator/counters
POST /simulator/reset
POST /simulator/change   {"rpm": 300}
POST /simulator/advance  {"seconds": 86400}
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from aiohttp import web

from plait.errors import SettingsError
from plait.simulator.clocks import Clock
from plait.simulator.counters import Counters


class Controlled(Protocol):
    """What the endpoints need of the simulator."""

    clock: Clock

    @property
    def counters(self) -> Counters: ...

    def change(self, **changes: Any) -> None: ...

    def reset(self) -> None: ...


def control(simulator: Controlled, method: str, path: str, raw: bytes) -> web.Response:
    """Do it, and answer with the counters; 400 or 404 with a message where it cannot be done."""
    try:
        found = json.loads(raw) if raw else {}
        match method, path.removeprefix("/simulator/"):
            case "GET", "counters":
                pass
            case "POST", "reset":
                simulator.reset()
            case "POST", "change":
                simulator.change(**found)
            case "POST", "advance":
                simulator.clock.advance(float(found["seconds"]))
            case _:
                return _answer(404, {"error": f"there is no {method} {path}; {(__doc__ or '').strip()}"})
    except SettingsError as error:
        return _answer(400, {"error": str(error)})
    except (ValueError, TypeError, KeyError):
        return _answer(400, {"error": f"{method} {path} cannot use this body"})
    return _answer(200, simulator.counters.as_json())


def _answer(status: int, body: dict[str, Any]) -> web.Response:
    return web.Response(status=status, body=json.dumps(body).encode(), content_type="application/json")
