"""Validate a value by a JSON Schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from server.upstream.local.json_schema.document import Schema, Schemas, is_number, key_of, same
from server.upstream.local.json_schema.formats import has_format


def fits(value: Any, schema: Schema, schemas: Schemas) -> bool:
    """Say whether a value fits a schema. Raises UnfitError where that is too much to find out."""
    schemas.spend()
    if isinstance(schema, bool):
        return schema
    return all(
        test(value, schema, schemas)
        for test in (_type, _listed, _reference, _combined, _conditional, *_BY_KIND[_kind(value)])
    )


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _type(value: Any, schema: Mapping[str, Any], _: Schemas) -> bool:
    types = schema.get("type")
    if types is None:
        return True
    names = [types] if isinstance(types, str) else types
    kind = _kind(value)
    return kind in names or (kind == "number" and "integer" in names and value == int(value))


def _listed(value: Any, schema: Mapping[str, Any], _: Schemas) -> bool:
    if "const" in schema and not same(value, schema["const"]):
        return False
    return "enum" not in schema or any(same(value, known) for known in schema["enum"])


def _reference(value: Any, schema: Mapping[str, Any], schemas: Schemas) -> bool:
    return "$ref" not in schema or fits(value, schemas.target(schema["$ref"]), schemas)


def _combined(value: Any, schema: Mapping[str, Any], schemas: Schemas) -> bool:
    def count(name: str) -> int:
        return sum(fits(value, branch, schemas) for branch in schema[name])

    return (
        ("allOf" not in schema or count("allOf") == len(schema["allOf"]))
        and ("anyOf" not in schema or count("anyOf") > 0)
        and ("oneOf" not in schema or count("oneOf") == 1)
        and ("not" not in schema or not fits(value, schema["not"], schemas))
    )


def _conditional(value: Any, schema: Mapping[str, Any], schemas: Schemas) -> bool:
    if "if" not in schema:
        return True
    consequence = "then" if fits(value, schema["if"], schemas) else "else"
    return fits(value, schema.get(consequence, True), schemas)


def _number(value: Any, schema: Mapping[str, Any], _: Schemas) -> bool:
    low, high, above, below = bounds(schema)
    if low is not None and (value < low or (above and value == low)):
        return False
    if high is not None and (value > high or (below and value == high)):
        return False
    step = schema.get("multipleOf")
    return step is None or is_multiple(value, step)


def is_multiple(value: float, step: float) -> bool:
    """Say whether a number is a multiple of another for exact and for hasty readers alike."""
    exact = Fraction(str(value)) % Fraction(str(step)) == 0
    hasty = (value / step).is_integer() if abs(value / step) < 1e300 else False
    return exact and hasty


def bounds(schema: Mapping[str, Any]) -> tuple[float | None, float | None, bool, bool]:
    """Return a number's limits, each with whether it is itself excluded."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    over, under = above is True, below is True
    if is_number(above) and (low is None or above >= low):
        low, over = above, True
    if is_number(below) and (high is None or below <= high):
        high, under = below, True
    return low, high, over, under


def _string(value: Any, schema: Mapping[str, Any], schemas: Schemas) -> bool:
    return (
        schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        and has_format(schema.get("format", ""), value)
        and ("pattern" not in schema or schemas.matches(schema["pattern"], value))
    )


def _array(value: Any, schema: Mapping[str, Any], schemas: Schemas) -> bool:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return False
    if schema.get("uniqueItems") is True and len(set(map(key_of, value))) < len(value):
        return False
    if "contains" in schema and not _contains(value, schema, schemas):
        return False
    first, rest = items(schema)
    return all(
        fits(item, first[at] if at < len(first) else rest, schemas) for at, item in enumerate(value)
    )


def _contains(value: Any, schema: Mapping[str, Any], schemas: Schemas) -> bool:
    found = sum(fits(item, schema["contains"], schemas) for item in value)
    return bool(schema.get("minContains", 1) <= found <= schema.get("maxContains", found))


def items(schema: Mapping[str, Any]) -> tuple[list[Schema], Schema]:
    """Return the schemas of the first items, one each, and that of all others."""
    all_items = schema.get("items", True)
    if isinstance(all_items, list):
        return all_items, schema.get("additionalItems", True)
    return schema.get("prefixItems", []), all_items


def _object(value: Any, schema: Mapping[str, Any], schemas: Schemas) -> bool:
    if not schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value)):
        return False
    wanted = [*schema.get("required", [])]
    for name, others in schema.get("dependentRequired", {}).items():
        wanted += others if name in value else []
    names = schema.get("propertyNames", True)
    return (
        all(name in value for name in wanted)
        and all(fits(name, names, schemas) for name in value)
        and all(
            fits(inner, part, schemas)
            for name, inner in value.items()
            for part in property_schemas(name, schema, schemas)
        )
        and all(
            fits(value, part, schemas)
            for name, part in schema.get("dependentSchemas", {}).items()
            if name in value
        )
    )


def property_schemas(name: str, schema: Mapping[str, Any], schemas: Schemas) -> list[Schema]:
    """Return all schemas that a property of this name must fit."""
    named = schema.get("properties", {})
    found: list[Schema] = [named[name]] if name in named else []
    for source, part in schema.get("patternProperties", {}).items():
        if schemas.matches(source, name):
            found.append(part)
    return found or [schema.get("additionalProperties", True)]


_Test = Callable[[Any, Mapping[str, Any], Schemas], bool]
_BY_KIND: Mapping[str, tuple[_Test, ...]] = {
    "null": (),
    "boolean": (),
    "number": (_number,),
    "string": (_string,),
    "array": (_array,),
    "object": (_object,),
}
