"""What is known of models by name: encoding, window, output limit, price of an image in tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final


@dataclass(frozen=True, slots=True)
class Tiles:
    """Images cost tokens by tiles of 512 pixels: `base`, and `tile` for each at high detail."""

    base: int
    tile: int


@dataclass(frozen=True, slots=True)
class Fit:
    """An image is shrunk until it is within these patches, and its longer side within `edge`."""

    patches: int
    edge: int


@dataclass(frozen=True, slots=True)
class Patches:
    """Images cost `multiplier` tokens for a patch of 32 pixels, once shrunk as the detail says."""

    multiplier: float
    high: Fit
    original: Fit
    auto: Fit


ImageCost = Tiles | Patches


@dataclass(frozen=True, slots=True)
class Model:
    """A model's limits in tokens: `window` holds input and output, `input` is a lower limit on it.

    `chat` is false for models that take no messages, only text. `images` is None for models that
    take no images.
    """

    name: str
    encoding: str
    window: int
    output: int
    input: int | None = None
    chat: bool = True
    images: ImageCost | None = None


_CL100K = "cl100k_base"
_O200K = "o200k_base"

_SMALL = Fit(1_536, 2_048)
_LARGE = Fit(2_500, 2_048)
_HUGE = Fit(10_000, 6_000)
_WHOLE = Fit(30_000, 65_535)

TILES_4O = Tiles(85, 170)
_TILES_4O_MINI = Tiles(2_833, 5_667)
_TILES_O = Tiles(75, 150)
_TILES_5 = Tiles(70, 140)
_PATCHES_MINI = Patches(1.62, high=_SMALL, original=_SMALL, auto=_SMALL)
_PATCHES_NANO = Patches(2.46, high=_SMALL, original=_SMALL, auto=_SMALL)
_PATCHES_O4_MINI = Patches(1.72, high=_SMALL, original=_SMALL, auto=_SMALL)
_PATCHES_5_2 = Patches(1.2, high=_SMALL, original=_SMALL, auto=_SMALL)
_PATCHES_5_4 = Patches(1.2, high=_LARGE, original=_HUGE, auto=_LARGE)
_PATCHES_5_5 = Patches(1.2, high=_LARGE, original=_HUGE, auto=_HUGE)
_PATCHES_5_6 = Patches(1.2, high=_LARGE, original=_WHOLE, auto=_WHOLE)

MODELS: tuple[Model, ...] = (
    Model("eliza", _O200K, 128_000, 4_096),
    Model("gpt-6.1-sol", _O200K, 1_050_000, 128_000, 922_000, images=_PATCHES_5_6),
    Model("gpt-6.1-terra", _O200K, 1_050_000, 128_000, 922_000, images=_PATCHES_5_6),
    Model("gpt-6-astra", _O200K, 1_050_000, 128_000, 922_000, images=_PATCHES_5_6),
    Model("gpt-6-sol", _O200K, 1_050_000, 128_000, 922_000, images=_PATCHES_5_6),
    Model("gpt-6-luna", _O200K, 1_050_000, 128_000, 922_000, images=_PATCHES_5_6),
    Model("gpt-5.6", _O200K, 1_050_000, 128_000, 922_000, images=_PATCHES_5_6),
    Model("gpt-5.6-cyber", _O200K, 400_000, 128_000, 272_000, images=_PATCHES_5_6),
    Model("gpt-5.5", _O200K, 1_050_000, 128_000, 922_000, images=_PATCHES_5_5),
    Model("gpt-5.4", _O200K, 1_050_000, 128_000, 922_000, images=_PATCHES_5_4),
    Model("gpt-5.4-mini", _O200K, 400_000, 128_000, 272_000, images=_PATCHES_MINI),
    Model("gpt-5.4-nano", _O200K, 400_000, 128_000, 272_000, images=_PATCHES_NANO),
    Model("gpt-5.3-codex", _O200K, 400_000, 128_000, 272_000, images=_PATCHES_5_2),
    Model("gpt-5.3-chat", _O200K, 128_000, 16_384, images=_PATCHES_5_2),
    Model("gpt-5.2", _O200K, 400_000, 128_000, 272_000, images=_PATCHES_5_2),
    Model("gpt-5.2-chat", _O200K, 128_000, 16_384, images=_PATCHES_5_2),
    Model("gpt-5.1", _O200K, 400_000, 128_000, 272_000, images=_TILES_5),
    Model("gpt-5.1-chat", _O200K, 128_000, 16_384, images=_TILES_5),
    Model("gpt-5", _O200K, 400_000, 128_000, 272_000, images=_TILES_5),
    Model("gpt-5-mini", _O200K, 400_000, 128_000, 272_000, images=_PATCHES_MINI),
    Model("gpt-5-nano", _O200K, 400_000, 128_000, 272_000, images=_PATCHES_NANO),
    Model("gpt-5-pro", _O200K, 400_000, 272_000, images=_TILES_5),
    Model("gpt-5-chat", _O200K, 128_000, 16_384, images=_TILES_5),
    Model("gpt-4.5", _O200K, 128_000, 16_384, images=TILES_4O),
    Model("gpt-4.1", _O200K, 1_047_576, 32_768, images=TILES_4O),
    Model("gpt-4.1-mini", _O200K, 1_047_576, 32_768, images=_PATCHES_MINI),
    Model("gpt-4.1-nano", _O200K, 1_047_576, 32_768, images=_PATCHES_NANO),
    Model("gpt-4o", _O200K, 128_000, 16_384, images=TILES_4O),
    Model("gpt-4o-2024-05-13", _O200K, 128_000, 4_096, images=TILES_4O),
    Model("gpt-4o-mini", _O200K, 128_000, 16_384, images=_TILES_4O_MINI),
    Model("chatgpt-4o", _O200K, 128_000, 16_384, images=TILES_4O),
    Model("gpt-audio", _O200K, 128_000, 16_384),
    Model("o1", _O200K, 200_000, 100_000, images=_TILES_O),
    Model("o1-mini", _O200K, 128_000, 65_536),
    Model("o1-preview", _O200K, 128_000, 32_768),
    Model("o3", _O200K, 200_000, 100_000, images=_TILES_O),
    Model("o3-mini", _O200K, 200_000, 100_000),
    Model("o4-mini", _O200K, 200_000, 100_000, images=_PATCHES_O4_MINI),
    Model("codex-mini", _O200K, 200_000, 100_000, images=_PATCHES_O4_MINI),
    Model("gpt-4-turbo", _CL100K, 128_000, 4_096, images=TILES_4O),
    Model("gpt-4-vision", _CL100K, 128_000, 4_096, images=TILES_4O),
    Model("gpt-4-1106-vision", _CL100K, 128_000, 4_096, images=TILES_4O),
    Model("gpt-4-1106", _CL100K, 128_000, 4_096),
    Model("gpt-4-0125", _CL100K, 128_000, 4_096),
    Model("gpt-4-32k", _CL100K, 32_768, 8_192),
    Model("gpt-4", _CL100K, 8_192, 8_192),
    Model("gpt-3.5-turbo", _CL100K, 16_385, 4_096),
    Model("gpt-3.5-turbo-instruct", _CL100K, 4_096, 4_096, chat=False),
    Model("davinci-002", _CL100K, 16_384, 16_384, chat=False),
    Model("babbage-002", _CL100K, 16_384, 16_384, chat=False),
    Model("gpt-oss", "o200k_harmony", 131_072, 131_072),
    Model("text-embedding-3-small", _CL100K, 8_192, 0, chat=False),
    Model("text-embedding-3-large", _CL100K, 8_192, 0, chat=False),
    Model("text-embedding-ada-002", _CL100K, 8_192, 0, chat=False),
)

#: Chosen for names that are not in the table; nobody has published these.
_UNKNOWN = Model("", _O200K, 128_000, 16_384, images=TILES_4O)

#: Characters of a name that is looked up once: callers may say any, and long ones.
_REMEMBERED: Final = 128

_BY_NAME = {row.name: row for row in MODELS}


def base_name(name: str) -> str:
    """Return a model's own name, without provider (`openai/…`), fine-tuning (`ft:…:org::id`), tag.

    Azure's spelling `gpt-35-…` becomes `gpt-3.5-…`.
    """
    own = name.lower().rpartition("/")[2].removeprefix("ft:").partition(":")[0]
    return f"gpt-3.5-{own[7:]}" if own.startswith("gpt-35-") else own


def is_known(name: str) -> bool:
    """Say whether a name, without its date, has a row of its own."""
    return model(name).name in _BY_NAME


def model(name: str) -> Model:
    """Return the row whose name is the longest prefix of this one, ending where a `-` follows.

    A date (`-2024-08-06`, `-0613`) is thereby left out unless it has a row of its own. A name
    without any row gets the limits chosen for unknown models, under the name given.
    """
    return _remembered(name) if len(name) <= _REMEMBERED else _row(name)


@lru_cache(maxsize=1_024)
def _remembered(name: str) -> Model:
    return _row(name)


def _row(name: str) -> Model:
    prefix = base_name(name)
    while prefix:
        if prefix in _BY_NAME:
            return _BY_NAME[prefix]
        prefix = prefix.rpartition("-")[0]
    return replace(_UNKNOWN, name=name)


def reserve(model: Model, window: int | None = None) -> int:
    """Return what is kept for the answer by default, in tokens: all of it, or a quarter."""
    return _reserved(model, model.window if window is None else window)


def budget(model: Model, window: int | None = None, reserve: int | None = None) -> int:
    """Return the tokens that a prompt may have; `window` and `reserve` override the model's."""
    window = model.window if window is None else window
    room = max(window - (_reserved(model, window) if reserve is None else reserve), 0)
    return room if model.input is None else min(room, model.input)


def _reserved(model: Model, window: int) -> int:
    return model.output if model.output <= window // 2 else window // 4
