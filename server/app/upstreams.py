"""The upstreams that the settings name, made and put in order."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from server.app.local_models import local_members, local_names
from server.config.settings import Settings, SettingsError
from server.config.upstream_names import ELIZA
from server.core.observability.metrics import Metrics
from server.tokens.models import model
from server.upstream.health import STATES
from server.upstream.local.embeddings.embedder import Embedder
from server.upstream.local.service import ElizaApi
from server.upstream.local.writer import ElizaWriter
from server.upstream.pool import ALL, PoolMember, UpstreamPool, is_pattern

#: The model of conversations that name none, where an upstream is configured.
DEFAULT_MODEL = "gpt-5.4-mini"


def model_of(settings: Settings) -> str:
    """Return the model of conversations that name none."""
    if settings.model is not None:
        return settings.model
    if local := local_names(settings):
        return local[0]
    if _has_openai(settings):
        return DEFAULT_MODEL
    for table in settings.upstreams:
        names = [*table.aliases, *(name for name in table.models if not is_pattern(name))]
        if names:
            return names[0]
    return DEFAULT_MODEL if settings.upstreams else ELIZA


async def with_model(settings: Settings, upstreams: UpstreamPool) -> Settings:
    """Return settings that name a model: where nobody did, the first that a server of its own has.

    OpenAI's list has hundreds, in no order; of any other server's the first is what it serves.
    """
    if settings.model is not None or model_of(settings) != DEFAULT_MODEL:
        return settings
    if settings.openai_base_url is None and not settings.upstreams:
        return settings
    listed = await upstreams.first_listed(DEFAULT_MODEL)
    return settings if listed is None else settings.model_copy(update={"model": listed})


async def window_note(settings: Settings, upstreams: UpstreamPool) -> str:
    """Return what is to be said of a window that nobody tells; empty where somebody does."""
    info = await upstreams.info(model_of(settings))
    if info.set_window or info.told_window or settings.context_window or info.named.exact:
        return ""
    taken = model(info.named.model).window
    return f" (nobody tells its context window: {taken:,} tokens are taken; set context_window)"


def configured(settings: Settings) -> bool:
    """Whether there is an upstream besides Eliza."""
    return bool(_has_openai(settings) or settings.upstreams or local_names(settings))


async def upstreams_of(settings: Settings, stack: AsyncExitStack) -> UpstreamPool:
    """Make the upstreams; the stack closes them. Eliza serves all models where nobody else does."""
    embedder = Embedder()
    stack.push_async_callback(embedder.close)
    api = ElizaApi(delay=settings.eliza_delay, embeddings=embedder)
    eliza = PoolMember(
        ELIZA,
        ElizaWriter(api, delay=settings.eliza_delay),
        api,
        models=(ELIZA,) if configured(settings) else (ALL,),
        local=True,
    )
    local = await local_members(settings, stack)
    upstreams = UpstreamPool([*local, *_remote(settings), eliza])
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
    names = ["this machine"] if local_names(settings) else []
    names += [table.name for table in settings.upstreams]
    if _has_openai(settings):
        # Without what may stand before an @: a password.
        where = urlsplit(settings.openai_base_url or "").netloc.rpartition("@")[2]
        names.append(where or "OpenAI")
    return f"{', '.join(names)}, model {model_of(settings)}"


def _has_openai(settings: Settings) -> bool:
    return bool(settings.openai_api_key or settings.openai_base_url)


def _remote(settings: Settings) -> list[PoolMember]:
    if not (_has_openai(settings) or settings.upstreams):
        return []
    # Only now: the clients take longer to load than all the rest of the server.
    from server.app import remote_upstreams

    members = [remote_upstreams.listed(table, settings) for table in settings.upstreams]
    return [*members, remote_upstreams.openai(settings)] if _has_openai(settings) else members


def show_upstreams(metrics: Metrics, upstreams: UpstreamPool) -> None:
    """Let the metrics show how the upstreams do."""

    def by_state() -> dict[str, float]:
        found = Counter(state.word for state in upstreams.state())
        return {state: found[state] for state in STATES}

    metrics.show("upstreams", by_state)
    metrics.show("upstream_attempts", lambda: sum(one.calls for one in upstreams.state()))
    metrics.show("upstream_failures", lambda: sum(one.failures for one in upstreams.state()))
