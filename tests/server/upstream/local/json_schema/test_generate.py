"""Values written for JSON Schemas: they fit, use what was said, and no schema does harm."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from server.upstream.local.json_schema.document import UnfitError
from server.upstream.local.json_schema.generate import fitting
from server.upstream.local.json_schema.vocabulary import Words, words_of

WORDS = words_of(["Extract: Jason is 25 years old and lives in Paris."], "Why do you ask?")
PATTERNS = (
    r"^[a-z]+$",
    r"^\d{3}-\d{4}$",
    r"^[A-Z][a-z]*$",
    r"^(foo|ba[rz])+$",
    r"^[^@\s]+@[^@\s]+\.com$",
    r"^(?=.*\d)(?=.*[A-Z]).{4,}$",
    r"^(\d{4})-(0[1-9]|1[0-2])$",
    r"x",
    r"^#(?:[0-9a-fA-F]{3}){1,2}$",
)
FORMATS = (
    "date",
    "date-time",
    "time",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uri",
    "uuid",
    "regex",
    "unheard-of",
)


def check(value: Any, schema: Any) -> None:
    """Check a value by somebody else's reading of the schema."""
    value = orjson.loads(orjson.dumps(value))
    formats = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=formats).validate(value)


def integers() -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(st.integers(-1_000, 1_000), st.integers(0, 50), st.booleans()).map(
        lambda drawn: (
            {"type": "integer", "minimum": drawn[0], "maximum": drawn[0] + drawn[1]}
            if drawn[2]
            else {"type": "integer", "exclusiveMinimum": drawn[0]}
        )
    )


def numbers() -> st.SearchStrategy[dict[str, Any]]:
    limits = st.tuples(st.floats(-1e6, 1e6), st.floats(0.001, 100)).map(
        lambda drawn: {"type": "number", "minimum": drawn[0], "maximum": drawn[0] + drawn[1]}
    )
    steps = st.tuples(st.sampled_from([0.01, 0.1, 0.5, 3, 7]), st.integers(-100, 100)).map(
        lambda drawn: {"type": "number", "multipleOf": drawn[0], "minimum": drawn[1]}
    )
    return limits | steps


def texts() -> st.SearchStrategy[dict[str, Any]]:
    sized = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(
        lambda drawn: {"type": "string", "minLength": drawn[0], "maxLength": sum(drawn)}
    )
    patterned = st.sampled_from(PATTERNS).map(lambda source: {"type": "string", "pattern": source})
    formed = st.sampled_from(FORMATS).map(lambda name: {"type": "string", "format": name})
    return sized | patterned | formed | st.just({"type": "string"})


def fixed() -> st.SearchStrategy[Any]:
    value = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5)
    enums = st.lists(value, min_size=1, max_size=4).map(lambda values: {"enum": values})
    kinds = st.lists(
        st.sampled_from(["null", "boolean", "string", "integer", "number", "object", "array"]),
        min_size=1,
        unique=True,
    ).map(lambda names: {"type": names})
    return enums | kinds | value.map(lambda one: {"const": one}) | st.sampled_from([{}, True])


