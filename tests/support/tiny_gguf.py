"""A model of our own: a GGUF of 470 kB with random weights of a fixed seed, and a byte vocabulary.

llama.cpp loads it in 50 ms and writes thousands of tokens a second of nonsense, the same each time
at temperature 0. Its tokenizer takes one token a byte: counts are four to five times tiktoken's.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, HIDDEN, WINDOW = 64, 2, 4, 128, 8192
#: Whatever is said, in whatever order; tokens that nobody else would count.
LENIENT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"
#: The rules of Gemma, Mistral, Llama 2 and Qwen together: each refuses at least one of these.
STRICT = (
    "{% set seen = namespace(turns=0) %}"
    "{% for m in messages %}"
    "{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('System message must be at the beginning.') }}{% endif %}"
    "{% if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}"
    "{% if (m.role == 'user') != (seen.turns % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/...') }}{% endif %}"
    "{% set seen.turns = seen.turns + 1 %}{% endif %}"
    "<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"
)
_ROLES_ALTERNATE = (
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/...') }}{% endif %}"
)
_SYSTEM_APART = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}\n{% set said = messages[1:] %}"
    "{% else %}{% set said = messages %}{% endif %}"
)
_WRITTEN = "<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"
#: The rules of each family, in words of our own.
STRICT_OF = {
    "Gemma 2": "{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}" + _ROLES_ALTERNATE + _WRITTEN,
    "Gemma 3": _SYSTEM_APART + "{% for m in said %}" + _ROLES_ALTERNATE + _WRITTEN,
    "Mistral": _SYSTEM_APART + "{% set seen = namespace(turns=0) %}{% for m in said %}"
    "{% if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}"
    "{% if (m.role == 'user') != (seen.turns % 2 == 0) %}{{ raise_exception('After the optional "
    "system message, conversation roles must alternate user/assistant/user/...') }}{% endif %}"
    "{% set seen.turns = seen.turns + 1 %}{% endif %}" + _WRITTEN,
    "Llama": _SYSTEM_APART
    + "{% for m in said %}"
    + _ROLES_ALTERNATE
    + "{% if m.role not in ('user', 'assistant') %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}" + _WRITTEN,
    "Qwen": "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('System message must be at the beginning.') }}{% endif %}" + _WRITTEN,
}
_PLAIN, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6


def tiny_gguf(path: Path, *, window: int = WINDOW, template: str = LENIENT, seed: int = 7) -> Path:
    """Write the model and return its path; `window` is what it was trained for, in tokens."""
    _write(gguf.GGUFWriter(str(path), "llama"), window, template, seed)
    return path


def tiny_pieces(folder: Path, *, first_small: bool = False) -> list[Path]:
    """Write the same model in three files, of which the first may have no tensors."""
    writer = gguf.GGUFWriter(
        str(folder / "tiny.gguf"), "llama", split_max_tensors=8, small_first_shard=first_small
    )
    _write(writer, WINDOW, LENIENT, 7)
    return sorted(folder.glob("tiny-*.gguf"))


def _write(out: gguf.GGUFWriter, window: int, template: str, seed: int) -> None:
    _describe(out, window, template)
    dice = np.random.default_rng(seed)

    def weights(name: str, *shape: int) -> None:
        out.add_tensor(name, (dice.standard_normal(shape) * 0.05).astype(np.float32))

    def ones(name: str) -> None:
        out.add_tensor(name, np.ones(WIDTH, np.float32))

    weights("token_embd.weight", 260, WIDTH)
    ones("output_norm.weight")
    weights("output.weight", 260, WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        ones(block + "attn_norm.weight")
        ones(block + "ffn_norm.weight")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights(f"{block}{name}.weight", WIDTH, WIDTH)
        weights(block + "ffn_gate.weight", HIDDEN, WIDTH)
        weights(block + "ffn_up.weight", HIDDEN, WIDTH)
        weights(block + "ffn_down.weight", WIDTH, HIDDEN)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _describe(out: gguf.GGUFWriter, window: int, template: str) -> None:
    """Write all that is not a weight: sizes, tokenizer, template."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    out.add_name("tiny-nonsense")
    out.add_context_length(window)
    out.add_embedding_length(WIDTH)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(HIDDEN)
    out.add_head_count(HEADS)
    out.add_head_count_kv(HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(WIDTH // HEADS)
    out.add_vocab_size(len(tokens))
    out.add_tokenizer_model("llama")
    out.add_token_list(tokens)
    out.add_token_scores([0.0] * len(tokens))
    out.add_token_types([_UNKNOWN, _CONTROL, _CONTROL, *([_BYTE] * 256), _PLAIN])
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_unk_token_id(0)
    out.add_chat_template(template)
