"""The console command: serve, chat, ask, list, keys, export, backup, doctor and their like."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from server.commands.parser import _client, _parser, is_client
from server.config.settings import SettingsError
from server.core.errors import RefusedError
from storage.port import StoreError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; what it cannot do is one line on standard error."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if is_client(arguments):
        return _client(*arguments)
    parsed = _parser().parse_args(arguments)
    try:
        result: int = parsed.run(parsed)
    except SettingsError as error:
        print(f"trialogue: {error}", file=sys.stderr)
        return 2
    except (RefusedError, StoreError) as error:
        print(f"trialogue: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("trialogue: stopped; what was done stays, and it can be run again", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"trialogue: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except UnicodeEncodeError:  # the words of the command line have bytes that are none
        print("trialogue: what is given is no text in UTF-8", file=sys.stderr)
        return 2
    return result


if __name__ == "__main__":
    sys.exit(main())
