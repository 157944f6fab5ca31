"""What upstreams are called that stand in no table, and that no table may be called so."""

from __future__ import annotations

OPENAI = "openai"
#: built in; her model is called so too
ELIZA = "eliza"
#: before the name of a model on this machine
LOCAL = "local:"


def own_name(name: str) -> str:
    """Return the name of a table's upstream. Raises ValueError where it is another's.

    By its name an upstream is found again that has somebody's files, or knows a model's window.
    """
    if name in (OPENAI, ELIZA) or name.startswith(LOCAL):
        raise ValueError(
            f"{name!r} is what another upstream is called: not {OPENAI}, {ELIZA} or {LOCAL}NAME"
        )
    return name
