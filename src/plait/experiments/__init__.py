"""Experiments: datasets run through workflows, scored, and compared honestly."""
