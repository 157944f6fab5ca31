"""BERT's word pieces."""

from __future__ import annotations

import pytest

from server.upstream.local.embeddings.wordpiece import LONGEST_WORD, WordPieces

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "cafe", ",", "中", "σ"]
PIECES = WordPieces(VOCABULARY)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("unaffable", ["un", "##aff", "##able"]),
        ("UN, Café", ["un", ",", "cafe"]),
        ("unknown", ["[UNK]"]),
        ("un中un", ["un", "中", "un"]),
        ("u\u200bn\x00 \ufffd", ["un"]),
        ("Σ", ["σ"]),
        ("[SEP]", ["[UNK]"] * 3),
        ("", []),
        (" \t\n", []),
        ("un" * LONGEST_WORD, ["[UNK]"]),
    ],
)
def test_pieces(text: str, pieces: list[str]) -> None:
    assert [VOCABULARY[number] for number in PIECES.pieces(text)] == pieces
