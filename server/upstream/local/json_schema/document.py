"""A JSON Schema as a document: checked for sense, its references followed, its parts merged.

Draft 2020-12, and what is usual of the older ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

import orjson

from server.upstream.local.json_schema.patterns import Pattern, PatternError

Schema = bool | Mapping[str, Any]

#: Bounds on what a hostile schema can cost: levels, subschemas, steps of one answer.
DEEPEST = 60
MOST_SCHEMAS = 10_000
MOST_STEPS = 30_000

_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = (
    *("not", "if", "then", "else", "contains", "propertyNames"),
    *("additionalProperties", "additionalItems"),
)
_WHOLE = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_COUNTS = (*_WHOLE, "minContains", "maxContains")
_NUMBERS = ("minimum", "maximum")
#: Numbers now, and of old whether the other limit is itself excluded.
_LIMITS = ("exclusiveMinimum", "exclusiveMaximum")
_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


class UnfitError(ValueError):
    """A schema is wrong, allows nothing, or is beyond what Eliza can write to."""


class Schemas:
    """The document that a schema is, with the places that it refers to."""

    def __init__(self, root: object) -> None:
        """Take a schema. Raises UnfitError where it is no schema at all."""
        self._known: set[int] = set()
        self._steps = 0
        self.root = self._checked(root, 0)
        self._patterns: dict[str, Pattern] = {}

    def spend(self) -> None:
        """Count a step of work. Raises UnfitError when there were too many."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise UnfitError("it is too much work")

    def plain(self, schema: Schema) -> dict[str, Any]:
        """Return a schema whose reference is resolved; one that allows nothing is an error."""
        if schema is False:
            raise UnfitError("it allows no value")
        plain: dict[str, Any] = dict(schema) if isinstance(schema, Mapping) else {}
        while isinstance(reference := plain.pop("$ref", None), str):
            self.spend()
            target = self.target(reference)
            if target is False:
                raise UnfitError("it allows no value")
            if isinstance(target, Mapping):
                plain = merged(plain, target)
        return plain

    def pattern(self, source: str) -> Pattern:
        """Return a pattern, read once. Raises UnfitError."""
        if source not in self._patterns:
            try:
                self._patterns[source] = Pattern(source)
            except PatternError as error:
                raise UnfitError(str(error)) from error
        return self._patterns[source]

    def matches(self, source: str, text: str) -> bool:
        """Say whether a pattern is found in a text. Raises UnfitError."""
        try:
            return self.pattern(source).matches(text)
        except PatternError as error:
            raise UnfitError(str(error)) from error

    def target(self, reference: str) -> Schema:
        """Return what a reference means. Raises UnfitError."""
        if not reference.startswith("#"):
            raise UnfitError("it refers to another document")
        target: Any = self.root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(target, list) and name.isdecimal() and int(name) < len(target):
                target = target[int(name)]
            elif isinstance(target, Mapping) and name in target:
                target = target[name]
            else:
                raise UnfitError("it refers to a place that is not there")
        if not reference.startswith("#/") and reference != "#":
            raise UnfitError("it refers to a place that is not there")
        return self._checked(target, 0)

    def _checked(self, schema: object, depth: int) -> Schema:
        """Refuse what is no schema, so that nobody later meets a keyword of a wrong type."""
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise UnfitError("a schema is an object")
        if id(schema) not in self._known:
            self._known.add(id(schema))
            if depth > DEEPEST or len(self._known) > MOST_SCHEMAS:
                raise UnfitError("it is too large")
            _check_keywords(schema)
            for inner in _within(schema):
                self._checked(inner, depth + 1)
        return schema


def _check_keywords(schema: Mapping[str, Any]) -> None:
    types = schema.get("type", [])
    types = types if isinstance(types, list) else [types]
    sound = {
        "type": all(name in _TYPES for name in types),
        "enum": isinstance(schema.get("enum", []), list) and schema.get("enum") != [],
        "required": _are_names(schema.get("required", [])),
        "pattern": isinstance(schema.get("pattern", ""), str),
        "format": isinstance(schema.get("format", ""), str),
        "$ref": isinstance(schema.get("$ref", ""), str),
        "dependentRequired": isinstance(schema.get("dependentRequired", {}), Mapping)
        and all(map(_are_names, schema.get("dependentRequired", {}).values())),
        **{name: isinstance(schema.get(name, {}), Mapping) for name in _NAMED},
        **{name: isinstance(schema.get(name, []), list) for name in _LISTED},
        **{name: _is_count(schema.get(name, 0)) for name in _COUNTS},
        **{name: is_number(schema.get(name, 1)) for name in _NUMBERS},
        "multipleOf": is_number(step := schema.get("multipleOf", 1)) and step > 0,
        **{name: _is_limit(schema.get(name, 0)) for name in _LIMITS},
    }
    for name, is_sound in sound.items():
        if not is_sound:
            raise UnfitError(f"'{name}' is not as it must be")


