"""Who and what the gRPC wire refuses, and how it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf.struct_pb2 import ListValue
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
)
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from trialogue.v1 import conversation_pb2 as pb

from server.core.access.auth import Auth
from server.core.clock import microseconds
from server.core.errors import Code, InvalidRequestError
from tests.server.transports.grpc.grpc_client import (
    Served,
    bearing,
    heard,
    parrot,
    refusal,
    serving,
    stub,
)
from tests.support.access import locked
from tests.support.fakes import Parrot, Puppet


def _change(**fields: Any) -> pb.UpdateConversationRequest:
    return pb.UpdateConversationRequest(conversation_id="c", **fields)


class TestRefusals:
    @pytest.mark.parametrize(
        ("method", "asked", "param"),
        [
            ("Ask", pb.AskRequest(), "prompt"),
            ("Ask", pb.AskRequest(prompt="  "), "prompt"),
            ("Ask", pb.AskRequest(prompt="x", content=ListValue()), "content"),
            ("Ask", pb.AskRequest(content=ListValue()), "content"),
            ("Ask", pb.AskRequest(prompt="x", conversation_id="-"), "conversation_id"),
            ("Ask", pb.AskRequest(prompt="x", if_busy="later"), "if_busy"),
            ("Ask", pb.AskRequest(prompt="x", on_disconnect="stop"), "on_disconnect"),
            ("Ask", pb.AskRequest(prompt="x", temperature=3), "temperature"),
            ("Ask", pb.AskRequest(prompt="x", temperature=float("nan")), "temperature"),
            ("Ask", pb.AskRequest(prompt="x", max_tokens=0), "max_tokens"),
            ("FollowTurn", pb.FollowTurnRequest(), "turn_id"),
            ("FollowTurn", pb.FollowTurnRequest(turn_id="turn_1", after=-1), "after"),
            ("WatchConversation", pb.WatchConversationRequest(), "conversation_id"),
            (
                "WatchConversation",
                pb.WatchConversationRequest(conversation_id="c", after=-1),
                "after",
            ),
            ("Regenerate", pb.RegenerateRequest(), "conversation_id"),
            ("Regenerate", pb.RegenerateRequest(conversation_id="c", if_busy="x"), "if_busy"),
            ("GetTurn", pb.GetTurnRequest(), "turn_id"),
            ("CancelTurn", pb.CancelTurnRequest(), "turn_id"),
            ("CreateConversation", pb.CreateConversationRequest(id="a b"), "id"),
            ("GetConversation", pb.GetConversationRequest(), "conversation_id"),
            ("ListConversations", pb.ListConversationsRequest(limit=101), "limit"),
            ("ListConversations", pb.ListConversationsRequest(limit=-1), "limit"),
            ("UpdateConversation", pb.UpdateConversationRequest(), "conversation_id"),
            ("DeleteConversation", pb.DeleteConversationRequest(), "conversation_id"),
            ("ListMessages", pb.ListMessagesRequest(), "conversation_id"),
            ("UpdateConversation", _change(head_id="\0"), "head_id"),
            ("UpdateConversation", _change(truncation="eat"), "truncation"),
            ("PreviewContext", pb.AskRequest(prompt="x"), "conversation_id"),
            ("PreviewContext", pb.AskRequest(conversation_id="c"), "prompt"),
            ("PreviewContext", pb.AskRequest(conversation_id="c", prompt=" "), "prompt"),
            ("SearchMessages", pb.SearchMessagesRequest(), "q"),
            ("SearchMessages", pb.SearchMessagesRequest(q="x", limit=101), "limit"),
            ("SearchMessages", pb.SearchMessagesRequest(q="x", role="poet"), "role"),
            (
                "SearchMessages",
                pb.SearchMessagesRequest(q="x", created_after=Timestamp(seconds=1 << 62)),
                "created_after",
            ),
            (
                "SearchMessages",
                pb.SearchMessagesRequest(q="x", created_before=Timestamp(seconds=-(1 << 62))),
                "created_before",
            ),
        ],
    )
    async def test_a_missing_or_wrong_field_is_named(
        self, client: Any, method: str, asked: Any, param: str
    ) -> None:
        call = getattr(client, method)(asked)
        refused = await refusal(call.read() if hasattr(call, "read") else call)
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert (refused.reason, refused.param) == ("INVALID_REQUEST", param)
        assert refused.retry_after is None

    @pytest.mark.parametrize(
        ("method", "asked"),
        [
            ("FollowTurn", pb.FollowTurnRequest(turn_id="turn_1")),
            ("WatchConversation", pb.WatchConversationRequest(conversation_id="c")),
            ("Regenerate", pb.RegenerateRequest(conversation_id="c")),
            ("GetTurn", pb.GetTurnRequest(turn_id="turn_1")),
            ("CancelTurn", pb.CancelTurnRequest(turn_id="turn_1")),
            ("GetConversation", pb.GetConversationRequest(conversation_id="c")),
            ("UpdateConversation", pb.UpdateConversationRequest(conversation_id="c", title="x")),
            ("DeleteConversation", pb.DeleteConversationRequest(conversation_id="c")),
            ("ListMessages", pb.ListMessagesRequest(conversation_id="c")),
            ("PreviewContext", pb.AskRequest(conversation_id="c", prompt="x")),
            ("Ask", pb.AskRequest(prompt="x", parent_id="msg_1")),
        ],
    )
    async def test_what_is_not_there_is_not_found(
        self, client: Any, method: str, asked: Any
    ) -> None:
        call = getattr(client, method)(asked)
        refused = await refusal(call.read() if hasattr(call, "read") else call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")

    async def test_an_id_is_taken_once(self, client: Any) -> None:
        asked = pb.CreateConversationRequest(id="c1")
        await client.CreateConversation(asked)
        refused = await refusal(client.CreateConversation(asked))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.ALREADY_EXISTS,
            "ALREADY_EXISTS",
        )

    async def test_a_busy_conversation_says_when_to_come_again(self, client: Any) -> None:
        asked = pb.AskRequest(conversation_id="c1", prompt="x", if_busy="reject")
        first = client.Ask(asked)
        await first.read()
        refused = await refusal(client.Ask(asked).read())
        assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "CONVERSATION_BUSY")
        assert refused.retry_after == 1

    async def test_a_draining_server_says_when_to_come_again(
        self, served: Served, client: Any
    ) -> None:
        await served.conversations.drain(0)
        refused = await refusal(client.Ask(pb.AskRequest(prompt="x")).read())
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert refused.retry_after == 5

    @pytest.mark.parametrize("raw", [b"\xff\xff", b"\x12\x02\xc3\x28", b"\x12\x05x"])
    @pytest.mark.parametrize("method", ["Ask", "GetTurn"])
    async def test_a_broken_message_is_the_callers_fault(
        self, served: Served, method: str, raw: bytes
    ) -> None:
        path = f"/trialogue.v1.ConversationService/{method}"
        async with served.channel() as channel:
            method_called: Any = channel.unary_stream(path)
            refused = await refusal(method_called(raw).read())
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.reason == "INVALID_REQUEST"

    @pytest.mark.parametrize("size", [2_000, 5_000_000])
    async def test_a_message_over_the_limit_is_refused(self, tmp_path: Path, size: int) -> None:
        async with parrot(tmp_path, max_body_bytes=1_000) as client:
            refused = await refusal(client.Ask(pb.AskRequest(prompt="x" * size)).read())
            events = await heard(client.Ask(pb.AskRequest(prompt="x" * 900)))
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.reason == ("REQUEST_TOO_LARGE" if size == 2_000 else None)
        assert events[-1].ended.turn.status == "completed"

    async def test_a_prompt_over_the_budget_is_refused(self, tmp_path: Path) -> None:
        async with parrot(tmp_path) as client:
            refused = await refusal(client.Ask(pb.AskRequest(prompt="word " * 400_000)).read())
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.reason == Code.CONTEXT_LENGTH_EXCEEDED.upper()

    async def test_a_long_message_fits_the_trailers(self, tmp_path: Path) -> None:
        class TalkativeDoors(Auth):
            async def owner(self, key: str | None) -> str:
                raise InvalidRequestError("é" * 100_000 + "\ud800", "é" * 100_000)

        auth = TalkativeDoors((), None, microseconds, open_to_all=True, public=False)
        async with serving(tmp_path, Parrot(), auth) as server, server.channel() as channel:
            refused = await refusal(stub(channel).GetTurn(pb.GetTurnRequest(turn_id="t")))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.message == "é" * 500


class TestDoors:
    async def test_no_key_or_a_wrong_one_is_unauthenticated(self, tmp_path: Path) -> None:
        async with (
            serving(tmp_path, Parrot(), locked("ann:secret")) as server,
            server.channel() as channel,
        ):
            client, asked = stub(channel), pb.ListConversationsRequest()
            for metadata in ((), bearing("wrong"), bearing("secre"), bearing("")):
                refused = await refusal(client.ListConversations(asked, metadata=metadata))
                assert refused.code is grpc.StatusCode.UNAUTHENTICATED
                assert refused.reason == "INVALID_API_KEY"
            await client.ListConversations(asked, metadata=bearing("secret"))

    async def test_another_keys_things_are_not_found(self, tmp_path: Path) -> None:
        async with (
            serving(tmp_path, Parrot(), locked("ann:a,bob:b")) as server,
            server.channel() as channel,
        ):
            client = stub(channel)
            asked = pb.AskRequest(conversation_id="c1", prompt="x")
            turn_id = (await heard(client.Ask(asked, metadata=bearing("a"))))[0].turn_id
            for call in (
                client.GetTurn(pb.GetTurnRequest(turn_id=turn_id), metadata=bearing("b")),
                client.GetConversation(
                    pb.GetConversationRequest(conversation_id="c1"), metadata=bearing("b")
                ),
                client.FollowTurn(
                    pb.FollowTurnRequest(turn_id=turn_id), metadata=bearing("b")
                ).read(),
            ):
                assert (await refusal(call)).code is grpc.StatusCode.NOT_FOUND

    async def test_a_foreign_page_is_refused(self, client: Any) -> None:
        asked, page = pb.ListConversationsRequest(), (("origin", "https://evil.test"),)
        refused = await refusal(client.ListConversations(asked, metadata=page))
        assert refused.code is grpc.StatusCode.PERMISSION_DENIED
        assert refused.reason == "PERMISSION_DENIED"

    async def test_health_needs_no_key_and_reflection_does(self, tmp_path: Path) -> None:
        async with (
            serving(tmp_path, Parrot(), locked("ann:secret")) as server,
            server.channel() as channel,
        ):
            state = await HealthStub(channel).Check(HealthCheckRequest())
            assert state.status == HealthCheckResponse.SERVING
            reflect = ServerReflectionStub(channel).ServerReflectionInfo
            question = ServerReflectionRequest(list_services="")
            refused = await refusal(reflect(iter([question])).read())
            assert refused.code is grpc.StatusCode.UNAUTHENTICATED
            answer = await reflect(iter([question]), metadata=bearing("secret")).read()
            assert len(answer.list_services_response.service) == 4

    async def test_a_refusal_does_not_cross_the_first_message(self, tmp_path: Path) -> None:
        """The client would take it for an error of its own, now and then."""
        async with (
            serving(tmp_path, Parrot(), locked("ann:secret")) as server,
            server.channel() as channel,
        ):
            call = ServerReflectionStub(channel).ServerReflectionInfo()
            await call.wait_for_connection()
            for _ in range(3):  # it has long been heard of
                await HealthStub(channel).Check(HealthCheckRequest())
            assert not call.done()
            await call.write(ServerReflectionRequest(list_services=""))
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
            silent = ServerReflectionStub(channel).ServerReflectionInfo()
            await silent.done_writing()
            assert await silent.code() is grpc.StatusCode.UNAUTHENTICATED


class TestRequestIds:
    async def test_a_callers_own_comes_back(self, client: Any) -> None:
        told = (("x-request-id", "mine-1"),)
        call = client.ListConversations(pb.ListConversationsRequest(), metadata=told)
        await call
        assert dict(await call.trailing_metadata())["x-request-id"] == "mine-1"
        refused = await refusal(client.GetTurn(pb.GetTurnRequest(), metadata=told))
        assert refused.trailers["x-request-id"] == "mine-1"

    @pytest.mark.parametrize("given", ["", "two words", "x" * 129])
    async def test_one_is_made_where_there_is_none(
        self, client: Any, puppet: Puppet, given: str
    ) -> None:
        told = (("x-request-id", given),) if given else ()
        puppet.answer("Yes")
        call = client.Ask(pb.AskRequest(prompt="x"), metadata=told)
        await heard(call)
        assert dict(await call.trailing_metadata())["x-request-id"].startswith("req_")


class TestOurFaults:
    async def test_an_inner_text_is_not_told(self, tmp_path: Path) -> None:
        class BrokenDoors(Auth):
            async def owner(self, key: str | None) -> str:
                raise RuntimeError("a secret")

        auth = BrokenDoors((), None, microseconds, open_to_all=True, public=False)
        with structlog.testing.capture_logs() as logs:
            async with serving(tmp_path, Parrot(), auth) as server, server.channel() as channel:
                refused = await refusal(stub(channel).GetTurn(pb.GetTurnRequest(turn_id="t")))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert "a secret" not in str(refused)
        broke, ended = logs
        assert (ended["event"], ended["status"]) == ("request", "INTERNAL")
        assert broke == {
            "event": "call broke",
            "log_level": "error",
            "exc_info": True,
            "request_id": refused.trailers["x-request-id"],
        }
