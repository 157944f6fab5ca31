"""What docs/deploy offers is what works: proxies in front of a real server, units, manifests."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import grpc
import orjson
import pytest
import yaml
from trialogue.v1 import conversation_pb2 as pb
from trialogue.v1.conversation_pb2_grpc import ConversationServiceStub
from websockets.asyncio.client import connect

from server.config.settings import Settings
from server.transports.rest.app import PUBLIC
from tests.support.live import ROOT
from tests.support.reverse_proxies import DEPLOY, FRONTS, KEY, NAME, Front, Fronted, fronted

DRAIN = Settings.model_fields["drain_seconds"].default


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = [one for one in documents("kubernetes.yaml") if one["kind"] == kind]
    return found


class TestKubernetes:
    pod: dict[str, Any] = of_kind("StatefulSet")["spec"]["template"]
    (container,) = pod["spec"]["containers"]

    def test_one_replica_has_the_database(self) -> None:
        spec = of_kind("StatefulSet")["spec"]
        (claim,) = spec["volumeClaimTemplates"]
        assert spec["replicas"] == 1
        assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
        (mount,) = self.container["volumeMounts"]
        assert (mount["name"], mount["mountPath"]) == (claim["metadata"]["name"], "/data")
        assert "sqlite:////data/" in (ROOT / "Dockerfile").read_text()

    def test_the_grace_is_longer_than_the_drain(self) -> None:
        env = {one["name"]: one.get("value") for one in self.container["env"]}
        assert float(env["TRIALOGUE_DRAIN_SECONDS"]) == DRAIN
        assert self.pod["spec"]["terminationGracePeriodSeconds"] > DRAIN

    def test_probes_need_no_key_and_ask_what_they_mean(self) -> None:
        probes = {
            kind: self.container[f"{kind}Probe"]["httpGet"]["path"]
            for kind in ("startup", "liveness", "readiness")
        }
        assert probes == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
        assert set(probes.values()) <= PUBLIC

    def test_names_and_ports_are_the_same_everywhere(self) -> None:
        service, labels = of_kind("Service"), self.pod["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
        assert of_kind("StatefulSet")["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert of_kind("StatefulSet")["spec"]["serviceName"] == service["metadata"]["name"]
        ports = {one["name"]: one["containerPort"] for one in self.container["ports"]}
        assert ports == {"http": 8000, "grpc": 9000}
        assert {one["targetPort"] for one in service["spec"]["ports"]} == ports.keys()
        ((rule),) = of_kind("Ingress")["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        assert path["backend"]["service"] == {
            "name": service["metadata"]["name"],
            "port": {"name": "http"},
        }
        (allowed,) = [
            one["value"]
            for one in self.container["env"]
            if one["name"] == "TRIALOGUE_ALLOWED_HOSTS"
        ]
        assert {rule["host"], service["metadata"]["name"]} == set(allowed.split(","))


class TestKubernetesOnPostgres:
    parts: ClassVar[dict[str, Any]] = {
        one["kind"]: one for one in documents("kubernetes.postgres.yaml")
    }
    spec = parts["Deployment"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    env: ClassVar[dict[str, Any]] = {one["name"]: one for one in container["env"]}

    def test_nodes_are_replaced_one_by_one_and_have_nothing_of_their_own(self) -> None:
        assert self.spec["replicas"] == 3
        assert self.spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert self.parts["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
        assert [one["emptyDir"] for one in self.pod["volumes"]] == [{}]
        assert self.pod["terminationGracePeriodSeconds"] > DRAIN

    def test_each_is_reached_by_the_others_at_its_own_address(self) -> None:
        assert self.env["POD_IP"]["valueFrom"]["fieldRef"] == {"fieldPath": "status.podIP"}
        names = list(self.env)
        assert names.index("POD_IP") < names.index("TRIALOGUE_NODE_ADDRESS")
        assert self.env["TRIALOGUE_NODE_ADDRESS"]["value"] == "$(POD_IP):9000"
        secret = self.env["TRIALOGUE_DATABASE"]["valueFrom"]["secretKeyRef"]
        assert f"--from-literal={secret['key']}=" in self.text

    def test_all_else_is_as_with_one(self) -> None:
        alone = TestKubernetes.container
        for same in ("ports", "startupProbe", "livenessProbe", "readinessProbe", "securityContext"):
            assert self.container[same] == alone[same]
        labels = self.spec["template"]["metadata"]["labels"]
        for part in (self.spec, self.parts["PodDisruptionBudget"]["spec"]):
            assert part["selector"]["matchLabels"] == labels
        for kind in ("Service", "Ingress"):
            assert self.parts[kind] == of_kind(kind)

    @property
    def text(self) -> str:
        return (DEPLOY / "kubernetes.postgres.yaml").read_text()


def test_the_cluster_of_compose_is_three_nodes_behind_nginx() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.cluster.yml").read_text())["services"]
    nodes = [name for name in services if name.startswith("node")]
    assert nodes == services["nginx"]["depends_on"] == ["node1", "node2", "node3"]
    mounted = services["nginx"]["volumes"][0].split(":")[0]
    told = (ROOT / mounted).read_text()
    assert set(re.findall(r"server (\w+):8000 ", told)) == set(nodes)
    assert set(re.findall(r"server (\w+):9000 ", told)) == set(nodes)
    lock = services["node1"]["build"]["args"]["LOCK"]
    assert "asyncpg==" in (ROOT / lock).read_text()


def variables(text: str) -> set[str]:
    return set(re.findall(r"\b(?:TRIALOGUE|OPENAI)_[A-Z_]+\b", text))


@pytest.mark.parametrize("path", sorted(DEPLOY.iterdir()), ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    settings = (ROOT / "docs" / "settings.md").read_text()
    known = variables(settings) | {"TRIALOGUE_PORT"}
    assert variables(path.read_text()) <= known


def test_compose_adds_to_the_service_that_there_is() -> None:
    (added,) = documents("compose.caddy.yaml")
    base = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert set(added["services"]) & set(base) == {"trialogue"}
    caddy = added["services"]["caddy"]
    assert set(caddy["depends_on"]) <= set(base)
    mounted = caddy["volumes"][0].split(":")[0]
    assert (ROOT / mounted).read_text() == (DEPLOY / "Caddyfile").read_text()
    told = re.findall(r"\{\$(\w+):", (DEPLOY / "Caddyfile").read_text())
    assert set(told) == set(caddy["environment"])


def test_traefik_has_a_service_for_every_router() -> None:
    (one,) = documents("traefik.yaml")
    services = one["http"]["services"]
    assert {router["service"] for router in one["http"]["routers"].values()} == services.keys()
    urls = [server["url"] for s in services.values() for server in s["loadBalancer"]["servers"]]
    assert urls == ["http://127.0.0.1:8000", "h2c://127.0.0.1:9000"]
    assert services["chat"]["loadBalancer"]["healthCheck"]["path"] in PUBLIC


def unit() -> Iterator[tuple[str, str]]:
    for line in (DEPLOY / "trialogue.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name, value


def test_systemd_waits_longer_than_the_drain() -> None:
    told = list(unit())
    assert ("Environment", f"TRIALOGUE_DRAIN_SECONDS={DRAIN:g}") in told
    assert float(dict(told)["TimeoutStopSec"]) > DRAIN


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "trialogue.service").read_text()
    mine = tmp_path / "trialogue.service"
    mine.write_text(text.replace("/opt/trialogue/bin/trialogue", sys.executable))
    done = subprocess.run(
        ("systemd-analyze", "verify", mine), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("front", FRONTS)
async def test_every_wire_goes_through_a_proxy(tmp_path: Path, front: Front) -> None:
    """On one port, with TLS, under its own name, below a path or not."""
    async with fronted(front, tmp_path) as there:
        port, cert = there.port, there.certificate
        curl = Through(there)
        assert "<title>" in await curl.get("/")
        assert await curl.get("/readyz") == '{"status":"ready"}'
        servers = orjson.loads(await curl.get("/openapi.json")).get("servers", [])
        assert [one["url"] for one in servers] == ([front.prefix] if front.prefix else [])
        turn = orjson.loads(await curl.post("/ask/demo", {"prompt": "Hello"}))
        told = await curl.get(f"/turns/{turn['id']}/events")
        assert told.count("event: ") == 3
        chat = {"model": "any", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        assert (await curl.post("/v1/chat/completions", chat)).endswith("data: [DONE]\n\n")
        assert await websocket_says(port, cert, front.prefix) == "welcome"
        assert await grpc_answers(port, cert) == turn["answer"]
        if front.prefix:
            assert "<title>" in await curl.get("", "--location")
            assert '"object"' in await curl.get("/conversations/", "--location")


class Through:
    """curl through a proxy that has a name."""

    def __init__(self, there: Fronted) -> None:
        self._base = there.address
        self._words = (
            *("curl", "-sS", "--fail-with-body", "--noproxy", "*"),
            *("--cacert", str(there.certificate)),
            *("--resolve", f"{NAME}:{there.port}:127.0.0.1", "-H", f"Authorization: Bearer {KEY}"),
        )

    async def get(self, path: str, *words: str) -> str:
        curl = await asyncio.create_subprocess_exec(
            *self._words, *words, self._base + path, stdout=PIPE, stderr=PIPE
        )
        output, errors = await curl.communicate()
        assert curl.returncode == 0, (path, output, errors)
        return output.decode()

    async def post(self, path: str, body: object) -> str:
        kind = "Content-Type: application/json"
        return await self.get(path, "-H", kind, "-d", orjson.dumps(body).decode())


async def websocket_says(port: int, cert: Path, prefix: str) -> str:
    """Return the type of the first frame."""
    trusting = ssl.create_default_context(cafile=cert)
    url, shown = f"wss://{NAME}:{port}{prefix}/ws", {"Authorization": f"Bearer {KEY}"}
    at: Any = {"host": "127.0.0.1", "port": port, "server_hostname": NAME}
    async with connect(url, ssl=trusting, additional_headers=shown, proxy=None, **at) as peer:
        said: str = orjson.loads(await peer.recv())["type"]
        return said


async def grpc_answers(port: int, cert: Path) -> str:
    """Return the answer in the conversation, as a client of gRPC reads it."""
    trusting = grpc.ssl_channel_credentials(cert.read_bytes())
    named = [
        ("grpc.ssl_target_name_override", NAME),
        ("grpc.default_authority", f"{NAME}:{port}"),
        ("grpc.enable_http_proxy", 0),
    ]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", trusting, named) as channel:
        stub = ConversationServiceStub(channel)  # type: ignore[no-untyped-call]
        answer = await stub.ListMessages(
            pb.ListMessagesRequest(conversation_id="demo"),
            metadata=[("authorization", f"Bearer {KEY}")],
            timeout=30,
        )
    said: str = answer.messages[1].content
    return said
