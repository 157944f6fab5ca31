"""The dashboard and the alert rules: they can be read, and name only what is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from server.core.observability.metrics import ROWS, Metrics
from tests.support.live import ROOT

BOARD = ROOT / "docs" / "grafana.json"
RULES = ROOT / "docs" / "alerts.yaml"
NAME = re.compile(r"\b((?:trialogue|process)_\w+)")
LABEL = re.compile(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"")
#: what Prometheus itself adds, and those that are labels of ours
LABELS = {"job", "instance", "model", "wire", "status", "le"}


def board_queries() -> Iterator[str]:
    board = json.loads(BOARD.read_text())
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (one["definition"] for one in board["templating"]["list"] if "definition" in one)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def shown() -> set[str]:
    """Return every name that `/metrics` shows; those of the process as this machine has them."""
    process = re.findall(r"^(process_\w+)", Metrics().render().decode(), re.MULTILINE)
    return {name for row in ROWS for name in row.shown} | set(process)


@pytest.mark.parametrize("query", [*board_queries(), *(rule["expr"] for rule in rules())])
def test_a_query_names_only_what_is_shown(query: str) -> None:
    named = set(NAME.findall(query))
    assert named <= shown()
    assert named or query.startswith("up{")
    assert set(LABEL.findall(query)) <= LABELS
    assert query.count("(") == query.count(")")
    assert query.count("{") == query.count("}")


def test_all_that_is_shown_is_on_the_dashboard() -> None:
    named = {name for query in board_queries() for name in NAME.findall(query)}
    assert [row.name for row in ROWS if not named & set(row.shown)] == []


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    board = json.loads(BOARD.read_text())
    assert (board["title"], board["uid"]) == ("Trialogue", "trialogue")
    assert board["schemaVersion"] >= 36
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {one["name"] for one in board["templating"]["list"]}
    assert set(re.findall(r"\$\{?(datasource|job|instance)\b", BOARD.read_text())) == variables
    queries = [one["expr"] for panel in board["panels"] for one in panel.get("targets", ())]
    assert [one for one in queries if 'instance=~"$instance"' not in one] == []
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"


def test_no_panel_lies_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(BOARD.read_text())["panels"]:
        x, y, w, h = (panel["gridPos"][name] for name in "xywh")
        cells = {(column, line) for column in range(x, x + w) for line in range(y, y + h)}
        assert not taken & cells, panel["title"]
        taken |= cells


def test_every_rule_says_what_is_wrong_and_how_badly() -> None:
    found = rules()
    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert re.fullmatch(r"\d+m", rule["for"])
