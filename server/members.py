"""The upstreams that the settings name, made and put in order."""

from __future__ import annotations

from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from server.settings import Settings
from server.upstream.eliza import Eliza
from server.upstream.eliza_api import ElizaApi
from server.upstream.embeddings import Embedder
from server.upstream.incoming import Bounds
from server.upstream.openai_api import OpenAIUpstream
from server.upstream.passage import Passage
from server.upstream.upstreams import ALL, Member, Upstreams

#: The model of conversations that name none, where an upstream is configured.
DEFAULT_MODEL = "gpt-5.4-mini"
ELIZA = "eliza"


def model_of(settings: Settings) -> str:
    """Return the model of conversations that name none."""
    return settings.model or (DEFAULT_MODEL if configured(settings) else ELIZA)


def configured(settings: Settings) -> bool:
    """Whether there is an upstream besides Eliza."""
    return bool(settings.openai_api_key or settings.openai_base_url)


async def upstreams_of(settings: Settings, stack: AsyncExitStack) -> Upstreams:
    """Make the upstreams; the stack closes them. Eliza serves all models where nobody else does."""
    embedder = Embedder()
    stack.push_async_callback(embedder.close)
    eliza = Member(
        ELIZA,
        Eliza(delay=settings.eliza_delay),
        ElizaApi(delay=settings.eliza_delay, embeddings=embedder),
        models=(ELIZA,) if configured(settings) else (ALL,),
        local=True,
    )
    members = [eliza, _openai(settings)] if configured(settings) else [eliza]
    upstreams = Upstreams(members)
    stack.push_async_callback(upstreams.close)
    return upstreams


def told(settings: Settings) -> str:
    """Return who answers conversations that name no model, and why."""
    if not configured(settings):
        return "Eliza, built in: OPENAI_API_KEY is not set"
    if settings.model == ELIZA:
        return "Eliza, built in: TRIALOGUE_MODEL is eliza"
    # Without what may stand before an @: a password.
    where = urlsplit(settings.openai_base_url or "").netloc.rpartition("@")[2] or "OpenAI"
    return f"{where}, model {model_of(settings)}"


def _openai(settings: Settings) -> Member:
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    upstream = OpenAIUpstream(
        api_key=key,
        base_url=settings.openai_base_url,
        timeout=settings.upstream_timeout,
        first_byte_timeout=settings.upstream_first_byte_timeout,
        retries=settings.upstream_retries,
    )
    bounds = Bounds(
        total=settings.upstream_timeout, first_byte=settings.upstream_first_byte_timeout
    )
    speaker = Passage(api_key=key, base_url=settings.openai_base_url, bounds=bounds)
    return Member("openai", upstream, speaker)
