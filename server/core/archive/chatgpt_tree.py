"""The nodes of a ChatGPT conversation, put in order whatever their links say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

Parents = dict[str, str | None]


def in_order(mapping: Mapping[str, Any], dropped: Counter[str]) -> list[tuple[str, str | None]]:
    """Return every node once with its parent, behind its parent, siblings as they were listed.

    A node whose parent is not there stands at the root (`missing_parent`); a ring of parents is
    cut where it is met first (`parent_cycle`).
    """
    parents = _parents(mapping, dropped)
    for node in _rings(parents):
        parents[node] = None
        dropped["parent_cycle"] += 1
    children = _children(mapping, parents)
    found, waiting = [], children.pop(None, [])[::-1]
    while waiting:
        node = waiting.pop()
        found.append((node, parents[node]))
        waiting += children.pop(node, [])[::-1]
    return found


def children_of(node: Any) -> list[str]:
    """Return what a node says its children are."""
    match node:
        case {"children": list(children)}:
            return [child for child in children if isinstance(child, str)]
    return []


def _parents(mapping: Mapping[str, Any], dropped: Counter[str]) -> Parents:
    """Believe the node about its parent; where it names none, whoever calls it a child."""
    claimed = {child: id_ for id_, node in mapping.items() for child in children_of(node)}
    parents: Parents = {}
    for id_, node in mapping.items():
        named = node.get("parent") if isinstance(node, dict) else None
        if not isinstance(named, str) or named not in mapping:
            adopted = claimed.get(id_)
            dropped["missing_parent"] += named is not None and adopted is None
            named = adopted
        parents[id_] = named
    return parents


def _rings(parents: Parents) -> list[str]:
    """Return one node of every ring of parents."""
    rings: list[str] = []
    settled: set[str | None] = {None}
    for start in parents:
        walked: dict[str, None] = {}
        node: str | None = start
        while node is not None and node not in settled and node not in walked:
            walked[node] = None
            node = parents[node]
        if node in walked and node is not None:
            rings.append(node)
        settled.update(walked)
    return rings


def _children(mapping: Mapping[str, Any], parents: Parents) -> dict[str | None, list[str]]:
    children: dict[str | None, list[str]] = {}
    for id_, parent in parents.items():
        children.setdefault(parent, []).append(id_)
    for parent, those in children.items():
        listed = children_of(mapping[parent]) if parent is not None else []
        places = {child: place for place, child in enumerate(listed)}
        those.sort(key=lambda child, of=places: of.get(child, len(of)))  # type: ignore[misc]
    return children
