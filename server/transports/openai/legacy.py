"""Routes that OpenAI has given up, and one of text-generation-webui's, made from today's."""

from __future__ import annotations

import math
import time
from typing import Any

from server.core.passthrough import Passthrough
from server.openai_protocol.errors import ApiError
from server.openai_protocol.fields import Fields
from server.transports.openai import validation
from server.transports.openai.body import read_json
from server.transports.openai.completions.routes import CompletionRoutes
from server.transports.openai.errors import PassedOnError
from server.transports.openai.exchange import Exchange
from server.transports.openai.upstream_json import ask

_EDIT = "Edit the text as the instruction says. Answer with the edited text alone."
_SAME = ("n", "temperature", "top_p")
_TOP = 50
#: so many are asked for: no more than any server gives, then what OpenAI gives for completions
_TRIES = (20, 5)
#: how often a token is drawn, where nothing is told of the one before
_DRAWS = 8
#: what stands for a part of a letter
_PART = "\N{REPLACEMENT CHARACTER}"


class Legacy:
    """Edits, and the probabilities of a text's next token."""

    def __init__(
        self, passthrough: Passthrough, completions: CompletionRoutes, default_model: str
    ) -> None:
        self._passthrough = passthrough
        self._completions = completions
        self._default_model = default_model

    async def edit(self, exchange: Exchange) -> None:
        """Edit a text as an instruction says."""
        asked = read_json(await exchange.body.read())
        asked.required("instruction")
        texts = (asked.text("input") or "", asked.text("instruction") or "")
        asked.integer("n")
        body = {
            "model": asked.text("model") or self._default_model,
            "messages": [
                {"role": "system", "content": _EDIT},
                {"role": "user", "content": f"Text:\n{texts[0]}\n\nInstruction:\n{texts[1]}"},
            ],
            **{name: asked.raw(name) for name in _SAME if asked.raw(name) is not None},
        }
        answer = await ask(self._passthrough, exchange.request.made("/chat/completions", body))
        choices = [
            {"index": said["index"], "text": said["message"].get("content") or ""}
            for said in answer["choices"]
        ]
        edit = {"object": "edit", "created": int(time.time()), "choices": choices}
        await exchange.answer(edit | {"usage": answer.get("usage")})

    async def logits(self, exchange: Exchange) -> None:
        """Answer with the probabilities of what may follow a text, the likeliest first."""
        asked = read_json(await exchange.body.read())
        asked.required("prompt")
        prompt, model = asked.text("prompt"), asked.text("model") or self._default_model
        top = asked.integer("top_logits", 1) or _TOP
        for most in _TRIES:
            try:
                found = await self._next_tokens(exchange, model, str(prompt), min(top, most))
            except PassedOnError as refused:
                if refused.status != 400 or most == _TRIES[-1]:
                    raise
            else:
                break
        likeliest = sorted(found.items(), key=lambda pair: -pair[1])
        await exchange.answer({"logits": {token: math.exp(p) for token, p in likeliest[:top]}})

    async def _next_tokens(
        self, exchange: Exchange, model: str, prompt: str, most: int
    ) -> dict[str, float]:
        asked: dict[str, Any] = {
            "model": model,
            "prompt": prompt,
            "max_tokens": 1,
            "logprobs": most,
            "temperature": 1,
        }
        validation.completion(Fields(asked))
        for draw in range(_DRAWS):
            # The same seeds each time, so that the same question has the same answer.
            answer = await self._completions.ask(exchange, {**asked, "seed": draw})
            choice = answer["choices"][0]
            found = ((choice.get("logprobs") or {}).get("top_logprobs") or [None])[0]
            if found or choice.get("text", "").strip(_PART):
                break  # llama.cpp tells nothing of a text that ends at once, or within a letter
        if not found:
            raise ApiError(
                f"The upstream gives no log probabilities for the model '{model}'.",
                code="logprobs_unavailable",
            )
        return {str(token): float(p) for token, p in found.items()}
