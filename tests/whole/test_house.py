"""The tree of the tests itself: what is needed in two places is defined in one."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live import ROOT

TESTS = ROOT / "tests"
#: programs that are read and run alone, as people write them
ALONE = TESTS / "examples" / "clients"
#: tops whose folders hold programs beside each other, and no parts of one
LOOSE = ("tools", "bench")


def modules(folder: Path = TESTS) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        if not path.is_relative_to(ALONE):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def origins(module: ast.Module, name: str) -> dict[str, str]:
    """Return where each name of a module comes from: from another one, or from itself."""
    found: dict[str, str] = {}
    for node in module.body:
        if isinstance(node, ast.ImportFrom):
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = f"{name}.{node.name}"
    return found


def sense(node: ast.stmt, known: dict[str, str]) -> str:
    """Return what a definition does: its code without its name, docstring and layout."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        node.name = "_"
        if ast.get_docstring(node) is not None:
            del node.body[0]
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            part.id = known.get(part.id, part.id)
    return ast.dump(node)


def own_name(node: ast.stmt) -> str | None:
    """Return the name of what a module defines: no test, type variable or mere error, which differ
    by their names.
    """
    match node:
        case ast.FunctionDef(name=own) | ast.AsyncFunctionDef(name=own):
            return None if own.startswith("test") else own
        case ast.ClassDef(name=own):
            return None if own.endswith("Error") else own
        case ast.Assign(targets=[target], value=value):
            if ast.unparse(target) != "pytestmark" and "TypeVar(" not in ast.unparse(value):
                return ast.unparse(target)
    return None


@pytest.mark.parametrize("folder", ["tests", "storage"])
def test_nothing_is_defined_twice(folder: str) -> None:
    """Neither fixture, helper nor constant: a change of one would forget the other."""
    places = defaultdict(list)
    for name, module in modules(ROOT / folder):
        known = origins(module, name)
        for node in module.body:
            own = own_name(node)
            if own is not None:
                places[sense(node, known)].append(f"{name}: {own}")
    assert [where for where in places.values() if len(where) > 1] == []


def test_helpers_stand_in_modules_of_their_own() -> None:
    """Fixtures come by their names; nobody imports from a conftest, or from somebody's tests."""
    importing = [
        f"{name}: {node.module}"
        for name, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("tests.")
        and (node.module or "").rpartition(".")[2].startswith(("conftest", "test_"))
    ]
    assert importing == []


def test_files_and_folders_stay_small() -> None:
    """As CONTRIBUTING.md says, with what it names as longer."""
    source = [ROOT / top for top in ("server", "storage", "clients", "tools", "bench")]
    ours = [one for top in source for one in top.rglob("*") if "node_modules" not in one.parts]
    long = {
        str(path.relative_to(ROOT))
        for path in ours
        if path.suffix in (".py", ".js", ".css", ".sql", ".sh")
        and len(path.read_text().splitlines()) > 400
    }
    assert long == {"clients/websocket_client.py"}
    modules_of = Counter(
        path.parent
        for path in ours
        if path.suffix in (".py", ".js") and path.relative_to(ROOT).parts[0] not in LOOSE
    )
    assert [folder for folder, count in modules_of.items() if count > 20] == []


def test_programs_without_an_ending_are_checked_too() -> None:
    """ruff and mypy find Python by its ending; what has none must be named to both."""
    words = (ROOT / "bin" / "test").read_text().split()
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    for program in (ROOT / "bin").iterdir():
        if "python" in program.read_text().partition("\n")[0]:
            name = f"bin/{program.name}"
            assert name in included["extend-include"], name
            assert name in words, name
