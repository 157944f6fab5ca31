"""OpenAI's Python client: chat, a stream, history, an error, models, embeddings."""

from __future__ import annotations

import os

from openai import BadRequestError, OpenAI

MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")


def main() -> None:
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "any"),
    )
    chat(client)
    stream(client)
    history(client)
    error(client)
    models(client)
    embeddings(client)


def chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello, I am sad."}]
    )
    print("chat:", answer.choices[0].message.content)
    if answer.usage is not None:
        print("tokens:", answer.usage.total_tokens)


def stream(client: OpenAI) -> None:
    pieces = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "My mother worries about me."}],
        stream=True,
    )
    print("stream: ", end="")
    for piece in pieces:
        print(piece.choices[0].delta.content or "", end="", flush=True)
    print()


def history(client: OpenAI) -> None:
    """Send what was said before along with each question: OpenAI's API remembers nothing."""
    messages = []
    for question in ("My name is Ada.", "My work is hard.", "Do you remember my name?"):
        messages.append({"role": "user", "content": question})
        answer = client.chat.completions.create(model=MODEL, messages=messages)
        said = answer.choices[0].message.content
        messages.append({"role": "assistant", "content": said})
        print("history:", question, "->", said)


def error(client: OpenAI) -> None:
    try:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello"}], temperature=9
        )
    except BadRequestError as refused:
        print("error:", refused.status_code, refused.code, "-", refused.body["message"])


def models(client: OpenAI) -> None:
    print("models:", *(model.id for model in client.models.list()))


def embeddings(client: OpenAI) -> None:
    made = client.embeddings.create(
        model="text-embedding-3-small", input=["A cat sleeps.", "A kitten naps.", "Tax law"]
    )
    cat, kitten, law = (one.embedding for one in made.data)
    print(f"embeddings: cat and kitten {likeness(cat, kitten):.2f}", end=", ")
    print(f"cat and law {likeness(cat, law):.2f}")


def likeness(one: list[float], other: list[float]) -> float:
    """Return the cosine of the angle between two embeddings, which have unit length."""
    return sum(a * b for a, b in zip(one, other, strict=True))


if __name__ == "__main__":
    main()
