"""The upstreams that are asked over the network, made from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from server.config.addresses import is_near
from server.config.kinds import sendable
from server.config.limits import UpstreamLimits
from server.config.named_variables import named_variable
from server.config.settings import TOML_FILE, Settings
from server.config.settings_files import naming
from server.config.tables import UpstreamTable
from server.config.upstream_names import OPENAI
from server.upstream.answering import Answering
from server.upstream.pool import ALL, PoolMember
from server.upstream.remote.bounds import Bounds
from server.upstream.remote.client import OPENAI_URL, UpstreamClient, is_openais, limit_name
from server.upstream.retry import Retries

T = TypeVar("T")
#: How long an upstream that is near may take by default, to begin and in all.
NEAR_SECONDS = 3600.0


def _kept(settings: Settings) -> int:
    """Return how many idle connections each upstream may keep: all have the same."""
    openais = bool(settings.openai_api_key or settings.openai_base_url)
    upstreams = len(settings.upstreams) + openais
    return max(1, UpstreamLimits().kept // upstreams)


def listed(table: UpstreamTable, settings: Settings) -> PoolMember:
    """Return the upstream that a table of the settings names."""
    key = _key(table)
    bounds = _bounds(table.base_url, settings, table)
    return _member(
        table.name,
        key,
        table.base_url,
        bounds,
        settings,
        models=table.models,
        aliases=table.aliases,
        completions_only=table.completions_only,
        windows=_by_pattern(table.context_window),
        tokenizers=_by_pattern(table.tokenizer),
        strict=table.template == "strict",
        responses=table.responses or is_openais(table.base_url),
    )


def _by_pattern(given: T | Mapping[str, T] | None) -> Mapping[str, T]:
    """Return a setting by the models that it is for: one value is for all of them."""
    if given is None:
        return {}
    return given if isinstance(given, Mapping) else {ALL: given}


def _key(table: UpstreamTable) -> str | None:
    """Return the key in the variable that a table names: of the environment, or of .env."""
    if table.key_variable is None:
        return None
    name = table.key_variable
    key = named_variable(name)
    with naming(f"{TOML_FILE}: upstream {table.name!r}: {name}"):
        if not key:
            raise ValueError("is not set")
        return sendable(key)


def openai(settings: Settings) -> PoolMember:
    """Return OpenAI, or what OPENAI_BASE_URL names."""
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    address = settings.openai_base_url or OPENAI_URL
    bounds = _bounds(address, settings)
    own = is_openais(address)
    return _member(OPENAI, key, settings.openai_base_url, bounds, settings, responses=own)


def _bounds(address: str, settings: Settings, table: UpstreamTable | None = None) -> Bounds:
    """Return how long an upstream may take: as the settings say, or an hour for one that is near.

    Such a one may read a prompt for minutes, on a CPU; its comments say that it lives.
    """
    near = is_near(address)

    def seconds(name: str) -> float:
        setting = f"upstream_{name}"
        usual = NEAR_SECONDS if near else None
        if setting in settings.model_fields_set or usual is None:
            usual = float(getattr(settings, setting))
        return (getattr(table, name) if table else None) or usual

    return Bounds(
        total=seconds("timeout"),
        first_byte=seconds("first_byte_timeout"),
        between=(table and table.between_timeout) or Bounds().between,
        comments_count=near,
    )


def _member(
    name: str,
    key: str | None,
    base_url: str | None,
    bounds: Bounds,
    settings: Settings,
    **of_member: Any,
) -> PoolMember:
    """Return a member of one client, which both passes calls on and has answers written."""
    client = UpstreamClient(
        api_key=key, base_url=base_url, name=name, bounds=bounds, kept=_kept(settings)
    )
    address = base_url or OPENAI_URL
    limit = limit_name(address)
    writer = Answering(
        client,
        total=bounds.total,
        retries=Retries(settings.upstream_retries),
        limit_name=limit,
    )
    return PoolMember(name, writer, client, limit_name=limit, near=is_near(address), **of_member)
