"""The methods, filters and tests that an untrusted template may use, each paid for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jinja2 import pass_context
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from server.templates.template import TemplateError
from server.templates.work_budget import CHARACTERS_PER_STEP, PURSE

#: so many characters are compared one by one in one step
_COMPARED_PER_STEP = 256
_DEEPEST_INDENT = 8
#: digits to which a number is rounded, before and behind its point
_MOST_DIGITS = 20
_OF_STR = """
    capitalize count endswith find index isalnum isalpha isdigit islower isspace istitle isupper
    join lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition rsplit
    rstrip split splitlines startswith strip swapcase title upper
"""
_METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(_OF_STR.split()),
    dict: frozenset(("get", "items", "keys", "values")),
    list: frozenset(("count", "index")),
    tuple: frozenset(("count", "index")),
}
#: those that look from the end: each place of the text may be compared with all that is looked for
_BACKWARDS = frozenset(("lstrip", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "strip"))
_KNOWN_TESTS = """
    boolean defined false float integer iterable mapping none number sequence string true undefined
"""
_COMPARISONS = "== eq equalto != ne > gt >= ge < lt <= le in"


def call_method(own: Any, method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a method of a text, list or mapping. Raises SecurityError for one that is not ours."""
    name = method.__name__
    if not any(isinstance(own, kind) and name in names for kind, names in _METHODS.items()):
        raise SecurityError(f"{name} is not available")
    budget = PURSE.get()
    budget.look(own)
    if name in _BACKWARDS:
        sought = sum(len(one) for one in (*args, *kwargs.values()) if isinstance(one, str))
        budget.spend(len(own) * sought // _COMPARED_PER_STEP)
    match name, args:
        case "join", (items,):
            return joined(items, own)
        case "replace", (str(), str(), *_):
            return _replaced(own, *args, **kwargs)
        case "split" | "rsplit" | "splitlines", _:
            budget.spend(len(own) // 8)
        case "items" | "keys" | "values", _:
            return list(method())
    return method(*args, **kwargs)


def refuse(message: str = "") -> None:
    """Refuse what is to be rendered: a template's own word for it is `raise_exception`."""
    raise TemplateError(" ".join(str(message).split())[:200] or "The template refuses that.")


def written(value: Any) -> str:
    """Return a value as text, and pay for it."""
    return str(PURSE.get().look(value, plain=True))


def remainder(left: Any, right: Any) -> Any:
    """Return what `%` does of numbers; what it does of texts, formatting them, has no bound."""
    if isinstance(left, str):
        raise SecurityError("% does not format text")
    return left % right


def each(items: Iterable[Any], price: int = 1) -> Iterator[Any]:
    """Yield each item when it is paid for."""
    budget = PURSE.get()
    for item in items:
        budget.spend(price)
        yield item


def seen(value: Any) -> Any:
    return PURSE.get().look(value)


def joined(values: Iterable[Any], between: str = "", attribute: str | None = None) -> str:
    items = list(each(values))
    if attribute is not None:
        items = [one[seen(attribute)] for one in items]
    PURSE.get().spend(len(between) * len(items) // CHARACTERS_PER_STEP)
    return between.join(map(written, items))


def _replaced(text: Any, old: str, new: str, count: int = -1) -> str:
    whole = written(text)
    PURSE.get().spend(whole.count(old) * len(new) // CHARACTERS_PER_STEP)
    return whole.replace(old, new, count)


def _json(value: Any, indent: int | None = None) -> str:
    if indent is not None:
        _check_range(indent, 0, _DEEPEST_INDENT, "an indent")
    written(value)
    # Piece by piece: with an indent, the deep are far longer than what was paid for.
    return "".join(map(seen, json.JSONEncoder(ensure_ascii=False, indent=indent).iterencode(value)))


def _rounded(value: Any, precision: int = 0) -> Any:
    _check_range(precision, -_MOST_DIGITS, _MOST_DIGITS, "a precision")
    return round(value, precision)


def _check_range(number: int, lowest: int, highest: int, what: str) -> None:
    if not lowest <= number <= highest:
        raise SecurityError(f"{what} is from {lowest} to {highest}")


def _trimmed(value: Any, characters: str | None = None) -> str:
    text = written(value)
    PURSE.get().spend(len(text) * len(characters or "") // _COMPARED_PER_STEP)
    return text.strip(characters)


def _of_text(method: Callable[[str], Any]) -> Callable[..., Any]:
    return lambda value: method(written(value))


def _length(value: Sequence[Any]) -> int:
    return len(value)


def _listing(name: str) -> Callable[..., Any]:
    """Return one of jinja2's own filters that go through a list, paid for as a whole."""
    own: Any = FILTERS[name]

    def whole(context: Any, values: Any, *args: Any, **kwargs: Any) -> list[Any]:
        items = seen(list(each(values)))
        seen([args, kwargs])  # names of filters and attributes are hashed, whatever they are
        return list(each(own(context, items, *args, **kwargs)))

    return pass_context(whole)


def _comparison(name: str) -> Callable[[Any, Any], bool]:
    own: Any = TESTS[name]
    return lambda one, other: own(seen(one), seen(other))


KNOWN_FILTERS: Mapping[str, Callable[..., Any]] = {
    **{name: _listing(name) for name in ("map", "select", "reject", "selectattr", "rejectattr")},
    "abs": abs,
    "capitalize": _of_text(str.capitalize),
    "count": _length,
    "d": FILTERS["default"],
    "default": FILTERS["default"],
    "first": lambda value: next(iter(value), ""),
    "float": lambda value, default=0.0: FILTERS["float"](seen(value), default),
    "int": lambda value, default=0: FILTERS["int"](seen(value), default),
    "items": lambda value: seen(list(value.items())),
    "join": joined,
    "last": lambda value: value[-1] if value else "",
    "length": _length,
    "list": lambda value: list(each(value)),
    "lower": _of_text(str.lower),
    "replace": _replaced,
    "reverse": lambda value: seen(value)[::-1],
    "round": _rounded,
    "string": written,
    "title": _of_text(str.title),
    "tojson": _json,
    "trim": _trimmed,
    "upper": _of_text(str.upper),
}
KNOWN_TESTS: Mapping[str, Any] = {
    **{name: TESTS[name] for name in _KNOWN_TESTS.split()},
    **{name: _comparison(name) for name in _COMPARISONS.split()},
    "divisibleby": lambda value, by: remainder(value, by) == 0,
    "even": lambda value: remainder(value, 2) == 0,
    "odd": lambda value: remainder(value, 2) == 1,
}
