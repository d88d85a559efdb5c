"""A stand-in for the Hugging Face Hub on 127.0.0.1: as much of its API as models come and go by."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What it holds: ``models`` {name: {file: bytes}}, ``private`` names; ``asked`` are the
    requests, (method, path, authorization)."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.asked: list[tuple[str, str, str | None]] = []


@contextmanager
def hub() -> Iterator[tuple[str, Hub]]:
    """Yield its address and what it holds."""
    held = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *about) -> None:
            pass

        def answer(self, data, status=200, **headers) -> None:
            body = data if isinstance(data, bytes) else json.dumps(data).encode()
            self.send_response(status)
            for name, value in {"Content-Length": len(body), **headers}.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def note(self) -> list[str]:
            held.asked.append((self.command, self.path, self.headers.get("Authorization")))
            return self.path.partition("?")[0].strip("/").split("/")

        def do_POST(self) -> None:
            parts = self.note()
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if parts[:3] == ["api", "repos", "create"]:
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                held.models.setdefault(name, {})
                if asked.get("private") or asked.get("visibility") == "private":
                    held.private.add(name)
                self.answer({"url": f"{address}/{name}", "id": name})
            elif "preupload" in parts:
                files = [each["path"] for each in json.loads(body)["files"]]
                regular = [
                    {"path": f, "uploadMode": "regular", "shouldIgnore": False} for f in files
                ]
                self.answer({"files": regular})
            elif "commit" in parts:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                        held.models["/".join(parts[2:4])][line["value"]["path"]] = content
                done = {"commitUrl": f"{address}/x/y/commit/{COMMIT}", "commitOid": COMMIT}
                self.answer({"success": True, "hookOutput": "", **done})
            else:  # whether the card's YAML is valid
                self.answer({"errors": [], "warnings": []})

        def do_GET(self) -> None:
            parts = self.note()
            if parts[:2] == ["api", "models"]:
                name = "/".join(parts[2:4])
                files = [{"rfilename": f} for f in held.models.get(name, ())]
                if name not in held.models:
                    self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
                elif "tree" in parts:
                    tree = held.models[name].items()
                    self.answer(
                        [{"type": "file", "path": f, "size": len(b), "oid": "0"} for f, b in tree]
                    )
                else:
                    self.answer({"id": name, "sha": COMMIT, "siblings": files, "private": False})
                return
            name, file = "/".join(parts[:2]), "/".join(parts[4:])
            content = held.models.get(name, {}).get(file)
            if content is None:
                self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
                return
            etag = hashlib.sha1(content).hexdigest()
            self.answer(content, X_Repo_Commit=COMMIT, ETag=f'"{etag}"')

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield address, held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
