"""Simon Willison's `llm`, told of the server in its extra-openai-models.yaml."""

# mypy: ignore-errors

from __future__ import annotations

import json
import os
from pathlib import Path

from report import API_KEY, BASE_URL, EMBEDDING_MODEL, MODEL, QUESTION, expect, report, run

MODELS = f"""\
- model_id: here
  model_name: {MODEL}
  api_base: {BASE_URL}
  supports_schema: true
  supports_tools: true
"""
WEATHER = '''\
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return "Rain in " + city
'''


def prepare() -> None:
    """Write the file in which `llm` looks for models, and the key."""
    folder = Path(run("llm", "logs", "path")).parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "extra-openai-models.yaml").write_text(MODELS)
    os.environ["OPENAI_API_KEY"] = API_KEY


def chat() -> str:
    said = run("llm", "--no-stream", "-m", "here", QUESTION)
    used = json.loads(run("llm", "logs", "-n", "1", "--json"))[0]
    expect(used["input_tokens"] and used["output_tokens"], used)
    return said


def stream() -> str:
    return run("llm", "-m", "here", QUESTION)


def history() -> str:
    run("llm", "-m", "here", "-s", "You are kind.", "My name is Ada.")
    return run("llm", "--continue", "Do you remember my name?")


def errors() -> str:
    said = run("llm", "-m", "here", "-o", "temperature", "2", "-o", "top_p", "0.5", QUESTION)
    refusal = run("llm", "-m", "here", "-o", "max_tokens", "-1", QUESTION, fails=True)
    expect(said and "max_tokens" in refusal, refusal)
    return refusal.splitlines()[-1]


def models() -> str:
    listed = run("llm", "models", "list")
    expect("here" in listed, listed)
    return "here"


def embeddings() -> str:
    """Embed with a model of `llm`'s own list, whose server is an environment variable."""
    made = json.loads(
        run("llm", "embed", "-m", EMBEDDING_MODEL.removeprefix("text-embedding-"), "-c", "a cat")
    )
    return f"1 of {len(made)}"


def tools() -> str:
    """Offer a tool; `llm` cannot demand that it be called."""
    return run("llm", "-m", "here", "--functions", WEATHER, "What is the weather in Rome?")


def structure() -> str:
    said = run("llm", "-m", "here", "--schema", "feeling, strength int", QUESTION)
    expect(set(json.loads(said)) == {"feeling", "strength"}, said)
    return said


if __name__ == "__main__":
    prepare()
    report(chat, stream, history, errors, models, embeddings, tools, structure)
