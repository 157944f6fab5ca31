"""Variables that are no settings: which are told, and which is the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.config.settings import load
from server.config.unknown_variables import unknown_variables

pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("TRIALOGUE_MODLE", "TRIALOGUE_MODEL"),
        ("TRIALOGUE_DATABSE", "TRIALOGUE_DATABASE"),
        ("TRIALOGUE_PORT", "TRIALOGUE_HTTP_PORT"),
        ("TRIALOGUE_ORIGINS", "TRIALOGUE_ALLOWED_ORIGINS"),
        ("trialogue_hots", "TRIALOGUE_HOST"),
        ("TRIALOGUE_ZEBRA", None),
    ],
)
def test_a_misspelt_variable_is_told_with_the_nearest(name: str, nearest: str | None) -> None:
    assert list(unknown_variables(load(), {name: "x"})) == [(name, nearest)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRIALOGUE_MODEL", "x"),
        ("trialogue_model", "x"),
        ("TRIALOGUE_API_KEY", "x"),
        ("TRIALOGUE_SERVICE_HOST", "10.0.0.1"),
        ("TRIALOGUE_SERVICE_PORT_GRPC", "9000"),
        ("TRIALOGUE_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("TRIALOGUE_PORT", "tcp://10.0.0.1:8000"),
        ("OPENAI_ORGANIZATION", "x"),
    ],
)
def test_what_others_mean_is_not_told(name: str, value: str) -> None:
    """Kubernetes gives every container the address of a service that is called as we are."""
    assert list(unknown_variables(load(), {name: value})) == []


def test_a_file_is_looked_through_and_the_key_of_an_upstream_is_known() -> None:
    table = '{"name": "a", "base_url": "http://a.example", "key_variable": "TRIALOGUE_A"}'
    Path(".env").write_text(f"TRIALOGUE_UPSTREAMS=[{table}]\nTRIALOGUE_A=k\nTRIALOGUE_MODLE=x\n")
    assert list(unknown_variables(load(), {})) == [("TRIALOGUE_MODLE", "TRIALOGUE_MODEL")]
