"""Tests of the model table: its rows, how names find them, and the budgets that follow."""

from __future__ import annotations

import pytest
from tiktoken.model import MODEL_TO_ENCODING

from server.tokens import models
from server.tokens.encoding import ENCODINGS
from server.tokens.models import MODELS, TILES_4O, Patches, Tiles, base_name, budget, model, reserve


@pytest.mark.parametrize(
    ("name", "window", "output", "limit"),
    [
        ("gpt-6-astra", 1_050_000, 128_000, 922_000),
        ("gpt-6.1-sol", 1_050_000, 128_000, 922_000),
        ("gpt-6.1-terra", 1_050_000, 128_000, 922_000),
        ("gpt-6-sol", 1_050_000, 128_000, 922_000),
        ("gpt-6-luna", 1_050_000, 128_000, 922_000),
        ("gpt-5.6-sol", 1_050_000, 128_000, 922_000),
        ("gpt-5.6-terra", 1_050_000, 128_000, 922_000),
        ("gpt-5.6-luna", 1_050_000, 128_000, 922_000),
        ("gpt-5.6-cyber", 400_000, 128_000, 272_000),
        ("gpt-5.5", 1_050_000, 128_000, 922_000),
        ("gpt-5.5-pro", 1_050_000, 128_000, 922_000),
        ("gpt-5.4", 1_050_000, 128_000, 922_000),
        ("gpt-5.4-pro", 1_050_000, 128_000, 922_000),
        ("gpt-5.4-mini", 400_000, 128_000, 272_000),
        ("gpt-5.4-nano", 400_000, 128_000, 272_000),
        ("gpt-5.3-codex", 400_000, 128_000, 272_000),
        ("gpt-5.3-chat-latest", 128_000, 16_384, None),
        ("gpt-5.2", 400_000, 128_000, 272_000),
        ("gpt-5.2-pro", 400_000, 128_000, 272_000),
        ("gpt-5.2-chat-latest", 128_000, 16_384, None),
        ("gpt-5.1", 400_000, 128_000, 272_000),
        ("gpt-5.1-chat-latest", 128_000, 16_384, None),
        ("gpt-5", 400_000, 128_000, 272_000),
        ("gpt-5-mini", 400_000, 128_000, 272_000),
        ("gpt-5-nano", 400_000, 128_000, 272_000),
        ("gpt-5-codex", 400_000, 128_000, 272_000),
        ("gpt-5-pro", 400_000, 272_000, None),
        ("gpt-5-chat-latest", 128_000, 16_384, None),
        ("gpt-4.1", 1_047_576, 32_768, None),
        ("gpt-4.1-mini", 1_047_576, 32_768, None),
        ("gpt-4.1-nano", 1_047_576, 32_768, None),
        ("gpt-4o", 128_000, 16_384, None),
        ("gpt-4o-mini", 128_000, 16_384, None),
        ("gpt-4o-2024-05-13", 128_000, 4_096, None),
        ("gpt-audio-mini", 128_000, 16_384, None),
        ("o1", 200_000, 100_000, None),
        ("o1-pro", 200_000, 100_000, None),
        ("o3", 200_000, 100_000, None),
        ("o3-pro", 200_000, 100_000, None),
        ("o3-mini", 200_000, 100_000, None),
        ("o3-deep-research", 200_000, 100_000, None),
        ("o4-mini", 200_000, 100_000, None),
        ("gpt-4-turbo", 128_000, 4_096, None),
        ("gpt-4", 8_192, 8_192, None),
        ("gpt-3.5-turbo", 16_385, 4_096, None),
        ("davinci-002", 16_384, 16_384, None),
        ("babbage-002", 16_384, 16_384, None),
        ("gpt-oss-120b", 131_072, 131_072, None),
        ("gpt-oss-20b", 131_072, 131_072, None),
        ("text-embedding-3-large", 8_192, 0, None),
        ("eliza", 128_000, 4_096, None),
    ],
)
def test_limits(name: str, window: int, output: int, limit: int | None) -> None:
    found = model(name)
    assert (found.window, found.output, found.input) == (window, output, limit)


def test_rows_are_distinct_and_sound() -> None:
    assert len({row.name for row in MODELS}) == len(MODELS)
    for row in MODELS:
        assert base_name(row.name) == row.name
        assert row.encoding in ENCODINGS
        assert 0 <= row.output <= row.window
        assert row.input is None or row.input + row.output == row.window


@pytest.mark.parametrize(
    "name", sorted(name for name in MODEL_TO_ENCODING if model(name).name != name)
)
def test_every_name_that_tiktoken_knows_and_we_do_not_is_retired_or_another_spelling(
    name: str,
) -> None:
    retired = ("text-", "code-", "davinci", "curie", "babbage", "ada", "cushman", "gpt2", "gpt-2")
    assert name.startswith(retired) or name in {"gpt-3.5", "gpt-35-turbo"}


