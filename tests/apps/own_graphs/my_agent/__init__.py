"""A package beside langgraph.json."""
