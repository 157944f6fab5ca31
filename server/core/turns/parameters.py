"""Parameters of sampling that upstreams understand beside OpenAI's; the same on every wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from server.core import validation
from server.core.errors import InvalidRequestError

#: Bytes, as JSON, and the depth of all others together.
MOST_BYTES, MOST_DEPTH = 64 << 10, 20
#: Least and most of each, and whether it is a whole number.
KNOWN: Final[Mapping[str, tuple[float, float, bool]]] = {
    "top_k": (-1, 1 << 31, True),
    "min_p": (0, 1, False),
    "repeat_penalty": (0, 100, False),
    "repeat_last_n": (-1, 1 << 31, True),
    "prompt_batch_size": (1, 1 << 31, True),
}
#: An older client's spelling.
SPELLINGS: Final[Mapping[str, str]] = {"repeat_penality": "repeat_penalty"}
#: Taken and not passed on: a matter of how a model is loaded.
OF_LOADING: Final = ("prompt_batch_size",)
#: What others may not be: it says what is asked, or how the answer is told.
_OURS: Final = frozenset(
    (
        *("model", "messages", "prompt", "stream", "stream_options", "n", "best_of", "echo"),
        *("suffix", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop"),
        *("return_progress", "store", "metadata", *KNOWN, *SPELLINGS),
        *("tools", "tool_choice", "response_format", "reasoning_effort"),
    )
)


def beside(given: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what is passed on of these parameters, None those not given, and of any others.

    Raises InvalidRequestError.
    """
    told: dict[str, Any] = {}
    # An older spelling may stand there: gRPC has no field for it.
    extra = dict(extra or {})
    older = {one: extra.pop(one) for one in SPELLINGS if given.get(one) is None and one in extra}
    for name, value in {**given, **older}.items():
        own = SPELLINGS.get(name, name)
        if value is None:
            continue
        least, most, whole = KNOWN[own]
        validation.number(value, name, least, most, whole=whole)
        if told.get(own, value) != value:
            raise InvalidRequestError(f"{name} and {own} differ.", name)
        told[own] = value
    for name in OF_LOADING:
        told.pop(name, None)
    return {**_others(extra), **told}


def _others(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in extra:
        if name in _OURS:
            shown = f"extra.{name}"
            raise InvalidRequestError(f"{name} is no extra: it has a place of its own.", shown)
    if validation.portable(dict(extra), "extra") > MOST_BYTES:
        raise InvalidRequestError(f"extra must have at most {MOST_BYTES} bytes as JSON.", "extra")
    if validation.depth(dict(extra)) > MOST_DEPTH:
        raise InvalidRequestError(f"extra must be at most {MOST_DEPTH} deep.", "extra")
    return extra
