"""What OpenAI cannot: any client of OpenAI's, by one header, has a history that the server keeps.

    python join_a_conversation.py [CONVERSATION_ID]

With `X-Conversation-Id` a chat completion's new messages and its answer are kept in that
conversation, and what it holds is put before them, trimmed to the model's window.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from typing import Any

from openai import OpenAI

BASE_URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
API_KEY = os.environ.get("OPENAI_API_KEY", "any")
MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")


def main(conversation: str) -> None:
    client = OpenAI(
        base_url=BASE_URL,
        api_key=API_KEY,
        default_headers={"X-Conversation-Id": conversation},
    )
    ask(client, "My name is Ada.")
    ask(client, "My work is hard.")
    follow(client, "Do you remember my name?")
    print("kept:")
    for message in messages(conversation):
        print(f"  {message['role']}: {message['content']}")


def ask(client: OpenAI, question: str) -> None:
    """Send the new question alone; the server puts the history before it."""
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}]
    )
    print(question, "->", answer.choices[0].message.content, end=" ")
    if answer.usage is not None:
        print(f"({answer.usage.prompt_tokens} tokens sent)")


def follow(client: OpenAI, question: str) -> None:
    """Ask for a stream: the same turn can be watched on every other wire meanwhile."""
    print(question, "-> ", end="")
    for piece in client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], stream=True
    ):
        print(piece.choices[0].delta.content or "", end="", flush=True)
    print()


def messages(conversation: str) -> list[dict[str, Any]]:
    """Read a conversation by the server's own API, whoever wrote it, over whatever wire."""
    server = BASE_URL.rstrip("/").removesuffix("/v1")
    request = urllib.request.Request(
        f"{server}/conversations/{conversation}/messages",
        headers={"Authorization": f"Bearer {API_KEY}"},
    )
    with urllib.request.urlopen(request) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]
    return found


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "ada")
