# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A small Hub on the loopback address: what huggingface_hub asks for to push models and data sets and to read them.

    with StubHub() as hub:
        subprocess.run(command, env={**os.environ, **hub.environment(tmp_path)})
    hub.files("me/model")  # {path: bytes}

`HF_ENDPOINT` is read when huggingface_hub is imported, so whatever asks this Hub runs in a process of its own. Uploads go
by git-lfs's basic transfer; xet is switched off.
"""

import base64
import hashlib
import json
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOKEN = "hf_stubtokenthatmustneverbewritten"
LARGE = (".safetensors", ".bin", ".pth", ".pt", ".parquet", ".zip", ".png")  # go by lfs


@dataclass
class Repository:
    """One repository.

    Attributes:
        branches: files by path, by branch.
        commits: branch, message and paths of each commit, in order.
        private: as it was made.
        snapshots: files by path, by the hash of a commit that was made.
    """

    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    commits: list[dict] = field(default_factory=list)
    private: bool = False
    snapshots: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def revision(self, name: str) -> str:
        """Commit hash of a branch, or of a hash itself."""
        return hashlib.sha1(f"{name}{len(self.commits)}".encode()).hexdigest() if name in self.branches else name

    def files(self, name: str) -> dict[str, bytes] | None:
        """Files of a branch, or as a hash of a commit names them; None: there is no such."""
        found = [branch for branch in self.branches if name in (branch, self.revision(branch))]
        return self.branches[found[0]] if found else self.snapshots.get(name)


def oid(path: str, content: bytes) -> str:
    """Git's number of a file's content, lfs's of a large one."""
    if path.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()


