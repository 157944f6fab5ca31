"""Whether an upstream can be reached and takes its key, and which models it lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import openai

from server.upstream.port import UpstreamError, UpstreamFailedError, UpstreamTimeoutError
from server.upstream.remote.unreachable import reason

SECONDS: Final = 10.0
#: what a server that wants no key is sent in its place
_NO_KEY: Final = "none"


@dataclass(frozen=True, slots=True)
class Probed:
    """How an upstream answered when it was asked for its models; those it listed, if it did."""

    status: int
    models: tuple[str, ...] | None


async def probe(api_key: str | None, base_url: str | None) -> Probed:
    """Ask an upstream for its models by OpenAI's own client, as a program of its users would.

    Raises UpstreamError where it cannot be reached.
    """
    async with openai.AsyncOpenAI(
        api_key=api_key or _NO_KEY, base_url=base_url, max_retries=0, timeout=SECONDS
    ) as client:
        try:
            listed = await client.models.list()
        except openai.APIStatusError as error:
            return Probed(error.status_code, None)
        except openai.APIConnectionError as error:
            raise _named(error) from None
        except (openai.OpenAIError, ValueError):
            return Probed(200, None)
    named = (getattr(model, "id", None) for model in listed.data or ())
    models = tuple(name for name in named if isinstance(name, str))
    return Probed(200, models if isinstance(listed.data, list) else None)


def _named(error: openai.APIConnectionError) -> UpstreamError:
    """Name what broke without the error's text: that may hold addresses."""
    if isinstance(error, openai.APITimeoutError):
        return UpstreamTimeoutError("the upstream did not answer in time")
    return UpstreamFailedError(
        f"the upstream could not be reached, or closed the connection ({reason(error)})"
    )
