"""What the doctor says of models on this machine: engine, files, hashes, memory."""

from __future__ import annotations

from collections.abc import Iterator

from server.app.local_models import engine_of, library_of, local_names, planned
from server.config.settings import Settings, SettingsError
from server.upstream.llama.engine import lacks_avx2
from server.upstream.llama.files.gguf import NotGGUFError
from server.upstream.llama.files.library import Entry, Library, ModelFileError
from server.upstream.llama.files.pull import check
from server.upstream.llama.memory import NoMemoryError


def local_models(settings: Settings) -> Iterator[tuple[bool, str]]:
    """Yield whether each thing is good, and the line to print; nothing where none is served."""
    names = local_names(settings)
    if not names:
        return
    try:
        engine = engine_of(settings)
    except SettingsError as error:
        yield False, str(error)
    else:
        if engine.program is None and lacks_avx2():
            yield False, f"engine {engine.told}: this processor has no AVX2; install llama-server"
        else:
            yield True, f"engine {engine.told}: runs local models in processes of their own"
    library = library_of(settings)
    for name in names:
        yield _model(settings, library, name)


def _model(settings: Settings, library: Library, name: str) -> tuple[bool, str]:
    try:
        entry = library.entry(name)
    except ModelFileError as error:
        return False, f"TRIALOGUE_LOCAL: {error}; 'trialogue models pull' fetches one"
    wrong = check(entry)
    if wrong is not None and entry.record is not None:
        return False, f"local model {name}: {wrong}"
    try:
        fits = _fits(settings, entry)
    except (NotGGUFError, OSError):
        return False, f"local model {name}: {wrong}"
    except NoMemoryError as error:
        return False, f"local {error}; take a smaller one, or fewer [local] parallel"
    hashed = f"not compared: {wrong}" if wrong else "as it was pulled"
    return True, f"local model {name}: {hashed}; {fits}"


def _fits(settings: Settings, entry: Entry) -> str:
    plan = planned(settings, entry, entry.header())
    return f"takes {plan.bytes / 1e6:,.0f} MB with {plan.windows}"
