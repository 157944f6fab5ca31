"""The routes of OpenAI's API that store, show, change or use things: what is whose in each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any


class Does(Enum):
    """What a route does with things that are stored at the upstream."""

    #: the `id` in its answer is of something new
    MAKES = "makes"
    #: shows everybody's, one after the other
    LISTS = "lists"
    #: its last `{kind}` is gone then
    DELETES = "deletes"
    #: shows, changes or uses what its path and its body name
    USES = "uses"


@dataclass(frozen=True, slots=True)
class ResourceRule:
    """A route and what is whose in it.

    In `path`, `{files}` stands for the id of a file, which must be the caller's own, and `{*}` for
    what is found only within that. `learns` are further places of ids in an answer, each with its
    kind: `output[].id`. `made` is the kind of its `id`.
    """

    path: str
    methods: frozenset[str]
    does: Does = Does.USES
    made: str = ""
    learns: tuple[tuple[str, str], ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the ids in the path, `*` for those that are not looked at."""
        return tuple(re.findall(r"\{([^}]*)\}", self.path))

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """All places of ids in an answer, with their kinds."""
        own = "data[].id" if self.does is Does.LISTS else "id"
        return (*(((own, self.made),) if self.made else ()), *self.learns)

    def names(self, path: str) -> dict[str, str] | None:
        """Return the ids in a path with their kinds; None where it is another route's."""
        found = _pattern(self.path).fullmatch(path)
        if found is None:
            return None
        pairs = zip(found.groups(), self.kinds, strict=True)
        return {id_: kind for id_, kind in pairs if kind != "*"}


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{[^}]*\}", "([^/]+)", path))


def _rule(line: str, *learns: tuple[str, str]) -> ResourceRule:
    """Read `METHOD,METHOD path does kind`."""
    methods, path, *rest = line.split()
    does = Does(rest[0]) if rest else Does.USES
    return ResourceRule(
        path, frozenset(methods.split(",")), does, rest[1] if rest[1:] else "", learns
    )


def _collection(
    path: str, *learns: tuple[str, str], changes: bool = True
) -> tuple[ResourceRule, ...]:
    """Return the routes that nearly every kind of thing has."""
    kind = path.rpartition("/")[2]
    one = f"{path}/{{{kind}}}"
    return (
        _rule(f"POST {path} makes {kind}", *learns),
        _rule(f"GET {path} lists {kind}", *_each(learns)),
        _rule(f"{'GET,POST' if changes else 'GET'} {one}", *learns),
        _rule(f"DELETE {one} deletes"),
    )