def arrays(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    counted = st.tuples(inner, st.integers(0, 4), st.integers(0, 3)).map(
        lambda drawn: {
            "type": "array",
            "items": drawn[0],
            "minItems": drawn[1],
            "maxItems": drawn[1] + drawn[2],
        }
    )
    tuples = st.lists(inner, min_size=1, max_size=3).map(
        lambda drawn: {"type": "array", "prefixItems": drawn, "items": False}
    )
    unique = (integers() | st.just({"type": "string"})).map(
        lambda drawn: {"type": "array", "items": drawn, "uniqueItems": True, "minItems": 1}
    )
    return counted | tuples | unique


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    names = st.text("abcdefgh_", min_size=1, max_size=6)
    strict = st.dictionaries(names, inner, max_size=4).map(
        lambda named: {
            "type": "object",
            "properties": named,
            "required": [*named],
            "additionalProperties": False,
        }
    )
    loose = st.tuples(st.dictionaries(names, inner, max_size=4), st.integers(0, 3)).map(
        lambda drawn: {
            "type": "object",
            "properties": drawn[0],
            "required": [*drawn[0]][: drawn[1]],
        }
    )
    free = st.tuples(inner, st.integers(0, 4)).map(
        lambda drawn: {
            "type": "object",
            "additionalProperties": drawn[0],
            "minProperties": drawn[1],
        }
    )
    return strict | loose | free


def schemas() -> st.SearchStrategy[Any]:
    return st.recursive(
        integers() | numbers() | texts() | fixed(),
        lambda inner: (
            arrays(inner)
            | objects(inner)
            | st.lists(inner, min_size=1, max_size=3).map(lambda ways: {"anyOf": ways})
            | inner.map(lambda one: {"$defs": {"one": one}, "$ref": "#/$defs/one"})
            | inner.map(lambda one: {"allOf": [one]})
        ),
        max_leaves=12,
    )


def _rooted(schema: Any) -> Any:
    """Move definitions to where their references look for them."""
    found: dict[str, Any] = {}

    def move(part: Any) -> Any:
        match part:
            case {"$defs": {"one": one}, **rest}:
                name = f"d{len(found)}"
                found[name] = None
                found[name] = move(one)
                return {**rest, "$ref": f"#/$defs/{name}"}
            case dict():
                return {key: move(value) for key, value in part.items()}
            case list():
                return [move(value) for value in part]
            case _:
                return part

    moved = move(schema)
    return {**moved, "$defs": found} if isinstance(moved, dict) and found else moved


SLOW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@SLOW
@given(schemas(), st.integers(0, 5))
def test_values_fit_what_can_be_fitted(drawn: Any, turn: int) -> None:
    schema = _rooted(drawn)
    check(fitting(schema, WORDS, turn), schema)


_KEYWORDS = """
    type properties required items enum const anyOf oneOf allOf not if then else minimum maximum
    exclusiveMinimum multipleOf minLength maxLength pattern format minItems uniqueItems contains
    additionalProperties patternProperties propertyNames $ref $defs minProperties
    dependentRequired dependentSchemas prefixItems
"""
KEYWORDS = st.sampled_from(_KEYWORDS.split())
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-5, 10**12)
    | st.floats(allow_nan=False)
    | st.sampled_from(["string", "object", "array", "#", "#/$defs/a", "(", "^a*$", "date"])
)
JUNK = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYWORDS, inner, max_size=4)
        | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=20,
)


@SLOW
@given(JUNK)
def test_what_is_no_schema_is_refused_and_nothing_else_happens(schema: Any) -> None:
    try:
        value = fitting(schema, WORDS)
    except UnfitError:
        return
    orjson.dumps(value)


class Address(BaseModel):
    street: str
    number: int = Field(ge=1, le=999)


class Person(BaseModel):
    name: str = Field(min_length=2)
    age: int
    address: Address | None
    friends: list[Person]
    tags: set[str] = Field(min_length=2)
    score: float = Field(gt=0, lt=0.5)


@pytest.mark.parametrize("turn", range(4))
def test_pydantics_schemas(turn: int) -> None:
    Person.model_validate(fitting(Person.model_json_schema(), WORDS, turn))


class TestWords:
    def test_names_and_numbers_of_the_conversation(self) -> None:
        schema = {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
            "required": ["name", "age"],
        }
        assert fitting(schema, WORDS) == {"name": "Jason", "age": 25}

    def test_an_option_that_was_mentioned(self) -> None:
        schema = {"enum": ["London", "Paris", "Rome"]}
        assert fitting(schema, WORDS, turn=2) == "Paris"

    def test_what_is_asked_and_what_is_answered(self) -> None:
        schema = {"properties": {"search_query": {"type": "string"}, "answer": {"type": "string"}}}
        written = fitting(schema, WORDS)
        assert written == {"search_query": WORDS.said, "answer": WORDS.answer}

    def test_what_was_told_of_a_property(self) -> None:
        words = words_of(["Please book it. The colour is red, and the city: Oslo."], "")
        assert words.for_property("colour", 0)[0] == "red"
        assert words.for_property("city", 0)[0] == "Oslo"

    def test_no_words_at_all(self) -> None:
        nothing: Words = words_of([], "")
        assert fitting({"type": "string", "minLength": 3}, nothing) == "Eliza"


