"""Raises in the standard library, called from here."""

import json


def build():
    return json.loads("{nonsense")
