"""Refusals of a request, in the words and with the codes that OpenAI's API has for them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from server.openai_protocol.codec import encode
from server.openai_protocol.overflow import Overflow, overflow_of, told_as_openai

#: makes a text of an upstream fit to repeat
Clean = Callable[[str], str]

_LONGEST_MESSAGE = 600
_LONGEST_QUOTE = 100


@dataclass
class ApiError(Exception):
    """A request cannot be answered, and why."""

    message: str
    param: str | None = None
    code: str | None = None
    status: int = 400
    kind: str = "invalid_request_error"
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    def body(self) -> bytes:
        """Return OpenAI's error object; its message is one line of ASCII."""
        printable = "".join(letter if letter.isprintable() else " " for letter in self.message)
        line = " ".join(printable.split()).encode("ascii", "backslashreplace")
        error = {
            "message": line[:_LONGEST_MESSAGE].decode(),
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        return orjson.dumps({"error": error})


def unreadable() -> ApiError:
    return ApiError(
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't "
        "using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was "
        "sent was not valid JSON.)"
    )


def missing(param: str) -> ApiError:
    return ApiError(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def mistyped(param: str, expected: str, got: Any) -> ApiError:
    return ApiError(
        f"Invalid type for '{param}': expected {expected}, but got {kind_of(got)} instead.",
        param,
        "invalid_type",
    )


def unknown_value(param: str, got: object, known: Sequence[str]) -> ApiError:
    quoted = [f"'{value}'" for value in known]
    options = ", ".join(quoted[:-1]) + f", and {quoted[-1]}" if len(quoted) > 1 else quoted[0]
    return ApiError(
        f"Invalid value: '{quote(got)}'. Supported values are: {options}.", param, "invalid_value"
    )


def misnamed(param: str) -> ApiError:
    return ApiError(
        f"Invalid '{param}': string does not match pattern. "
        "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
        param,
        "invalid_value",
    )


def below(param: str, word: str, least: float, got: float) -> ApiError:
    return ApiError(
        f"Invalid '{param}': {word} below minimum value. "
        f"Expected a value >= {least}, but got {quote(got)} instead.",
        param,
        f"{word}_below_min_value",
    )


def above(param: str, word: str, most: float, got: float) -> ApiError:
    return ApiError(
        f"Invalid '{param}': {word} above maximum value. "
        f"Expected a value <= {most}, but got {quote(got)} instead.",
        param,
        f"{word}_above_max_value",
    )


def empty(param: str) -> ApiError:
    return ApiError(
        f"Invalid '{param}': empty array. Expected an array with minimum length 1, "
        "but got an empty array instead.",
        param,
        "empty_array",
    )


def overlong(param: str, most: int, got: int) -> ApiError:
    return ApiError(
        f"Invalid '{param}': array too long. Expected an array with maximum length {most}, "
        f"but got an array with length {got} instead.",
        param,
        "array_above_max_length",
    )


def unsupported(param: str) -> ApiError:
    return ApiError(
        f"Unsupported parameter: '{param}' is not supported with this model.",
        param,
        "unsupported_parameter",
    )


def overflow(window: int, prompt: int, param: str = "messages") -> ApiError:
    return ApiError(
        f"This model's maximum context length is {window} tokens. However, your {param} resulted "
        f"in {prompt} tokens. Please reduce the length of the {param}.",
        param,
        "context_length_exceeded",
    )


def no_such_model(name: str) -> ApiError:
    return ApiError(
        f"The model '{quote(name)}' does not exist or you do not have access to it.",
        "model",
        "model_not_found",
        404,
    )


#: how servers say in a 404 that they do not know a model, and that they do not know a route
_MODEL = re.compile(r"\bmodel\b", re.I)
_MISSING = re.compile(r"not found|not exist|n't exist|unknown", re.I)
_NO_MODEL = re.compile(r"(no such|unknown) model", re.I)
_NO_ROUTE = re.compile(r"(file |404 page |page |url |path |route |endpoint )?not found\W*", re.I)


def kind_of(value: Any) -> str:
    """Say what a JSON value is, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def quote(value: object) -> str:
    """Return a value as it may stand in a message, shortened."""
    text = str(value)
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "..."


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an upstream said was wrong, fit to be repeated; an empty message if it said nothing."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None
    #: where it is that the prompt was too long
    overflow: Overflow | None = None


def complaint_of(body: object, clean: Clean) -> Complaint:
    """Read an error in OpenAI's shape, or in one of the shapes of servers like it."""
    match body:
        case Mapping():
            said = next((body[k] for k in ("message", "detail", "error") if body.get(k)), "")
            text = said if isinstance(said, str) else json.dumps(said, default=str)
            kind, code, param = (_word(body.get(name), clean) for name in ("type", "code", "param"))
            return Complaint(clean(text), kind, code, param, overflow_of(body))
        case str() if not body.lstrip().startswith("<"):
            return Complaint(clean(body))
        case _:
            return Complaint()


def code_in(complaint: Complaint, status: int) -> str | None:
    """Return a complaint's code; for a model that there is not it is OpenAI's, whoever says it."""
    if status == 404 and _is_of_a_model(complaint.message):
        return "model_not_found"
    return complaint.code


def _is_of_a_model(message: str) -> bool:
    """Say whether a complaint is that there is no such model."""
    if _NO_MODEL.search(message):
        return True
    # Behind the first alone: from each on, one that says "model" often would take for ever.
    model = _MODEL.search(message)
    return model is not None and _MISSING.search(message, model.end()) is not None


def is_of_the_route(complaint: Complaint) -> bool:
    """Say whether a 404 says nothing but that there is no such route."""
    return not complaint.message or _NO_ROUTE.fullmatch(complaint.message.strip()) is not None


def _word(value: object, clean: Clean) -> str | None:
    return clean(str(value))[:200] if isinstance(value, str | int) and value != "" else None


#: so deep, and so wide, is an error looked into
_DEPTH = 4
_MOST = 50
#: what is said of an error in its own place
_SHAPE = ("message", "type", "param", "code", "detail", "error")
_PLAIN = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\xa0": " "}
)


def refusal(status: int, body: bytes, clean: Clean) -> bytes:
    """Return the body of an error answer: `{"error": {message, type, param, code, …}}`."""
    said = _said(body)
    rest = {}
    if isinstance(said, dict) and isinstance(said.get("error"), dict):
        rest = {name: _clean(value, clean, 1) for name, value in said.items() if name != "error"}
        said = said["error"]
    return encode({"error": shaped(said, clean, status), **rest})


def complaint_in(body: bytes, clean: Clean) -> Complaint:
    """Return what the body of an error answer complains of."""
    said = _said(body)
    if isinstance(said, dict) and isinstance(said.get("error"), dict):
        said = said["error"]
    return complaint_of(said, clean)


def _said(body: bytes) -> Any:
    text = body.decode("utf-8", "replace")
    try:
        said = json.loads(text)  # which takes half a letter
    except (ValueError, RecursionError):
        return text
    return said[0] if isinstance(said, list) and said else said


def shaped(said: object, clean: Clean, status: int = 500) -> dict[str, Any]:
    """Return an error object in OpenAI's shape; what else is in it is kept, cleaned."""
    complaint = complaint_of(said, clean)
    message = complaint.message or f"the upstream refused the request with status {status}"
    error = {
        "message": one_line(message),
        "type": complaint.type or type_of(status),
        "param": complaint.param,
        "code": code_in(complaint, status),
    }
    if isinstance(said, dict):
        more = {name: value for name, value in said.items() if name not in _SHAPE}
        error |= _clean(more, clean, 1)
    return told_as_openai(error, said, status)


def type_of(status: int) -> str:
    """Return OpenAI's type for errors of a status."""
    if status == 429:
        return "rate_limit_exceeded"
    return "server_error" if status >= 500 else "invalid_request_error"


def one_line(text: str) -> str:
    """Return a text as one line of ASCII, which some clients put into an HTTP status line."""
    plain = " ".join(text.split()).translate(_PLAIN)
    shown = plain if plain.isascii() else "".join(map(_folded, plain))
    return "".join(letter for letter in shown if letter.isprintable())


def _folded(letter: str) -> str:
    bare = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return bare or letter.encode("ascii", "backslashreplace").decode()


def _clean(value: Any, clean: Clean, depth: int) -> Any:
    """Clean every text in a value; what lies too deep is left out."""
    match value:
        case str():
            return clean(value)
        case dict() | list() if depth > _DEPTH:
            return None
        case dict():
            pairs = list(value.items())[:_MOST]
            return {clean(str(name)): _clean(part, clean, depth + 1) for name, part in pairs}
        case list():
            return [_clean(part, clean, depth + 1) for part in value[:_MOST]]
        case _:
            return value
