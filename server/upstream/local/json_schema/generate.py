"""JSON values that fit a schema, written with the words of a conversation."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from server.upstream.local.json_schema.document import Schema, Schemas, UnfitError, key_of, merged
from server.upstream.local.json_schema.scalars import Scalars
from server.upstream.local.json_schema.validate import fits, items, property_schemas
from server.upstream.local.json_schema.vocabulary import Words

#: Levels below which nothing is written that need not be.
GENEROUS = 3
DEEPEST = 40
#: Bounds on what is asked for: items of an array or properties of an object, tries for a value.
MOST_PARTS = 1_000
TRIES = 60

_KEYWORDS = {
    "object": ("properties", "required", "patternProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems", "contains", "uniqueItems"),
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_NULL = {"type": "null"}


def fitting(schema: object, words: Words, turn: int = 0) -> Any:
    """Return a value that fits a schema; another turn leads to other choices.

    Raises UnfitError where the schema is wrong, allows nothing, or is too hard.
    """
    try:
        schemas = Schemas(schema)
        return _ValueWriter(schemas, words, turn).first(schemas.root, "", 0)
    except RecursionError as error:
        raise UnfitError("it is nested too deeply") from error


class _ValueWriter:
    """Writes one value and all within it."""

    def __init__(self, schemas: Schemas, words: Words, turn: int) -> None:
        self._schemas = schemas
        self._words = words
        self._turn = turn
        self._scalars = Scalars(schemas, words, turn)

    def first(self, schema: Schema, name: str, depth: int, besides: Collection[bytes] = ()) -> Any:
        """Return the first try that fits, and whose key is not among others."""
        for value in islice(self._tries(schema, name, depth), TRIES):
            if fits(value, schema, self._schemas) and not (besides and key_of(value) in besides):
                return value
        raise UnfitError(f"nothing was found that fits '{name}'" if name else "nothing fits it")

    def _tries(self, schema: Schema, name: str, depth: int) -> Iterator[Any]:
        """Yield values that are likely to fit."""
        self._schemas.spend()
        if depth > DEEPEST:
            raise UnfitError("it is nested too deeply")
        plain = self._without_all_of(self._schemas.plain(schema))
        if "const" in plain:
            yield plain["const"]
        elif "enum" in plain:
            yield from self._turned(plain["enum"])
        elif branches := _branches(plain):
            for branch in branches:
                yield from self._branch(branch, name, depth)
        else:
            kinds = _kinds(plain)
            for kind in kinds:
                tries = self._of_kind(kind, plain, name, depth)
                yield from islice(tries, TRIES // max(2, len(kinds)))

    def _branch(self, branch: Mapping[str, Any], name: str, depth: int) -> Iterator[Any]:
        try:
            yield from islice(self._tries(branch, name, depth + 1), TRIES // 4)
        except UnfitError:
            # Another branch may do; what is spent is counted over all of them.
            self._schemas.spend()

    def _without_all_of(self, plain: dict[str, Any]) -> dict[str, Any]:
        while "allOf" in plain:
            for part in plain.pop("allOf"):
                plain = merged(plain, self._schemas.plain(part))
        return plain

    def _of_kind(self, kind: str, plain: Mapping[str, Any], name: str, depth: int) -> Iterator[Any]:
        match kind:
            case "null":
                yield None
            case "boolean":
                yield from self._turned([True, False])
            case "integer" | "number":
                yield from self._scalars.numbers(plain, kind == "integer")
            case "string":
                yield from self._scalars.texts(plain, name)
            case "array":
                yield from self._arrays(plain, name, depth)
            case "object":
                yield from self._objects(plain, depth)

    def _turned(self, values: Sequence[Any]) -> Iterator[Any]:
        """Yield values, those first that were mentioned, then from where the turn begins."""
        heard = [v for v in values if isinstance(v, str) and self._words.mentions(v)]
        start = self._turn % len(values)
        yield from chain(heard, values[start:], values[:start])

    def _arrays(self, plain: Mapping[str, Any], name: str, depth: int) -> Iterator[list[Any]]:
        first, _ = items(plain)
        contained = int(plain.get("minContains", 1)) if "contains" in plain else 0
        least = max(int(plain.get("minItems", 0)), contained)
        if least > MOST_PARTS:
            raise UnfitError("it asks for too many items")
        generous = min(plain.get("maxItems", MOST_PARTS), max(1, least, len(first)))
        sizes = (int(generous), least) if depth < GENEROUS else (least,)
        failure: UnfitError | None = None
        for size in dict.fromkeys((*sizes, least + contained)):
            try:
                yield self._array(plain, name, depth, size, contained)
            except UnfitError as error:
                failure = error
        if failure:
            raise failure

    def _array(
        self, plain: Mapping[str, Any], name: str, depth: int, size: int, contained: int
    ) -> list[Any]:
        first, rest = items(plain)
        written: list[Any] = []
        keys: set[bytes] = set()
        for at in range(size):
            schemas: list[Schema] = [first[at] if at < len(first) else rest]
            if at >= size - contained:
                schemas.append(plain["contains"])
            value = self.first(_all_of(schemas), name, depth + 1, keys)
            if plain.get("uniqueItems") is True:
                keys.add(key_of(value))
            written.append(value)
        return written

    def _objects(self, plain: Mapping[str, Any], depth: int) -> Iterator[dict[str, Any]]:
        plain, required = self._required(plain)
        optional = [name for name in plain.get("properties", {}) if name not in required]
        least, most = int(plain.get("minProperties", 0)), plain.get("maxProperties", MOST_PARTS)
        if max(least, len(required)) > MOST_PARTS:
            raise UnfitError("it asks for too many properties")
        written = {name: self._property(name, plain, depth) for name in required}
        for name in optional:
            wanted = not required and depth < GENEROUS and len(written) < most
            if wanted or len(written) < least:
                self._add(written, name, plain, depth)
        if len(written) < least:
            for name in self._more_names(plain, depth):
                if len(written) < least and name not in written:
                    self._add(written, name, plain, depth)
        yield written
        if not required and least == 0:
            yield {}

    def _add(
        self, written: dict[str, Any], name: str, plain: Mapping[str, Any], depth: int
    ) -> None:
        """Write a property that may be left out."""
        try:
            written[name] = self._property(name, plain, depth)
        except UnfitError:
            self._schemas.spend()

    def _property(self, name: str, plain: Mapping[str, Any], depth: int) -> Any:
        schemas = property_schemas(name, plain, self._schemas)
        return self.first(_all_of(schemas), name, depth + 1)

    def _required(self, plain: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
        """Return what an object must have, with what that brings along."""
        required = list(dict.fromkeys(plain.get("required", [])))
        for name in required:
            others = plain.get("dependentRequired", {}).get(name, [])
            required += [other for other in others if other not in required]
            if name in plain.get("dependentSchemas", {}):
                brought = self._schemas.plain(plain["dependentSchemas"][name])
                plain = self._without_all_of(merged(plain, brought))
                required += [new for new in plain.get("required", []) if new not in required]
        return plain, required

    def _more_names(self, plain: Mapping[str, Any], depth: int) -> Iterator[str]:
        """Yield names for properties that the schema does not name."""
        names = plain.get("propertyNames", True)
        if names is not True:
            yield from self._tries({"allOf": [{"type": "string"}, names]}, "", depth + 1)
        for source in plain.get("patternProperties", {}):
            yield from self._scalars.texts({"pattern": source}, "")
        words = (re.sub(r"\W+", "_", word).lower() for word in self._words.words)
        yield from islice(chain(words, (f"field_{n}" for n in range(MOST_PARTS))), MOST_PARTS)


def _branches(plain: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the ways in which a schema may be fitted, null being the last."""
    for keyword in ("anyOf", "oneOf"):
        if keyword in plain:
            rest = {key: value for key, value in plain.items() if key != keyword}
            ways = sorted(plain[keyword], key=lambda way: way == _NULL)
            return [rest | {"allOf": [way]} for way in ways]
    if "if" in plain:
        rest = {key: plain[key] for key in plain if key not in ("if", "then", "else")}
        return [
            rest | {"allOf": [plain["if"], plain.get("then", True)]},
            rest | {"allOf": [plain.get("else", True)]},
        ]
    return []


def _kinds(plain: Mapping[str, Any]) -> list[str]:
    """Return the types to be tried, the likeliest first."""
    types = plain.get("type")
    if isinstance(types, str):
        return [types]
    if isinstance(types, list):
        return sorted(types, key=lambda kind: kind == "null")
    likely = [kind for kind, words in _KEYWORDS.items() if any(word in plain for word in words)]
    return [*likely, "string", "integer", "null", "boolean", "array", "object"]


def _all_of(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"allOf": schemas}
