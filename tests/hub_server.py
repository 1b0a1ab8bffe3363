"""A Hugging Face Hub on this machine's loopback: enough of its HTTP to create, push, look up and download models.

The real client talks to it (huggingface_hub 2.4), so it must be pointed here before it is imported, which is to say in
a process of its own, with the environment that `LocalHub.environment` makes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

USER = "tester"
TOKEN = "hf_of_the_local_hub"
LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".onnx")
RELATIONS = ("adapter", "merge", "quantized", "finetune")


@dataclass(frozen=True)
class StoredFile:
    """A file of one commit. Large files are stored under their SHA-256, as git-lfs does, others in the commit."""

    content: bytes
    lfs: bool

    @property
    def oid(self) -> str:
        if self.lfs:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Repository:
    """A model repository with one branch."""

    commits: dict[str, dict[str, StoredFile]] = field(default_factory=dict)
    head: str = ""

    def commit(self, changes: dict[str, StoredFile | None]) -> str:
        """Add a commit on top; None deletes a file, or all files of a folder."""
        files = dict(self.commits.get(self.head, {}))
        for path, file in changes.items():
            if file is not None:
                files[path] = file
            else:
                files = {name: kept for name, kept in files.items() if name != path and not name.startswith(path + "/")}
        self.head = hashlib.sha1(f"{self.head} {len(self.commits)}".encode()).hexdigest()
        self.commits[self.head] = files
        return self.head

    def resolve(self, revision: str) -> str | None:
        return self.head if revision == "main" else revision if revision in self.commits else None


@dataclass
class Answer:
    """A response: `body` is sent as it is if it is bytes, else as JSON."""

    status: int
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)


def refusal(status: int, code: str, message: str, **headers: str) -> Answer:
    """An error as the client expects it: it raises `EntryNotFoundError` and others by `X-Error-Code`."""
    return Answer(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message} | headers)


class LocalHub:
    """The server. Use it as a context manager, or through the fixture `hub`.

    Attributes:
        url: what `HF_ENDPOINT` must be.
        repositories: id -> repository.
        requests: method and path of every request so far.
    """

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.uploads: dict[str, bytes] = {}
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LocalHub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """The environment of a process that takes this server for the Hub.

        Args:
            home: the process's `HF_HOME`. An empty one has nothing cached.
        """
        kept = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
        return kept | {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(home),
            # Xet is a second protocol, with a server of its own; git-lfs is what the client falls back on.
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def files(self, repository_id: str) -> dict[str, bytes]:
        """Path -> content of all files on the main branch."""
        repository = self.repositories[repository_id]
        return {path: file.content for path, file in repository.commits[repository.head].items()}


def route(method: str, pattern: str) -> Callable:
    """Make a method of `_Handler` answer the paths that match; named groups become its arguments."""
    pattern = pattern.replace("{id}", r"(?P<repository_id>[^/]+/[^/]+)")

    def mark(function: Callable) -> Callable:
        function.route = (method, re.compile(pattern))
        return function

    return mark


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LocalHub

    # --- Pushing ------------------------------------------------------------------------------------------------------

    @route("POST", "/api/repos/create")
    def create(self) -> Answer:
        wanted = self.json()
        repository_id = f"{wanted.get('organization') or USER}/{wanted['name']}"
        described = {"url": f"{self.hub.url}/{repository_id}", "name": repository_id, "id": repository_id}
        if repository_id in self.hub.repositories:
            return Answer(409, described | {"error": "You already created this model repo"})
        self.hub.repositories[repository_id] = Repository()
        self.hub.repositories[repository_id].commit({".gitattributes": StoredFile(b"*.safetensors filter=lfs", False)})
        return Answer(200, described)

    @route("POST", "/api/validate-yaml")
    def validate_card(self) -> Answer:
        """Refuse the metadata that the Hub would refuse."""
        header = re.match(r"---\n(.*?)\n---", self.json()["content"], re.DOTALL)
        try:
            metadata = yaml.safe_load(header[1]) if header else {}
        except yaml.YAMLError as error:
            return Answer(400, {"errors": [{"message": str(error)}], "warnings": []})
        base_models = metadata.get("base_model", [])
        base_models = [base_models] if isinstance(base_models, str) else base_models
        wrong = [f'"base_model" {m!r} is not an id' for m in base_models if not re.fullmatch(r"[\w.-]+/[\w.-]+", m)]
        if metadata.get("base_model_relation", "finetune") not in RELATIONS:
            wrong.append(f'"base_model_relation" must be one of {RELATIONS}')
        return Answer(400 if wrong else 200, {"errors": [{"message": each} for each in wrong], "warnings": []})

    @route("POST", r"/api/models/{id}/preupload/(?P<revision>.+)")
    def say_how_to_upload(self, repository_id: str, revision: str) -> Answer:
        def mode(path: str) -> str:
            return "lfs" if path.endswith(LFS_SUFFIXES) else "regular"

        paths = [file["path"] for file in self.json()["files"]]
        return Answer(200, {"files": [{"path": p, "uploadMode": mode(p), "shouldIgnore": False} for p in paths]})

    @route("POST", r"/{id}\.git/info/lfs/objects/batch")
    def say_where_to_upload(self, repository_id: str) -> Answer:
        objects = [{"oid": each["oid"], "size": each["size"]} for each in self.json()["objects"]]
        for each in objects:
            if each["oid"] not in self.hub.uploads:
                upload = {"href": f"{self.hub.url}/upload/{each['oid']}"}
                each["actions"] = {"upload": upload, "verify": {"href": f"{self.hub.url}/verify"}}
        return Answer(200, {"transfer": "basic", "objects": objects})

    @route("PUT", "/upload/(?P<oid>[0-9a-f]{64})")
    def upload(self, oid: str) -> Answer:
        if hashlib.sha256(self.content).hexdigest() != oid:
            return refusal(400, "BadUpload", "The content's SHA-256 is another.")
        self.hub.uploads[oid] = self.content
        return Answer(200)

    @route("POST", "/verify")
    def verify(self) -> Answer:
        return Answer(200 if self.json()["oid"] in self.hub.uploads else 404)

    @route("POST", r"/api/models/{id}/commit/main")
    def commit(self, repository_id: str) -> Answer:
        changes: dict[str, StoredFile | None] = {}
        for line in filter(None, self.content.decode().splitlines()):
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                changes[value["path"]] = StoredFile(base64.b64decode(value["content"]), lfs=False)
            elif operation["key"] == "lfsFile":
                changes[value["path"]] = StoredFile(self.hub.uploads[value["oid"]], lfs=True)
            elif operation["key"] in ("deletedFile", "deletedFolder"):
                changes[value["path"].rstrip("/")] = None
        oid = self.hub.repositories[repository_id].commit(changes)
        url = f"{self.hub.url}/{repository_id}/commit/{oid}"
        return Answer(200, {"success": True, "commitOid": oid, "commitUrl": url})

    # --- Looking up and downloading -----------------------------------------------------------------------------------

    @route("GET", r"/api/models/{id}(?:/revision/(?P<revision>[^/]+))?")
    def info(self, repository_id: str, revision: str | None) -> Answer:
        repository = self.hub.repositories[repository_id]
        sha = repository.resolve(revision or "main")
        if sha is None:
            return refusal(404, "RevisionNotFound", f"{repository_id} has no revision {revision}.")
        names = [{"rfilename": path} for path in repository.commits[sha]]
        known = {"id": repository_id, "sha": sha, "siblings": names, "tags": []}
        return Answer(200, known | {"private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0})

    @route("GET", r"/api/models/{id}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?")
    def tree(self, repository_id: str, revision: str, folder: str | None) -> Answer:
        repository = self.hub.repositories[repository_id]
        start = f"{folder}/" if folder else ""
        listed = [
            {"type": "file", "path": path, "size": len(file.content), "oid": file.oid}
            | ({"lfs": {"oid": file.oid, "size": len(file.content), "pointerSize": 134}} if file.lfs else {})
            for path, file in repository.commits[repository.resolve(revision)].items()
            if path.startswith(start)
        ]
        return Answer(200, listed) if listed else refusal(404, "EntryNotFound", f"There is no folder {folder}.")

    @route("GET", r"/{id}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
    def download(self, repository_id: str, revision: str, path: str) -> Answer:
        repository = self.hub.repositories[repository_id]
        sha = repository.resolve(revision)
        if sha is None:
            return refusal(404, "RevisionNotFound", f"{repository_id} has no revision {revision}.")
        file = repository.commits[sha].get(path)
        if file is None:
            return refusal(404, "EntryNotFound", f"There is no file {path}.", **{"X-Repo-Commit": sha})
        headers = {"X-Repo-Commit": sha, "ETag": f'"{file.oid}"', "Accept-Ranges": "bytes"}
        if file.lfs:
            headers |= {"X-Linked-Etag": f'"{file.oid}"', "X-Linked-Size": str(len(file.content))}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return Answer(200, file.content, headers)
        start, end = int(asked[1]), int(asked[2] or len(file.content) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(file.content)}"
        return Answer(206, file.content[start : end + 1], headers)

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    def json(self) -> Any:
        return json.loads(self.content)

    def answer(self, method: str) -> Answer:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((method, path))
        if (
            method != "GET"
            and not path.startswith("/upload/")
            and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        ):
            return refusal(401, "Unauthorized", "Writing needs the token.")
        for function in vars(_Handler).values():
            expected, pattern = getattr(function, "route", (None, None))
            if expected == method and (match := pattern.fullmatch(path)):
                asked = match.groupdict()
                if "repository_id" in asked and asked["repository_id"] not in self.hub.repositories:
                    return refusal(404, "RepoNotFound", f"There is no model {asked['repository_id']}.")
                with self.hub.lock:
                    return function(self, **asked)
        return refusal(404, "NotFound", f"No route for {method} {path}.")

    def read_content(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def respond(self) -> None:
        self.content = self.read_content()
        answer = self.answer("GET" if self.command == "HEAD" else self.command)
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        kind = "application/octet-stream" if isinstance(answer.body, bytes) else "application/json"
        self.send_response(answer.status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = respond

    def log_message(self, *message) -> None:
        """Say nothing."""
