"""One question to a Trialogue server, from the command line, a pipe, or both: `trialogue ask`."""

from __future__ import annotations

import argparse
import json
import os
import re
import stat
import sys
import textwrap
from collections.abc import Sequence

from clients import history
from clients.websocket_client import Connection, Talk, add_server, connected, say, show, tell_end

EXAMPLES = """\
examples:
  trialogue ask "Why is the sky blue?"         the answer goes to standard output
  git diff | trialogue ask "review this"       both: the text, then the words
  trialogue ask < question.txt                 the text alone
  trialogue ask -c "And at night?"             go on with the last conversation
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
    add("-p", "--prompt", metavar="TEXT", help="the question, as one word")
    which = arguments.add_mutually_exclusive_group()
    which.add_argument("-c", "--continue", dest="last", action="store_true", help=history.LAST)
    which.add_argument("-C", "--conversation-id", metavar="ID", help="go on with this one")
    add("-m", "--model", help="who answers (the server's choice)")
    add("-s", "--system-prompt", "--system", metavar="TEXT", help="for a new conversation")
    how = arguments.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print the whole turn, as JSON")
    how.add_argument("-x", "--extract", action="store_true", help="print the blocks of code alone")
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


def code_of(answer: str) -> str:
    """Return what is in an answer's blocks of code, an empty line between two."""
    return "\n".join(textwrap.dedent(block[1]) for block in BLOCK.findall(answer))


def ask(line: Connection, chosen: argparse.Namespace, prompt: str) -> int:
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
    if not prompt:
        words.error('nothing is asked: give a question, as in: trialogue ask "What is a monad?"')
    return connected(chosen, lambda line: ask(line, chosen, prompt))
