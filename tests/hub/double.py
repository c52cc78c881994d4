"""A double of the Hub's protocol on a local port: what the real client needs to push, pull and load metric modules.

It proves requests, not the Hub's policies.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_" + "double" * 5
READER = "hf_" + "reader" * 5
"""A token that may read and not write."""


@dataclass
class Repo:
    """A repo: its files now, and each of its commits, newest last."""

    private: bool = False
    sdk: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=lambda: [hashlib.sha1(b"first").hexdigest()])
    history: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        self.files = files
        self.commits.append(hashlib.sha1(repr((self.commits[-1], sorted(files))).encode()).hexdigest())
        self.history[self.commits[-1]] = files
        return self.commits[-1]

    def at(self, revision: str) -> dict[str, bytes] | None:
        return self.files if revision in ("main", self.commits[-1]) else self.history.get(revision)


class Hub(ThreadingHTTPServer):
    """The server; `down` closes every connection, `cut` the next so many uploads of weights in their middle."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}
        self.log: list[str] = []
        self.sent: list[bytes] = []
        self.down = False
        self.cut = 0
        self.rivals = 0
        """Commits of somebody else that come in just before the next ones."""
        self.gate = threading.Event()
        self.gate.set()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Hub:
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self.shutdown()
        self.server_close()
        self.thread.join()

    def handle_error(self, *_: object) -> None:
        """Say nothing of a connection that was closed on purpose."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""

    def do(self) -> None:
        hub, path = self.server, unquote(self.path.split("?")[0])
        hub.log.append(f"{self.command} {path}")
        if hub.down:
            self.close_connection = True
            self.connection.close()
            return
        if path.startswith("/upload/"):
            self.upload(path.split("/")[2])
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.sent.append(body)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in ("", TOKEN, READER):
            self.answer(
                401,
                {"error": "Invalid credentials"},
                **{"X-Error-Message": "Invalid credentials in Authorization header"},
            )
            return
        if self.command == "POST" and token != TOKEN and "validate-yaml" not in path:
            self.answer(403, {"error": "Forbidden"}, **{"X-Error-Message": "no write access"})
            return
        if path == "/api/repos/create":
            self.create(json.loads(body))
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif path == "/api/whoami-v2":
            self.answer(200, {"name": "someone", "type": "user"})
        else:
            self.repo(path, body, token)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do  # noqa: N815

    def create(self, asked: dict) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        there = name in self.server.repos
        private = asked.get("private") is True or asked.get("visibility") == "private"
        self.server.repos.setdefault(name, Repo(private=private, sdk=asked.get("sdk")))
        kind = "spaces/" if asked.get("type") == "space" else ""
        self.answer(409 if there else 200, {"url": f"{self.server.url}/{kind}{name}", "name": name})

    def repo(self, path: str, body: bytes, token: str) -> None:
        found = re.match(r"/(?:api/)?(?:models/|spaces/)?([\w.-]+/[\w.-]+?)(?:\.git)?(?:/(.*))?$", path)
        repo = self.server.repos.get(found[1]) if found else None
        if found is None or repo is None or (repo.private and not token):
            self.answer(
                401 if not token else 404, {"error": "Repository not found"}, **{"X-Error-Code": "RepoNotFound"}
            )
            return
        action, _, rest = (found[2] or "").partition("/")
        if path.startswith("/api/") and action in ("", "revision"):
            self.info(found[1], repo, rest or "main")
        elif action == "tree":
            self.tree(repo, rest.split("/")[0])
        elif action == "preupload":
            files = json.loads(body)["files"]
            self.answer(200, {"files": [self.mode(repo, entry["path"]) for entry in files]})
        elif action == "info":
            self.batch(json.loads(body))
        elif action == "commit":
            self.commit(found[1], repo, body)
        elif action == "resolve":
            self.resolve(repo, *rest.split("/", 1))
        else:
            self.answer(404, {"error": f"the double knows no {path}"})

    def info(self, name: str, repo: Repo, revision: str) -> None:
        if repo.at(revision) is None and revision != repo.commits[-1]:
            self.answer(404, {"error": "no revision"}, **{"X-Error-Code": "RevisionNotFound"})
            return
        names = [{"rfilename": path} for path in sorted(repo.at(revision) or {})]
        sha = repo.commits[-1] if revision == "main" else revision
        self.answer(200, {"id": name, "sha": sha, "private": repo.private, "siblings": names})

    def tree(self, repo: Repo, revision: str) -> None:
        files = repo.at(revision) or {}
        self.answer(
            200, [{"type": "file", "path": path, "size": len(data), "oid": blob(data)} for path, data in files.items()]
        )

    def mode(self, repo: Repo, path: str) -> dict:
        data = repo.files.get(path)
        large = path.endswith(".safetensors")
        oid = None if data is None else hashlib.sha256(data).hexdigest() if large else blob(data)
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}

    def batch(self, asked: dict) -> None:
        objects = []
        for entry in asked["objects"]:
            known = entry["oid"] in self.server.stored
            actions = {} if known else {"actions": {"upload": {"href": f"{self.server.url}/upload/{entry['oid']}"}}}
            objects.append({**entry, **actions})
        self.answer(200, {"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        self.server.gate.wait(30)
        size = int(self.headers["Content-Length"])
        if self.server.cut > 0 or self.server.down:
            self.server.cut -= 1
            self.rfile.read(size // 2)
            self.close_connection = True
            self.connection.close()
            return
        data = self.rfile.read(size)
        assert hashlib.sha256(data).hexdigest() == oid
        self.server.stored[oid] = data
        self.server.sent.append(data)
        self.answer(200, {})

    def commit(self, name: str, repo: Repo, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        if self.server.rivals:
            self.server.rivals -= 1
            repo.commit({**repo.files, f"rival-{self.server.rivals}.txt": b"somebody else's"})
        parent = lines[0]["value"].get("parentCommit")
        if parent not in (None, repo.commits[-1]):
            self.answer(412, {"error": "A commit has happened since. Please refresh and try again."})
            return
        files = dict(repo.files)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.stored[value["oid"]]
            else:
                files.pop(value["path"])
        oid = repo.commit(files)
        self.answer(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/{name}/commit/{oid}"})

    def resolve(self, repo: Repo, revision: str, path: str) -> None:
        data = (repo.at(revision) or {}).get(path)
        if data is None:
            self.answer(404, {"error": "no such file"}, **{"X-Error-Code": "EntryNotFound"})
            return
        commit = repo.commits[-1] if revision == "main" else revision
        self.answer(200, data, ETag=f'"{hashlib.sha256(data).hexdigest()}"', **{"X-Repo-Commit": commit})

    def answer(self, status: int, content: object, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def blob(data: bytes) -> str:
    """Return git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
