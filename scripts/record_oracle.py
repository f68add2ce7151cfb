"""Records what the reference Agent Server answers in the scenarios of tests/oracle: shapes and stable values, no prose.

    langgraph dev --no-browser --port 2024        # in tests/apps/service_app, from an environment of its own
    python scripts/record_oracle.py --url http://127.0.0.1:2024

Start the server afresh: scenarios count on the assistants that an app has by itself. With `--only NAME` (repeated) just
these are recorded again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "tests" / "oracle" / "recorded.json"

sys.path.insert(0, str(ROOT))

from tests.oracle.observations import Observer  # noqa: E402
from tests.oracle.scenarios import SCENARIOS  # noqa: E402


async def record(url: str, names: list[str]) -> dict[str, object]:
    """What the server at `url` answers in these scenarios."""
    found: dict[str, object] = {}
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        version = (await client.get("/info")).json()["version"]
        for name in names:
            observer = Observer(client)
            await SCENARIOS[name](observer)
            found[name] = observer.seen
            sys.stderr.write(f"{name}: {len(observer.seen)} observations\n")
    return {"reference": f"langgraph-api {version}", "scenarios": found}


def main() -> None:
    """Write tests/oracle/recorded.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="of a running reference server")
    parser.add_argument("--only", action="append", choices=sorted(SCENARIOS), help="a scenario to record again")
    parser.add_argument("--file", type=Path, default=FILE, help="where the record is written")
    chosen = parser.parse_args()
    new = asyncio.run(record(chosen.url, chosen.only or list(SCENARIOS)))
    if chosen.only and chosen.file.exists():
        old = json.loads(chosen.file.read_text(encoding="utf-8"))
        new["scenarios"] = old["scenarios"] | new["scenarios"]
    lines = ",\n".join(
        f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(one, sort_keys=True) for one in seen) + "\n]"
        for name, seen in sorted(new["scenarios"].items())  # type: ignore[attr-defined]
    )
    text = f'{{"reference": {json.dumps(new["reference"])}, "scenarios": {{\n{lines}\n}}}}\n'
    chosen.file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