HARD = [
    pytest.param({"oneOf": [{"type": "integer"}, {"type": "number"}]}, id="one of two"),
    pytest.param({"not": {"type": ["string", "number", "null"]}}, id="not"),
    pytest.param(
        {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "minItems": 300},
        id="many different numbers",
    ),
    pytest.param(
        {"type": "array", "items": {"maxLength": 1, "type": "string"}, "uniqueItems": True}
        | {"minItems": 30},
        id="many short texts",
    ),
    pytest.param(
        {"type": "array", "contains": {"const": 5}, "minContains": 2, "items": {"type": "integer"}},
        id="contains",
    ),
    pytest.param(
        {"type": "object", "minProperties": 2, "patternProperties": {"^x-": {"type": "string"}}}
        | {"additionalProperties": False},
        id="names with a pattern",
    ),
    pytest.param(
        {"type": "object", "minProperties": 2, "propertyNames": {"pattern": "^[a-z]{3}$"}},
        id="names of a kind",
    ),
    pytest.param(
        {
            "type": "object",
            "required": ["a"],
            "dependentRequired": {"a": ["b"]},
            "dependentSchemas": {"b": {"required": ["c"], "properties": {"c": {"const": 1}}}},
        },
        id="one brings another",
    ),
    pytest.param(
        {
            "type": "object",
            "properties": {"kind": {"enum": ["a", "b"]}},
            "required": ["kind"],
            "if": {"properties": {"kind": {"const": "a"}}},
            "then": {"required": ["x"]},
            "else": False,
        },
        id="if",
    ),
    pytest.param(
        {"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}]}
        | {"properties": {"a": {"minimum": 40}}, "type": "object"},
        id="two words on one property",
    ),
    pytest.param({"type": "integer", "minimum": 10**18, "maximum": 10**18 + 1}, id="large"),
    pytest.param({"type": "number", "exclusiveMinimum": 0, "maximum": 1e-9}, id="small"),
]


@pytest.mark.parametrize("schema", HARD)
def test_hard_schemas(schema: Any) -> None:
    check(fitting(schema, WORDS), schema)


NODE = {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]}
DOUBLING = {
    f"d{level}": {
        "type": "object",
        "properties": {name: {"$ref": f"#/$defs/d{level + 1}"} for name in "ab"},
        "required": ["a", "b"],
    }
    for level in range(30)
}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (False, "it allows no value"),
        (5, "a schema is an object"),
        ({"type": "thing"}, "'type' is not as it must be"),
        ({"$ref": "https://example.com/schema"}, "another document"),
        ({"$ref": "#/$defs/none"}, "not there"),
        ({"$ref": "#"}, "too much work"),
        ({"allOf": [{"$ref": "#"}]}, "too much work"),
        (NODE, "nested too deeply"),
        ({"$defs": {**DOUBLING, "d30": {}}, "$ref": "#/$defs/d0"}, "too much work"),
        ({"type": "string", "minLength": 10**9}, "too long"),
        ({"type": "array", "minItems": 10**9}, "too many items"),
        ({"type": "string", "pattern": "("}, "cannot be read"),
        ({"type": "string", "pattern": r"^(a)\1$"}, "the pattern uses"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "nothing fits it"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "it allows no value"),
    ],
)
def test_what_cannot_be_fitted_is_told(schema: Any, reason: str) -> None:
    with pytest.raises(UnfitError, match=re.escape(reason)):
        fitting(schema, WORDS)


def test_the_limits_of_a_machine_are_no_answer() -> None:
    limits = {"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**53 - 1}
    assert fitting(limits, words_of(["Hello"], "Hello."), 0) == 1


def test_a_recursive_schema_ends() -> None:
    node = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "of": {"type": "array", "items": NODE}},
        "required": ["name", "of"],
    }
    node["properties"]["of"]["items"] = {"$ref": "#"}  # type: ignore[index]
    check(fitting(node, WORDS), node)
