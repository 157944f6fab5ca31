"""Talks with a Trialogue server over gRPC, in a terminal.

Runs from a checkout (`python clients/grpc_client.py`; needs grpcio and protobuf) and as a module.
"""

from __future__ import annotations

import argparse
import gc
import os
import queue
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

if find_spec("trialogue") is None:
    sys.path.append(str(Path(__file__).resolve().parent.parent / "proto"))

from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1.conversation_pb2_grpc import ConversationServiceStub

EXAMPLES = """\
examples:
  grpc_client.py                                     talk; Ctrl-C stops an answer, Ctrl-D leaves
  grpc_client.py -p "Why is the sky blue?"           one question, the answer on standard output
  grpc_client.py --conversation-id conv_01k          go on with a conversation
  echo "Hello" | grpc_client.py --model eliza        a question a line
  grpc_client.py --url https://chat.example:9000     over TLS
"""

#: Pauses between tries to reach a server that was lost, in seconds.
PAUSES = (0.2, 0.4, 0.8, 1.6, 3.0, 5.0, 5.0, 5.0, 5.0, 5.0)
#: How long the first connection may take, in seconds.
CONNECT_SECONDS = 10.0
#: Statuses that a broken connection or a stopping server gives, unless the server explains them.
LOST = (
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
)
NEXT = {
    grpc.StatusCode.FAILED_PRECONDITION: "Check the server's upstream: its key and its model.",
    grpc.StatusCode.NOT_FOUND: "Leave out --conversation-id for a new conversation.",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Wait a little, then ask again.",
    grpc.StatusCode.UNAUTHENTICATED: "Give a key with --api-key or TRIALOGUE_API_KEY.",
    grpc.StatusCode.UNAVAILABLE: "Is the server running? Start one with: trialogue serve",
    grpc.StatusCode.UNIMPLEMENTED: "Is this the gRPC port of a Trialogue server?",
}
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


@dataclass
class Question:
    """A question on its way to its answer's end, over as many connections as it takes."""

    request: pb.AskRequest
    key: str = field(default_factory=lambda: str(uuid.uuid4()))
    turn_id: str = ""
    cursor: int = 0
    tries: int = 0
    #: the stream that is being read
    events: Any = None
    stopping: bool = False
    #: a stream was broken off by Ctrl-C, not by the network
    broken_off: bool = False

    def stop(self) -> None:
        """Want no more of the answer; the second time, or before there is a turn, leave."""
        if self.stopping or not self.turn_id:
            raise KeyboardInterrupt
        self.stopping = self.broken_off = True
        self.events.cancel()


class Talk:
    """One conversation with a server."""

    def __init__(self, channel: grpc.Channel, chosen: argparse.Namespace) -> None:
        self._stub: Any = ConversationServiceStub(channel)  # type: ignore[no-untyped-call]
        self._chosen = chosen
        self._conversation_id: str = chosen.conversation_id or "new"
        self._first = True
        key = chosen.api_key
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()

    def ask(self, prompt: str) -> pb.Turn:
        """Print the answer as it comes and return its turn. Ctrl-C cancels it, twice leaves it."""
        question = Question(self._request(prompt.encode(errors="replace").decode()))
        with interrupts_call(question.stop):
            while (turn := self._attempt(question)) is None:
                pass
        self._first = False
        return turn

    def _attempt(self, question: Question) -> pb.Turn | None:
        """Read to the end of the answer, or for as long as the connection holds."""
        lost: grpc.RpcError | None = None
        try:
            if (turn := self._read(question)) is not None:
                return turn
        except grpc.RpcError as error:
            lost = error
        if question.broken_off:
            question.broken_off = False
        else:
            self._pause(question, lost)
        return None

    def _request(self, prompt: str) -> pb.AskRequest:
        return pb.AskRequest(
            conversation_id=self._conversation_id,
            prompt=prompt,
            model=self._chosen.model,
            system_prompt=self._chosen.system_prompt if self._first else None,
        )

    def _read(self, question: Question) -> pb.Turn | None:
        """Read events to the end, and print what is new; None where the stream ends too early."""
        question.events = self._events(question)
        try:
            for event in question.events:
                if event.HasField("ended"):
                    ended: pb.Turn = event.ended.turn
                    return ended
                if event.HasField("started"):
                    question.turn_id = event.turn_id
                    self._name(event.conversation_id)
                else:
                    print(event.delta.text, end="", flush=True)
                    question.cursor, question.tries = event.cursor, 0
        finally:
            question.events.cancel()
        return None

    def _events(self, question: Question) -> Any:
        if not question.turn_id:
            # One key a question: asking again after a lost connection joins the same turn.
            key = ("idempotency-key", question.key)
            return self._stub.Ask(question.request, metadata=(*self._metadata, key))
        if question.stopping:
            stop = pb.CancelTurnRequest(turn_id=question.turn_id)
            self._stub.CancelTurn(stop, metadata=self._metadata)
        rest = pb.FollowTurnRequest(turn_id=question.turn_id, after=question.cursor)
        return self._stub.FollowTurn(rest, metadata=self._metadata)

    def _name(self, conversation_id: str) -> None:
        if self._conversation_id != conversation_id:
            self._conversation_id = conversation_id
            say(f"[conversation {conversation_id}; go on with --conversation-id {conversation_id}]")

    def _pause(self, question: Question, error: grpc.RpcError | None) -> None:
        """Wait before the next try, or raise what no further try can mend."""
        if error is not None and not is_lost(error):
            raise error
        if question.tries == len(PAUSES):
            raise error or ConnectionError("the server keeps closing the connection")
        pause = PAUSES[question.tries]
        question.tries += 1
        line_end = "\n" if question.cursor and question.tries == 1 else ""
        say(
            f"{line_end}[connection lost; try {question.tries} of {len(PAUSES)} in {pause:g} s, "
            f"from character {question.cursor}]"
        )
        time.sleep(pause)


