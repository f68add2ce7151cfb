"""A folder without __init__.py in a package."""


def node(state: dict) -> dict:
    return {"text": "my_agent"}
