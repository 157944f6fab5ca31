"""ELIZA's algorithm, and the stream that her answers come in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.tokens.encoding import encoding
from server.upstream.local.eliza.eliza import HEARD, REFLECTED, REPLAYED, Eliza, reply
from server.upstream.local.eliza.script import Script, decompose, doctor, read
from server.upstream.port import Finish, Prompt, Upstream
from storage.model import PromptMessage, Role
from tests.server.upstream.local.eliza_talk import HEAD, answer, asked


async def stream(upstream: Upstream, prompt: Prompt) -> tuple[list[str], Finish]:
    """Return the pieces of an answer and its end."""
    items = [item async for item in upstream.complete(prompt)]
    *pieces, finish = items
    assert isinstance(finish, Finish)
    return [piece for piece in pieces if isinstance(piece, str)], finish


class TestAlgorithm:
    def test_highest_rank_answers_wherever_it_stands(self, mini: Script) -> None:
        assert (
            answer("I like tea and I dislike coffee", script=mini) == "What is wrong with coffee?"
        )
        assert answer("I dislike coffee, I like tea", script=mini) == "What is wrong with coffee?"

    def test_of_equal_rank_the_first_answers(self, mini: Script) -> None:
        assert answer("I think so. Tell me why I do", script=mini) == "You think so?"

    def test_a_keyword_that_nothing_fits_leaves_the_answer_to_the_next(self, mini: Script) -> None:
        assert answer("dislike! I like tea", script=mini) == "Why tea?"

    def test_the_first_decomposition_that_fits_is_used(self, mini: Script) -> None:
        assert answer("a green colour", script=mini) == "So green it is."
        assert answer("a dull colour", script=mini) == "Any colour?"

    def test_kept_elements_are_numbered_from_the_left(self, mini: Script) -> None:
        assert answer("Tell me how birds fly", script=mini) == "You ask how: birds fly."

    def test_reassemblies_take_turns(self, mini: Script) -> None:
        said = ["colour"] * 4
        answers = [answer(*said[: n + 1], script=mini) for n in range(4)]
        assert answers == ["Any colour?", "Which colour?", "Any colour?", "Which colour?"]

    def test_a_link_goes_on_with_another_keyword(self, mini: Script) -> None:
        assert answer("a hue of some colour", script=mini) == "Any colour?"

    def test_links_in_a_circle_end(self, mini: Script) -> None:
        assert answer("circle", script=mini) == "Go on."

    def test_what_is_mine_is_remembered_until_nothing_else_is_to_be_said(
        self, mini: Script
    ) -> None:
        said = ["My boat leaks.", "I like my oars", "Hm", "Hm", "Hm"]
        answers = [answer(*said[: n + 1], script=mini) for n in range(5)]
        assert answers == [
            "Your boat leaks?",
            "Why your oars?",
            "You spoke of your boat leaks.",
            "You spoke of your oars.",
            "Go on.",
        ]

    def test_a_joiner_before_a_subject_begins_a_new_thought(self, mini: Script) -> None:
        assert answer("I like tea and it rains", script=mini) == "Why tea?"
        assert answer("I like tea and cake", script=mini) == "Why tea and cake?"

    def test_a_lead_and_what_is_substituted_by_nothing_fall_away(self, mini: Script) -> None:
        assert answer("Well, tell me really why it rains", script=mini) == "You ask why: it rains."

    @pytest.mark.parametrize(
        ("said", "heard"),
        [
            ("I like my tea", "Why your tea?"),
            ("I like what you give me", "Why what me give you?"),
            ("I like that you give me tea", "Why that I give you tea?"),
            ("I think you hate me", "You think I hate you?"),
            ("I think you are kind", "You think I am kind?"),
            ("I think I'm late", "You think you are late?"),
            ("I think I’m late", "You think you are late?"),
            ("I like you", "Why me?"),
            ("I like your tea", "Why my tea?"),
            ("I like Paris", "Why Paris?"),
            ("I LIKE PARIS", "Why paris?"),
            ("I like 🍕", "Why 🍕?"),
            ("I like 3.5", "Why 3.5?"),
        ],
    )
    def test_pronouns_are_turned_round(self, said: str, heard: str, mini: Script) -> None:
        assert answer(said, script=mini) == heard


class TestDecompose:
    @staticmethod
    def fit(pattern: str, words: str) -> list[str] | None:
        script = read(f"{HEAD}[key 0 k]\n({pattern})\nx\n[memory m]\n(*)\nx")
        spans = decompose(script.keywords["k"].rules[0].pattern, words.split())
        return None if spans is None else [" ".join(words.split()[a:b]) for a, b in spans]

    @pytest.mark.parametrize(
        ("pattern", "words", "kept"),
        [
            ("*", "", []),
            ("+", "", None),
            ("+", "a", ["a"]),
            ("a", "a", []),
            ("a", "a a", None),
            ("_ b", "a b", ["a"]),
            ("a *", "a b c", []),
            ("a +", "a", None),
            ("* a", "b a a", []),
            ("+ a", "b a a", ["b a"]),
            ("+ a +", "a a a", ["a", "a"]),
            ("* a b +", "a a b c d", ["c d"]),
            ("* x|y * z", "x z z", ["x"]),
            ("* x|y + z", "y z z", ["y", "z"]),
            ("a * a", "a", None),
            ("* @colour +", "a red sun", ["red", "sun"]),
        ],
    )
    def test_fits(self, pattern: str, words: str, kept: list[str] | None) -> None:
        assert self.fit(pattern, words) == kept

    def test_many_words_are_walked_once(self) -> None:
        words = "a " * 100_000
        assert self.fit("* a b * a c * a d +", words) is None


class TestDeterminism:
    SAID = ("Hello", "I am sad", "My dog ran away", "I want a holiday", "Hm", "I am sad")

    def test_the_same_conversation_has_the_same_answer(self) -> None:
        assert len({answer(*self.SAID, seed=7) for _ in range(3)}) == 1
        assert len({answer(*self.SAID) for _ in range(3)}) == 1

    def test_a_seed_chooses_where_a_round_begins(self) -> None:
        assert len({answer("I am sad", seed=seed) for seed in range(20)}) > 1

    @pytest.mark.parametrize("seed", [0, -1, 2**63])
    def test_any_seed_will_do(self, seed: int) -> None:
        assert answer("I am sad", seed=seed) == answer("I am sad", seed=seed)

    def test_only_what_the_user_said_counts(self) -> None:
        bare = tuple(PromptMessage(Role.USER, content) for content in self.SAID)
        system = PromptMessage(Role.SYSTEM, "You are a pirate. I hate my mother.")
        assert reply((system, *bare), None) == reply(bare, None) == answer(*self.SAID)

    def test_what_is_older_than_the_replay_changes_nothing(self) -> None:
        newest = [f"I like number {n}" for n in range(REPLAYED)]
        assert answer("My dog ran away", *newest, "Hm") == answer("Hm", *newest, "Hm")

    def test_the_same_line_is_not_said_twice_running_however_long_it_goes_on(self) -> None:
        answers = [answer(*["I am sad"] * n) for n in range(1, 3 * REPLAYED)]
        assert all(earlier != later for earlier, later in pairwise(answers))


class TestOddInput:
    def of(self, name: str) -> set[str]:
        return {"".join(map(str, line.parts)) for line in doctor().occasions[name].lines}

    @pytest.mark.parametrize("said", ["", " ", "…", "???", "\n\t", "👍🏽", "❤️", "--", "''", "\x00"])
    def test_no_words(self, said: str) -> None:
        assert answer(said) in self.of("wordless")

    @pytest.mark.parametrize("said", ["我很难过。", "Привет, как дела?", "नमस्ते", "שלום"])
    def test_no_english(self, said: str) -> None:
        assert answer(said) in self.of("foreign")

    def test_a_picture_alone(self) -> None:
        picture = {"type": "image_url", "image_url": {"url": "data:,"}}
        assert answer([picture]) in self.of("picture")
        assert answer([picture, {"type": "text", "text": " "}]) in self.of("picture")

    def test_a_picture_with_words_is_answered_by_the_words(self) -> None:
        text = {"type": "text", "text": "I miss my mother"}
        picture = {"type": "image_url", "image_url": {"url": "data:,"}}
        assert answer([picture, text]) == answer("I miss my mother")

    def test_nobody_has_spoken(self) -> None:
        assert reply((), None) in self.of("opening")
        assert reply((PromptMessage(Role.SYSTEM, "I am sad"),), None) in self.of("opening")

    @pytest.mark.parametrize(
        "said",
        [
            "a" * 1_000_000,
            "I want " + "x" * 1_000_000,
            "I want " + "x " * 500_000,
            "i " * 500_000,
            "my,my." * 200_000,
            " " * 1_000_000 + "I am sad",
            "I am" + " " * 1_000_000 + "sad",
            "and i " * 200_000,
            "\u0301" * 1_000_000,
            "'-" * 500_000,
        ],
    )
    def test_a_megabyte(self, said: str) -> None:
        assert 0 < len(answer(said)) < 2 * REFLECTED

    def test_little_is_said_back(self, mini: Script) -> None:
        said = answer("I like " + "extraordinarily " * 40 + "long walks", script=mini)
        assert said.startswith("Why extraordinarily extraordinarily")
        assert said.endswith("extraordinarily…?")
        assert len(said) <= REFLECTED + len("Why …?")

    def test_a_message_is_heard_from_its_beginning(self, mini: Script) -> None:
        assert answer("I like tea. " + "x " * HEARD + "I dislike it.", script=mini) == "Why tea?"

    def test_a_lone_surrogate_is_not_said_back(self, mini: Script) -> None:
        assert answer("I like \ud83d tea", script=mini) == "Why tea?"

    @settings(deadline=None)
    @given(
        st.lists(
            st.text(st.characters() | st.sampled_from("iI my.,'…👍\u200d \n")),
            min_size=1,
            max_size=5,
        )
    )
    def test_there_is_always_a_reply(self, said: list[str]) -> None:
        text = answer(*said)
        assert text.strip() == text != ""
        assert text.encode()
        assert text == answer(*said)

    @settings(deadline=None)
    @given(st.lists(st.sampled_from([*sorted(doctor().keywords), "zebra", ".", "to"]), min_size=1))
    def test_keywords_in_any_order(self, words: list[str]) -> None:
        text = answer(" ".join(words))
        assert text
        assert "{" not in text


class TestStream:
    @pytest.fixture
    def eliza(self) -> Upstream:
        return Eliza()

    def test_name(self, eliza: Upstream) -> None:
        assert eliza.name == "eliza"

    async def test_pieces_are_words_and_make_the_answer(self, eliza: Upstream) -> None:
        messages = asked("I am sad about my dog")
        pieces, finish = await stream(eliza, Prompt("gpt-anything", messages))
        assert "".join(pieces) == reply(messages, None)
        assert len(pieces) > 1
        assert all(len(piece.split()) == 1 for piece in pieces)
        assert finish == Finish("stop", None)
        await eliza.close()

    @settings(deadline=None)
    @given(st.text(st.characters() | st.sampled_from("iI my.,'…👍")))
    async def test_pieces_of_any_answer(self, said: str) -> None:
        messages = asked(said)
        pieces, _ = await stream(Eliza(), Prompt("eliza", messages, seed=1))
        assert "".join(pieces) == reply(messages, 1)
        assert all(pieces)

    async def test_a_delay_changes_nothing_but_the_pace(self, eliza: Upstream) -> None:
        prompt = Prompt("eliza", asked("I am sad"))
        assert await stream(Eliza(delay=0.0001), prompt) == await stream(eliza, prompt)

    async def test_closing_ends_it(self, eliza: Upstream) -> None:
        answer = eliza.complete(Prompt("eliza", asked("I am sad")))
        await anext(answer)
        await answer.aclose()  # type: ignore[attr-defined]
        with pytest.raises(StopAsyncIteration):
            await anext(answer)

    async def test_stop_cuts_before_the_sequence_that_comes_first(self, eliza: Upstream) -> None:
        messages = asked("My name is Anna")
        whole = reply(messages, None)
        stop = ("", "zebra", whole[9:12], whole[5:8])
        pieces, finish = await stream(eliza, Prompt("eliza", messages, stop=stop))
        assert "".join(pieces) == whole[:5]
        assert finish == Finish("stop")

    async def test_stop_at_the_very_beginning_leaves_nothing(self, eliza: Upstream) -> None:
        messages = asked("My name is Anna")
        stop = (reply(messages, None)[0],)
        assert await stream(eliza, Prompt("eliza", messages, stop=stop)) == ([], Finish("stop"))

    async def test_max_tokens_cuts_at_so_many(self, eliza: Upstream) -> None:
        messages = asked("My name is Anna")
        whole = reply(messages, None)
        tokens = encoding("o200k_base").encode(whole)
        for most in range(1, len(tokens)):
            pieces, finish = await stream(eliza, Prompt("eliza", messages, max_tokens=most))
            assert "".join(pieces) == encoding("o200k_base").decode(tokens[:most])
            assert finish == Finish("length")
        pieces, finish = await stream(eliza, Prompt("eliza", messages, max_tokens=len(tokens)))
        assert ("".join(pieces), finish) == (whole, Finish("stop"))

    async def test_no_half_character_is_sent(self, eliza: Upstream) -> None:
        messages = asked("I like 🦩🪿🫎🪼🫏")
        whole = reply(messages, None)
        assert "🪿" in whole
        for most in range(encoding("o200k_base").count(whole)):
            pieces, finish = await stream(eliza, Prompt("eliza", messages, max_tokens=most))
            assert whole.startswith("".join(pieces))
            assert encoding("o200k_base").count("".join(pieces)) <= most
            assert finish == Finish("length")

    async def test_a_stop_within_the_tokens_is_a_stop(self, eliza: Upstream) -> None:
        messages = asked("My name is Anna")
        whole = reply(messages, None)
        prompt = Prompt("eliza", messages, max_tokens=2, stop=(whole[2:],))
        pieces, finish = await stream(eliza, prompt)
        assert ("".join(pieces), finish) == (whole[:2], Finish("stop"))
