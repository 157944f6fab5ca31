"""The command line: what `trialogue` understands, and which function each word runs."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel

from server import VERSION
from server.app import logs, standard_streams
from server.commands.models_parser import add_models
from server.config.addresses import web_address
from server.config.kinds import sendable
from server.config.settings import Settings, SettingsError, load, variables
from server.config.settings_files import naming
from server.config.unknown_variables import unknown_variables

log = structlog.get_logger("trialogue")

DESCRIPTION = "A server that owns the conversation: REST, gRPC, websocket and OpenAI's API at once."
EXAMPLES = """\
examples:
  trialogue serve                              on this machine, with Eliza or OPENAI_API_KEY
  trialogue serve --listen                     for the network; the first start makes a key
  trialogue serve --http-port 0 --model gpt-4o on a free port, with another model
  trialogue keys create alice                  a key for somebody
  trialogue chat --conversation-id demo        talk in this terminal
  trialogue ask "What is a monad?"             one question, one answer
  git diff | trialogue ask "review this"       a pipe and words are one question
  trialogue export > all.json                  everything, to keep or to take elsewhere
  trialogue import conversations.json          ours, ChatGPT's, EasyBackend's
  trialogue search 'red herring'               all of these words, or pieces of words
  trialogue backup monday.db                   a checked copy, of a running server too
  trialogue migrate trialogue.db postgresql://trialogue@db/trialogue    to PostgreSQL; or back
  trialogue models pull Qwen/Qwen3-4B-GGUF     a model for this machine; then serve --local
  trialogue doctor                             what is wrong, and what to do about it
"""
BACKUP_EXAMPLES = """\
The copy is complete as of the moment when it is begun, and checked; it is not there before that.

examples:
  trialogue backup /backups/monday.db
  trialogue backup /backups/latest.db --force
  trialogue backup copy.db --database sqlite:////data/trialogue.db
"""
RESTORE_EXAMPLES = """\
The copy is checked first. The database that was there is moved aside, never deleted. The keys come
back from FILE.keys where there are none.

examples:
  trialogue restore /backups/monday.db
  trialogue restore copy.db --database sqlite:////data/trialogue.db
"""
MIGRATE_EXAMPLES = """\
Everything goes along: conversations, turns, responses, keys, claims, usage, what is stored. No
server may run on either. Cut off, it goes on where it stopped when it is run again. At the end both
are compared; SOURCE stays as it is. PGPASSWORD or ~/.pgpass keep a password off the command line.

examples:
  trialogue migrate sqlite:///trialogue.db postgresql://trialogue@db.example/trialogue
  trialogue migrate postgresql://trialogue@db.example/trialogue sqlite:////data/trialogue.db
