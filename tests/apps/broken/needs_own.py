"""Needs a part of the app that is not there."""

from nested.missing import graph
