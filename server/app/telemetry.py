"""Sends requests and turns as OpenTelemetry spans, where the usual OTEL_* variables ask for it.

Names are those of the semantic conventions for HTTP, RPC and generative AI. What was asked and
answered, and keys, are in no span. Nothing of OpenTelemetry's SDK is loaded unless it is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from server import VERSION
from server.core.observability.request import Request, RequestSpan
from server.core.observability.traces import NoTraces, Traces, TurnSpan
from server.upstream.port import Prompt
from storage.model import Status, Turn

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as OtelSpan

log = structlog.get_logger("trialogue.telemetry")

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
#: seconds that a collector has to take the last spans
_LAST_WORDS = 2.0
_EXTRA = "traces are asked for but not sent: install the extra, pip install 'trialogue[telemetry]'"
#: statuses of requests that are the server's fault, besides HTTP's 5xx
_FAULTS = frozenset({"INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "internal"}) | {
    *("upstream_failed", "upstream_timeout", "storage_unavailable", "draining")
}


def wanted(environ: Mapping[str, str]) -> bool:
    """Say whether the environment asks for traces; a protocol or exporter not ours is told of."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return False
    if not exporter and not any(environ.get(name) for name in _ENDPOINTS):
        return False
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), _PROTOCOL)
    if exporter not in ("", "otlp") or protocol != _PROTOCOL:
        log.warning("traces are sent as OTLP over http/protobuf alone: none are sent")
        return False
    return True


@asynccontextmanager
async def traces_of(environ: Mapping[str, str]) -> AsyncIterator[Traces]:
    """Yield who is told of spans; what was told is sent before the context is left."""
    made = _made() if wanted(environ) else None
    if made is None:
        yield NoTraces()
        return
    provider, exporter = made
    try:
        yield OpenTelemetry(provider)
    finally:
        sending = asyncio.create_task(asyncio.to_thread(provider.shutdown))
        await asyncio.wait([sending], timeout=_LAST_WORDS)
        exporter.shutdown()  # ends its waiting for a collector that is away
        await sending


def _made() -> tuple[TracerProvider, SpanExporter] | None:
    """Return what sends spans, as the variables say; None, and a line, without the extra."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning(_EXTRA)
        return None
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "trialogue"}))
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider, exporter


class OpenTelemetry:
    """Traces that are sent; the provider is not made the process's own, for libraries to use."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation import tracecontext

        self._trace = trace
        self._tracer = provider.get_tracer("trialogue", VERSION)
        self._propagator = tracecontext.TraceContextTextMapPropagator()

    def request(self, wire: str, carrier: Mapping[str, str]) -> RequestSpan:
        """Begin a request's span; see Traces."""
        caller: Context = self._propagator.extract(carrier)
        kind = self._trace.SpanKind.SERVER
        return _RequestSpan(self._tracer.start_span(wire, caller, kind))

    def turn(self, turn: Turn, prompt: Prompt, within: RequestSpan | None) -> TurnSpan:
        """Begin a turn's span; see Traces."""
        parent = self._propagator.extract({})
        if isinstance(within, _RequestSpan):
            parent = self._trace.set_span_in_context(within.span, parent)
        asked = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "eliza" if turn.model == "eliza" else "openai",
            "gen_ai.request.model": turn.model,
            "gen_ai.request.stream": True,
            "gen_ai.request.max_tokens": prompt.max_tokens,
            "gen_ai.request.temperature": prompt.temperature,
            "gen_ai.request.top_p": prompt.top_p,
            "gen_ai.request.seed": prompt.seed,
            "gen_ai.conversation.id": turn.conversation_id,
            "trialogue.turn.id": turn.id,
            "trialogue.request.id": prompt.request_id,
        }
        kind = self._trace.SpanKind.CLIENT
        return _TurnSpan(self._tracer.start_span(f"chat {turn.model}", parent, kind, _known(asked)))


class _RequestSpan:
    def __init__(self, span: OtelSpan) -> None:
        self.span = span
        self.trace_id: str | None = f"{span.get_span_context().trace_id:032x}"

    def end(self, request: Request) -> None:
        """Note how the request was answered."""
        self.span.update_name(_name(request))
        self.span.set_attributes(_known(_wire(request)))
        self.span.set_attributes(
            _known(
                {
                    "gen_ai.conversation.id": request.conversation_id,
                    "trialogue.turn.id": request.turn_id,
                    "trialogue.request.id": request.id,
                    "trialogue.owner": request.owner,
                    "trialogue.wire": request.wire,
                }
            )
        )
        if _is_fault(request.status):
            _fail(self.span, str(request.status))
        self.span.end()


class _TurnSpan:
    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    def end(self, turn: Turn, first: float | None) -> None:
        """Note how the turn ended."""
        usage = turn.usage
        self._span.set_attributes(
            _known(
                {
                    "gen_ai.response.finish_reasons": turn.finish_reason and [turn.finish_reason],
                    "gen_ai.response.time_to_first_chunk": first,
                    "gen_ai.usage.input_tokens": usage and usage.prompt_tokens,
                    "gen_ai.usage.output_tokens": usage and usage.completion_tokens,
                    "trialogue.turn.status": turn.status.value,
                }
            )
        )
        if turn.status is Status.FAILED:
            _fail(self._span, turn.error.code if turn.error else "internal")
        self._span.end()


def _name(request: Request) -> str:
    first = "websocket" if request.wire == "websocket" else request.method
    return " ".join(filter(None, (first, request.name))) or request.wire


def _wire(request: Request) -> dict[str, Any]:
    """Return what the conventions of its wire name of a request."""
    match request.wire:
        case "grpc":
            return {
                "rpc.system.name": "grpc",
                "rpc.method": request.name,
                "rpc.response.status_code": str(request.status),
            }
        case "websocket":
            return {"network.protocol.name": "websocket", "trialogue.status": str(request.status)}
        case _:
            status = request.status if isinstance(request.status, int) else None
            return {
                "http.request.method": request.method,
                "http.route": request.name,
                "http.response.status_code": status,
            }


def _is_fault(status: int | str | None) -> bool:
    return status >= 500 if isinstance(status, int) else status in _FAULTS


def _fail(span: OtelSpan, kind: str) -> None:
    """Mark a span as failed, by a code: an error's own text may quote a prompt."""
    from opentelemetry.trace import StatusCode

    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
