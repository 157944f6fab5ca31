"""One question to a Trialogue server, from the command line, a pipe, or both: `trialogue ask`."""

from __future__ import annotations

import argparse
import base64
import json
import mimetypes
import os
import re
import stat
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients import history
from clients.websocket_client import Talk, Wire, say, show, tell_end
from clients.wires import add_server, using

EXAMPLES = """\
examples:
  trialogue ask "Why is the sky blue?"         the answer goes to standard output
  git diff | trialogue ask "review this"       both: the text, then the words
  trialogue ask < question.txt                 the text alone
  trialogue ask -c "And at night?"             go on with the last conversation
  trialogue ask --image cat.png "Who is it?"   a picture and words are one question
  trialogue ask -x "a script that …" > it.sh   the code of the answer alone
"""
#: A block of code in Markdown: its fence, what is in it, the same fence again.
#: In a list it is indented; where an answer was cut off there is no closing fence.
BLOCK = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n(.*?)(?:^[ \t]*\1[`~]*[ \t]*$|\Z)", re.M | re.S)


def parser(prog: str) -> argparse.ArgumentParser:
    """Return what is understood; flags may stand before the words, between them and behind."""
    arguments = argparse.ArgumentParser(
        prog=prog,
        description="Ask one question. Words and piped text are joined: the text comes first.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = arguments.add_argument
    add("words", nargs="*", metavar="WORD", help="the question; words behind -- may begin with -")
    which = arguments.add_argument_group("which conversation").add_mutually_exclusive_group()
    which.add_argument("-c", "--continue", dest="last", action="store_true", help=history.LAST)
    which.add_argument("-C", "--conversation-id", metavar="ID", help="go on with this one")
    add = arguments.add_argument_group("the question").add_argument
    add("-m", "--model", metavar="MODEL", help="who answers (the server's choice)")
    add("-s", "--system-prompt", "--system", metavar="TEXT", help="for a new conversation")
    told = "a picture beside the words; may be given again"
    add("--image", dest="images", action="append", type=Path, default=[], metavar="FILE", help=told)
    add("-p", "--prompt", metavar="TEXT", help="the question, as one word")
    how = arguments.add_argument_group("what is printed").add_mutually_exclusive_group()
    how.add_argument("-x", "--extract", action="store_true", help="the blocks of code alone")
    how.add_argument("--json", action="store_true", help="the whole turn, as JSON")
    add_server(arguments)
    return arguments


def piped() -> str:
    """Return what is piped in; nothing on a terminal. Raises UnicodeDecodeError.

    A device is not waited for: /dev/null is what programs are given that start others.
    """
    try:
        kind = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # it is closed
        return ""
    if not (stat.S_ISFIFO(kind) or stat.S_ISREG(kind) or stat.S_ISSOCK(kind)):
        return ""
    return sys.stdin.buffer.read().decode("utf-8-sig").strip("\n")


def question(chosen: argparse.Namespace) -> str:
    """Return the piped text and the words, as one question."""
    words = " ".join([*([chosen.prompt] if chosen.prompt is not None else []), *chosen.words])
    return "\n\n".join(part for part in (piped(), words) if part.strip())


def image(path: Path) -> dict[str, Any]:
    """Return a picture as a part of a question. Raises OSError."""
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if not kind.startswith("image/"):
        raise OSError(f"{path} is no picture, by its name")
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}


def content(prompt: str, images: Sequence[Path]) -> str | list[dict[str, Any]]:
    """Return the words, and the pictures beside them where there are any. Raises OSError."""
    if not images:
        return prompt
    words = [{"type": "text", "text": prompt}] if prompt else []
    return [*words, *map(image, images)]


def code_of(answer: str) -> str:
    """Return what is in an answer's blocks of code, an empty line between two."""
    return "\n".join(textwrap.dedent(block[1]) for block in BLOCK.findall(answer))


def ask(line: Wire, chosen: argparse.Namespace, prompt: str | list[dict[str, Any]]) -> int:
    """Ask, and print what was asked for; return the exit code."""
    if chosen.last:
        chosen.conversation_id = history.last(line)
    if not (chosen.json or chosen.extract):
        return tell_end(Talk(line, chosen).ask(prompt))
    turn = Talk(line, chosen, lambda _: None).ask(prompt)
    if chosen.json:
        print(json.dumps(turn, ensure_ascii=False))
    elif code := code_of(turn["answer"]):
        show(code)
    else:
        say("error: there is no block of code in the answer")
        return 1
    return tell_end(turn, line_end="")


def main(arguments: Sequence[str], prog: str = "trialogue ask") -> int:
    """Ask what the command line says; return the exit code."""
    words = parser(prog)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    chosen = words.parse_intermixed_args(arguments[:end])
    chosen.words += arguments[end + 1 :]  # argparse cannot tell both apart
    try:
        prompt = question(chosen)
    except UnicodeDecodeError:
        say("error: what is piped in is no text (UTF-8)")
        return 2
    except KeyboardInterrupt:
        return 130
    if not (prompt or chosen.images):
        words.error('nothing is asked: give a question, as in: trialogue ask "What is a monad?"')
    try:
        asked = content(prompt, chosen.images)
    except OSError as error:
        say(f"error: {error}")
        return 2
    return using(chosen, lambda line: ask(line, chosen, asked))
