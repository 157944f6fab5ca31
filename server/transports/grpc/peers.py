"""The door between nodes: what one writes is followed by another, which shows their secret."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from trialogue.internal.v1 import peer_pb2 as pb

from server.live.port import LiveTurns
from server.live.turn import Progress
from server.nodes.port import PeerError
from server.transports.grpc.handlers import Context, Handler
from server.transports.grpc.peer_tls import Known
from storage.model import Failure
from storage.parts import marks_json, marks_of
from storage.port import Piece

SERVICE = pb.DESCRIPTOR.services_by_name["Peer"].full_name
_FOLLOW = f"/{SERVICE}/Follow"
_SECRET = "x-trialogue-peer"  # noqa: S105 - the name of a header
#: Seconds in which what grows is gathered: a message costs both nodes what a delta costs, and a
#: dozen of them a second read as well as fifty.
GATHERED = 0.08
#: A peer that is lost without a word is found out by pings: behind a call, as nothing else is sent.
_OPTIONS = (
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # What was refused is tried anew at once: whoever follows waits.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class PeerService:
    """Lets other nodes follow what is written here."""

    def __init__(self, live: LiveTurns, secret: str) -> None:
        self._live = live
        self._secret = secret.encode()

    def methods(self) -> Mapping[str, Handler]:
        follow: Handler = grpc.unary_stream_rpc_method_handler(
            self.follow, pb.FollowRequest.FromString, pb.FollowResponse.SerializeToString
        )
        return {"Follow": follow}

    async def follow(
        self, asked: pb.FollowRequest, context: Context
    ) -> AsyncGenerator[pb.FollowResponse, None]:
        told: dict[str, Any] = dict(context.invocation_metadata() or ())
        if not hmac.compare_digest(str(told.get(_SECRET, "")).encode(), self._secret):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "This is the door of nodes.")
        live = self._live.find(asked.owner, asked.turn_id)
        if live is None:
            return
        with live.followed():
            async with aclosing(live.pieces(asked.after)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Progress):
                        yield pb.FollowResponse(prompt_read=piece.read, prompt_total=piece.total)
                        continue
                    yield pb.FollowResponse(
                        position=piece.position,
                        text=piece.text,
                        marks=marks_json(piece.marks) or "",
                    )
                    if not live.over:
                        await asyncio.sleep(GATHERED)
        if (error := live.turn.error) is not None:
            yield pb.FollowResponse(error_code=error.code, error_message=error.message)


class GrpcPeers:
    """The other nodes, by a connection each. Implements Peers; an asynchronous context manager."""

    def __init__(self, secret: str, known: Known | None = None) -> None:
        """`known` is how they are known by TLS; None where they speak without."""
        self._metadata = ((_SECRET, secret),)
        self._known = known
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def __aenter__(self) -> GrpcPeers:
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def follow(
        self, address: str, owner: str, turn_id: str, after: int
    ) -> AsyncGenerator[Piece | Progress | Failure, None]:
        """Yield the row of an answer as it grows; last the failure, if it is one."""
        follow = self._channel(address).unary_stream(
            _FOLLOW,
            request_serializer=pb.FollowRequest.SerializeToString,
            response_deserializer=pb.FollowResponse.FromString,
        )
        asked = pb.FollowRequest(owner=owner, turn_id=turn_id, after=after)
        call = follow(asked, metadata=self._metadata)
        try:
            async for told in call:
                if told.error_code:
                    yield Failure(told.error_code, told.error_message)
                elif told.prompt_total:
                    yield Progress("", turn_id, told.prompt_read, told.prompt_total)
                else:
                    yield Piece(owner, turn_id, told.position, told.text, marks_of(told.marks))
        except grpc.aio.AioRpcError as error:
            raise PeerError(error.code().name) from error
        finally:
            call.cancel()

    def _channel(self, address: str) -> grpc.aio.Channel:
        if (channel := self._channels.get(address)) is None:
            if self._known is None:
                channel = grpc.aio.insecure_channel(address, _OPTIONS)
            else:
                credentials, name = self._known
                options = (*_OPTIONS, ("grpc.ssl_target_name_override", name))
                channel = grpc.aio.secure_channel(address, credentials, options)
            self._channels[address] = channel
        return channel
