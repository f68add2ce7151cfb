"""Streams through `plait serve`: all complete, how late the first token is, what each costs in memory and CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence

from benchmarks.service_load import Course, clients
from benchmarks.service_processes import cpu_s, rss_kb, watched
from benchmarks.service_provider import streaming_provider
from benchmarks.service_raw import Spent, spent
from benchmarks.service_servers import plait_server

TOKENS = 200
GAP_S = 0.02
STREAMS = (25, 50, 75, 100, 200)
MOST = 1000
OVER_S = 10.0
SLOW_TOKENS, SLOW_GAP_S, SLOW_OVER_S = 25, 1.0, 20.0
"""Of streams that one core can hold a thousand of: what an open one takes, without what waits to be sent."""
RAW = 50
"""Streams of the bare client; more than its core can do would only make it late."""
_WARM_UP = 5
_HEAD = (
    f"{'streams':>8} {'arriving':>12} {'complete':>10} {'wall':>7} {'first token + p50':>18} {'p95':>9} "
    f"{'kB/stream':>10} {'CPU/token':>10} {'of raw':>9} {'load':>5}"
)


def main(counts: Sequence[int] = (*STREAMS, MOST), *, slow: int = MOST, over_s: float = OVER_S) -> None:
    """A line for every number of streams, arriving over some seconds and then all at once; last, `slow` slow ones."""
    print("targets: all complete, first token + 50 ms (p95), 150 kB a stream, CPU of a token 2x of ChatOpenAI's")
    with streaming_provider(tokens=TOKENS, gap_s=GAP_S) as base_url:
        peer_s = _raw(base_url)
        print(
            f"\nstreams of {TOKENS} tokens at {GAP_S * 1000:.0f} ms, {TOKENS * GAP_S:.0f} s each\n{_HEAD}", flush=True
        )
        for count in counts:
            for arriving_s in (over_s, 0.0):
                _line(base_url, count, arriving_s, TOKENS, peer_s)
    with streaming_provider(tokens=SLOW_TOKENS, gap_s=SLOW_GAP_S) as base_url:
        print(f"\nstreams of {SLOW_TOKENS} tokens at {SLOW_GAP_S:.0f} s\n{_HEAD}", flush=True)
        _line(base_url, slow, SLOW_OVER_S, SLOW_TOKENS, peer_s)


def _raw(base_url: str) -> float:
    """Seconds of CPU a token of ChatOpenAI on asyncio's loop, which the target names."""
    found: dict[str, Spent] = {}
    for name in ("ChatOpenAI", "ChatOpenAI on uvloop"):
        found[name] = spent(name, base_url, RAW, over_s=2.0)
        each = found[name]
        micros = each.cpu_s / RAW / TOKENS * 1e6
        late = f"first token + {_at(each.added_s, 0.5)} (p50), {_at(each.added_s, 0.95)} (p95)"
        print(f"{name}.astream in one process, {RAW} streams over 2 s: {micros:.0f} us a token, {late}", flush=True)
    return found["ChatOpenAI"].cpu_s / RAW / TOKENS


def _line(base_url: str, count: int, over_s: float, tokens: int, peer_s: float) -> None:
    # A server of its own for each line: memory that the last one left would hide what this one takes.
    with plait_server(base_url) as server:
        with clients("streams", Course(server.url, server.workflow, _WARM_UP, 0.0, tokens)) as client:
            client.go()
        memory = rss_kb(server.pid)
        with clients("streams", Course(server.url, server.workflow, count, over_s, tokens)) as client:
            cpu = cpu_s(server.pid)
            with watched(server.pid) as peak:
                seen = client.go()
            cpu = cpu_s(server.pid) - cpu
    arriving = f"over {over_s:.0f} s" if over_s else "at once"
    token_s = cpu / count / tokens
    print(
        f"{count:>8} {arriving:>12} {f'{seen.done}/{count}':>10} {seen.wall_s:>6.1f}s {_at(seen.added_s, 0.5):>18} "
        f"{_at(seen.added_s, 0.95):>9} {(peak.rss_kb - memory) / count:>10.0f} {f'{token_s * 1e6:.0f} us':>10} "
        f"{token_s / peer_s:>8.2f}x {os.getloadavg()[0]:>5.1f}",
        flush=True,
    )
    for words in seen.words:
        print(f"{'':>8} failed: {words}")


def _at(seconds: Sequence[float], share: float) -> str:
    if not seconds:
        return "-"
    return f"{sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * share))] * 1000:.0f} ms"


if __name__ == "__main__":
    main()
