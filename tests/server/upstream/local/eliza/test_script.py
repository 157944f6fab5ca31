"""ELIZA's script: that it is read as written, and that there is enough in it to talk about."""

from __future__ import annotations

import pytest

from server.upstream.local.eliza.script import (
    Keyword,
    Link,
    Rule,
    Say,
    Script,
    ScriptError,
    doctor,
    read,
)
from tests.server.upstream.local.eliza_talk import HEAD, answer


def sample(keyword: Keyword, rule: Rule) -> str:
    """Return a message that this rule's decomposition fits."""
    words = []
    for stretch in rule.pattern:
        words += ["zebras"] if stretch.gap else []
        for word in stretch.words:
            options = word.options or {"zebra"}
            words.append(next((key for key in keyword.words if key in options), min(options)))
    return " ".join(words) or keyword.words[0]


class TestScript:
    KEYWORDS = tuple({keyword.words: keyword for keyword in doctor().keywords.values()}.values())

    def test_there_is_enough_to_talk_about(self) -> None:
        assert len(self.KEYWORDS) >= 35

    def test_no_decomposition_is_soon_used_up(self) -> None:
        for keyword in self.KEYWORDS:
            for rule in keyword.rules:
                link = isinstance(rule.reassemblies[0], Link)
                assert link or len(rule.reassemblies) >= 3, sample(keyword, rule)

    def test_a_link_leads_to_an_answer(self) -> None:
        fallback = {line.parts[0] for line in doctor().occasions["fallback"].lines}
        for keyword in self.KEYWORDS:
            for rule in keyword.rules:
                if isinstance(rule.reassemblies[0], Link):
                    text = answer(sample(keyword, rule))
                    assert text not in fallback, sample(keyword, rule)

    def test_no_line_is_written_twice_in_one_round(self) -> None:
        for keyword in (*self.KEYWORDS, doctor().memory):
            for rule in keyword.rules:
                assert len(set(rule.reassemblies)) == len(rule.reassemblies)

    @pytest.mark.parametrize(
        "said",
        [
            "I want to kill myself",
            "i dont want to live anymore",
            "I wish I was dead.",
            "I have been thinking of suicide, and my boss is mean",
            "I keep hurting myself",
        ],
    )
    def test_somebody_in_danger_is_sent_to_people(self, said: str) -> None:
        assert "crisis line" in answer(said)

    def test_a_long_conversation(self) -> None:
        lines = [line.strip() for line in TRANSCRIPT.splitlines()]
        said, answers = lines[::2], lines[1::2]
        assert [answer(*said[: n + 1]) for n in range(len(said))] == answers

    def test_a_long_conversation_is_varied(self) -> None:
        said = ["I don't know", "It rains", "Because of him", "No", "We talked", "Hm"] * 5
        answers = [answer(*said[: n + 1]) for n in range(len(said))]
        assert len(set(answers)) > len(said) // 2


class TestReading:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("stray", "before the first"),
            (HEAD + "[key 0 a]\nstray", "needs a decomposition"),
            (HEAD + "[key 0 a]\n(*)", "no reassembly"),
            (HEAD + "[key 0 a]\n(* +)\nx", "side by side"),
            (HEAD + "[key 0 a]\n(@sound)\nx", "no family @sound"),
            (HEAD + "[key 0 a]\n(*)\nx {1}", "more than the decomposition keeps"),
            (HEAD + "[key 0 a]\n(_)\nx {0}", "more than the decomposition keeps"),
            (HEAD + "[key 0 a]\n(*)\nx\n[key 0 b a]\n(*)\nx", "'a' is a keyword twice"),
            (HEAD + "[key 0 i'm]\n(*)\nx", "is substituted before"),
            (HEAD + "[key 0 a]\n(really *)\nx", "is substituted before"),
            (HEAD + "[key 0 a]\n(*)\n=b\n[memory a]\n(*)\nx", "=b leads nowhere"),
            (HEAD + "[post]\ni had = you'd\n[memory a]\n(*)\nx", "as many words"),
            (HEAD + "[pre]\na b c = d", "one or two words"),
            (HEAD, "one [memory]"),
            ("[memory a]\n(*)\nx\n[opening]\nx", "lacks cue, fallback"),
            (HEAD + "[greeting]\n[memory a]\n(*)\nx", "no lines"),
            (HEAD + "[key high a]\n(*)\nx", "a rank"),
        ],
    )
    def test_a_fault_is_named(self, text: str, problem: str) -> None:
        with pytest.raises(ScriptError, match=problem.replace("[", r"\[")):
            read(text)

    def test_a_script_is_read_as_written(self, mini: Script) -> None:
        rules = mini.keywords["colour"].rules
        assert [rule.reassemblies for rule in rules] == [
            (Say(("So ", 1, " it is.")),),
            (Say(("Any colour?",)), Say(("Which colour?",))),
        ]
        assert mini.keywords["hue"].rules[0].reassemblies == (Link("colour"),)


#: What was said, and beneath it what was answered.
TRANSCRIPT = """\
Good evening!
    Hello. How are you today?
I'm worried about my mother.
    What about your mother troubles you most?
She says that she is fine, but I don't believe her
    What speaks against it?
Because she forgets everything
    Is that the whole reason?
Yesterday she called me by my sister's name.
    What do names mean to you?
My sister lives abroad and she never calls.
    Your sister lives abroad. How do you feel about that?
I can't leave my job to look after her
    What holds you there still?
Hm.
    You spoke of your mother before. How does that fit in here?
I feel guilty
    What is it that you feel guilty about?
Maybe you're right.
    It was really you who said it. Where does it lead?
Do you remember what I told you?
    Did you think I would forget what you told me? What about it comes back to you?
I wish we could all live in one house
    What would it take?
I dreamed about our old garden last night.
    What did you feel in the dream about your old garden last night?
There was an apple tree.
    Tell me more about that.
Yes
    Good. Tell me more.
What should I do?
    What have you thought of doing?
Thank you. You are a good listener
    You are very welcome. What shall we turn to?
Goodbye, Eliza
    Goodbye. It was good to listen to you; come back whenever you like.
"""