"""

#: What is done over the wire, by the terminal client, which has flags and help of its own.
CLIENTS = ("chat", "ask", "list", "show", "open", "rm")
#: All commands as help shows them, the common first.
GROUPS = {
    "talk": {
        "chat": "talk in this terminal",
        "ask": "ask one question, of words or a pipe or both",
        "list": "list conversations, newest first",
        "show": "print the messages of a conversation",
        "search": "search messages and titles",
        "open": "print where the page shows a conversation, and open it",
        "rm": "delete conversations, for good",
        "models": "list what the server offers, or (with an ACTION) keep local models",
    },
    "serve": {
        "serve": "serve on all wires until SIGTERM",
        "keys": "make, list and revoke API keys",
        "config": "show every setting as it is now",
        "doctor": "say what is wrong, and what to do",
    },
    "keep": {
        "export": "write conversations to a file",
        "import": "keep the conversations of a file",
        "backup": "copy the database, while it is used or not",
        "restore": "put a copy in the place of the database",
        "migrate": "bring all history to PostgreSQL, or back to a file",
    },
}


def is_client(arguments: Sequence[str]) -> bool:
    """Say whether the terminal client does it: `models` alone is of a server, with flags too."""
    first, second = [*arguments, "", ""][:2]
    if first != "models":
        return first in CLIENTS
    return not second or (second.startswith("-") and second not in ("-h", "--help"))


def _groups() -> str:
    """Return all commands, as help shows them."""
    lines = []
    for title, commands in GROUPS.items():
        lines += [f"{title}:", *(f"  {name:<9} {does}" for name, does in commands.items()), ""]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "trialogue",
        usage="trialogue COMMAND [FLAGS]    (trialogue COMMAND --help tells more)",
        description=f"{DESCRIPTION}\n\n{_groups()}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"trialogue {VERSION}")
    commands = parser.add_subparsers(
        prog="trialogue", required=True, metavar="COMMAND", help=argparse.SUPPRESS
    )
    serve = _command(commands, "serve", _serve)
    _add_settings(serve)
    for name in CLIENTS:
        commands.add_parser(name)
    _add_keys(_command(commands, "keys", _keys))
    _add_export(_command(commands, "export", _export))
    _add_import(_command(commands, "import", _import))
    _add_search(_command(commands, "search", _search))
    _add_backup(_command(commands, "backup", _backup))
    _add_restore(_command(commands, "restore", _restore))
    _add_migrate(_command(commands, "migrate", _migrate))
    add_models(_command(commands, "models", _models))
    _add_settings(_command(commands, "config", _config))
    _add_settings(_command(commands, "doctor", _doctor))
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    does = next(group[name] for group in GROUPS.values() if name in group)
    parser: argparse.ArgumentParser = commands.add_parser(
        name, description=f"{does[0].upper()}{does[1:]}."
    )
    parser.set_defaults(run=run)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Give a flag to every setting; keys are taken from the environment alone: flags are seen."""
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("secret"):
            continue
        unset = field.default in (None, (), {}) or isinstance(field.default, BaseModel)
        default = "" if unset else f"; default {field.default}"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"setting_{name}",
            default=argparse.SUPPRESS,
            metavar=name.rpartition("_")[2].upper(),
            help=f"{field.description}{default} [{', '.join(variables(name))}]".replace("%", "%%"),
        )
    parser.add_argument(
        "--listen",
        dest="setting_host",
        action="store_const",
        const="0.0.0.0",  # noqa: S104 - asked for in so many words
        default=argparse.SUPPRESS,
        help="listen on every address, not on this machine alone",
    )


def _settings(parsed: argparse.Namespace) -> Settings:
    prefix = "setting_"
    flags = {k.removeprefix(prefix): v for k, v in vars(parsed).items() if k.startswith(prefix)}
    return load(flags)


def _serve(parsed: argparse.Namespace) -> int:
    # As the first process of a container we would be deaf to SIGTERM until the loop listens.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    standard_streams.hold()
    import uvloop

    from server.app import lifecycle
    from server.commands.serve import greet

    def announce(started: lifecycle.Addresses) -> None:
        standard_streams.show(greet(started), secret=started.new_key is not None)

    settings = _settings(parsed)
    logs.configure(settings.log_level, settings.log_format)
    for name, near in unknown_variables(settings):
        log.warning("there is no setting of this name", variable=name, nearest=near)
    uvloop.run(lifecycle.run(settings, announce))
    standard_streams.leave()
    return 0


def _add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("create", "list", "revoke"))
    parser.add_argument("name", nargs="?", help="create: whose key it is; revoke: the key's id")
    parser.add_argument("--days", type=float, help="create: valid so long; default: for ever")
    _add_database(parser, "beside which the keys lie")


def _keys(parsed: argparse.Namespace) -> int:
    from server.commands import keys

    return keys.keys(_settings(parsed), parsed.action, parsed.name, parsed.days)


def _add_where(parser: argparse.ArgumentParser) -> None:
    """Say whose conversations, and where they are."""
    parser.add_argument(
        "--owner", default="default", metavar="NAME", help="whose they are, in the database itself"
    )
    parser.add_argument(
        "--url", metavar="URL", help="of a running server, asked with the key TRIALOGUE_API_KEY"
    )
    _add_database(parser, "where history is kept; a server that has it open is asked")


def _add_database(parser: argparse.ArgumentParser, does: str) -> None:
    parser.add_argument(
        "--database",
        metavar="URL",
        dest="setting_database",
        default=argparse.SUPPRESS,
        help=f"{does} [TRIALOGUE_DATABASE]",
    )


