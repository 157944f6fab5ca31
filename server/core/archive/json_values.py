"""JSON into values that the database can keep, counting what had to be replaced."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from server.core.errors import InvalidRequestError

#: Half of a surrogate pair and NUL: no wire and no database carries them.
_UNFIT = re.compile("[\x00\ud800-\udfff]")
#: JSON without any of these has nothing unfit in it.
_SUSPECT = re.compile(rb"\x00|\\u0000|\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")


def parsed(raw: bytes, dropped: Counter[str]) -> Any:
    """Read JSON; every character that cannot be kept becomes U+FFFD.

    Raises InvalidRequestError for what is no JSON. A key that stands twice in an object gives its
    last value, and is counted.
    """

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            dropped["duplicate_key"] += len(pairs) - len(found)
        return found

    try:
        text = raw.decode("utf-8", "surrogatepass")
        value = json.loads(text, object_pairs_hook=members, strict=False)
    except json.JSONDecodeError as error:
        reason = f"It is not valid JSON: {error.msg} at character {error.pos}."
        raise InvalidRequestError(reason) from None
    except UnicodeDecodeError:
        raise InvalidRequestError("It is not UTF-8.") from None
    except ValueError:
        raise InvalidRequestError("It has a number of too many digits.") from None
    return _fit(value, dropped) if _SUSPECT.search(raw) else value


def _fit(value: Any, dropped: Counter[str]) -> Any:
    match value:
        case str():
            text, count = _UNFIT.subn("\ufffd", value)
            if count:
                dropped["character"] += count
            return text
        case list():
            return [_fit(one, dropped) for one in value]
        case dict():
            return {_fit(key, dropped): _fit(one, dropped) for key, one in value.items()}
        case _:
            return value
