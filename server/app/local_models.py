"""The models on this machine that the settings name, as upstreams."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from server.config.settings import Settings, SettingsError
from server.config.upstream_names import ELIZA, LOCAL
from server.upstream.llama.devices import gpu_memory
from server.upstream.llama.engine import Engine, NoEngineError, find
from server.upstream.llama.files.gguf import Header, NotGGUFError
from server.upstream.llama.files.library import Entry, Library, ModelFileError, default_folder
from server.upstream.llama.memory import Plan, available, fit, plan, window_of
from server.upstream.pool import ALL, PoolMember

if TYPE_CHECKING:
    from server.upstream.llama.local_model import LocalModel


def library_of(settings: Settings) -> Library:
    """Return the folder of models that the settings name."""
    return Library(settings.models_folder or default_folder())


def local_names(settings: Settings) -> tuple[str, ...]:
    """Return the models to be served, the one that is asked by default first."""
    if ALL not in settings.local:
        return settings.local
    named = [name for name in settings.local if name != ALL]
    return tuple(dict.fromkeys((*named, *library_of(settings).there())))


def engine_of(settings: Settings) -> Engine:
    """Return what runs them. Raises SettingsError, which says how to install it."""
    try:
        return find(settings.local_options.engine, settings.llama_server)
    except NoEngineError as error:
        raise SettingsError(f"TRIALOGUE_LOCAL: {error}") from None


async def local_members(settings: Settings, stack: AsyncExitStack) -> list[PoolMember]:
    """Make an upstream of each local model, and begin to load the default; the stack ends them.

    SIGHUP loads anew those that are loaded. Raises SettingsError for one that cannot be.
    """
    names = local_names(settings)
    if not names:
        return []
    engine, library = engine_of(settings), library_of(settings)
    found = [await asyncio.to_thread(_found, library, name) for name in names]
    # Only now: the clients take longer to load than all the rest of the server.
    from server.upstream.llama.host import Host
    from server.upstream.llama.local_model import LocalModel

    host = Host(library, engine, settings.local_options)
    stack.push_async_callback(host.close)
    context = settings.local_options.context
    models = [
        LocalModel(host, entry.name, described(entry, header, context)) for entry, header in found
    ]
    for model in models:
        stack.push_async_callback(model.close)
    for model in models:
        if model.name == (settings.model or names[0]):
            model.begin()
    _reload_by_signal(models, stack)
    return [_member(model, header) for model, (_, header) in zip(models, found, strict=True)]


def _reload_by_signal(models: Sequence[LocalModel], stack: AsyncExitStack) -> None:
    def reload() -> None:
        for model in models:
            model.begin_anew()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    stack.callback(loop.remove_signal_handler, signal.SIGHUP)


def _member(model: LocalModel, header: Header) -> PoolMember:
    talks = header.template or header.embeds
    return PoolMember(
        f"{LOCAL}{model.name}",
        model,
        model,
        models=(model.name,),
        completions_only=() if talks else (model.name,),
        list_seconds=0.0,
        detail=model.state,
        tokenizers={ALL: "upstream"},
        near=True,
    )


def _found(library: Library, name: str) -> tuple[Entry, Header]:
    """Return a model that is to be served. Raises SettingsError."""
    if name == ELIZA:
        raise SettingsError(f"TRIALOGUE_LOCAL: {name!r} is built in; pull it under another name")
    try:
        entry = library.entry(name)
        return entry, entry.header()
    except ModelFileError as error:
        told = f"TRIALOGUE_LOCAL: {error}; 'trialogue models pull' fetches one"
        raise SettingsError(told) from None
    except (NotGGUFError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"TRIALOGUE_LOCAL: {library.path(name)}: {why}") from None


def planned(settings: Settings, entry: Entry, header: Header) -> Plan:
    """Return how a model would be loaded now, were there no other. Raises NoMemoryError."""
    options = settings.local_options

    def gpu() -> int:
        try:
            engine = find(options.engine, settings.llama_server)
        except NoEngineError:
            return 0
        return gpu_memory(options, engine.program, 0)

    wished = {"context": options.context, "parallel": options.parallel}
    planned_in = partial(plan, entry.name, entry.size, header, **wished)
    return fit(planned_in, partial(available, options.memory_limit, 0, 0), gpu)


def described(entry: Entry, header: Header, context: int) -> dict[str, object]:
    """Return what the list of models says of one before it is loaded."""
    told = {
        "n_ctx": window_of(header, context),
        "n_ctx_train": header.window,
        "n_params": header.parameters,
        "size": entry.size,
        "quant": header.quant,
        "sha256": entry.record.sha256 if entry.record else None,
    }
    return {name: value for name, value in told.items() if value is not None}
