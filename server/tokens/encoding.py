"""The tokenizer: OpenAI's encodings both ways, from rank files shipped beside this module."""

from __future__ import annotations

import hashlib
from binascii import a2b_base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec, module_from_spec
from threading import Lock
from types import ModuleType
from typing import Any

import tiktoken

ENCODINGS: tuple[str, ...] = (
    "gpt2",
    "r50k_base",
    "p50k_base",
    "p50k_edit",
    "cl100k_base",
    "o200k_base",
    "o200k_harmony",
)

#: Characters tokenized at once: the patterns overflow their stack on runs of about a million.
LONGEST_PIECE = 100_000
#: How far back from the end of a piece a word boundary is looked for.
_SEAM_REACH = 1_000


class UnknownEncodingError(ValueError):
    """There is no encoding of this name."""


class UnknownTokenError(ValueError):
    """A token is not in the encoding's vocabulary."""


class EncodingFileError(RuntimeError):
    """A shipped rank file is missing, or is not the one that was published."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """One encoding, ready for use in any thread; look-alikes of special tokens are plain text."""

    name: str
    _bpe: tiktoken.Encoding = field(repr=False)

    def count(self, text: str) -> int:
        """Count the tokens of a text."""
        return sum(len(self._bpe.encode_ordinary(piece)) for piece in _pieces(text))

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text; a lone surrogate is encoded as U+FFFD."""
        return [token for piece in _pieces(text) for token in self._bpe.encode_ordinary(piece)]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, with U+FFFD for bytes that are no UTF-8.

        Raises UnknownTokenError.
        """
        try:
            return self._bpe.decode(tokens)
        except (KeyError, OverflowError) as error:
            raise UnknownTokenError(f"no such token in {self.name}") from error


Ranks = Callable[[Traversable, str, str], dict[bytes, int]]
_built: dict[str, Encoding] = {}
_building = Lock()


def encoding(name: str) -> Encoding:
    """Return the encoding of this name, built at its first use and then kept.

    Raises UnknownEncodingError, EncodingFileError.
    """
    if name not in _built:
        with _building:  # one thread reads the files, others wait for it
            if name not in _built:
                _built[name] = build(name, files("server.tokens") / "encodings")
    return _built[name]


def build(name: str, folder: Traversable) -> Encoding:
    """Build an encoding from the rank files in a folder, each named by the SHA-1 of its URL."""
    if name not in ENCODINGS:
        raise UnknownEncodingError(f"unknown encoding {name!r}; known: {', '.join(ENCODINGS)}")
    definition: dict[str, Any] = vars(_definitions(folder))[name]()
    return Encoding(name, tiktoken.Encoding(**definition))


def check_files(name: str) -> None:
    """Compare the rank files of an encoding with what was published, and build nothing.

    Raises EncodingFileError.
    """

    def compared(folder: Traversable, url: str, sha256: str) -> dict[bytes, int]:
        _published(folder, url, sha256)
        return {}

    vars(_definitions(files("server.tokens") / "encodings", compared))[name]()


def _definitions(folder: Traversable, ranks: Ranks | None = None) -> ModuleType:
    """Return a private copy of tiktoken's encoding definitions that reads ranks from a folder.

    The patterns and special tokens are tiktoken's; its loaders, which download, are replaced in
    the copy alone. GPT-2's ranks are those of r50k_base, so its two older files are not needed.
    """
    spec = find_spec("tiktoken_ext.openai_public")
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("tiktoken has no module of encoding definitions")
    definitions = module_from_spec(spec)
    spec.loader.exec_module(definitions)

    def load(url: str, expected_hash: str) -> dict[bytes, int]:
        return (ranks or _ranks)(folder, url, expected_hash)

    def load_gpt2(**_: str) -> Any:
        return definitions.r50k_base()["mergeable_ranks"]

    vars(definitions).update(
        load_tiktoken_bpe=load,
        data_gym_to_mergeable_bpe_ranks=load_gpt2,
    )
    return definitions


def _ranks(folder: Traversable, url: str, sha256: str) -> dict[bytes, int]:
    words = _published(folder, url, sha256).split()
    return dict(zip(map(a2b_base64, words[::2]), map(int, words[1::2]), strict=True))


def _published(folder: Traversable, url: str, sha256: str) -> bytes:
    """Return the content of a rank file, which is the one that was published."""
    name = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise EncodingFileError(f"cannot read the rank file {name}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise EncodingFileError(f"the rank file {name} is damaged; install the server again")
    return content


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > LONGEST_PIECE:
        end = _seam(text, start + LONGEST_PIECE)
        yield text[start:end]
        start = end
    yield text[start:]


def _seam(text: str, end: int) -> int:
    """Return where to cut at or before `end`, if possible where the tokens do not change by it.

    In every pattern a space after something else than white space begins a new word.
    """
    cut = end
    while (cut := text.rfind(" ", end - _SEAM_REACH, cut)) > 0:
        if not text[cut - 1].isspace():
            return cut
    return end