def _each(learns: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((f"data[].{place}", kind) for place, kind in learns)


_ITEMS = (("output[].id", "items"), ("output[].container_id", "containers"))
_RESULTS = (("output_file_id", "files"), ("error_file_id", "files"))
_TRAINED = (("result_files[]", "files"), ("fine_tuned_model", "models"))
_STORES = (("tool_resources.file_search.vector_store_ids[]", "vector_stores"),)
_STORE = "/vector_stores/{vector_stores}"
_THREAD = "/threads/{threads}"
_CONTAINER = "/containers/{containers}"
_JOB = "/fine_tuning/jobs/{jobs}"

STORING = (
    _rule("POST /responses makes responses", *_ITEMS),
    *_collection("/files", changes=False),
    _rule("GET /files/{files}/content"),
    _rule("POST /uploads makes uploads"),
    _rule("POST /uploads/{uploads}/parts makes parts"),
    _rule("POST /uploads/{uploads}/complete", ("file.id", "files")),
    _rule("POST /uploads/{uploads}/cancel"),
    _rule("POST /batches makes batches", *_RESULTS),
    _rule("GET /batches lists batches", *_each(_RESULTS)),
    _rule("GET /batches/{batches}", *_RESULTS),
    _rule("POST /batches/{batches}/cancel", *_RESULTS),
    *_collection("/vector_stores"),
    _rule(f"POST {_STORE}/search"),
    _rule(f"GET,POST {_STORE}/files"),
    _rule(f"GET,POST,DELETE {_STORE}/files/{{files}}"),
    _rule(f"GET {_STORE}/files/{{files}}/content"),
    _rule(f"POST {_STORE}/file_batches"),
    _rule(f"GET {_STORE}/file_batches/{{*}}"),
    _rule(f"POST {_STORE}/file_batches/{{*}}/cancel"),
    _rule(f"GET {_STORE}/file_batches/{{*}}/files"),
    *_collection("/assistants", *_STORES),
    _rule("POST /threads makes threads", *_STORES),
    _rule("POST /threads/runs", ("thread_id", "threads"), ("id@thread", "threads")),
    _rule(f"GET,POST {_THREAD}", *_STORES),
    _rule(f"DELETE {_THREAD} deletes"),
    _rule(f"GET,POST {_THREAD}/messages"),
    _rule(f"GET,POST,DELETE {_THREAD}/messages/{{*}}"),
    _rule(f"GET,POST {_THREAD}/runs"),
    _rule(f"GET,POST {_THREAD}/runs/{{*}}"),
    _rule(f"POST {_THREAD}/runs/{{*}}/cancel"),
    _rule(f"POST {_THREAD}/runs/{{*}}/submit_tool_outputs"),
    _rule(f"GET {_THREAD}/runs/{{*}}/steps"),
    _rule(f"GET {_THREAD}/runs/{{*}}/steps/{{*}}"),
    _rule("POST /fine_tuning/jobs makes jobs", *_TRAINED),
    _rule("GET /fine_tuning/jobs lists jobs", *_each(_TRAINED)),
    _rule(f"GET {_JOB}", *_TRAINED),
    _rule(f"GET {_JOB}/events"),
    _rule(f"GET {_JOB}/checkpoints", ("data[].fine_tuned_model_checkpoint", "models")),
    _rule(f"POST {_JOB}/cancel"),
    _rule(f"POST {_JOB}/pause"),
    _rule(f"POST {_JOB}/resume"),
    _rule("DELETE /models/{models} deletes"),
    *_collection("/containers", changes=False),
    _rule(f"GET,POST {_CONTAINER}/files"),
    _rule(f"GET,DELETE {_CONTAINER}/files/{{*}}"),
    _rule(f"GET {_CONTAINER}/files/{{*}}/content"),
    _rule("POST /videos/edits makes videos"),
    _rule("POST /videos/extensions makes videos"),
    _rule("POST /videos/characters makes characters"),
    _rule("GET /videos/characters/{characters}"),
    *_collection("/videos", changes=False),
    _rule("GET /videos/{videos}/content"),
    _rule("POST /videos/{videos}/remix makes videos"),
    *_collection("/skills"),
    _rule("GET /skills/{skills}/content"),
    _rule("GET,POST /skills/{skills}/versions"),
    _rule("GET,DELETE /skills/{skills}/versions/{*}"),
    _rule("GET /skills/{skills}/versions/{*}/content"),
    *_collection("/audio/voice_consents"),
    _rule("POST /audio/voices makes voices"),
    _rule("DELETE /audio/voices/{voices} deletes"),
)

#: What stores nothing, OpenAI's and other servers'; what a body names must be the caller's all the
#: same.
STATELESS = tuple(
    _rule(f"POST {path}")
    for path in (
        "/audio/speech",
        "/audio/transcriptions",
        "/audio/translations",
        "/chat/completions/input_tokens",
        "/classify",
        "/detokenize",
        "/fine_tuning/alpha/graders/run",
        "/fine_tuning/alpha/graders/validate",
        "/images/edits",
        "/images/generations",
        "/images/variations",
        "/pooling",
        "/realtime/client_secrets",
        "/realtime/sessions",
        "/realtime/transcription_sessions",
        "/realtime/translations/client_secrets",
        "/rerank",
        "/score",
        "/tokenize",
    )
)

#: What has an answer of our own, or goes its own way to the upstream.
ELSEWHERE = ("/chat/completions", "/completions", "/embeddings", "/moderations")

_RULES = (*STATELESS, *STORING)


def rule_of(method: str, path: str) -> tuple[ResourceRule, dict[str, str]] | None:
    """Return the rule for a request and the ids in its path, with their kinds."""
    asked = "GET" if method == "HEAD" else method
    for rule in _RULES:
        if asked in rule.methods and (names := rule.names(path)) is not None:
            return rule, names
    return None


def told(rule: ResourceRule, answer: Any) -> list[tuple[str, str]]:
    """Return the ids in an answer, or in an event of its stream, with their kinds."""
    if not isinstance(answer, dict):
        return []
    said = [answer]
    if rule.learns == _ITEMS:  # events of a response
        said += [inner for inner in (answer.get("response"),) if isinstance(inner, dict)]
        said += [{"output": [item]} for item in (answer.get("item"),)]
    return [(id_, kind) for one in said for place, kind in rule.places for id_ in _at(one, place)]


def _at(answer: Any, place: str) -> list[str]:
    """Return the strings at a place such as `output[].id`; `id@thread`: of such an object alone."""
    place, _, of = place.partition("@")
    if of and answer.get("object") != of:
        return []
    found = [answer]
    for step in place.split("."):
        name = step.removesuffix("[]")
        found = [one[name] for one in found if isinstance(one, dict) and name in one]
        if step.endswith("[]"):
            found = [one for some in found if isinstance(some, list) for one in some]
    return [one for one in found if isinstance(one, str)]
