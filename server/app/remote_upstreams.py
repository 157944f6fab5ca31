"""The upstreams that are asked over the network, made from the settings."""

from __future__ import annotations

import os

from dotenv import dotenv_values

from server.config.limits import UpstreamLimits
from server.config.settings import TOML_FILE, Settings, SettingsError
from server.config.tables import UpstreamTable
from server.upstream.pool import PoolMember
from server.upstream.remote.bounds import Bounds
from server.upstream.remote.client import OPENAI, UpstreamClient
from server.upstream.remote.turn_client import OpenAIUpstream, limit_name

#: Of each upstream: of who writes answers, and of who speaks for `/v1`.
_POOLS = 2


def _kept(settings: Settings) -> int:
    """Return how many idle connections each pool may keep: an equal share of all that are kept."""
    openais = bool(settings.openai_api_key or settings.openai_base_url)
    upstreams = len(settings.upstreams) + openais
    return max(1, UpstreamLimits().kept // (_POOLS * upstreams))


def listed(table: UpstreamTable, settings: Settings) -> PoolMember:
    """Return the upstream that a table of the settings names."""
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
        kept=_kept(settings),
    )
    speaker = UpstreamClient(
        api_key=key, base_url=table.base_url, name=table.name, bounds=bounds, kept=_kept(settings)
    )
    return PoolMember(
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


def openai(settings: Settings) -> PoolMember:
    """Return OpenAI, or what OPENAI_BASE_URL names."""
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    upstream = OpenAIUpstream(
        api_key=key,
        base_url=settings.openai_base_url,
        timeout=settings.upstream_timeout,
        first_byte_timeout=settings.upstream_first_byte_timeout,
        retries=settings.upstream_retries,
        kept=_kept(settings),
    )
    bounds = Bounds(
        total=settings.upstream_timeout, first_byte=settings.upstream_first_byte_timeout
    )
    speaker = UpstreamClient(
        api_key=key, base_url=settings.openai_base_url, bounds=bounds, kept=_kept(settings)
    )
    name = limit_name(settings.openai_base_url or OPENAI)
    return PoolMember("openai", upstream, speaker, limit_name=name)