@contextmanager
def interrupts_call(stop: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C call this; a KeyboardInterrupt could strike between a text and its cursor."""
    before = signal.signal(signal.SIGINT, lambda *_: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def is_lost(error: grpc.RpcError) -> bool:
    """Tell whether a status means the connection or a restart, so that trying again may help."""
    trailers = error.trailing_metadata() or ()
    explained = any(told.key == "grpc-status-details-bin" for told in trailers)
    if explained:
        return bool(error.code() is grpc.StatusCode.UNAVAILABLE)
    return error.code() in LOST


def one_line(error: grpc.RpcError) -> str:
    """Say what went wrong and what to do next."""
    message = " ".join((error.details() or error.code().name).split())
    return f"error: {message} {NEXT.get(error.code(), '')}".rstrip()


def say(line: str) -> None:
    """Tell people something that is no part of the answer."""
    print(line, file=sys.stderr, flush=True)


def open_channel(url: str, ca: str | None) -> grpc.Channel:
    """Open a channel to HOST:PORT, with TLS for https://. Raises OSError."""
    scheme, _, rest = url.rpartition("://")
    try:
        target = urlsplit(f"//{rest}").netloc
    except ValueError:
        raise OSError(f"{url} must be HOST:PORT, or https://HOST:PORT") from None
    if scheme != "https" and ca is None:
        return grpc.insecure_channel(target, options=OPTIONS)
    roots = Path(ca).read_bytes() if ca else None
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(roots), options=OPTIONS)


def connects(channel: grpc.Channel) -> bool:
    """Tell whether somebody answers; the first failure is enough to know."""
    states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
    channel.subscribe(states.put, try_to_connect=True)
    deadline = time.monotonic() + CONNECT_SECONDS
    try:
        while True:
            state = states.get(timeout=max(0.0, deadline - time.monotonic()))
            if state is grpc.ChannelConnectivity.READY:
                return True
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                return False
    except queue.Empty:
        return False
    finally:
        channel.unsubscribe(states.put)


def answer(talk: Talk, prompt: str) -> int:
    """Ask one question; return the exit code that it means."""
    try:
        turn = talk.ask(prompt)
    except grpc.RpcError as error:
        say(one_line(error))
        return 1
    except ConnectionError as error:
        say(f"error: {error}. {NEXT[grpc.StatusCode.UNAVAILABLE]}")
        return 1
    print(flush=True)
    match turn.status:
        case "completed":
            return 0
        case "failed":
            say(f"[failed: {turn.error.message}]")
            return 1
        case "cancelled":
            say("[cancelled]")
            return 130
        case _:
            say("[interrupted: the server was stopped; ask again to hear the rest]")
            return 1


def converse(talk: Talk) -> int:
    """Answer line after line, until Ctrl-D."""
    mark = "you> " if sys.stdin.isatty() else ""
    if mark:
        with suppress(ImportError):
            import_module("readline")  # gives `input` its history and editing
        say("[Ctrl-C stops an answer, Ctrl-D leaves]")
    worst = 0
    while True:
        try:
            prompt = input(mark)
        except EOFError:
            if mark:
                print()
            return 0 if mark else worst
        except KeyboardInterrupt:
            say("\n[Ctrl-D leaves]")
            continue
        if prompt.strip():
            worst = max(worst, answer(talk, prompt))


def usual_address() -> str:
    """Return where a server with this environment's settings listens."""
    host = os.environ.get("TRIALOGUE_HOST", "")
    host = "localhost" if host in ("", "0.0.0.0", "::") else host  # noqa: S104 - any address
    port = os.environ.get("TRIALOGUE_GRPC_PORT") or "9000"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def api_key(given: str) -> str:
    """Return a key that can be one. The library would repeat one that cannot be, in an error."""
    if not (given.isascii() and given.isprintable()):
        raise argparse.ArgumentTypeError("no key has a line break, or letters beyond ASCII")
    return given


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(
        prog="grpc_client.py",
        description="Talk with a Trialogue server over gRPC.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = arguments.add_argument
    told = "%(default)s; TRIALOGUE_HOST, TRIALOGUE_GRPC_PORT"
    add("--url", default=usual_address(), help=f"HOST:PORT, or https://HOST:PORT ({told})")
    add("--ca", metavar="FILE", help="certificates to trust (PEM), for TLS with one of your own")
    add("--conversation-id", metavar="ID", help="the conversation to go on with (a new one)")
    key = os.environ.get("TRIALOGUE_API_KEY")
    add("--api-key", type=api_key, default=key, help="(TRIALOGUE_API_KEY)")
    add("--model", help="who answers (the server's choice)")
    add("--system-prompt", metavar="TEXT", help="for a new conversation")
    add("-p", "--prompt", metavar="TEXT", help="ask this, print the answer, and leave")
    return arguments


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    try:
        with open_channel(chosen.url, chosen.ca) as channel:
            if not connects(channel):
                say(
                    f"error: nobody answers at {chosen.url}. Start a server with: trialogue serve "
                    "- or say where it is with --url HOST:PORT (https:// where it has TLS)"
                )
                return 1
            talk = Talk(channel, chosen)
            return answer(talk, chosen.prompt) if chosen.prompt is not None else converse(talk)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the answer has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        say(f"error: {error}")
        return 1
    finally:
        # Calls left to the interpreter's end may wait in their finalizers for threads long gone.
        gc.collect()


if __name__ == "__main__":
    sys.exit(main())
