"""A small script for ELIZA, and ways to talk with her."""

from __future__ import annotations

from server.upstream.local.eliza.eliza import reply
from server.upstream.local.eliza.script import Script
from storage.model import Content, PromptMessage, Role

HEAD = """
[opening]
Welcome.
[fallback]
Go on.
Tell me more.
And then?
[wordless]
Take your time.
[foreign]
In English?
[picture]
What is in it?
[pre]
i'm = i am
do not = don't
really =
[post]
i am = you are
you are = I am
i = you
me = you
my = your
your = my
you = me
[family cue]
that think
[family joiner]
and
[family subject]
i it
[family lead]
well and
[family plain]
the
[family colour]
red green
"""

MINI = (
    HEAD
    + """
[key 1 like]
(* i like +)
Why {1}?
[key 5 dislike]
(* i dislike +)
What is wrong with {1}?
[key 3 colour]
(* @colour colour *)
So {1} it is.
(* colour *)
Any colour?
Which colour?
[key 3 hue]
(*)
=colour
[key 4 circle]
(*)
=round
[key 4 round]
(*)
=circle
[key 2 think]
(* i think +)
You think {1}?
[key 2 tell]
(tell me that|why|how +)
You ask {1}: {2}.
[key 0 my]
(* my +)
Your {1}?
[memory my]
(* my +)
You spoke of your {1}.
"""
)


def asked(*said: Content) -> tuple[PromptMessage, ...]:
    """Return a conversation of these user messages, each but the last with some answer."""
    messages: list[PromptMessage] = []
    for content in said:
        messages.append(PromptMessage(Role.USER, content))
        messages.append(PromptMessage(Role.ASSISTANT, "Mm."))
    return tuple(messages[:-1])


def answer(*said: Content, seed: int | None = None, script: Script | None = None) -> str:
    return reply(asked(*said), seed, script)
