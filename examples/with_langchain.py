"""LangChain: chat, a stream, history, an error, models, embeddings."""

from __future__ import annotations

import os

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openai import BadRequestError

SERVER = {
    "base_url": os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    "api_key": os.environ.get("OPENAI_API_KEY", "any"),
}


def main() -> None:
    llm = ChatOpenAI(model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"), **SERVER)
    chat(llm)
    stream(llm)
    history(llm)
    error(llm)
    models(llm)
    embeddings()


def chat(llm: ChatOpenAI) -> None:
    answer: AIMessage = llm.invoke("Hello, I am sad.")
    print("chat:", answer.content)
    if answer.usage_metadata is not None:
        print("tokens:", answer.usage_metadata["total_tokens"])


def stream(llm: ChatOpenAI) -> None:
    print("stream: ", end="")
    for piece in llm.stream("My mother worries about me."):
        print(piece.content, end="", flush=True)
    print()


def history(llm: ChatOpenAI) -> None:
    """Send what was said before along with each question: OpenAI's API remembers nothing."""
    messages: list[BaseMessage] = [SystemMessage("You are kind.")]
    for question in ("My name is Ada.", "My work is hard.", "Do you remember my name?"):
        messages.append(HumanMessage(question))
        messages.append(llm.invoke(messages))
        print("history:", question, "->", messages[-1].content)


def error(llm: ChatOpenAI) -> None:
    try:
        llm.bind(temperature=9).invoke("Hello")
    except BadRequestError as refused:
        print("error:", refused.status_code, refused.code, "-", refused.body["message"])


def models(llm: ChatOpenAI) -> None:
    """List models by the client of OpenAI's that LangChain has inside, having no list itself."""
    print("models:", *(model.id for model in llm.root_client.models.list()))


def embeddings() -> None:
    """Embed texts as texts: LangChain's default, tokens, fetches a file from the network first."""
    embedder = OpenAIEmbeddings(
        model="text-embedding-3-small", check_embedding_ctx_length=False, **SERVER
    )
    cat, kitten, law = embedder.embed_documents(["A cat sleeps.", "A kitten naps.", "Tax law"])
    print(f"embeddings: cat and kitten {likeness(cat, kitten):.2f}", end=", ")
    print(f"cat and law {likeness(cat, law):.2f}")


def likeness(one: list[float], other: list[float]) -> float:
    """Return the cosine of the angle between two embeddings, which have unit length."""
    return sum(a * b for a, b in zip(one, other, strict=True))


if __name__ == "__main__":
    main()