def _where(parsed: argparse.Namespace) -> Any:
    from server.commands.transfer import Where

    logs.configure("error", None)
    key = os.environ.get("TRIALOGUE_API_KEY")
    if parsed.url is not None:
        with naming("--url"):
            web_address(parsed.url)
    if key:
        with naming("TRIALOGUE_API_KEY"):
            sendable(key)
    return Where(_settings(parsed), parsed.owner, parsed.url, key)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", default="json", choices=("json", "jsonl", "markdown"))
    parser.add_argument("--conversation-id", metavar="ID", help="one alone; default: all of them")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="a file; default: standard output"
    )
    _add_where(parser)


def _export(parsed: argparse.Namespace) -> int:
    from server.commands import transfer

    where, one = _where(parsed), parsed.conversation_id
    return asyncio.run(transfer.export(where, parsed.format, one, parsed.output))


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="running it again changes nothing")
    _add_where(parser)


def _import(parsed: argparse.Namespace) -> int:
    from server.commands import transfer

    if not parsed.file.is_file():
        raise SettingsError(f"{parsed.file}: there is no such file")
    return asyncio.run(transfer.import_(_where(parsed), parsed.file))


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="+", metavar="WORD")
    parser.add_argument(
        "--limit", type=int, default=20, metavar="N", help="at most so many hits (20)"
    )
    parser.add_argument("--role", choices=("system", "user", "assistant", "tool"))
    told = "in one alone; default: in all of them"
    parser.add_argument("--conversation-id", metavar="ID", help=told)
    for name in ("--created-after", "--created-before"):
        parser.add_argument(
            name, type=datetime.fromisoformat, metavar="TIME", help="2026-01-31, or to the second"
        )
    _add_where(parser)


def _search(parsed: argparse.Namespace) -> int:
    from server.commands import transfer
    from server.core.rendering import micros
    from storage.model import Query, Role

    query = Query(
        " ".join(parsed.words),
        Role(parsed.role) if parsed.role else None,
        parsed.conversation_id,
        micros(parsed.created_after),
        micros(parsed.created_before),
    )
    return asyncio.run(transfer.search(_where(parsed), query, parsed.limit))


def _add_backup(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = BACKUP_EXAMPLES
    parser.add_argument("file", type=Path, help="the copy; the keys go to FILE.keys")
    parser.add_argument("--force", action="store_true", help="replace FILE where it is there")
    _add_database(parser, "what is copied; a server may have it open")


def _backup(parsed: argparse.Namespace) -> int:
    from server.commands import backup

    return backup.backup(_settings(parsed), parsed.file, force=parsed.force)


def _add_restore(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = RESTORE_EXAMPLES
    parser.add_argument("file", type=Path, help="what 'trialogue backup' made")
    _add_database(parser, "in whose place the copy is put; no server may have it open")


def _restore(parsed: argparse.Namespace) -> int:
    from server.commands import backup

    return backup.restore(_settings(parsed), parsed.file)


def _add_migrate(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = MIGRATE_EXAMPLES
    where = "sqlite:///PATH or postgresql://USER@HOST/DATABASE"
    parser.add_argument("source", metavar="SOURCE", help=f"where history is: {where}")
    parser.add_argument("target", metavar="TARGET", help="where it is to be; nothing is there yet")
    parser.add_argument(
        "--anew", action="store_true", help="throw away what a run that was cut off has brought"
    )


def _migrate(parsed: argparse.Namespace) -> int:
    from server.commands import migrate

    run = migrate.migrate(parsed.source, parsed.target, anew=parsed.anew)
    return asyncio.run(run)


def _models(parsed: argparse.Namespace) -> int:
    from server.commands import models

    return models.models(_settings(parsed), parsed)


def _config(parsed: argparse.Namespace) -> int:
    from server.commands import keys

    return keys.config(_settings(parsed))


def _doctor(parsed: argparse.Namespace) -> int:
    from server.commands import doctor

    logs.configure("off", None)
    try:
        settings = _settings(parsed)
    except SettingsError as error:
        return doctor.refuse(error)
    return asyncio.run(doctor.examine(settings))


def _client(command: str, *words: str) -> int:
    """Run a command of the terminal client."""
    from clients import ask, chat, history

    match command:
        case "chat":
            return chat.main(words)
        case "ask":
            return ask.main(words)
    return history.main(command, words)
