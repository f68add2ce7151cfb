"""What clients may set in `config.configurable`: their own keys, not those that LangGraph and the service own."""

from __future__ import annotations

from collections.abc import Mapping

from plait.service.problems import problem

# What LangGraph's RemoteGraph forwards of its parent's run without being asked, strings and numbers of `__pregel_*` and
# `langgraph_auth_*` included: a 400 would end its use as a node. None of it is believed.
_OURS = frozenset({"thread_id", "run_id", "assistant_id", "graph_id"})
_OUR_PREFIXES = ("__", "checkpoint_", "langgraph_")

# In a server's own run this is an object, which RemoteGraph leaves out: no unchanged client sends one.
_FORGED = "langgraph_auth_user"


def checked_configurable(configurable: Mapping[str, object]) -> dict[str, object]:
    """A client's own keys, without those that only the service sets.

    Left out are `thread_id`, `run_id`, `assistant_id`, `graph_id` and what begins with `checkpoint_`, `langgraph_` or
    `__`. Raises a 400 where a client says who the user is (`langgraph_auth_user`).
    """
    if configurable.get(_FORGED) is not None:
        raise problem(
            400,
            f"config.configurable: {_FORGED} is set by the service, from how the request authenticates: leave it out. "
            f"Reserved as well: {', '.join(sorted(_OURS))}, and names that begin with {' or '.join(_OUR_PREFIXES)}",
        )
    return {key: value for key, value in configurable.items() if not is_reserved(key)}


def is_reserved(key: str) -> bool:
    """Whether the service, not a client, decides on this key of `configurable`."""
    return key in _OURS or key.startswith(_OUR_PREFIXES)
