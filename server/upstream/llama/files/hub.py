"""Finds models: by words, and by name down to one file of one commit, with its hash.

The hub is Hugging Face's, or another that speaks its API (`HF_ENDPOINT`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from server.upstream.llama.files.library import ModelFileError
from server.upstream.llama.files.pieces import begins, piece_of
from server.upstream.llama.files.web import Web

HUGGING_FACE = "https://huggingface.co"
#: which weights are taken where several are offered and none is named, best first
PREFERRED = ("Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q8_0", "F16", "BF16", "F32")
_REPO = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?::(?P<file>[\w./-]+))?(?:@(?P<revision>[\w./-]+))?"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file to be fetched: from where, and what it must be."""

    address: str
    #: what is recorded as its source
    source: str
    file_name: str
    #: None where nobody says; then whoever asks must have told to go without
    sha256: str | None
    size: int | None = None
    revision: str | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A repository that a search found."""

    name: str
    downloads: int
    #: it can be had only by those who took its terms
    gated: bool


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository, and what of it is wanted: a quant (`Q4_K_M`), or a file."""

    name: str
    file: str | None
    revision: str


def repo_of(source: str) -> Repo | None:
    """Read `OWNER/NAME[:QUANT or FILE][@REVISION]`; None for what is none."""
    found = _REPO.fullmatch(source)
    if found is None or ".." in source:
        return None
    return Repo(found["repo"], found["file"], found["revision"] or "main")


class Hub:
    """A hub of models."""

    def __init__(self, web: Web, endpoint: str = HUGGING_FACE) -> None:
        self._web = web
        self._endpoint = endpoint.rstrip("/")

    async def search(self, words: str, limit: int) -> list[Hit]:
        """Return the most fetched repositories with GGUF files that words find."""
        asked = {"search": words, "filter": "gguf", "sort": "downloads", "limit": limit}
        found = await self._web.json(f"{self._endpoint}/api/models?{urlencode(asked)}")
        if not isinstance(found, list):
            raise ModelFileError("the hub answers what is no list")
        return [
            Hit(str(one["id"]), _count(one.get("downloads")), bool(one.get("gated")))
            for one in found[:limit]
            if isinstance(one, dict) and repo_of(str(one.get("id"))) is not None
        ]

    async def wanted(self, repo: Repo) -> list[Wanted]:
        """Return the file of a repository that is meant, at the commit that it has now.

        Of a model in several files all of them, in order. Raises ModelFileError where there is
        none, or one without a hash.
        """
        path = f"/api/models/{repo.name}/revision/{quote(repo.revision, safe='')}?blobs=true"
        told = await self._web.json(self._endpoint + path)
        if not isinstance(told, dict) or not _COMMIT.fullmatch(str(told.get("sha"))):
            raise ModelFileError(f"the hub does not say which commit {repo.name} has")
        files = _chosen(repo, told.get("siblings"))
        licence = _licence(told.get("cardData"))
        return [self._wanted(repo, str(told["sha"]), file, licence) for file in files]

    def _wanted(
        self, repo: Repo, commit: str, file: Mapping[str, Any], licence: str | None
    ) -> Wanted:
        name, lfs = str(file["rfilename"]), file.get("lfs")
        sha256 = lfs.get("sha256") if isinstance(lfs, dict) else None
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise ModelFileError(f"the hub tells no sha256 of {name}")
        size = file.get("size")
        return Wanted(
            address=f"{self._endpoint}/{repo.name}/resolve/{commit}/{quote(name)}",
            source=f"hf:{repo.name}/{name}",
            file_name=name.rpartition("/")[2],
            sha256=sha256,
            size=size if isinstance(size, int) and size > 0 else None,
            revision=commit,
            licence=licence,
        )


def _count(told: Any) -> int:
    return told if type(told) is int else 0


def _chosen(repo: Repo, siblings: Any) -> list[Mapping[str, Any]]:
    """Return the file that is meant, and those that are one model with it."""
    told = siblings if isinstance(siblings, list) else []
    listed = [one for one in told if isinstance(one, dict)]
    files = {str(one.get("rfilename")): one for one in listed}
    models = [
        name
        for name in files
        if name.isprintable()
        and name.lower().endswith(".gguf")
        and "mmproj" not in name.lower()
        and ".." not in name
    ]
    found = _meant(models, repo.file)
    if found is None:
        offered = ", ".join(sorted(filter(_begins, models))[:12]) or "no GGUF file"
        what = f" {repo.file!r}" if repo.file else ""
        raise ModelFileError(f"{repo.name}: say which{what}: it has {offered}")
    folder, slash, name = found.rpartition("/")
    if (piece := piece_of(name)) is None:
        return [files[found]]
    if piece.count > len(files):
        raise ModelFileError(f"{repo.name} lacks a piece of {piece.model}")
    names = [f"{folder}{slash}{one}" for one in piece.names]
    if missing := [one for one in names if one not in files]:
        raise ModelFileError(f"{repo.name} lacks {missing[0]}, a piece of that model")
    return [files[one] for one in names]


def _meant(models: Sequence[str], wanted: str | None) -> str | None:
    """Return the one file that a word means: its name, or the quant in it; None if not one."""
    if wanted in models:
        return wanted
    for quant in [wanted] if wanted else PREFERRED:
        ends = re.compile(rf"(?:^|[-._/]){re.escape(quant)}(?:-\d{{5}}-of-\d{{5}})?\.gguf$", re.I)
        found = sorted(name for name in models if ends.search(name))
        if found:
            return found[0]
    found = [] if wanted else [*filter(_begins, models)]
    return found[0] if len(found) == 1 else None


def _begins(path: str) -> bool:
    return begins(path.rpartition("/")[2])


def _licence(card: Any) -> str | None:
    told = card.get("license") if isinstance(card, dict) else None
    return told[:256] if isinstance(told, str) and told.isprintable() else None
