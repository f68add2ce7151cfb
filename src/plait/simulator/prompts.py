"""What is asked, read from the bodies of chat completions, responses, messages and embeddings. Tokens are words."""

from __future__ import annotations

from typing import Any

from plait.simulator.behaviours import Body


def turns(body: Body) -> list[Body]:
    """The conversation as objects with `role` and `content`; a system prompt beside it comes first."""
    found: Any = body.get("messages", body.get("input", ""))
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list):
        return []
    asked = [turn if isinstance(turn, dict) else {"role": "user", "content": str(turn)} for turn in found]
    beside = body.get("system") or body.get("instructions")
    return [{"role": "system", "content": beside}, *asked] if beside else asked


def text_of(content: object) -> str:
    """The text of a turn's content, whether it comes as text or in parts."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def tokens_of(body: Body) -> list[str]:
    """The prompt's tokens."""
    return [word for turn in turns(body) for word in text_of(turn.get("content")).split()]


def last_user_message(body: Body) -> str:
    """What was asked last; empty where nothing was."""
    for turn in reversed(turns(body)):
        if turn.get("role") == "user":
            return text_of(turn.get("content"))
    return ""


def model_of(body: Body) -> str:
    """The model's name; empty where none is given."""
    return str(body.get("model") or "")


def max_tokens(body: Body) -> int | None:
    """How long the answer may be, under any of the names that the APIs have for it."""
    for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"):
        found = body.get(name)
        if isinstance(found, int) and found > 0:
            return found
    return None


def wanted_schema(body: Body) -> Body | None:
    """The JSON schema that the answer must match, if one is asked for; {} for any JSON object."""
    chat, responses = body.get("response_format"), body.get("text")
    if isinstance(chat, dict):
        return _schema_in(chat, chat.get("json_schema"))
    if isinstance(responses, dict) and isinstance(responses.get("format"), dict):
        return _schema_in(responses["format"], responses["format"])
    return None


def _schema_in(form: Body, holder: object) -> Body | None:
    if form.get("type") == "json_object":
        return {}
    if form.get("type") == "json_schema" and isinstance(holder, dict) and isinstance(holder.get("schema"), dict):
        found: Body = holder["schema"]
        return found
    return None


def forced_tool(body: Body) -> tuple[str, Body] | None:
    """Name and parameters' schema of the tool that must be called: `tool_choice` names it, or asks for any."""
    choice: Any = body.get("tool_choice")
    tools = [_tool(tool) for tool in body.get("tools") or () if isinstance(tool, dict)]
    if isinstance(choice, dict):
        if choice.get("type") == "any":
            return tools[0] if tools else None
        name = choice.get("name") or (choice.get("function") or {}).get("name")
        return next((tool for tool in tools if tool[0] == name), None)
    return tools[0] if tools and choice == "required" else None


def _tool(tool: Body) -> tuple[str, Body]:
    described = tool["function"] if isinstance(tool.get("function"), dict) else tool
    return str(described.get("name")), described.get("parameters") or described.get("input_schema") or {}
