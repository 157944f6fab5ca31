"""HTTP requests to a Trialogue server: an address, JSON out and in, errors as they are told."""

from __future__ import annotations

import argparse
import json
import os
import ssl
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from clients.websocket_client import CONNECT_SECONDS, LOST, LostError, ServerRefusedError

#: What a read of a connection that is gone, or was never one of HTTP, raises.
BROKEN = (OSError, HTTPException)


def base(url: str, wire: str) -> str:
    """Return the address of the page and of REST, of the server that a wire's URL names."""
    if wire == "rest":
        return url.rstrip("/")
    scheme, _, rest = url.rpartition("://")
    parts = urlsplit(f"//{rest}")
    secure = "https" if scheme in ("wss", "https") else "http"
    if parts.path.endswith("/ws"):  # the websocket of that very port
        return f"{secure}://{parts.netloc}{parts.path.removesuffix('/ws')}"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{secure}://{host}:{os.environ.get('TRIALOGUE_HTTP_PORT') or '8000'}"


def web_of(chosen: argparse.Namespace) -> Web:
    """Return how to ask over HTTP what no other wire tells: models, and files."""
    return Web(base(chosen.url, chosen.wire), chosen.api_key, chosen.ca)


class Web:
    """Who asks a server over HTTP, and where it is."""

    def __init__(
        self, address: str, api_key: str | None, ca: str | None, *, known: bool = False
    ) -> None:
        """`known`: the server has answered before, so that it is waited for where it is gone."""
        self._address = address.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        tls = ssl.create_default_context(cafile=ca) if ca else None
        near = urlsplit(self._address).hostname in ("localhost", "127.0.0.1", "::1")
        handlers = [HTTPSHandler(context=tls)] if self._address.startswith("https:") else []
        self._opener = build_opener(ProxyHandler({} if near else None), *handlers)
        self._answered = known

    def open(
        self,
        method: str,
        path: str,
        fields: dict[str, Any] | None = None,
        *,
        seconds: float | None = CONNECT_SECONDS,
        **headers: str,
    ) -> HTTPResponse:
        """Return the answer to a request, unread. Raises ServerRefusedError and LostError."""
        body = None
        if method in ("POST", "PATCH"):
            body, headers["Content_Type"] = json.dumps(fields or {}).encode(), "application/json"
        elif fields:
            path = f"{path}?{urlencode(fields)}"
        told = {name.replace("_", "-"): of for name, of in headers.items()}
        try:
            request = Request(  # noqa: S310 - the user's own address
                f"{self._address}{path}", body, self._headers | told, method=method
            )
            response: HTTPResponse = self._opener.open(request, timeout=seconds)
        except HTTPError as error:
            raise refusal(error) from None
        except ValueError:
            raise ServerRefusedError("url", f"{self._address} is no address.") from None
        except BROKEN as error:
            raise self._unreachable(error) from error
        self._answered = True
        return response

    def call(self, method: str, path: str, fields: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON object that a request is answered with."""
        with self.open(method, path, fields) as response:
            try:
                answer = json.loads(response.read() or b"{}")
            except BROKEN as error:
                raise LostError("the connection is gone") from error
            except ValueError:
                answer = None  # a page of whatever else is there
        if not isinstance(answer, dict):
            raise ServerRefusedError("url", f"{self._address} is no Trialogue server.")
        return answer

    def _unreachable(self, error: Exception) -> Exception:
        if self._answered:
            return LostError("the server is gone")
        why = error.reason if isinstance(error, URLError) else error
        told = getattr(why, "strerror", None) or str(why) or "no answer"
        return ServerRefusedError("unreachable", f"{self._address} cannot be reached: {told}.")


def refusal(error: HTTPError) -> Exception:
    """Return a refusal as what the server said of it."""
    try:
        return told(json.loads(error.read())["error"])
    except (*BROKEN, ValueError, KeyError, TypeError):
        return ServerRefusedError("", f"The server answered with HTTP {error.code}.")


def told(error: dict[str, Any]) -> Exception:
    """Return the error of an answer or an event: of a server that stops, as lost."""
    code, message = error.get("code") or "", error["message"]
    return LostError(message) if code in LOST else ServerRefusedError(code, message)


def models(chosen: argparse.Namespace) -> list[str]:
    """Return the names of the models that the server offers."""
    return [str(one["id"]) for one in web_of(chosen).call("GET", "/v1/models")["data"]]
