"""Which upstreams are near, by their address alone."""

from __future__ import annotations

import pytest

from server.config.addresses import is_near


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8080/v1",
        "http://127.0.0.1:1/v1",
        "http://[::1]:8080/v1",
        "http://192.168.1.5/v1",
        "http://10.0.0.7:11434/v1",
        "http://ollama:11434/v1",
        "http://host.docker.internal:11434/v1",
        "http://box.local/v1",
        "http://user:secret@172.17.0.1/v1",
    ],
)
def test_near(url: str) -> None:
    assert is_near(url)


@pytest.mark.parametrize(
    "url",
    ["https://api.openai.com/v1", "https://8.8.8.8/v1", "https://10.example.com/v1", "nothing"],
)
def test_far(url: str) -> None:
    assert not is_near(url)
