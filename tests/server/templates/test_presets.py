"""Conversations in the shapes that models were trained on, to the character."""

from __future__ import annotations

import pytest

from server.templates.presets import SHAPES
from server.templates.template import stops
from storage.model import PromptMessage, Role

TALK = (
    PromptMessage(Role.SYSTEM, "Be."),
    PromptMessage(Role.USER, "Hi"),
    PromptMessage(Role.ASSISTANT, "Ho"),
    PromptMessage(Role.USER, [{"type": "text", "text": "And?"}]),
)
GREETED = (PromptMessage(Role.ASSISTANT, "Welcome"), PromptMessage(Role.USER, "Hi"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain", "Be.\n\nUser: Hi\nAssistant: Ho\nUser: And?\nAssistant:"),
        (
            "alpaca",
            "Be.\n\n### Instruction:\nHi\n\n### Response:\nHo\n\n"
            "### Instruction:\nAnd?\n\n### Response:\n",
        ),
        (
            "chatml",
            "<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nHo<|im_end|>\n<|im_start|>user\nAnd?<|im_end|>\n"
            "<|im_start|>assistant\n",
        ),
        ("vicuna", "Be. USER: Hi ASSISTANT: Ho</s>USER: And? ASSISTANT:"),
        ("llama", "[INST] <<SYS>>\nBe.\n<</SYS>>\n\nHi [/INST] Ho </s><s>[INST] And? [/INST]"),
        (
            "llama3",
            "<|start_header_id|>system<|end_header_id|>\n\nBe.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nAnd?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
    ],
)
def test_a_conversation_in_each_shape(name: str, text: str) -> None:
    assert SHAPES[name].render(TALK) == text


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_takes_a_greeting_and_ends_where_the_answer_begins(name: str) -> None:
    text = SHAPES[name].render(GREETED)
    assert text.index("Welcome") < text.index("Hi")
    assert text == text.rstrip(" ")
    assert SHAPES[name].render(TALK).count("Ho") == 1


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_says_where_an_answer_ends(name: str) -> None:
    shape = SHAPES[name]
    written = shape.render((*TALK, PromptMessage(Role.ASSISTANT, "So"), TALK[1]))
    behind = written[written.index("So") + 2 :]
    assert any(stop in behind for stop in shape.stops)
    assert stops(("mine",), shape)[0] == "mine"
    assert len(stops(("a", "b", "c", "d", "e"), shape)) == 4


def test_shapes_that_have_a_system_prompt_of_their_own_use_it_where_there_is_none() -> None:
    for name in ("alpaca", "vicuna"):
        assert len(SHAPES[name].render(TALK[1:])) > len(SHAPES[name].render(TALK))
    assert SHAPES["llama"].render(TALK[3:]) == "[INST] And? [/INST]"
