"""Templates as callers write them: Jinja over messages, Jinja around a prompt, or %1."""

from __future__ import annotations

import pytest

from server.templates.parse import LONGEST, is_template, read
from server.templates.template import TemplateError
from storage.model import PromptMessage, Role

TALK = (
    PromptMessage(Role.SYSTEM, "Be."),
    PromptMessage(Role.USER, "Hi"),
    PromptMessage(Role.ASSISTANT, "Ho"),
    PromptMessage(Role.USER, "And %1?"),
)


def test_the_prompt_stands_in_the_place_of_the_mark() -> None:
    template = read("### Human: %1\n### Assistant:")
    assert template.quick
    assert template.render(TALK[3:]) == "### Human: And %1?\n### Assistant:"


@pytest.mark.parametrize("source", ["Q: %1\nA:", "Q: {{ prompt }}\nA:", "Q: {{ '' }}%1\nA:"])
def test_a_history_is_told_in_the_same_words(source: str) -> None:
    assert read(source).render(TALK) == "Be.\n\nQ: Hi\nA: Ho\nQ: And %1?\nA:"


def test_a_template_may_have_its_own_place_for_the_system_prompt() -> None:
    template = read("[{{ system_prompt }}] {{ prompt }} =>\n")
    assert template.render(TALK[:2]) == "[Be.] Hi =>\n"


def test_a_template_may_go_through_the_messages() -> None:
    source = (
        "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n"
        "{{ message['content'] + eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    assert read(source).render(TALK[:2]) == "<|system|>\nBe.\n<|user|>\nHi\n<|assistant|>\n"


def test_what_is_no_template_is_refused() -> None:
    for source in ("Hello", "", "{{ nothing }}", "{# prompt #}%", "{{ prompt"):
        with pytest.raises(TemplateError):
            read(source)
    with pytest.raises(TemplateError, match=f"at most {LONGEST}"):
        read("%1" * LONGEST)


def test_names_and_templates_are_told_apart() -> None:
    assert [is_template(one) for one in ("alpaca", "%1", "{{ prompt }}", "{% if a %}")] == [
        False,
        True,
        True,
        True,
    ]


def test_the_turns_of_a_conversation_pay_from_one_purse() -> None:
    source = "{% for i in range(20000) %}{% endfor %}{{ prompt }}"
    assert read(source).render(TALK[1:2]) == "Hi"
    with pytest.raises(TemplateError, match="does too much"):
        read(source).render([PromptMessage(Role.USER, "Hi")] * 30)
