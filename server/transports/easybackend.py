"""chat.Chat of ChatGPT EasyBackend: an answer as bare text, then the ids to go on with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, cast

import grpc

from easybackend import chat_pb2 as pb
from server.core.conversations import Ask, Conversations
from server.core.errors import Code, Problem, ProblemError
from server.core.ids import NEW
from server.core.turns import Delta, Ended
from server.transports.rpc_calls import Caller, Calls
from server.transports.status import problem_of_turn
from storage.model import Status, Turn

SERVICE = pb.DESCRIPTOR.services_by_name["Chat"].full_name
