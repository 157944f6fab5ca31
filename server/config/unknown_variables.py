"""Variables that look like settings and are none, as misspelt ones do, and the nearest to each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from dotenv import dotenv_values

from server.config.settings import ENV_FILE, Settings, variables

OURS = "TRIALOGUE_"
#: What our clients and tests read.
_OTHERS = ("TRIALOGUE_API_KEY", "TRIALOGUE_URL")
_TESTS = "TRIALOGUE_TEST_"
#: What Kubernetes sets for each service whose name begins as ours does.
_SERVICE = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP)")


def unknown_variables(
    settings: Settings, environment: Mapping[str, str] = os.environ
) -> Iterator[tuple[str, str | None]]:
    """Yield each unknown variable of the environment and of .env, and the nearest known one."""
    known = {name for field in Settings.model_fields for name in variables(field)}
    known |= {*_OTHERS, *(table.key_variable or "" for table in settings.upstreams)}
    for table in settings.mcp:
        known |= {table.key_variable or "", *table.variables}
    given = {**dotenv_values(ENV_FILE, encoding="utf-8-sig"), **environment}
    # Case does not count in settings.
    for name in sorted(name for name in given if name.upper().startswith(OURS)):
        upper = name.upper()
        if upper in known or upper.startswith(_TESTS) or _is_service(upper, given[name]):
            continue
        yield name, _nearest(upper, known)


def _nearest(name: str, known: set[str]) -> str | None:
    """Return the variable that was meant, if there is one like it; the beginning counts nothing."""
    by_rest = {one.removeprefix(OURS): one for one in sorted(known)}
    near = get_close_matches(name.removeprefix(OURS), by_rest, n=1, cutoff=0.55)
    return by_rest[near[0]] if near else None


def _is_service(name: str, value: str | None) -> bool:
    return bool(_SERVICE.search(name)) or (value or "").startswith("tcp://")
