"""Variables that the tables of trialogue.toml name, so that what is secret stays out of it."""

from __future__ import annotations

import os

from dotenv import dotenv_values

from server.config.settings import ENV_FILE


def named_variable(name: str) -> str | None:
    """Return what a variable says: in the environment, or in .env."""
    return os.environ.get(name) or dotenv_values(ENV_FILE, encoding="utf-8-sig").get(name)
