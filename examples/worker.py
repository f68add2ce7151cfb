"""A worker that answers one item after another, each in an event loop of its own, as workers of task queues do.

Items come as lines: `printf 'a cat\\na dog\\n' | python worker.py` runs the workflow in this process;
`... | python worker.py http://localhost:8123` lets the service run it that listens there.
"""

import asyncio
import sys

from langgraph_sdk import get_sync_client

import plait


def here(topic: str) -> str:
    """Run the workflow in this process. What plait has learnt of the endpoint's limits outlives the loop."""
    result = asyncio.run(plait.run("story", {"topic": topic}))
    return str(result.outputs["story"])


def there(topic: str, url: str) -> str:
    """Let the service run it; this process needs neither a loop nor a key of the provider."""
    with get_sync_client(url=url) as client:
        values = client.runs.wait(None, "story", input={"topic": topic})
    assert isinstance(values, dict)
    return str(values["story"])


if __name__ == "__main__":
    for line in sys.stdin:
        item = line.strip()
        print(there(item, sys.argv[1]) if sys.argv[1:] else here(item), flush=True)