def _within(schema: Mapping[str, Any]) -> Iterator[Any]:
    for name in _NAMED:
        yield from schema.get(name, {}).values()
    for name in _LISTED:
        yield from schema.get(name, [])
    for name in _SINGLE:
        if name in schema:
            yield schema[name]
    items = schema.get("items", True)
    yield from items if isinstance(items, list) else [items]


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_count(value: object) -> bool:
    return is_number(value) and value >= 0 and float(value).is_integer()


def _is_limit(value: object) -> bool:
    return isinstance(value, bool) or is_number(value)


def is_number(value: object) -> TypeGuard[int | float]:
    """Say whether a value is a number that JSON can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema for what fits both."""
    both = dict(one)
    for name, value in other.items():
        both[name] = _both(name, both[name], value) if name in both else value
    return both


def _both(name: str, one: Any, other: Any) -> Any:
    """Join two values of a keyword; what cannot be joined is left to a later check."""
    join = _JOINTS.get(name)
    return one if join is None or one == other else join(one, other)


def _common_types(one: str | list[str], other: str | list[str]) -> list[str]:
    names, others = (set(_with_integers(types)) for types in (one, other))
    kept = [name for name in _TYPES if name in names & others]
    if not kept:
        raise UnfitError("it allows no value")
    return kept


def _with_integers(types: str | list[str]) -> list[str]:
    """Return types as a list; every integer is a number too."""
    names = [types] if isinstance(types, str) else types
    return [*names, "integer"] if "number" in names else names


def _common_values(one: list[Any], other: list[Any]) -> list[Any]:
    kept = [value for value in one if any(same(value, known) for known in other)]
    if not kept:
        raise UnfitError("it allows no value")
    return kept


def _no_value(_: Any, __: Any) -> Any:
    raise UnfitError("it allows no value")


def _all_names(one: list[str], other: list[str]) -> list[str]:
    return list(dict.fromkeys([*one, *other]))


def _common_multiple(one: float, other: float) -> float:
    whole = isinstance(one, int) and isinstance(other, int)
    return math.lcm(int(one), int(other)) if whole else max(one, other)


def _all_parts(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    shared = {name: _two(one[name], other[name]) for name in one.keys() & other.keys()}
    return {**one, **other, **shared}


def _pairs(one: list[Any], other: list[Any]) -> list[Any]:
    return [_two(mine, yours) for mine in one for yours in other]


def _two(one: Any, other: Any) -> Any:
    return one if one == other else {"allOf": [one, other]}


def _either(one: Any, other: Any) -> Any:
    return {"anyOf": [one, other]}


def _each(one: Any, other: Any) -> Any:
    return one if isinstance(one, list) or isinstance(other, list) else _two(one, other)


_JOINTS: Mapping[str, Callable[[Any, Any], Any]] = {
    "type": _common_types,
    "const": _no_value,
    "enum": _common_values,
    "required": _all_names,
    "not": _either,
    "multipleOf": _common_multiple,
    "allOf": list.__add__,
    **dict.fromkeys(("anyOf", "oneOf"), _pairs),
    **dict.fromkeys(("properties", "patternProperties", "dependentSchemas"), _all_parts),
    **dict.fromkeys(("minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maxLength", "maxItems", "maxProperties"), min),
    **dict.fromkeys(("minimum", "exclusiveMinimum"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum"), min),
    **dict.fromkeys(("items", "additionalProperties", "propertyNames", "contains"), _each),
}


def same(one: Any, other: Any) -> bool:
    """Say whether two JSON values are equal: 1 equals 1.0, and never true."""
    match one, other:
        case (bool(), _) | (_, bool()):
            return one is other
        case list(), list():
            return len(one) == len(other) and all(map(same, one, other))
        case dict(), dict():
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
        case _:
            return bool(one == other)


def key_of(value: Any) -> bytes:
    """Return what equal JSON values have in common, and no others."""
    return orjson.dumps(_evened(value), option=orjson.OPT_SORT_KEYS)


def _evened(value: Any) -> Any:
    match value:
        case float() if value.is_integer() and abs(value) < 2**63:
            return int(value)
        case list():
            return [_evened(item) for item in value]
        case dict():
            return {name: _evened(inner) for name, inner in value.items()}
        case _:
            return value
