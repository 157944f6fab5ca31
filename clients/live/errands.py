"""Errands that a thread of their own does one by one: what waits for a server keeps no screen."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Errands:
    """Does what it is given, in order; at the end of the process nothing is waited for."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._work, daemon=True).start()

    def give(self, errand: Callable[[], T]) -> Future[T]:
        """Have this done behind all that waits; return what will have its result."""
        done: Future[T] = Future()
        self._waiting.put((done, errand))
        return done

    def _work(self) -> None:
        while True:
            done, errand = self._waiting.get()
            try:
                done.set_result(errand())
            except Exception as error:  # noqa: BLE001 - for whoever waits for the result
                done.set_exception(error)
