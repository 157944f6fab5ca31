"""Trialogue: a server that owns the conversation."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("trialogue")
except PackageNotFoundError:  # run from a tree that was never installed
    VERSION = "0"
