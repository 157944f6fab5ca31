"""What HTTP callers send and get, as the OpenAPI description shows it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from server.core.turns.parameters import KNOWN, SPELLINGS, beside
from server.core.turns.questions import Ask, IfBusy, Mode, OnDisconnect, Regenerate
from server.core.turns.tools import OPTIONS, ToolResult, checked_options

T = TypeVar("T")


class Body(BaseModel):
    """What is sent; unknown fields are refused: a misspelt one would be ignored in silence."""

    model_config = ConfigDict(extra="forbid", strict=True)


_BESIDE = (*KNOWN, *SPELLINGS)


class _Sampling(Body):
    model: str | None = None
    max_tokens: int | None = Field(None, description="at most so many tokens of answer")
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    mode: Literal["chat", "instruct"] | None = Field(
        None, description="instruct: written as one text by a template, to be completed"
    )
    character: str | None = Field(None, description="a configured one")
    instruction_template: str | None = Field(None, description="the name of one, or Jinja")
    prompt_template: str | None = Field(
        None, description="Jinja, or a text in which %1 stands for the prompt"
    )
    top_k: int | None = Field(None, description="for upstreams that have it, as the next three")
    min_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    repeat_penality: float | None = Field(None, description="the same as repeat_penalty")
    prompt_batch_size: int | None = Field(None, description="taken, and of no effect")
    extra: dict[str, Any] | None = Field(
        None, description="other parameters, passed on as they are"
    )
    if_busy: Literal["wait", "reject", "interrupt"] | None = None
    on_disconnect: Literal["continue", "cancel"] | None = None
    stream: bool | None = Field(
        None, description="answer with SSE, as Accept: text/event-stream does"
    )
    progress: bool | None = Field(
        None, description="tell how far the upstream has read the prompt, as turn.progress"
    )

    @property
    def leave(self) -> OnDisconnect:
        return OnDisconnect(self.on_disconnect or "continue")

    def _common(self) -> dict[str, Any]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": tuple(stops),
            "mode": None if self.mode is None else Mode(self.mode),
            "character": self.character,
            "instruction_template": self.instruction_template,
            "prompt_template": self.prompt_template,
            "extra": beside({name: getattr(self, name) for name in _BESIDE}, self.extra),
            "if_busy": IfBusy(self.if_busy or "wait"),
        }


class ToolResultBody(Body):
    tool_call_id: str
    content: str


class AskBody(_Sampling):
    prompt: str | None = Field(None, examples=["Hello"])
    content: str | list[dict[str, Any]] | None = Field(
        None, description="text or parts in OpenAI's shape, in place of prompt"
    )
    parent_id: str | None = Field(None, description='message to ask under; "root": none')
    system_prompt: str | None = Field(None, description="in the first ask only")
    tools: list[dict[str, Any]] | None = Field(
        None, description="that may be called, in the shape of OpenAI's chat completions"
    )
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    tool_results: list[ToolResultBody] | None = Field(
        None, description="of every open call, in place of a prompt or before it"
    )

    def ask(self, idempotency_key: str | None) -> Ask:
        content = self.prompt if self.prompt is not None else self.content
        results = [ToolResult(one.tool_call_id, one.content) for one in self.tool_results or ()]
        return Ask(
            content=content if content is not None else "",
            options=checked_options({name: getattr(self, name) for name in OPTIONS}),
            tool_results=tuple(results),
            parent_id=self.parent_id,
            system_prompt=self.system_prompt,
            idempotency_key=idempotency_key,
            **self._common(),
        )


class PreviewBody(AskBody):
    """As an ask; what only concerns the answer is taken and makes no difference."""


class RegenerateBody(_Sampling):
    message_id: str | None = Field(None, description="an answer or its question; default: the last")

    def again(self) -> Regenerate:
        return Regenerate(message_id=self.message_id, **self._common())


class ConversationBody(Body):
    id: str | None = None
    title: str | None = None
    system_prompt: str | None = None
    model: str | None = None
    metadata: dict[str, Any] | None = None


class ChangeBody(Body):
    title: str | None = None
    system_prompt: str | None = None
    model: str | None = None
    metadata: dict[str, Any] | None = None
    head_id: str | None = None
    truncation: str | None = None
    pinned: bool | None = None


class ErrorShape(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None
    turn_id: str | None = None


class ErrorBody(BaseModel):
    """Every error, on every route."""

    error: ErrorShape


class CachedShape(BaseModel):
    cached_tokens: int


class ReasoningShape(BaseModel):
    reasoning_tokens: int


class UsageShape(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedShape | None = Field(None, description="where upstreams tell")
    completion_tokens_details: ReasoningShape | None = Field(None, description="the same")


class SentShape(BaseModel):
    window: int
    budget: int
    prompt_tokens: int
    messages_included: int
    messages_trimmed: int
    counted: str | None
    window_known: bool | None
    drift: int | None


class FailureShape(BaseModel):
    code: str
    message: str


class TurnShape(BaseModel):
    id: str
    object: Literal["turn"]
    conversation_id: str
    status: Literal["running", "completed", "cancelled", "failed", "interrupted"]
    model: str
    parent_id: str | None
    question_id: str
    answer_id: str | None
    answer: str
    finish_reason: str | None
    usage: UsageShape | None
    context: SentShape
    error: FailureShape | None
    created_at: datetime
    ended_at: datetime | None
    wire: Literal["rest", "grpc", "websocket", "openai", "easybackend"] | None
    parts: list[dict[str, Any]] | None = Field(
        None, description="all of an answer that is more than text, in the order in which it came"
    )


class ConversationShape(BaseModel):
    id: str
    object: Literal["conversation"]
    title: str
    system_prompt: str | None
    model: str | None
    metadata: dict[str, Any]
    truncation: str
    created_at: datetime
    updated_at: datetime
    message_count: int
    head_id: str | None
    last_message_at: datetime | None
    pinned: bool


class MessageShape(BaseModel):
    id: str
    object: Literal["message"]
    conversation_id: str
    parent_id: str | None
    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]]
    tokens: int
    model: str | None
    turn_id: str | None
    created_at: datetime
    parts: list[dict[str, Any]] | None = Field(None, description="of an answer, as of its turn")
    stands_for: int | None = None
    sibling_ids: list[str] | None = None
    sibling_index: int | None = None


class HitShape(BaseModel):
    message: MessageShape | None
    conversation_id: str
    title: str
    snippet: str
    score: float


class LineShape(BaseModel):
    id: str | None
    role: Literal["system", "user", "assistant", "tool"]
    tokens: int
    overhead: int
    kept: bool
    reason: str


class PreviewShape(BaseModel):
    object: Literal["context"]
    model: str
    encoding: str
    counted: Literal["exact", "upstream", "learnt", "guessed"]
    window_known: bool
    window: int
    reserved: int
    budget: int
    prompt_tokens: int
    overhead: int
    remaining: int
    messages_included: int
    messages_trimmed: int
    messages: list[LineShape]


class FailedShape(BaseModel):
    index: int
    id: str | None
    reason: str


class ReportShape(BaseModel):
    imported: int
    unchanged: int
    failed: list[FailedShape] = Field(description="the first thousand of `failed_count`")
    failed_count: int
    dropped: dict[str, int] = Field(description="what has no place here, and how often it came")


class ListShape(BaseModel, Generic[T]):
    object: Literal["list"]
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool


class StateShape(BaseModel):
    status: str


class UpstreamShape(BaseModel):
    name: str
    state: Literal["ok", "failing", "resting"]
    calls: int
    failures: int
    failures_in_a_row: int
    resting_seconds: float
    model: str | None = Field(None, description="this and the following: of local models only")
    loaded: bool | None = None
    pid: int | None = None
    rss: int | None = Field(None, description="memory of its process, in bytes")
    window: int | None = Field(None, description="tokens of each of its windows")
    running: int | None = Field(None, description="calls in it")


class ReadyShape(StateShape):
    turns_running: int | None = Field(None, description="only where `verbose` is asked for")
    upstreams: list[UpstreamShape] | None = None
