"""What is said of our dependencies is what is locked and installed, and nothing bars their use."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.support.live import ROOT
from tools.dependencies import Part, bill, page, parts

#: Licences that let everybody use the server and pass it on; a new one is to be looked at first.
FREE = {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "PSF-2.0", "MPL-2.0", "CNRI-Python"}


@pytest.fixture(scope="module")
def found() -> list[Part]:
    return list(parts())


def test_the_page_is_fresh(found: list[Part]) -> None:
    assert (ROOT / "docs" / "dependencies.md").read_text() == page(found)


def test_every_locked_package_is_told(found: list[Part]) -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert len(found) == lock.count("==") - lock.count(" == ")
    assert {part.name for part in found if part.direct} >= {"aiohttp", "grpcio", "starlette"}


def test_every_licence_is_free(found: list[Part]) -> None:
    for part in found:
        if part.licence is None:  # not for this platform
            assert part.only
            continue
        assert set(re.split(r" AND | OR ", part.licence.replace("(", "").replace(")", ""))) <= FREE


def test_the_bill_is_whole_and_the_same_every_time(found: list[Part]) -> None:
    made: dict[str, Any] = bill(found)
    assert made == bill(found)
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", made["serialNumber"])
    refs = [one["bom-ref"] for one in made["components"]]
    assert len(refs) == len(set(refs))
    assert {part.purl for part in found} <= set(refs)
    assert [one["type"] for one in made["components"]].count("data") == 4
    ours = made["metadata"]["component"]["bom-ref"]
    for one in made["dependencies"]:
        assert one["ref"] in {*refs, ours}
        assert set(one["dependsOn"]) <= set(refs)
    reached, begun = {ours}, [ours]
    needs = {one["ref"]: one["dependsOn"] for one in made["dependencies"]}
    while begun:
        begun = [ref for one in begun for ref in needs[one] if ref not in reached]
        reached |= set(begun)
    assert {part.purl for part in found if not part.only} <= reached  # nothing is there for nobody


def test_it_is_printed_as_json(found: list[Part]) -> None:
    command = [sys.executable, "-m", "tools.dependencies", "sbom"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(json.dumps(bill(found)))