@pytest.mark.parametrize("name", [row.name for row in MODELS if row.name in MODEL_TO_ENCODING])
def test_encodings_are_those_that_tiktoken_gives(name: str) -> None:
    assert model(name).encoding == MODEL_TO_ENCODING[name]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4o-search-preview-2025-03-11", "gpt-4o"),
        ("gpt-4-0613", "gpt-4"),
        ("gpt-4-0314", "gpt-4"),
        ("gpt-4-1106-preview", "gpt-4-1106"),
        ("gpt-4-1106-vision-preview", "gpt-4-1106-vision"),
        ("gpt-4-32k-0613", "gpt-4-32k"),
        ("gpt-4-turbo-2024-04-09", "gpt-4-turbo"),
        ("gpt-3.5-turbo-1106", "gpt-3.5-turbo"),
        ("gpt-3.5-turbo-instruct-0914", "gpt-3.5-turbo-instruct"),
        ("gpt-35-turbo", "gpt-3.5-turbo"),
        ("gpt-5-2025-08-07", "gpt-5"),
        ("gpt-5-pro-2025-10-06", "gpt-5-pro"),
        ("gpt-5.1-codex-max", "gpt-5.1"),
        ("gpt-5.6-sol", "gpt-5.6"),
        ("o1-preview-2024-09-12", "o1-preview"),
        ("chatgpt-4o-latest", "chatgpt-4o"),
        ("ft:gpt-4o-mini:org::id", "gpt-4o-mini"),
        ("ft:gpt-4o-mini-2024-07-18:org:suffix:id", "gpt-4o-mini"),
        ("ft:davinci-002:org::id", "davinci-002"),
        ("openai/gpt-4o", "gpt-4o"),
        ("openrouter/openai/gpt-4.1-nano", "gpt-4.1-nano"),
        ("openai/gpt-oss-20b:free", "gpt-oss"),
        ("gpt-oss:20b", "gpt-oss"),
        ("GPT-4o", "gpt-4o"),
    ],
)
def test_a_name_finds_the_row_of_its_longest_prefix(name: str, row: str) -> None:
    assert model(name).name == row


@pytest.mark.parametrize("name", ["llama-3.3-70b", "gpt-7", "gpt-4.7", "gpt-4omni", "", "-", "ft:"])
def test_an_unknown_name_gets_the_chosen_limits(name: str) -> None:
    found = model(name)
    assert found.name == name
    assert (found.window, found.output, found.input) == (128_000, 16_384, None)
    assert (found.encoding, found.chat, found.images) == ("o200k_base", True, TILES_4O)


def test_only_these_models_take_no_messages() -> None:
    assert {row.name for row in MODELS if not row.chat} == {
        "davinci-002",
        "babbage-002",
        "gpt-3.5-turbo-instruct",
        "text-embedding-3-small",
        "text-embedding-3-large",
        "text-embedding-ada-002",
    }


def test_images_cost_what_the_model_makes_of_them() -> None:
    assert model("gpt-4o").images == Tiles(base=85, tile=170)
    assert model("gpt-4o-mini").images == Tiles(base=2_833, tile=5_667)
    mini = model("gpt-4.1-mini").images
    assert isinstance(mini, Patches)
    assert (mini.multiplier, mini.auto.patches) == (1.62, 1_536)
    assert model("gpt-4").images is model("o3-mini").images is model("eliza").images is None


@pytest.mark.parametrize(
    ("name", "kept", "left"),
    [
        ("gpt-4o", 16_384, 111_616),
        ("gpt-5", 128_000, 272_000),
        ("gpt-5-pro", 100_000, 300_000),
        ("gpt-4", 2_048, 6_144),
        ("gpt-oss-20b", 32_768, 98_304),
        ("gpt-3.5-turbo-instruct", 1_024, 3_072),
        ("davinci-002", 4_096, 12_288),
        ("o3", 100_000, 100_000),
        ("text-embedding-3-small", 0, 8_192),
    ],
)
def test_the_answer_keeps_its_share_and_the_prompt_gets_the_rest(
    name: str, kept: int, left: int
) -> None:
    assert reserve(model(name)) == kept
    assert budget(model(name)) == left


def test_window_and_reserve_can_be_chosen() -> None:
    gpt_4o = model("gpt-4o")
    assert budget(gpt_4o, reserve=1_000) == 127_000
    assert budget(gpt_4o, reserve=0) == 128_000
    assert reserve(gpt_4o, window=4_096) == 1_024
    assert budget(gpt_4o, window=4_096) == 3_072
    assert budget(gpt_4o, window=4_096, reserve=96) == 4_000
    assert budget(gpt_4o, window=1_000, reserve=2_000) == 0


def test_a_published_input_limit_holds_whatever_is_reserved() -> None:
    assert budget(model("gpt-5"), reserve=1_000) == 272_000
    assert budget(model("gpt-5"), window=100_000, reserve=1_000) == 99_000


def test_a_name_is_looked_up_once_and_a_long_one_is_not_kept() -> None:
    assert model("some-model-2024-05-05") is model("some-model-2024-05-05")
    kept = models._remembered.cache_info().currsize
    long = "x" * 10_000
    assert model(long).name == long
    assert models._remembered.cache_info().currsize == kept
