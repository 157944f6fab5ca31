import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Conversation(_message.Message):
    __slots__ = ("id", "title", "system_prompt", "model", "metadata", "created_at", "updated_at", "message_count", "head_id", "truncation", "last_message_at", "pinned")
    ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_PROMPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    HEAD_ID_FIELD_NUMBER: _ClassVar[int]
    TRUNCATION_FIELD_NUMBER: _ClassVar[int]
    LAST_MESSAGE_AT_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    id: str
    title: str
    system_prompt: str
    model: str
    metadata: _struct_pb2.Struct
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    message_count: int
    head_id: str
    truncation: str
    last_message_at: _timestamp_pb2.Timestamp
    pinned: bool
    def __init__(self, id: _Optional[str] = ..., title: _Optional[str] = ..., system_prompt: _Optional[str] = ..., model: _Optional[str] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., message_count: _Optional[int] = ..., head_id: _Optional[str] = ..., truncation: _Optional[str] = ..., last_message_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., pinned: bool = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("id", "conversation_id", "parent_id", "role", "content", "parts", "tokens", "model", "turn_id", "created_at", "sibling_ids", "sibling_index", "stands_for")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TURN_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    SIBLING_IDS_FIELD_NUMBER: _ClassVar[int]
    SIBLING_INDEX_FIELD_NUMBER: _ClassVar[int]
    STANDS_FOR_FIELD_NUMBER: _ClassVar[int]
    id: str
    conversation_id: str
    parent_id: str
    role: str
    content: str
    parts: _struct_pb2.ListValue
    tokens: int
    model: str
    turn_id: str
    created_at: _timestamp_pb2.Timestamp
    sibling_ids: _containers.RepeatedScalarFieldContainer[str]
    sibling_index: int
    stands_for: int
    def __init__(self, id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., parent_id: _Optional[str] = ..., role: _Optional[str] = ..., content: _Optional[str] = ..., parts: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., tokens: _Optional[int] = ..., model: _Optional[str] = ..., turn_id: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sibling_ids: _Optional[_Iterable[str]] = ..., sibling_index: _Optional[int] = ..., stands_for: _Optional[int] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    def __init__(self, prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., total_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ..., reasoning_tokens: _Optional[int] = ...) -> None: ...

class Context(_message.Message):
    __slots__ = ("window", "budget", "prompt_tokens", "messages_included", "messages_trimmed", "drift", "counted", "window_known")
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_INCLUDED_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_TRIMMED_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    WINDOW_KNOWN_FIELD_NUMBER: _ClassVar[int]
    window: int
    budget: int
    prompt_tokens: int
    messages_included: int
    messages_trimmed: int
    drift: int
    counted: str
    window_known: bool
    def __init__(self, window: _Optional[int] = ..., budget: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., messages_included: _Optional[int] = ..., messages_trimmed: _Optional[int] = ..., drift: _Optional[int] = ..., counted: _Optional[str] = ..., window_known: bool = ...) -> None: ...

class TurnError(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Turn(_message.Message):
    __slots__ = ("id", "conversation_id", "status", "model", "parent_id", "question_id", "answer_id", "answer", "finish_reason", "usage", "context", "error", "created_at", "ended_at", "parts", "wire")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    QUESTION_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWER_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    WIRE_FIELD_NUMBER: _ClassVar[int]
    id: str
    conversation_id: str
    status: str
    model: str
    parent_id: str
    question_id: str
    answer_id: str
    answer: str
    finish_reason: str
    usage: Usage
    context: Context
    error: TurnError
    created_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    parts: _struct_pb2.ListValue
    wire: str
    def __init__(self, id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., status: _Optional[str] = ..., model: _Optional[str] = ..., parent_id: _Optional[str] = ..., question_id: _Optional[str] = ..., answer_id: _Optional[str] = ..., answer: _Optional[str] = ..., finish_reason: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., context: _Optional[_Union[Context, _Mapping]] = ..., error: _Optional[_Union[TurnError, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., parts: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., wire: _Optional[str] = ...) -> None: ...

class TurnEvent(_message.Message):
    __slots__ = ("conversation_id", "turn_id", "cursor", "started", "delta", "ended", "progress")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    TURN_ID_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    turn_id: str
    cursor: int
    started: TurnStarted
    delta: TurnDelta
    ended: TurnEnded
    progress: TurnProgress
    def __init__(self, conversation_id: _Optional[str] = ..., turn_id: _Optional[str] = ..., cursor: _Optional[int] = ..., started: _Optional[_Union[TurnStarted, _Mapping]] = ..., delta: _Optional[_Union[TurnDelta, _Mapping]] = ..., ended: _Optional[_Union[TurnEnded, _Mapping]] = ..., progress: _Optional[_Union[TurnProgress, _Mapping]] = ...) -> None: ...

class TurnStarted(_message.Message):
    __slots__ = ("turn",)
    TURN_FIELD_NUMBER: _ClassVar[int]
    turn: Turn
    def __init__(self, turn: _Optional[_Union[Turn, _Mapping]] = ...) -> None: ...

class TurnDelta(_message.Message):
    __slots__ = ("text", "part", "delta")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    text: str
    part: Part
    delta: str
    def __init__(self, text: _Optional[str] = ..., part: _Optional[_Union[Part, _Mapping]] = ..., delta: _Optional[str] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("index", "type", "id", "name")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    index: int
    type: str
    id: str
    name: str
    def __init__(self, index: _Optional[int] = ..., type: _Optional[str] = ..., id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class TurnProgress(_message.Message):
    __slots__ = ("read", "total")
    READ_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    read: int
    total: int
    def __init__(self, read: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...

class TurnEnded(_message.Message):
    __slots__ = ("turn",)
    TURN_FIELD_NUMBER: _ClassVar[int]
    turn: Turn
    def __init__(self, turn: _Optional[_Union[Turn, _Mapping]] = ...) -> None: ...

class AskRequest(_message.Message):
    __slots__ = ("conversation_id", "prompt", "content", "parent_id", "model", "system_prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "if_busy", "on_disconnect", "mode", "character", "instruction_template", "prompt_template", "tools", "tool_choice", "tool_results", "response_format", "reasoning_effort", "top_k", "min_p", "repeat_penalty", "repeat_last_n", "prompt_batch_size", "extra", "progress")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_PROMPT_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    IF_BUSY_FIELD_NUMBER: _ClassVar[int]
    ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    CHARACTER_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTION_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHOICE_FIELD_NUMBER: _ClassVar[int]
    TOOL_RESULTS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    REASONING_EFFORT_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    REPEAT_PENALTY_FIELD_NUMBER: _ClassVar[int]
    REPEAT_LAST_N_FIELD_NUMBER: _ClassVar[int]
    PROMPT_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    prompt: str
    content: _struct_pb2.ListValue
    parent_id: str
    model: str
    system_prompt: str
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    if_busy: str
    on_disconnect: str
    mode: str
    character: str
    instruction_template: str
    prompt_template: str
    tools: _struct_pb2.ListValue
    tool_choice: _struct_pb2.Value
    tool_results: _containers.RepeatedCompositeFieldContainer[ToolResult]
    response_format: _struct_pb2.Struct
    reasoning_effort: str
    top_k: int
    min_p: float
    repeat_penalty: float
    repeat_last_n: int
    prompt_batch_size: int
    extra: _struct_pb2.Struct
    progress: bool
    def __init__(self, conversation_id: _Optional[str] = ..., prompt: _Optional[str] = ..., content: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., parent_id: _Optional[str] = ..., model: _Optional[str] = ..., system_prompt: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., if_busy: _Optional[str] = ..., on_disconnect: _Optional[str] = ..., mode: _Optional[str] = ..., character: _Optional[str] = ..., instruction_template: _Optional[str] = ..., prompt_template: _Optional[str] = ..., tools: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., tool_choice: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., tool_results: _Optional[_Iterable[_Union[ToolResult, _Mapping]]] = ..., response_format: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., reasoning_effort: _Optional[str] = ..., top_k: _Optional[int] = ..., min_p: _Optional[float] = ..., repeat_penalty: _Optional[float] = ..., repeat_last_n: _Optional[int] = ..., prompt_batch_size: _Optional[int] = ..., extra: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., progress: bool = ...) -> None: ...

class ToolResult(_message.Message):
    __slots__ = ("tool_call_id", "content")
    TOOL_CALL_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    tool_call_id: str
    content: str
    def __init__(self, tool_call_id: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class FollowTurnRequest(_message.Message):
    __slots__ = ("turn_id", "after", "progress")
    TURN_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    turn_id: str
    after: int
    progress: bool
    def __init__(self, turn_id: _Optional[str] = ..., after: _Optional[int] = ..., progress: bool = ...) -> None: ...

class WatchConversationRequest(_message.Message):
    __slots__ = ("conversation_id", "after_turn_id", "after", "progress")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_TURN_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    after_turn_id: str
    after: int
    progress: bool
    def __init__(self, conversation_id: _Optional[str] = ..., after_turn_id: _Optional[str] = ..., after: _Optional[int] = ..., progress: bool = ...) -> None: ...

class WatchAllRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchAllEvent(_message.Message):
    __slots__ = ("type", "conversation_id", "conversation", "turn", "waiting", "waiting_count")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    WAITING_COUNT_FIELD_NUMBER: _ClassVar[int]
    type: str
    conversation_id: str
    conversation: Conversation
    turn: Turn
    waiting: _containers.RepeatedCompositeFieldContainer[WaitingAsk]
    waiting_count: int
    def __init__(self, type: _Optional[str] = ..., conversation_id: _Optional[str] = ..., conversation: _Optional[_Union[Conversation, _Mapping]] = ..., turn: _Optional[_Union[Turn, _Mapping]] = ..., waiting: _Optional[_Iterable[_Union[WaitingAsk, _Mapping]]] = ..., waiting_count: _Optional[int] = ...) -> None: ...

class WaitingAsk(_message.Message):
    __slots__ = ("id", "prompt", "wire", "since")
    ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    WIRE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    prompt: str
    wire: str
    since: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., prompt: _Optional[str] = ..., wire: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WithdrawAskRequest(_message.Message):
    __slots__ = ("conversation_id", "waiting_id")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    WAITING_ID_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    waiting_id: str
    def __init__(self, conversation_id: _Optional[str] = ..., waiting_id: _Optional[str] = ...) -> None: ...

class WithdrawAskResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RegenerateRequest(_message.Message):
    __slots__ = ("conversation_id", "message_id", "model", "max_tokens", "temperature", "top_p", "seed", "stop", "if_busy", "on_disconnect", "mode", "character", "instruction_template", "prompt_template", "top_k", "min_p", "repeat_penalty", "repeat_last_n", "prompt_batch_size", "extra", "progress")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    IF_BUSY_FIELD_NUMBER: _ClassVar[int]
    ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    CHARACTER_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTION_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    REPEAT_PENALTY_FIELD_NUMBER: _ClassVar[int]
    REPEAT_LAST_N_FIELD_NUMBER: _ClassVar[int]
    PROMPT_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    message_id: str
    model: str
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    if_busy: str
    on_disconnect: str
    mode: str
    character: str
    instruction_template: str
    prompt_template: str
    top_k: int
    min_p: float
    repeat_penalty: float
    repeat_last_n: int
    prompt_batch_size: int
    extra: _struct_pb2.Struct
    progress: bool
    def __init__(self, conversation_id: _Optional[str] = ..., message_id: _Optional[str] = ..., model: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., if_busy: _Optional[str] = ..., on_disconnect: _Optional[str] = ..., mode: _Optional[str] = ..., character: _Optional[str] = ..., instruction_template: _Optional[str] = ..., prompt_template: _Optional[str] = ..., top_k: _Optional[int] = ..., min_p: _Optional[float] = ..., repeat_penalty: _Optional[float] = ..., repeat_last_n: _Optional[int] = ..., prompt_batch_size: _Optional[int] = ..., extra: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., progress: bool = ...) -> None: ...

class GetTurnRequest(_message.Message):
    __slots__ = ("turn_id",)
    TURN_ID_FIELD_NUMBER: _ClassVar[int]
    turn_id: str
    def __init__(self, turn_id: _Optional[str] = ...) -> None: ...

class CancelTurnRequest(_message.Message):
    __slots__ = ("turn_id",)
    TURN_ID_FIELD_NUMBER: _ClassVar[int]
    turn_id: str
    def __init__(self, turn_id: _Optional[str] = ...) -> None: ...

class CreateConversationRequest(_message.Message):
    __slots__ = ("id", "title", "system_prompt", "model", "metadata")
    ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_PROMPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    id: str
    title: str
    system_prompt: str
    model: str
    metadata: _struct_pb2.Struct
    def __init__(self, id: _Optional[str] = ..., title: _Optional[str] = ..., system_prompt: _Optional[str] = ..., model: _Optional[str] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class GetConversationRequest(_message.Message):
    __slots__ = ("conversation_id",)
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    def __init__(self, conversation_id: _Optional[str] = ...) -> None: ...

class ListConversationsRequest(_message.Message):
    __slots__ = ("limit", "after", "q", "order")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    Q_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    limit: int
    after: str
    q: str
    order: str
    def __init__(self, limit: _Optional[int] = ..., after: _Optional[str] = ..., q: _Optional[str] = ..., order: _Optional[str] = ...) -> None: ...

class ListConversationsResponse(_message.Message):
    __slots__ = ("conversations", "has_more")
    CONVERSATIONS_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    conversations: _containers.RepeatedCompositeFieldContainer[Conversation]
    has_more: bool
    def __init__(self, conversations: _Optional[_Iterable[_Union[Conversation, _Mapping]]] = ..., has_more: bool = ...) -> None: ...

class UpdateConversationRequest(_message.Message):
    __slots__ = ("conversation_id", "title", "system_prompt", "model", "metadata", "head_id", "truncation", "pinned")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_PROMPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    HEAD_ID_FIELD_NUMBER: _ClassVar[int]
    TRUNCATION_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    title: str
    system_prompt: str
    model: str
    metadata: _struct_pb2.Struct
    head_id: str
    truncation: str
    pinned: bool
    def __init__(self, conversation_id: _Optional[str] = ..., title: _Optional[str] = ..., system_prompt: _Optional[str] = ..., model: _Optional[str] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., head_id: _Optional[str] = ..., truncation: _Optional[str] = ..., pinned: bool = ...) -> None: ...

class DeleteConversationRequest(_message.Message):
    __slots__ = ("conversation_id",)
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    def __init__(self, conversation_id: _Optional[str] = ...) -> None: ...

class DeleteConversationResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListMessagesRequest(_message.Message):
    __slots__ = ("conversation_id", "leaf", "limit", "before")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    leaf: str
    limit: int
    before: str
    def __init__(self, conversation_id: _Optional[str] = ..., leaf: _Optional[str] = ..., limit: _Optional[int] = ..., before: _Optional[str] = ...) -> None: ...

class ListMessagesResponse(_message.Message):
    __slots__ = ("messages", "has_more")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    has_more: bool
    def __init__(self, messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., has_more: bool = ...) -> None: ...

class SearchMessagesRequest(_message.Message):
    __slots__ = ("q", "limit", "after", "conversation_id", "role", "created_after", "created_before")
    Q_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AFTER_FIELD_NUMBER: _ClassVar[int]
    CREATED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    q: str
    limit: int
    after: str
    conversation_id: str
    role: str
    created_after: _timestamp_pb2.Timestamp
    created_before: _timestamp_pb2.Timestamp
    def __init__(self, q: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ..., conversation_id: _Optional[str] = ..., role: _Optional[str] = ..., created_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., created_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SearchMessagesResponse(_message.Message):
    __slots__ = ("hits", "has_more")
    HITS_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[SearchHit]
    has_more: bool
    def __init__(self, hits: _Optional[_Iterable[_Union[SearchHit, _Mapping]]] = ..., has_more: bool = ...) -> None: ...

class SearchHit(_message.Message):
    __slots__ = ("message", "conversation_id", "title", "snippet", "score")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SNIPPET_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    message: Message
    conversation_id: str
    title: str
    snippet: str
    score: float
    def __init__(self, message: _Optional[_Union[Message, _Mapping]] = ..., conversation_id: _Optional[str] = ..., title: _Optional[str] = ..., snippet: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class PreviewContextResponse(_message.Message):
    __slots__ = ("model", "encoding", "window", "reserved", "budget", "prompt_tokens", "overhead", "remaining", "messages_included", "messages_trimmed", "messages", "counted", "window_known")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OVERHEAD_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_INCLUDED_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_TRIMMED_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    WINDOW_KNOWN_FIELD_NUMBER: _ClassVar[int]
    model: str
    encoding: str
    window: int
    reserved: int
    budget: int
    prompt_tokens: int
    overhead: int
    remaining: int
    messages_included: int
    messages_trimmed: int
    messages: _containers.RepeatedCompositeFieldContainer[PreviewedMessage]
    counted: str
    window_known: bool
    def __init__(self, model: _Optional[str] = ..., encoding: _Optional[str] = ..., window: _Optional[int] = ..., reserved: _Optional[int] = ..., budget: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., overhead: _Optional[int] = ..., remaining: _Optional[int] = ..., messages_included: _Optional[int] = ..., messages_trimmed: _Optional[int] = ..., messages: _Optional[_Iterable[_Union[PreviewedMessage, _Mapping]]] = ..., counted: _Optional[str] = ..., window_known: bool = ...) -> None: ...

class PreviewedMessage(_message.Message):
    __slots__ = ("id", "role", "tokens", "overhead", "kept", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    OVERHEAD_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    role: str
    tokens: int
    overhead: int
    kept: bool
    reason: str
    def __init__(self, id: _Optional[str] = ..., role: _Optional[str] = ..., tokens: _Optional[int] = ..., overhead: _Optional[int] = ..., kept: bool = ..., reason: _Optional[str] = ...) -> None: ...
