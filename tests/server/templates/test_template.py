"""Conversations written as one text."""

from __future__ import annotations

from server.templates.template import render, stops
from storage.model import PromptMessage, Role


def test_a_conversation_reads_like_a_play() -> None:
    messages = (
        PromptMessage(Role.SYSTEM, "Be kind."),
        PromptMessage(Role.USER, "Hello"),
        PromptMessage(Role.ASSISTANT, "Hi!"),
        PromptMessage(Role.USER, [{"type": "text", "text": "How"}, {"type": "text", "text": "?"}]),
    )
    assert render(messages) == ("Be kind.\n\nUser: Hello\nAssistant: Hi!\nUser: How\n?\nAssistant:")


def test_without_messages_the_assistant_speaks_first() -> None:
    assert render(()) == "Assistant:"


def test_the_user_s_next_line_ends_the_answer() -> None:
    assert stops(()) == ["\nUser:"]
    assert stops(("END", "END")) == ["END", "\nUser:"]


def test_no_more_stop_sequences_than_openai_takes() -> None:
    assert stops(("a", "b", "c", "d")) == ["a", "b", "c", "d"]
