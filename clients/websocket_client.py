"""Talks with a Trialogue server over a websocket, in a terminal.

Runs from anywhere (`python websocket_client.py`; needs only websockets) and as a module. It is one
file, long as it is, so that it can be taken along alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

EXAMPLES = (
    ("PROG", "talk; Ctrl-C stops an answer, exit or Ctrl-D leaves"),
    ('PROG -p "Why is the sky blue?"', "one question, the answer on standard output"),
    ("PROG --conversation-id demo", "go on with a conversation, or begin it"),
    ("PROG --conversation-id demo --watch", "read along, whoever asks"),
    ('echo "Hello" | PROG --model eliza', "a question a line"),
    ("PROG --url wss://chat.example/ws", "over TLS, on the port of the page"),
)

#: Pauses between tries to reach a server that was lost, in seconds.
PAUSES = (0.2, 0.4, 0.8, 1.6, 3.0, 5.0, 5.0, 5.0, 5.0, 5.0)
#: How long a connection may take, and how long Ctrl-C waits to be heard, in seconds.
CONNECT_SECONDS, LOOK_SECONDS = 10.0, 0.2
#: How long after a loss the next one is another, in seconds.
QUIET_SECONDS = 60.0
#: What a connection is closed with when coming back cannot help (RFC 6455, 7.4.1).
NOT_ALLOWED, TOO_LARGE = 1008, 1009
#: Refusals of a server that stops, or stumbles: coming back helps.
LOST = ("draining", "storage_unavailable")
#: What a key may hold, since it goes into a header.
KEY = re.compile(r"[ -~\x80-\xff]*")
#: A line that is a command, and not a question: `/etc/hosts` is none.
COMMAND = re.compile(r"/\w[\w-]*|/\?")
LEAVE = ("exit", "quit", "/exit", "/quit")
#: Parts of an answer that are no text of it, and the line that tells of one; thoughts have none.
LINES = {
    "tool_call": "[calls {name}: {said}]",
    "custom_tool_call": "[calls {name}: {said}]",
    "tool_result": "[got: {said}]",
    "refusal": "[refuses: {said}]",
}
#: Calls that change nothing.
READS = ("conversations", "conversation", "messages", "context", "search")
#: How much of a part its line shows, in characters.
LINE = 200
NEXT = {
    "insufficient_quota": "Its tokens come back with the next day or month.",
    "invalid_api_key": "Give a key with --api-key or TRIALOGUE_API_KEY.",
    "not_found": "Is the conversation another key's, or not begun?",
    "rate_limit_exceeded": "Wait a little, then ask again.",
    "unreachable": "Start a server with: trialogue serve - or say where it is with --url",
    "upstream_rejected": "Check the server's upstream: its key and its model.",
}


class ServerRefusedError(Exception):
    """The server said no, and why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code


class LostError(Exception):
    """The connection is gone, or the server: trying again may help."""


class LeftError(Exception):
    """Nobody wants to read on: another thread has said so."""


@dataclass
class Reading:
    """What is read to its end, over as many connections as it takes."""

    begin: dict[str, Any]
    turn_id: str = ""
    cursor: int = 0
    ended: bool = False
    stopping: bool = False
    tries: int = 0
    lost_at: float = 0.0

    @property
    def watching(self) -> bool:
        return bool(self.begin["type"] == "watch")

    @property
    def can_begin_again(self) -> bool:
        """Whether asking for it twice is asking for it once."""
        return "idempotency_key" in self.begin or self.watching

    def has_ended(self, event: dict[str, Any]) -> bool:
        """Say whether an event is of the turn whose end was shown: a watch tells that again."""
        return self.watching and self.ended and event.get("turn_id") == self.turn_id


class Wire(Protocol):
    """What carries frames to a server and back, whatever they are on the way."""

    def send(self, frame: dict[str, Any]) -> None: ...
    def receive(self) -> dict[str, Any]: ...
    def call(self, kind: str, **fields: Any) -> dict[str, Any]: ...
    def leave(self) -> None: ...
    def close(self) -> None: ...


