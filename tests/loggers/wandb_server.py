"""A stand-in for a W&B server on the loopback interface: runs, their history, and artifacts.

It answers what ``wandb`` asks when a run is logged and when an artifact is uploaded and downloaded, and is as
strict as a test needs: bytes are taken only where it offered a place for them, and an artifact is committed
only if its manifest and all its files have the sizes and MD5 sums announced. As on W&B itself the same
content makes no second version, and the newest version of an artifact is always ``latest``.
"""

# ruff: noqa: N802 - methods have the names of GraphQL operations

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "me"
KEY = "k" * 40
MANIFEST = "wandb_manifest.json"
LONG_AGO = "2020-01-01T00:00:00"


class RefusedError(Exception):
    """The server does not do what it was asked; the message goes back as a GraphQL error."""


@dataclass
class Artifact:
    """One version of an artifact, from its announcement on; it has a version number once it is committed."""

    id: str
    collection: str
    type: str
    project: str
    digest: str
    metadata: dict[str, Any]
    asked: set[str]
    aliases: set[str] = field(default_factory=set)
    version: int | None = None
    manifest_digest: str = ""


class WandbServer:
    """Runs from ``start`` to ``stop``, any number of times on one port; what it was sent stays.

    Attributes:
        artifacts: all versions that were announced, in their order.
        history: logged rows by run id.
        operations: names of all GraphQL operations, in their order.
        stored: bytes by storage path, to be looked at or damaged; None where they are still to come.
        on_operation: called with the name of every GraphQL operation before it is answered.
    """

    def __init__(self) -> None:
        self.artifacts: list[Artifact] = []
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.operations: list[str] = []
        self.stored: dict[str, bytes | None] = {}
        self.on_operation: Callable[[str], None] = lambda name: None
        self.port = 0
        self._lock = threading.Lock()
        self._http: _Http | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> WandbServer:
        self._http = _Http(self)
        self.port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """As if killed: nothing listens any more, and open connections break."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http.break_connections()
            self._http = None

    def versions(self, collection: str) -> list[Artifact]:
        """Committed versions of an artifact, oldest first."""
        return [one for one in self.artifacts if one.collection == collection and one.version is not None]

    def files(self, artifact: Artifact) -> dict[str, bytes]:
        """What was uploaded as the files of an artifact."""
        prefix = f"{artifact.id}/files/"
        return {p.removeprefix(prefix): b for p, b in self.stored.items() if b is not None and prefix in p}

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data that a GraphQL query or mutation asks for."""
        match = re.search(r"\b(?:query|mutation)\s+(\w+)", query)
        name = match[1] if match else "nothing"
        self.operations.append(name)
        self.on_operation(name)
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise RefusedError(f"no such operation here: {name}")
        with self._lock:
            return method(variables)

    def take_stream(self, path: str, body: dict[str, Any]) -> None:
        """History arrives in lines of which the first has the number ``offset``."""
        chunk = body.get("files", {}).get("wandb-history.jsonl")
        if chunk:
            rows = self.history[path.split("/")[-2]]
            rows[chunk["offset"] :] = [json.loads(line) for line in chunk["content"]]

    # GraphQL: one method for each operation, with its name --------------------------------------------------

    def _Viewer(self, v: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "1", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}"}
        return {"viewer": {**viewer, "teams": {"edges": []}}}

    _GetDefaultEntity = _Viewer

    def _ServerFeaturesQuery(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _UpsertBucket(self, v: dict[str, Any]) -> dict[str, Any]:
        is_new = v["name"] not in self.history
        rows = self.history.setdefault(v["name"], [])
        bucket = {
            **_run(v["name"], len(rows)),
            "sweepName": None,
            "description": None,
            "project": {"id": "1", "name": v["project"], "entity": {"id": "1", "name": ENTITY}},
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def _RunResumeStatus(self, v: dict[str, Any]) -> dict[str, Any]:
        rows = self.history.get(v["name"])
        run = None
        if rows is not None:
            tail = json.dumps([json.dumps(row) for row in rows[-1:]])
            begun = json.dumps({"t": 1})  # telemetry: without it the run counts as not begun
            run = {
                **_run(v["name"], len(rows)),
                "historyTail": tail,
                "eventsTail": "[]",
                "wandbConfig": begun,
            }
        model = {"id": "1", "name": v["project"], "entity": {"id": "1", "name": ENTITY}, "bucket": run}
        return {"model": model}

    def _CreateRunFiles(self, v: dict[str, Any]) -> dict[str, Any]:
        places = [(name, self._place_for(f"{v['run']}/{name}")) for name in v["files"]]
        files = [{"name": name, "uploadUrl": place["uploadUrl"]} for name, place in places]
        return {"createRunFiles": {"runID": v["run"], "uploadHeaders": [], "files": files}}

    def _CreateArtifact(self, v: dict[str, Any]) -> dict[str, Any]:
        asked = v["input"]
        collection, aliases = asked["artifactCollectionName"], {one["alias"] for one in asked["aliases"]}
        for known in self.versions(collection):
            if known.digest == asked["digest"]:
                self._give_aliases(known, aliases)
                return {"createArtifact": {"artifact": self._announced(known)}}
        artifact = Artifact(
            id=f"version{len(self.artifacts)}",
            collection=collection,
            type=asked["artifactTypeName"],
            project=asked["projectName"],
            digest=asked["digest"],
            metadata=json.loads(asked["metadata"]),
            asked=aliases,
        )
        self.artifacts.append(artifact)
        return {"createArtifact": {"artifact": self._announced(artifact)}}

    def _CreateArtifactManifest(self, v: dict[str, Any]) -> dict[str, Any]:
        artifact = self._by_id(v["artifactID"])
        if v["includeUpload"]:
            artifact.manifest_digest = v["digest"]
        manifest = {"id": artifact.id, "file": self._place_for(f"{artifact.id}/{v['name']}")}
        return {"createArtifactManifest": {"artifactManifest": manifest}}

    def _CreateArtifactFiles(self, v: dict[str, Any]) -> dict[str, Any]:
        nodes = []
        for file in v["input"]["artifactFiles"]:
            place = self._place_for(f"{file['artifactID']}/files/{file['name']}")
            nodes.append({**place, "uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]}})
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _CommitArtifact(self, v: dict[str, Any]) -> dict[str, Any]:
        artifact = self._by_id(v["artifactID"])
        self._check(artifact)
        artifact.version = len(self.versions(artifact.collection))
        self._give_aliases(artifact, artifact.asked | {"latest"})
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def _ArtifactByID(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"artifact": self._described(self._by_id(v["id"]))}

    def _ArtifactType(self, v: dict[str, Any]) -> dict[str, Any]:
        artifact = self._by_name(v["project"], v["name"])
        return {"project": {"artifact": artifact and {"artifactType": {"name": artifact.type}}}}

    def _ArtifactMembershipByName(self, v: dict[str, Any]) -> dict[str, Any]:
        if v["project"] not in {artifact.project for artifact in self.artifacts}:
            return {"project": None}
        artifact = self._by_name(v["project"], v["name"])
        membership = artifact and {
            "__typename": "ArtifactCollectionMembership",
            "id": artifact.id,
            "versionIndex": artifact.version,
            "createdAt": LONG_AGO,
            "aliases": [{"__typename": "ArtifactAlias", "id": a, "alias": a} for a in artifact.aliases],
            "artifactCollection": _collection(artifact),
            "artifact": self._described(artifact),
        }
        return {"project": {"artifactCollectionMembership": membership}}

    def _FetchArtifactManifest(self, v: dict[str, Any]) -> dict[str, Any]:
        file = {"directUrl": f"{self.url}/storage/{v['id']}/{MANIFEST}"}
        return {"artifact": {"currentManifest": {"file": file}}}

    def _GetArtifactMembershipFileUrls(self, v: dict[str, Any]) -> dict[str, Any]:
        artifact = self._by_name(v["project"], f"{v['collection']}:{v['alias']}")
        if artifact is None:
            return {"project": {"artifactCollection": None}}
        url = f"{self.url}/storage/{artifact.id}/files"
        edges = [
            {"node": {"__typename": "File", "name": name, "directUrl": f"{url}/{name}"}}
            for name in self.files(artifact)
        ]
        end = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        membership = {"files": {"pageInfo": end, "edges": edges}}
        collection = {"__typename": "ArtifactSequence", "artifactMembership": membership}
        return {"project": {"artifactCollection": collection}}

    # What they share ----------------------------------------------------------------------------------------

    def _by_id(self, id: str) -> Artifact:
        return next(artifact for artifact in self.artifacts if artifact.id == id)

    def _by_name(self, project: str, name: str) -> Artifact | None:
        collection, _, alias = name.partition(":")
        for artifact in self.versions(collection):
            if artifact.project == project and alias in {*artifact.aliases, f"v{artifact.version}"}:
                return artifact
        return None

    def _place_for(self, path: str) -> dict[str, Any]:
        self.stored.setdefault(path, None)
        place = {"id": path, "storagePath": path, "uploadUrl": f"{self.url}/storage/{path}"}
        return {**place, "uploadHeaders": []}

    def _give_aliases(self, artifact: Artifact, aliases: set[str]) -> None:
        for other in self.versions(artifact.collection):
            other.aliases -= aliases
        artifact.aliases |= aliases

    def _check(self, artifact: Artifact) -> None:
        manifest = self.stored.get(f"{artifact.id}/{MANIFEST}") or b""
        if _md5(manifest) != artifact.manifest_digest:
            raise RefusedError("the manifest is not the one announced")
        entries = json.loads(manifest)["contents"]
        listing = "".join(f"{name}:{entries[name]['digest']}\n" for name in sorted(entries))
        if hashlib.md5(f"wandb-artifact-manifest-v1\n{listing}".encode()).hexdigest() != artifact.digest:
            raise RefusedError("the manifest is not that of the artifact")
        files = self.files(artifact)
        for name, entry in entries.items():
            content = files.get(name)
            if content is None or len(content) != entry["size"] or _md5(content) != entry["digest"]:
                raise RefusedError(f"{name} did not arrive as announced")

    def _announced(self, artifact: Artifact) -> dict[str, Any]:
        latest = [{"id": one.id, "versionIndex": one.version} for one in self.versions(artifact.collection)]
        sequence = {"id": artifact.collection, "latestArtifact": latest[-1] if latest else None}
        return {"id": artifact.id, "state": _state(artifact), "artifactSequence": sequence}

    def _described(self, artifact: Artifact) -> dict[str, Any]:
        return {
            "__typename": "Artifact",
            "id": artifact.id,
            "artifactSequence": _collection(artifact),
            "versionIndex": artifact.version,
            "artifactType": {"name": artifact.type},
            "description": None,
            "metadata": json.dumps(artifact.metadata),
            "ttlDurationSeconds": -1,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": _state(artifact),
            "size": sum(len(content) for content in self.files(artifact).values()),
            "digest": artifact.digest,
            "commitHash": None,
            "fileCount": len(self.files(artifact)),
            "createdAt": LONG_AGO,
            "updatedAt": None,
            "aliases": [],
        }


def _state(artifact: Artifact) -> str:
    return "PENDING" if artifact.version is None else "COMMITTED"


def _collection(artifact: Artifact) -> dict[str, Any]:
    project = {"id": "1", "internalId": "1", "name": artifact.project, "entity": {"name": ENTITY}}
    return {"__typename": "ArtifactSequence", "name": artifact.collection, "project": project}


def _run(name: str, rows: int) -> dict[str, Any]:
    counts = {"historyLineCount": rows, "logLineCount": 0, "eventsLineCount": 0}
    about = {"id": name, "name": name, "displayName": name, "config": "{}", "summaryMetrics": "{}"}
    return {**about, **counts, "tags": [], "notes": None}


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, wandb: WandbServer) -> None:
        self.wandb = wandb
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", wandb.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections break when the server stops; that is what it is for."""

    def break_connections(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/graphql":
            self._answer(json.loads(body))
        elif self.path.endswith("/file_stream"):
            self.server.wandb.take_stream(self.path, json.loads(body))
            self._reply(200, b"{}")
        else:  # telemetry
            self._reply(404)

    def do_PUT(self) -> None:
        body, path = self._body(), self.path.removeprefix("/storage/")
        if path in self.server.wandb.stored:
            self.server.wandb.stored[path] = body
            self._reply(200)
        else:
            self._reply(403)

    def do_GET(self) -> None:
        content = self.server.wandb.stored.get(self.path.removeprefix("/storage/"))
        self._reply(404) if content is None else self._reply(200, content)

    def _answer(self, request: dict[str, Any]) -> None:
        if self.headers["Authorization"] != f"Basic {base64.b64encode(f'api:{KEY}'.encode()).decode()}":
            self._reply(401)
            return
        try:
            reply = {"data": self.server.wandb.answer(request["query"], request.get("variables") or {})}
        except RefusedError as error:
            reply = {"data": None, "errors": [{"message": str(error)}]}
        self._reply(200, json.dumps(reply).encode())

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _reply(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass
