"""How REST tells of what it refuses, whoever refused it: our core, FastAPI or its router."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from server.core.errors import Code, Problem, RefusedError, problem_of
from server.transports.http.responses import JSON, refusal
from server.transports.status import http_body, http_headers, http_status


async def refused(_: Request, error: Exception) -> Response:
    return refusal(problem_of(error))


async def invalid(_: Request, error: Exception) -> Response:
    """Say what is wrong with a request's fields, in our shape and on one line."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it alone
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    param = ".".join(place) or None
    match first["type"]:
        case "json_invalid":
            message, param = "The body is not valid JSON.", None
        case "extra_forbidden":
            message = f"There is no field {param!r} here."
        case "missing" if param is None:
            message = "The body is missing; send a JSON object, with content-type application/json."
        case "model_attributes_type":
            message = "The body must be a JSON object, sent with content-type application/json."
        case _:
            message = f"{param or 'The body'}: {first['msg']}."
    return refusal(Problem(Code.INVALID_REQUEST, " ".join(message.split())[:500], param))


async def no_route(routes: Sequence[BaseRoute], request: Request, error: Exception) -> Response:
    """Say in our shape what the router says in its own."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it alone
    if isinstance(error.__cause__, RefusedError):  # raised where FastAPI read the body
        return refusal(problem_of(error.__cause__))
    path = request.scope["path"]
    slash = path.endswith("/") and not _methods(routes, path)
    if error.status_code == 404 and slash and _methods(routes, path[:-1]):
        return _without_slash(path, request.scope["query_string"])
    code = Code.NOT_FOUND if error.status_code == 404 else Code.INVALID_REQUEST
    message = {404: "There is no such route.", 405: "That method is not for this route."}
    problem = Problem(code, message.get(error.status_code, "The body cannot be read as JSON."))
    status = error.status_code if error.status_code in (404, 405) else http_status(problem)
    headers = {**http_headers(problem), **(error.headers or {})}
    if status == 405 and (methods := _methods(routes, path)):
        headers["Allow"] = ", ".join(methods)
    return JSON(http_body(problem), status_code=status, headers=headers)


def _without_slash(path: str, query: bytes) -> Response:
    """Lead to the same without the slash at its end, from wherever that is to whoever asks."""
    name = quote(path[:-1].rpartition("/")[2], safe=":~")
    where = f"../{name}?{query.decode('latin-1')}" if query else f"../{name}"
    return Response(status_code=307, headers={"location": where})


def _methods(routes: Sequence[BaseRoute], path: str) -> list[str]:
    """Return what a path can be asked with: the router tells of the first route alone."""
    here = [r for r in routes if isinstance(r, Route) and r.path_regex.match(path)]
    return sorted({method for route in here for method in route.methods or ()})
