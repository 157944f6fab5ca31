"""shell-gpt's `sgpt`, whose server is API_BASE_URL."""

# mypy: ignore-errors

from __future__ import annotations

import os
from pathlib import Path

from report import API_KEY, BASE_URL, MODEL, QUESTION, expect, report, run

WORDS = ("--model", MODEL, "--no-cache")
FUNCTION = """\
from pydantic import BaseModel

class Function(BaseModel):
    city: str

    @classmethod
    def execute(cls, city: str) -> str:
        return "Rain in " + city

    @classmethod
    def openai_schema(cls) -> dict:
        function = {"name": "weather", "parameters": cls.model_json_schema()}
        return {"type": "function", "function": function}
"""


def prepare() -> None:
    functions = Path.home() / ".config" / "shell_gpt" / "functions"
    functions.mkdir(parents=True, exist_ok=True)
    (functions / "weather.py").write_text(FUNCTION)
    os.environ |= {
        "CHAT_CACHE_PATH": str(Path.home() / "chats"),
        "CACHE_PATH": str(Path.home() / "cache"),
        "API_BASE_URL": BASE_URL,
        "OPENAI_API_KEY": API_KEY,
        "DEFAULT_MODEL": MODEL,
        "PRETTIFY_MARKDOWN": "false",
        "OPENAI_USE_FUNCTIONS": "true",
    }


def chat() -> str:
    return run("sgpt", *WORDS, "--no-functions", QUESTION)


def stream() -> str:
    """Ask about what is piped in: sgpt streams all of its answers."""
    return run("sgpt", *WORDS, "--no-functions", "Say more", stdin="My mother worries.\n")


def history() -> str:
    run("sgpt", *WORDS, "--chat", "ada", "My name is Ada.")
    run("sgpt", *WORDS, "--chat", "ada", "Do you remember my name?")
    kept = run("sgpt", "--show-chat", "ada")  # which, having no terminal, also asks nothing
    expect(kept.count("user:") == 2, kept)
    return "two questions"


def errors() -> str:
    said = run("sgpt", "--model", "", QUESTION, fails=True)
    expect("BadRequestError" in said, said)
    return " ".join(line for line in said.splitlines() if "Error code" in line)


def tools() -> str:
    """Offer functions, which sgpt does with every question."""
    return run("sgpt", *WORDS, "--functions", "What is the weather in Rome?")


if __name__ == "__main__":
    prepare()
    report(chat, stream, history, errors, tools)