class StubHub:
    """The server and what was pushed to it.

    Args:
        user: who the token belongs to, and in whose name repositories without one are made.

    Attributes:
        repositories: by kind and name: `hub.repositories["models", "me/model"]`.
        requests: (method, path) of each request.
        cuts: how many uploads of a large file lose their connection in the middle.
        refused_objects: how many are refused, so that the command gives up.
    """

    def __init__(self, user: str = "me"):
        self.user = user
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.objects: dict[str, bytes] = {}
        self.cuts = 0
        self.refused_objects = 0
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "StubHub":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """Variables of a process that uses this Hub, with a cache of its own; without a token it has to give one."""
        values = {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        return values | {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": token or ""}

    def files(self, name: str, branch: str = "main", kind: str = "models") -> dict[str, bytes]:
        """What a repository holds, by path."""
        return self.repositories[kind, name].branches[branch]

    def add(self, name: str, files: dict[str, bytes], kind: str = "models") -> None:
        """Put files there without a client."""
        repository = self.repositories.setdefault((kind, name), Repository())
        repository.branches["main"].update(files)


class _Handler(BaseHTTPRequestHandler):
    hub: StubHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments) -> None:
        pass

    def _send(self, status: int, content: object = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self, code: str) -> None:
        self._send(404, {"error": code}, X_Error_Code=code)

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.command == "PUT" and self.hub.cuts > 0:
            self.hub.cuts -= 1
            self.rfile.read(length // 2)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        body = self.rfile.read(length)
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, path))
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[0] == "objects" and self.hub.refused_objects > 0:
            self.hub.refused_objects -= 1
            self._send(403, {"error": "refused"})
        elif parts[0] == "objects":
            self.hub.objects[parts[1]] = body
            self._send(200)
        elif self.command == "POST" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, {"error": "Invalid credentials"})
        elif parts[:3] == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif parts[:2] == ["api", "validate-yaml"]:
            self._send(200, {"errors": [], "warnings": []})
        elif parts[:2] == ["api", "whoami-v2"]:
            self._send(200, {"name": self.hub.user, "type": "user", "auth": {}})
        elif parts[-3:] == ["lfs", "objects", "batch"]:
            self._batch(json.loads(body))
        else:
            self._in_repository(parts, body)

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _create(self, wanted: dict) -> None:
        kind = {None: "models"}.get(wanted.get("type"), f"{wanted.get('type')}s")
        name = f"{wanted.get('organization') or self.hub.user}/{wanted['name']}"
        exists = (kind, name) in self.hub.repositories
        if not exists:
            private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
            self.hub.repositories[kind, name] = Repository(private=private)
        prefix = "" if kind == "models" else f"{kind}/"
        self._send(409 if exists else 200, {"url": f"{self.hub.endpoint}/{prefix}{name}", "name": name})

    def _batch(self, wanted: dict) -> None:
        url = f"{self.hub.endpoint}/objects"
        objects = [
            {
                "oid": entry["oid"],
                "size": entry["size"],
                **(
                    {}
                    if entry["oid"] in self.hub.objects
                    else {"actions": {"upload": {"href": f"{url}/{entry['oid']}"}}}
                ),
            }
            for entry in wanted["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def _in_repository(self, parts: list[str], body: bytes) -> None:
        is_api = parts[0] == "api"
        parts = parts[1:] if is_api else parts
        kind = parts.pop(0) if parts[0] in ("models", "datasets") else "models"
        name, rest = "/".join(parts[:2]), parts[2:]
        repository = self.hub.repositories.get((kind, name))
        hidden = repository and repository.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        if repository is None:
            self._missing("RepoNotFound")
        elif hidden:
            self._send(401, {"error": "Invalid username or password."}, X_Error_Code="RepoNotFound")
        elif rest[:1] == ["preupload"]:
            self._preupload(repository, rest[1], json.loads(body))
        elif rest[:1] == ["branch"]:
            exists = rest[1] in repository.branches
            repository.branches.setdefault(rest[1], dict(repository.branches["main"]))
            self._send(409 if exists else 200, {})
        elif rest[:1] == ["commit"]:
            self._commit(name, repository, rest[1], body, "create_pr=1" in urlsplit(self.path).query)
        elif rest[:1] == ["resolve"]:
            self._resolve(repository, rest[1], "/".join(rest[2:]))
        elif rest[:1] == ["tree"]:
            self._tree(repository, rest[1], "/".join(rest[2:]))
        else:
            self._info(name, repository, rest[1] if rest[:1] == ["revision"] else "main")

    def _preupload(self, repository: Repository, branch: str, wanted: dict) -> None:
        files = repository.branches.get(branch)
        if files is None:
            self._missing("RevisionNotFound")
            return
        answers = [
            {
                "path": entry["path"],
                "uploadMode": "lfs" if entry["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": oid(entry["path"], files[entry["path"]]) if entry["path"] in files else None,
            }
            for entry in wanted["files"]
        ]
        self._send(200, {"files": answers})

    def _commit(self, name: str, repository: Repository, branch: str, body: bytes, pull: bool) -> None:
        if pull:
            repository.branches["refs/pr/1"] = dict(repository.branches[branch])
            branch = "refs/pr/1"
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        files, paths = repository.branches[branch], []
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                files.pop(value["path"], None)
            paths += [value["path"]] if "path" in value else []
        message = next(line["value"]["summary"] for line in lines if line["key"] == "header")
        repository.commits.append({"branch": branch, "message": message, "paths": paths})
        repository.snapshots[repository.revision(branch)] = dict(files)
        url = f"{self.hub.endpoint}/{name}/commit/{repository.revision(branch)}"
        answer = {"success": True, "commitOid": repository.revision(branch), "commitUrl": url}
        pull_url = {"pullRequestUrl": f"{self.hub.endpoint}/{name}/discussions/1"} if pull else {}
        self._send(200, answer | pull_url)

    def _resolve(self, repository: Repository, revision: str, path: str) -> None:
        files = repository.files(revision)
        if files is None or path not in files:
            self._missing("RevisionNotFound" if files is None else "EntryNotFound")
            return
        commit = repository.revision(revision)
        self._send(200, files[path], ETag=f'"{oid(path, files[path])}"', X_Repo_Commit=commit)

    def _tree(self, repository: Repository, revision: str, folder: str) -> None:
        files = repository.files(revision) or {}
        inside = {path: content for path, content in files.items() if not folder or path.startswith(f"{folder}/")}
        if folder and not inside:
            self._missing("EntryNotFound")
            return
        self._send(
            200,
            [
                {"type": "file", "path": path, "size": len(content), "oid": oid(path, content)}
                for path, content in sorted(inside.items())
            ],
        )

    def _info(self, name: str, repository: Repository, revision: str) -> None:
        files = repository.files(revision)
        if files is None:
            self._missing("RevisionNotFound")
            return
        siblings = [{"rfilename": path} for path in sorted(files)]
        values = {"id": name, "sha": repository.revision(revision), "siblings": siblings, "tags": [], "downloads": 0}
        self._send(200, values | {"private": repository.private, "likes": 0})
