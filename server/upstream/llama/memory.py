"""How much memory a model takes, and how much there is: whether it may be loaded, and how large."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from server.upstream.llama.files.gguf import Header

#: a window is made no smaller than this, in tokens, for want of memory
SMALLEST_WINDOW = 2048
#: windows are whole multiples of this
_STEP = 256
#: what a model takes beside its weights and its windows: buffers, the prompts it has read before
_MARGIN = 0.1


class NoMemoryError(Exception):
    """A model that would not fit; the text has the numbers."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is loaded: tokens of each of its windows, how many, and bytes for all of it."""

    window: int
    parallel: int
    bytes: int
    #: what was to be, where memory allows for less
    wished: int | None = None

    @property
    def windows(self) -> str:
        """Its windows, for whoever asks."""
        less = f", for want of memory not {self.wished:,}" if self.wished else ""
        return f"{self.parallel} windows of {self.window:,} tokens{less}"


def window_of(header: Header, context: int) -> int:
    """Return the window that a model has where there is memory enough."""
    return min(context, header.window) if header.window else context


def plan(
    name: str, size: int, header: Header, *, context: int, parallel: int, available: int
) -> Plan:
    """Return how a model whose file has `size` bytes is loaded into `available` bytes.

    Raises NoMemoryError where not even its smallest windows fit.
    """
    wished = window_of(header, context)
    smallest = min(wished, SMALLEST_WINDOW)

    def needed(window: int) -> int:
        return int((size + header.bytes_per_token * window * parallel) * (1 + _MARGIN))

    if needed(wished) <= available:
        return Plan(wished, parallel, needed(wished))
    if needed(smallest) > available:
        raise NoMemoryError(
            f"model {name!r} needs {_megabytes(needed(smallest))} of memory with "
            f"{parallel} windows of {smallest:,} tokens, and {_megabytes(available)} are free"
        )
    each = header.bytes_per_token * parallel * (1 + _MARGIN)
    room = int((available - size * (1 + _MARGIN)) / each) // _STEP * _STEP
    window = min(max(room, smallest), wished)
    return Plan(window, parallel, needed(window), wished)


def fit(planned: Callable[..., Plan], free: Callable[[int], int], gpu: Callable[[], int]) -> Plan:
    """Return how a model is loaded into what is `free`, with GPUs' memory where that is needed.

    `planned` is `plan` but for what is available. Raises NoMemoryError. `gpu` takes a while: it is
    asked only where it can help.
    """
    try:
        found = planned(available=free(0))
    except NoMemoryError:
        if not (more := gpu()):
            raise
        return planned(available=free(more))
    return planned(available=free(gpu())) if found.wished else found


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def available(
    limit: int | None, taken: int, asleep: int = 0, gpu: int = 0, root: Path = Path("/")
) -> int:
    """Return how many bytes a model may take now, where ours have `taken` so many already.

    The least of what the machine has free, what its control group leaves, each with what the GPUs
    have, and the limit. Those `asleep`, which are taken too, have given theirs back and may want it
    again.
    """
    free = (_machine(root), _group(root))
    found = [bound + gpu - asleep for bound in free if bound is not None]
    if limit is not None:
        found.append(limit - taken)
    return max(0, min(found)) if found else 1 << 62


def _machine(root: Path) -> int | None:
    """Return what the kernel says could be had without swapping."""
    try:
        for line in (root / "proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _group(root: Path) -> int | None:
    """Return what our control group, and those above it, leave; files in memory can be let go."""
    left: list[int] = []
    for folder, most, used, cached in _groups(root):
        bound = _number(folder / most)
        if bound is None or bound >= 1 << 60:
            continue
        files = _field(folder / "memory.stat", cached)
        left.append(bound - (_number(folder / used) or 0) + files)
    return min(left) if left else None


def _groups(root: Path) -> list[tuple[Path, str, str, str]]:
    """Return the folders of our control groups, innermost first, of either version."""
    found = []
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        if not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
        inner = base / path.strip("/")
        # Within a container our group is often shown as the root of all.
        folders = dict.fromkeys((inner, *inner.parents))
        found += [(folder, *names) for folder in folders if folder.is_relative_to(base)]
    return found


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _field(file: Path, name: str) -> int:
    try:
        pairs = [line.split() for line in file.read_text("ascii").splitlines()]
    except OSError:
        return 0
    return next((int(pair[1]) for pair in pairs if pair[0] == name), 0)
