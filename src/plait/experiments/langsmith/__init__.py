"""Experiments for LangSmith: their dataset, runs and scores sent through its own client."""
