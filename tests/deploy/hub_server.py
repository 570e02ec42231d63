"""The part of the Hugging Face Hub's interface that one push and one pull need, on this machine and in memory."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub(ThreadingHTTPServer):
    """Repositories by name; each has `private`, `files`, and the number of `commits`."""

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token = token
        self.repos: dict[str, dict[str, Any]] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def serving(token: str) -> Iterator[Hub]:
    hub = Hub(token)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer(self, code: int, content: Any = None, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.server.token}":
            return True
        self.answer(401, {"error": "no token"}, X_Error_Message="Invalid credentials")
        return False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.allowed():
            return
        if self.path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\nlibrary_name: segue\n")
            self.answer(200, {"errors": [], "warnings": []})
            return
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(x for x in (asked.get("organization"), asked["name"]) if x)
            there = name in self.server.repos
            if not there:
                private = asked.get("private", asked.get("visibility") == "private")
                self.server.repos[name] = {"private": private, "files": {}, "commits": 0}
            self.answer(409 if there else 200, {"url": f"{self.server.address}/{name}", "id": name})
            return
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main(\?.*)?", self.path)
        assert found, self.path
        repo = self.server.repos[found[1]]
        if found[2] == "preupload":
            files = [{**f, "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]]
            self.answer(200, {"files": files})
            return
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                repo["files"][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        repo["commits"] += 1
        commit = f"{repo['commits']:040x}"
        self.answer(200, {"commitUrl": f"{self.server.address}/{found[1]}/commit/{commit}", "commitOid": commit})

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if not self.allowed():
            return
        if path == "/api/whoami-v2":
            self.answer(200, {"name": "me", "type": "user", "auth": {"accessToken": {"role": "write"}}})
            return
        named = re.match(r"/(?:api/models/)?([^/]+/[^/]+)", path)
        repo = self.server.repos.get(named[1]) if named else None
        if repo is None:
            self.answer(404, {"error": "none"}, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
            return
        commit = f"{repo['commits']:040x}"
        if "/resolve/" in path:
            content = repo["files"][path.rpartition("/")[2]]
            etag = hashlib.sha1(content).hexdigest()
            self.answer(200, content, ETag=f'"{etag}"', X_Repo_Commit=commit)
        elif "/tree/" in path:
            sizes = {name: len(content) for name, content in repo["files"].items()}
            self.answer(200, [{"type": "file", "path": n, "size": s, "oid": "0" * 40} for n, s in sizes.items()])
        else:
            siblings = [{"rfilename": name, "size": len(content)} for name, content in repo["files"].items()]
            self.answer(200, {"id": named[1] if named else "", "sha": commit, "siblings": siblings, "tags": []})

    do_HEAD = do_GET
