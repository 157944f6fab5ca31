"""The upstreams that the settings name, made and put in order."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from dotenv import dotenv_values

from server.settings import TOML_FILE, Settings, SettingsError, UpstreamTable
from server.upstream.eliza import Eliza
from server.upstream.eliza_api import ElizaApi
from server.upstream.embeddings import Embedder
from server.upstream.incoming import Bounds
from server.upstream.openai_api import OpenAIUpstream, limit_name
from server.upstream.passage import OPENAI, Passage
from server.upstream.upstreams import ALL, Member, Upstreams, is_pattern

#: The model of conversations that name none, where an upstream is configured.
DEFAULT_MODEL = "gpt-5.4-mini"
ELIZA = "eliza"


def model_of(settings: Settings) -> str:
    """Return the model of conversations that name none."""
    if settings.model is not None:
        return settings.model
    if _has_openai(settings):
        return DEFAULT_MODEL
    for table in settings.upstreams:
        names = [*table.aliases, *(name for name in table.models if not is_pattern(name))]
        if names:
            return names[0]
    return DEFAULT_MODEL if settings.upstreams else ELIZA


def configured(settings: Settings) -> bool:
    """Whether there is an upstream besides Eliza."""
    return _has_openai(settings) or bool(settings.upstreams)


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
    members = [eliza, *(_listed(table, settings) for table in settings.upstreams)]
    if _has_openai(settings):
        members.append(_openai(settings))
    upstreams = Upstreams(members)
    stack.push_async_callback(upstreams.close)
    if not upstreams.serves(model_of(settings)):
        raise SettingsError(f"TRIALOGUE_MODEL: no upstream serves {model_of(settings)!r}")
    return upstreams


def told(settings: Settings) -> str:
    """Return who answers conversations that name no model, and why."""
    if not configured(settings):
        return "Eliza, built in: OPENAI_API_KEY is not set"
    if settings.model == ELIZA:
        return "Eliza, built in: TRIALOGUE_MODEL is eliza"
    names = [table.name for table in settings.upstreams]
    if _has_openai(settings):
        # Without what may stand before an @: a password.
        where = urlsplit(settings.openai_base_url or "").netloc.rpartition("@")[2]
        names.append(where or "OpenAI")
    return f"{', '.join(names)}, model {model_of(settings)}"


def _has_openai(settings: Settings) -> bool:
    return bool(settings.openai_api_key or settings.openai_base_url)


def _listed(table: UpstreamTable, settings: Settings) -> Member:
    key = _key(table)
    bounds = Bounds(
        total=table.timeout or settings.upstream_timeout,
        first_byte=table.first_byte_timeout or settings.upstream_first_byte_timeout,
        between=table.between_timeout or Bounds().between,
    )
    upstream = OpenAIUpstream(
        api_key=key,
        base_url=table.base_url,
        timeout=bounds.total,
        first_byte_timeout=bounds.first_byte,
        between_timeout=bounds.between,
        retries=settings.upstream_retries,
    )
    speaker = Passage(api_key=key, base_url=table.base_url, name=table.name, bounds=bounds)
    return Member(
        table.name,
        upstream,
        speaker,
        models=table.models,
        aliases=table.aliases,
        completions_only=table.completions_only,
        limit_name=limit_name(table.base_url),
    )


def _key(table: UpstreamTable) -> str | None:
    """Return the key in the variable that a table names: of the environment, or of .env."""
    if table.key_variable is None:
        return None
    name = table.key_variable
    key = os.environ.get(name) or dotenv_values(".env").get(name)
    if not key:
        raise SettingsError(f"{TOML_FILE}: upstream {table.name!r}: {name} is not set")
    return key


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
    name = limit_name(settings.openai_base_url or OPENAI)
    return Member("openai", upstream, speaker, limit_name=name)
