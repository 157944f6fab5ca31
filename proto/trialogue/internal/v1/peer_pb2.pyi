from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class FollowRequest(_message.Message):
    __slots__ = ("owner", "turn_id", "after")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    TURN_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    owner: str
    turn_id: str
    after: int
    def __init__(self, owner: _Optional[str] = ..., turn_id: _Optional[str] = ..., after: _Optional[int] = ...) -> None: ...

class FollowResponse(_message.Message):
    __slots__ = ("position", "text", "marks", "error_code", "error_message", "prompt_read", "prompt_total")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MARKS_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_READ_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOTAL_FIELD_NUMBER: _ClassVar[int]
    position: int
    text: str
    marks: str
    error_code: str
    error_message: str
    prompt_read: int
    prompt_total: int
    def __init__(self, position: _Optional[int] = ..., text: _Optional[str] = ..., marks: _Optional[str] = ..., error_code: _Optional[str] = ..., error_message: _Optional[str] = ..., prompt_read: _Optional[int] = ..., prompt_total: _Optional[int] = ...) -> None: ...
