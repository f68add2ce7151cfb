"""The package of the agent."""
