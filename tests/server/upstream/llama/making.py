"""How tests make local models: see the fixture `local`."""

from __future__ import annotations

from collections.abc import Callable

from server.upstream.llama.local_model import LocalModel

Make = Callable[..., LocalModel]