class Connection:
    """A connection that is opened when it is needed, and anew when it was lost."""

    def __init__(self, chosen: argparse.Namespace, *, known: bool = False) -> None:
        """`known`: the server has answered before, so that it is waited for where it is gone."""
        self._url: str = chosen.url
        self._headers = {"Authorization": f"Bearer {chosen.api_key}"} if chosen.api_key else {}
        trusted = chosen.ca if self._url.startswith("wss:") else None
        self._tls = ssl.create_default_context(cafile=trusted) if trusted else None
        self._socket: ClientConnection | None = None
        self._opened = ExitStack()
        self._answered = known
        self._left = False

    def send(self, frame: dict[str, Any]) -> None:
        told = json.dumps({name: of for name, of in frame.items() if of is not None})
        with self._open() as socket, undisturbed():
            socket.send(told)

    def receive(self) -> dict[str, Any]:
        """Return the next frame. Raises RefusedError where it is an error.

        Ctrl-C is heard between two looks: within one it would break the library's own state.
        """
        with self._open() as socket:
            while not self._left:
                with suppress(TimeoutError), undisturbed():
                    return _frame(socket.recv(LOOK_SECONDS))
            raise LeftError

    def call(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a frame that one frame answers, and return that. Raises ServerRefusedError.

        What only reads is sent again where the connection was lost since it was last used.
        """
        was_open = self._socket is not None
        try:
            return self._call(kind, fields)
        except LostError:
            if not was_open or kind not in READS:
                raise
        return self._call(kind, fields)

    def _call(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        request_id = str(uuid.uuid4())
        self.send({"type": kind, "request_id": request_id, **fields})
        while (reply := self.receive()).get("request_id") != request_id:
            pass
        return reply

    def leave(self) -> None:
        """End the reading of another thread, soon."""
        self._left = True

    def close(self) -> None:
        self._socket = None
        self._opened.close()

    @contextmanager
    def _open(self) -> Iterator[ClientConnection]:
        try:
            if self._left:
                raise LeftError
            if self._socket is None:
                self._socket = self._opened.enter_context(self._dial())
                self._check_key(self._socket)
                _frame(self._socket.recv(CONNECT_SECONDS))  # the welcome, or why there is none
                self._answered = True
            yield self._socket
        except ConnectionClosed as closed:
            self.close()
            raise _why(closed) from closed
        except InvalidHandshake as error:
            if self._answered:
                raise LostError(str(error)) from error
            raise ServerRefusedError("url", f"{self._url} is no websocket: {error}.") from error
        except OSError as error:
            self.close()
            raise self._unreachable(error) from error

    def _check_key(self, socket: ClientConnection) -> None:
        """Say at once that a key is needed: the server would wait for one to be shown."""
        told = socket.response.headers if socket.response else {}
        if "WWW-Authenticate" in told and not self._headers:
            self.close()
            raise ServerRefusedError("invalid_api_key", "This server needs an API key.")

    def _dial(self) -> AbstractContextManager[ClientConnection]:
        try:
            near = urlsplit(self._url).hostname in ("localhost", "127.0.0.1", "::1")
            return connect(
                self._url,
                ssl=self._tls,
                additional_headers=self._headers,
                open_timeout=CONNECT_SECONDS,
                close_timeout=1,
                max_size=None,
                proxy=None if near else True,
            )
        except (InvalidURI, ValueError):  # a port too large, a name too long, half a bracket
            raise ServerRefusedError(
                "url", f"{self._url} must be ws://HOST:PORT/ or wss://."
            ) from None

    def _unreachable(self, error: OSError) -> Exception:
        if self._answered:
            return LostError("the server is gone")
        why = error.strerror or str(error) or "no answer"
        return ServerRefusedError("unreachable", f"{self._url} cannot be reached: {why}.")


def show(text: str) -> None:
    """Print a piece of an answer as it comes; on a terminal it steers nothing."""
    print(printable(text) if sys.stdout.isatty() else text, end="", flush=True)


def printable(text: str) -> str:
    """Return a text whose control characters cannot steer the terminal."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text)


def reading(event: dict[str, Any]) -> str:
    """Return how far the upstream has read the prompt."""
    return f"reading {100 * event['read'] // max(event['total'], 1)} %"


class Beside:
    """What is in an answer beside its text, a line for each part once that is whole."""

    def __init__(self) -> None:
        self._part: dict[str, Any] = {}
        self._said: list[str] = []

    def add(self, event: dict[str, Any]) -> list[str]:
        """Take a delta in; return the lines of parts that ended before it."""
        part = event.get("part") or {}
        lines = [] if part.get("index") == self._part.get("index") else self.end()
        self._part = part
        self._said.append(event.get("delta") or "")
        return lines

    def end(self) -> list[str]:
        """Return the line of the part that came last, where it has one."""
        part, said = self._part, printable(" ".join("".join(self._said).split()))
        self._part, self._said = {}, []
        line = LINES.get(part.get("type", ""))
        if line is None:
            return []
        name = printable(part.get("name") or "")
        return [line.format(name=name, said=said[:LINE] + "…" * (len(said) > LINE))]


class Printer:
    """Prints answers: the text to standard output as it comes, a line for each call of a tool."""

    def __init__(self, *, watching: bool = False) -> None:
        self._watching = watching
        self._turn_id = ""
        self._beside = Beside()
        self._within_line = False
        self._reading = False

    def __call__(self, event: dict[str, Any]) -> None:
        self._clear()
        match event["type"]:
            case "turn.started":
                if self._watching and event["turn_id"] != self._turn_id:
                    say(f"[{event['turn_id']}]")
                self._turn_id = event["turn_id"]
            case "turn.progress" if sys.stderr.isatty():
                print(f"\r[{reading(event)}]", end="", file=sys.stderr, flush=True)
                self._reading = True
            case "turn.delta":
                self._tell(self._beside.add(event))
                show(event["text"])
                self._within_line = not (event["text"] or "\n").endswith("\n")
            case "turn.ended":
                self._tell(self._beside.end())
                if self._watching:
                    tell_end(event["turn"])

    def _clear(self) -> None:
        """Take away how far the prompt was read."""
        if self._reading:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self._reading = False

    def _tell(self, lines: list[str]) -> None:
        """Say these, on lines of their own where answer and notices are seen together."""
        if lines and self._within_line and sys.stdout.isatty():
            show("\n")
            self._within_line = False
        for line in lines:
            say(line)


class Talk:
    """One conversation with a server; `tell` is given every event of its answers that is new.

    An answer is read to its end, or `until` an event of another type.
    """

    def __init__(
        self,
        line: Wire,
        chosen: argparse.Namespace,
        tell: Callable[[dict[str, Any]], None] | None = None,
        until: str = "turn.ended",
    ) -> None:
        self._line = line
        self._chosen = chosen
        self._tell = tell or Printer(watching=bool(getattr(chosen, "watch", False)))
        self._until = until
        self.open(chosen.conversation_id or "new")

    @property
    def conversation_id(self) -> str:
        """The conversation, `new` where it has not begun."""
        return self._conversation_id

    def open(self, conversation_id: str) -> None:
        """Go on with this conversation, or begin one with `new`."""
        self._conversation_id = conversation_id
        self._first = True

    def ask(self, prompt: str | list[dict[str, Any]], **how: Any) -> dict[str, Any]:
        """Print the answer as it comes and return its turn. Ctrl-C cancels it, twice leaves it.

        A prompt may be parts: text and images. `how` is what else an ask may have.
        """
        asked: dict[str, Any] = {"content": prompt}
        if isinstance(prompt, str):
            asked = {"prompt": prompt.encode(errors="replace").decode()}
        turn = self._persist(
            Reading(
                {
                    "type": "ask",
                    "conversation_id": self._conversation_id,
                    **asked,
                    "model": self._chosen.model,
                    "system_prompt": self._chosen.system_prompt if self._first else None,
                    # One key a question: asking again after a lost connection joins the same turn.
                    "idempotency_key": str(uuid.uuid4()),
                    "progress": True,
                    **how,
                }
            )
        )
        self._first = False
        return turn

    def regenerate(self, model: str | None = None) -> dict[str, Any]:
        """Print another answer to the last question, and return its turn."""
        asked = {"type": "regenerate", "conversation_id": self._conversation_id}
        how = {"model": model or self._chosen.model, "progress": True}
        return self._persist(Reading({**asked, **how}))

    def watch(self, turn_id: str = "") -> None:
        """Print every answer of the conversation, whoever asks, until Ctrl-C.

        Where a turn is named, from its beginning on: nothing since then is missed.
        """
        watched = {"type": "watch", "conversation_id": self._conversation_id}
        self._persist(Reading({**watched, "progress": True}, turn_id))

    def _persist(self, reading: Reading) -> dict[str, Any]:
        while True:
            try:
                return self._read(reading)
            except LostError as lost:
                if not (reading.turn_id or reading.can_begin_again):
                    raise ServerRefusedError(
                        "", f"{lost}; whether another answer is written is not known."
                    ) from lost
                pause(reading, lost)
            except KeyboardInterrupt:
                if reading.stopping or not reading.turn_id or reading.watching:
                    raise
                reading.stopping = True

    def _read(self, reading: Reading) -> dict[str, Any]:
        """Read events and print what is new, to the end of the turn that was asked for."""
        request_id = str(uuid.uuid4())  # a new one each time: what answers an older one is old
        self._begin(reading, request_id)
        while True:
            event = self._line.receive()
            if event.get("request_id") != request_id:
                continue
            reading.tries = 0
            if reading.has_ended(event):
                continue
            with undisturbed():
                self._show(reading, event)
            if event["type"] == self._until and not reading.watching:
                return dict(event["turn"])

    def _begin(self, reading: Reading, request_id: str) -> None:
        """Send what begins the reading, or goes on with it."""
        turn_id, cursor = reading.turn_id, reading.cursor
        if turn_id and not reading.watching:
            if reading.stopping:
                self._line.send({"type": "cancel", "turn_id": turn_id})
            frame = {"type": "follow", "turn_id": turn_id, "after": cursor, "progress": True}
        elif turn_id:
            frame = {**reading.begin, "after": f"{turn_id}:{cursor}"}
        else:
            frame = reading.begin
        self._line.send({**frame, "request_id": request_id})

    def _show(self, reading: Reading, event: dict[str, Any]) -> None:
        if "cursor" not in event:  # of the queue, or of the prompt: no position
            self._tell(event)
            return
        match event["type"]:
            case "turn.started":
                reading.turn_id, reading.ended = event["turn_id"], False
                self._name(event["conversation_id"])
            case "turn.ended":
                reading.ended = True
        self._tell(event)
        reading.cursor = event["cursor"]

    def _name(self, conversation_id: str) -> None:
        if self._conversation_id != conversation_id:
            self._conversation_id = conversation_id
            say(f"[conversation {conversation_id}; go on with --conversation-id {conversation_id}]")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold Ctrl-C back for a moment, until all is as it should be again."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where it is not heard
        return
    pressed: list[bool] = []
    usual = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if pressed:
            raise KeyboardInterrupt


def _frame(text: str | bytes) -> dict[str, Any]:
    frame = dict(json.loads(text))
    if frame["type"] != "error":
        return frame
    error = frame["error"]
    if error["code"] in LOST:
        raise LostError(error["message"])
    raise ServerRefusedError(error["code"], error["message"])


def _why(closed: ConnectionClosed) -> Exception:
    told = closed.rcvd
    if told is not None and told.code in (NOT_ALLOWED, TOO_LARGE):
        return ServerRefusedError(
            "invalid_api_key" if told.code == NOT_ALLOWED else "", told.reason
        )
    return LostError("the connection is gone")


def pause(reading: Reading, lost: LostError) -> None:
    """Wait before the next try, or give up after the last one."""
    now = time.monotonic()
    if now - reading.lost_at > QUIET_SECONDS:
        reading.tries = 0  # it held meanwhile, though nothing was said
    reading.lost_at = now
    if reading.tries == len(PAUSES):
        raise ServerRefusedError("unreachable", f"Gave up: {lost}.")
    seconds = PAUSES[reading.tries]
    reading.tries += 1
    line_end = "\n" if reading.cursor and reading.tries == 1 else ""
    say(
        f"{line_end}[{lost}; try {reading.tries} of {len(PAUSES)} in {seconds:g} s, "
        f"from character {reading.cursor}]"
    )
    time.sleep(seconds)


def say(line: str) -> None:
    """Tell people something that is no part of the answer."""
    print(line, file=sys.stderr, flush=True)


def tell_end(turn: dict[str, Any], line_end: str = "\n") -> int:
    """Say how a turn ended where that is not well; return the exit code that it means."""
    show(line_end)
    match turn["status"]:
        case "completed":
            return 0
        case "failed":
            say(f"[failed: {' '.join(turn['error']['message'].split())}]")
            return 1
        case "cancelled":
            say("[cancelled]")
            return 130
        case _:
            say("[interrupted: the server was stopped; ask again to hear the rest]")
            return 1


def refused(error: ServerRefusedError) -> int:
    """Say what the server refused and what helps; return the exit code."""
    say(f"error: {error} {NEXT.get(error.code, '')}".rstrip())
    return 1


def answer(talk: Talk, prompt: str) -> int:
    """Ask one question; return the exit code that it means."""
    try:
        return tell_end(talk.ask(prompt))
    except ServerRefusedError as error:
        return refused(error)


Command = Callable[[str], None]


def converse(talk: Talk, commands: Mapping[str, Command] | None = None) -> int:
    """Answer line after line, until `exit` or Ctrl-D; what looks like a command is never asked.

    A command is given the words behind its name.
    """
    mark = "you> " if sys.stdin.isatty() else ""
    if mark:
        with suppress(ImportError):
            import_module("readline")  # gives `input` its history and editing
        more = ", /help says more" if commands else ""
        say(f"[Ctrl-C stops an answer, exit or Ctrl-D leaves{more}]")
    worst = 0
    while True:
        try:
            prompt = input(mark)
        except EOFError:
            if mark:
                print()
            return 0 if mark else worst
        except KeyboardInterrupt:
            say("\n[exit or Ctrl-D leaves]")
            continue
        if leaves(prompt):
            return 0 if mark else worst
        if (command := command_in(prompt)) is not None:
            worst = max(worst, obey(commands or {}, *command))
        elif prompt.strip():
            worst = max(worst, answer(talk, prompt))


def leaves(typed: str) -> bool:
    """Say whether a line is the wish to leave."""
    return typed.strip().lower() in LEAVE


def command_in(typed: str) -> tuple[str, str] | None:
    """Return the name of a command and the words behind it, where a line is one."""
    word = typed.split(maxsplit=1)[0] if typed.strip() else ""
    if not COMMAND.fullmatch(word):
        return None
    return word, typed.strip()[len(word) :].strip()


def obey(commands: Mapping[str, Command], word: str, rest: str) -> int:
    """Run a command by its name; return the exit code that it means."""
    if word not in commands:
        known = "; /help lists those there are" if commands else ""
        say(f"[there is no command {word}{known}]")
        return 2
    return attempt(lambda: commands[word](rest))


def attempt(errand: Callable[[], object]) -> int:
    """Do something with a server; return the exit code that it means, and say what hinders it."""
    try:
        errand()
    except (ServerRefusedError, LostError) as error:
        return refused(error if isinstance(error, ServerRefusedError) else gone(error))
    return 0


def gone(error: LostError) -> ServerRefusedError:
    """Return a lost connection as the end of what was asked for."""
    return ServerRefusedError("", f"{error}; try again.")


def watch(talk: Talk) -> int:
    """Print every answer until Ctrl-C, which is how one leaves."""
    try:
        talk.watch()
    except KeyboardInterrupt:
        return 0
    except ServerRefusedError as error:
        return refused(error)
    return 1


def usual_url(
    variable: str = "TRIALOGUE_WEBSOCKET_PORT", port: str = "9001", scheme: str = "ws"
) -> str:
    """Return where a server with this environment's settings listens."""
    host = os.environ.get("TRIALOGUE_HOST", "")
    host = "localhost" if host in ("", "0.0.0.0", "::") else host  # noqa: S104 - any address
    port = os.environ.get(variable) or port
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


def parser(
    prog: str, server: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.ArgumentParser:
    """Return what is understood by the client that talks; `server` adds who is talked to."""
    shown = ((typed.replace("PROG", prog), does) for typed, does in EXAMPLES)
    arguments = argparse.ArgumentParser(
        prog=prog,
        description="Talk with a Trialogue server.",
        epilog="\n".join(("examples:", *(f"  {typed:<50} {does}" for typed, does in shown))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = arguments.add_argument
    add("-C", "--conversation-id", metavar="ID", help="the conversation to go on with (a new one)")
    add("-m", "--model", metavar="MODEL", help="who answers (the server's choice)")
    add("-s", "--system-prompt", metavar="TEXT", help="for a new conversation")
    add("-p", "--prompt", metavar="TEXT", help="ask this, print the answer, and leave")
    add("--watch", action="store_true", help="print every answer of a conversation")
    (server or add_server)(arguments)
    return arguments


def add_server(arguments: argparse.ArgumentParser) -> None:
    """Add the flags that say which server, and who asks."""
    group = arguments.add_argument_group("server")
    told = "%(default)s; TRIALOGUE_HOST, TRIALOGUE_WEBSOCKET_PORT"
    group.add_argument("--url", default=usual_url(), help=f"ws:// or wss://HOST:PORT/ ({told})")
    add_access(group)


def add_access(group: Any) -> None:
    """Add the flags that say who asks, and whom to trust."""
    add = group.add_argument
    key = os.environ.get("TRIALOGUE_API_KEY")
    add("--api-key", metavar="KEY", type=api_key, default=key, help="(TRIALOGUE_API_KEY)")
    add("--ca", metavar="FILE", help="certificates to trust (PEM), for TLS with one of your own")


def api_key(given: str) -> str:
    """Return a key that can be one. The libraries would repeat one that cannot be, in an error."""
    if not KEY.fullmatch(given):
        raise argparse.ArgumentTypeError("no key has a line break, or letters such as these")
    return given


def connected(
    chosen: argparse.Namespace,
    use: Callable[[Wire], int],
    dial: Callable[[argparse.Namespace], Wire] = Connection,
) -> int:
    """Return the exit code of what is done on a connection; what it cannot do is one line."""
    try:
        with closing(dial(chosen)) as line:
            return use(line)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the answer has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ServerRefusedError as error:
        return refused(error)
    except LostError as error:
        return refused(gone(error))
    except OSError as error:
        say(f"error: {error}")
        return 1


def talk(line: Wire, chosen: argparse.Namespace) -> int | None:
    """Do what the flags say beside conversing; return the exit code, or None where that is left."""
    if chosen.watch:
        return watch(Talk(line, chosen))
    return None if chosen.prompt is None else answer(Talk(line, chosen), chosen.prompt)


def read_flags(
    words: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """Return the flags of the client that talks."""
    chosen = words.parse_args(arguments)
    if chosen.watch and not chosen.conversation_id:
        words.error("--watch needs a --conversation-id")
    return chosen


def main(arguments: Sequence[str] | None = None, prog: str = "websocket_client.py") -> int:
    chosen = read_flags(parser(prog), arguments)

    def use(line: Wire) -> int:
        done = talk(line, chosen)
        return converse(Talk(line, chosen)) if done is None else done

    return connected(chosen, use)


if __name__ == "__main__":
    sys.exit(main())
