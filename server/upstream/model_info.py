"""What an upstream tells of its models: how long a prompt may be, and whether it counts for us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from server.tokens.models import is_known

#: Where lists of models tell a window, the most exact first: llama.cpp, vLLM, LM Studio,
#: OpenRouter and the many that copied one of them.
_WINDOWS = (
    *("n_ctx", "max_model_len", "loaded_context_length", "context_length", "context_window"),
    *("max_context_length", "max_context_window", "max_input_tokens"),
)
#: Where they stand: in the model itself, or in one of these.
_INSIDE = ("meta", "top_provider", "metadata")
#: Outside of this it is no window of a model that somebody could talk with.
_LEAST, _MOST = 64, 1 << 31


class Counter(StrEnum):
    """Servers that count the tokens of a chat for whoever asks, template and tools included."""

    LLAMA_CPP = "llama.cpp"
    VLLM = "vllm"


@dataclass(frozen=True, slots=True)
class Named:
    """Who is asked for a model: the upstream, and the model's own name there.

    `tokenizer` is what the settings say of it: `tiktoken:NAME`, `upstream`, `learn`, or nothing.
    """

    upstream: str
    model: str
    tokenizer: str | None = None
    #: whether it is sent what the strictest chat template takes
    strict: bool = True
    #: built in: its tokens are what we count
    ours: bool = False
    #: on this machine or beside it, where one answer may stand in another's way
    near: bool = False

    @property
    def encoding(self) -> str | None:
        """The tiktoken encoding that the settings name."""
        kind, _, name = (self.tokenizer or "").partition(":")
        return name if kind == "tiktoken" else None

    @property
    def exact(self) -> bool:
        """Whether the model's encoding is ours to know."""
        if self.tokenizer is not None:
            return self.encoding is not None
        return self.ours or is_known(self.model)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a model where it is asked; windows are in tokens, None: nobody says."""

    named: Named
    #: as the settings for that upstream have it, and as the upstream's list does
    set_window: int | None = None
    told_window: int | None = None
    counter: Counter | None = None


def window_of(listed: Mapping[str, Any]) -> int | None:
    """Return the window that a model object of an upstream's list tells; None where it does not."""
    places = [listed, *(listed[name] for name in _INSIDE if isinstance(listed.get(name), Mapping))]
    for name in _WINDOWS:
        for place in places:
            value = place.get(name)
            if type(value) is int and _LEAST <= value <= _MOST:
                return value
    return None


def counter_of(listed: Mapping[str, Any]) -> Counter | None:
    """Return how an upstream counts for us, by what it is: the owner that its models name."""
    match listed.get("owned_by"):
        case "llamacpp":
            return Counter.LLAMA_CPP
        case "vllm":
            return Counter.VLLM
        case _:
            return None


def counter_for(named: Named, listed: Mapping[str, Any]) -> Counter | None:
    """Return who counts for a model: its upstream, unless the settings say otherwise."""
    match named.tokenizer:
        case None:
            return counter_of(listed)
        case "upstream":
            return counter_of(listed) or Counter.LLAMA_CPP
        case _:
            return None


def find(models: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """Return the model object of a name or alias; of a server with one model, that one."""
    for one in models:
        aliases = one.get("aliases")
        if one.get("id") == name or (isinstance(aliases, list) and name in aliases):
            return one
    # llama.cpp answers with its model whatever it is called.
    alone = len(models) == 1 and counter_of(models[0]) is Counter.LLAMA_CPP
    return models[0] if alone else None
