"""The gRPC listener: its port, its standard services, and strangers who mean it harm."""

from __future__ import annotations

import asyncio
import errno
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)
from trialogue.v1 import conversation_pb2 as pb

from tests.server.transports.grpc.grpc_client import (
    RawPeer,
    Served,
    heard,
    refusal,
    serving,
    stub,
    text,
)
from tests.support.access import locked
from tests.support.certificates import make_certificate
from tests.support.fakes import Parrot, Puppet


class TestStandardServices:
    async def test_health_is_serving_until_the_server_drains(self, served: Served) -> None:
        services = ("", "trialogue.v1.ConversationService", "chat.Chat", "grpc.health.v1.Health")
        async with served.channel() as channel:
            health = HealthStub(channel)
            watch = health.Watch(HealthCheckRequest())
            assert (await watch.read()).status == HealthCheckResponse.SERVING
            for service in services:
                state = await health.Check(HealthCheckRequest(service=service))
                assert state.status == HealthCheckResponse.SERVING
            await served.conversations.drain(0)
            assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
            for service in services:
                state = await health.Check(HealthCheckRequest(service=service))
                assert state.status == HealthCheckResponse.NOT_SERVING

    async def test_nobody_knows_the_health_of_another_service(self, served: Served) -> None:
        async with served.channel() as channel:
            health, asked = HealthStub(channel), HealthCheckRequest(service="no.Such")
            refused = await refusal(health.Check(asked))
            assert refused.code is grpc.StatusCode.NOT_FOUND
            watch = health.Watch(asked)
            assert (await watch.read()).status == HealthCheckResponse.SERVICE_UNKNOWN

    @pytest.mark.parametrize("version", ["v1alpha", "v1"])
    async def test_reflection_shows_services_and_messages(
        self, served: Served, version: str
    ) -> None:
        path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        async with served.channel() as channel:
            reflect: Any = channel.stream_stream(
                path,
                request_serializer=ServerReflectionRequest.SerializeToString,
                response_deserializer=ServerReflectionResponse.FromString,
            )
            call = reflect()
            await call.write(ServerReflectionRequest(list_services=""))
            names = {one.name for one in (await call.read()).list_services_response.service}
            assert {"trialogue.v1.ConversationService", "chat.Chat"} <= names
            for name in names:
                await call.write(ServerReflectionRequest(file_containing_symbol=name))
                files = (await call.read()).file_descriptor_response.file_descriptor_proto
                described = [FileDescriptorProto.FromString(file) for file in files]
                assert any(
                    f"{file.package}.{service.name}" == name
                    for file in described
                    for service in file.service
                )
            await call.done_writing()

    async def test_reflection_refuses_what_is_no_message(self, served: Served) -> None:
        path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        async with served.channel() as channel:
            reflect: Any = channel.stream_stream(path)
            refused = await refusal(reflect(iter([b"\xff"])).read())
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT


class TestTheListener:
    async def test_a_taken_port_is_said_as_the_system_says_it(
        self, tmp_path: Path, served: Served
    ) -> None:
        folder = tmp_path / "other"
        folder.mkdir()
        with pytest.raises(OSError, match="in use") as caught:
            async with serving(folder, Parrot(), grpc_port=served.listener.port):
                pass
        assert caught.value.errno == errno.EADDRINUSE

    async def test_its_port_is_free_once_it_is_left(self, tmp_path: Path) -> None:
        async with serving(tmp_path, Parrot()) as server:
            port = server.listener.port
        async with (
            serving(tmp_path, Parrot(), grpc_port=port) as server,
            server.channel() as channel,
        ):
            assert server.listener.port == port
            await stub(channel).ListConversations(pb.ListConversationsRequest())

    async def test_it_speaks_tls(self, tmp_path: Path) -> None:
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        await make_certificate(cert, key)
        async with serving(tmp_path, Parrot(), tls_cert=cert, tls_key=key) as server:
            trust = grpc.ssl_channel_credentials(cert.read_bytes())
            address = f"localhost:{server.listener.port}"
            async with grpc.aio.secure_channel(address, trust) as channel:
                events = await heard(stub(channel).Ask(pb.AskRequest(prompt="Hello")))
                assert text(events) == "Hello "
            async with server.channel() as channel:
                refused = await refusal(stub(channel).GetTurn(pb.GetTurnRequest(turn_id="t")))
                assert refused.code is grpc.StatusCode.UNAVAILABLE

    async def test_a_certificate_that_is_none_is_an_error(self, tmp_path: Path) -> None:
        broken = tmp_path / "broken.pem"
        broken.write_text("no certificate")
        with pytest.raises(OSError, match="TLS certificate"):
            async with serving(tmp_path, Parrot(), tls_cert=broken, tls_key=broken):
                pass

    async def test_a_path_that_is_no_text_harms_nobody(
        self, served: Served, client: Any, puppet: Puppet, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Such a path ends grpc.aio's server; another one has taken its place at once."""
        asked = client.Ask(pb.AskRequest(conversation_id="c1", prompt="x"))
        turn_id = (await asked.read()).turn_id
        with ExitStack() as strangers:
            for _ in range(3):
                stranger = strangers.enter_context(RawPeer(served.listener.port))
                stranger.call(b"/a\xbe\xff/x")
                await asyncio.to_thread(stranger.read_goaway)
                async with served.channel() as channel:
                    named = pb.GetTurnRequest(turn_id=turn_id)
                    turn = await stub(channel).GetTurn(named, wait_for_ready=True)
                    assert turn.status == "running"
            puppet.answer("Still here")
            assert (await asked.read()).delta.text == "Still here"
            assert (await asked.read()).ended.turn.status == "completed"
        assert [record.getMessage() for record in caplog.records] == []

    async def test_metadata_that_is_no_text_is_a_wrong_key_at_most(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with serving(tmp_path, Parrot(), locked("ann:secret")) as server:
            told = {b"authorization": b"Bearer s\xff\xfe", b"x-request-id": b"\xff"}
            with RawPeer(server.listener.port) as peer:
                peer.call(b"/trialogue.v1.ConversationService/GetTurn", told)
                status = await asyncio.to_thread(peer.read_status)
        assert status == grpc.StatusCode.UNAUTHENTICATED.value[0]
        assert [record.getMessage() for record in caplog.records] == []

    async def test_a_listener_that_is_left_ends_what_nobody_ended(self, tmp_path: Path) -> None:
        async with serving(tmp_path, Puppet()) as server:
            channel = server.channel()
            asked = stub(channel).Ask(pb.AskRequest(prompt="x"))
            await asked.read()
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await asked.read()
        await channel.close()
