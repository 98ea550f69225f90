"""A server that speaks the Hugging Face hub's protocol, as far as its client needs it to download models."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import yaml


@dataclass
class Hub:
    """Repositories, each a folder under its name with the commits that it has, and what was asked for.

    Attributes:
        cuts: Paths whose next transfers end after so many bytes; one entry for each transfer.
        more: Names of files that a repository says to have, too.
        ranges: What ranges of files were asked for.
    """

    folder: Path
    url: str = ""
    commits: dict[str, list[str]] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    more: dict[str, list[str]] = field(default_factory=dict)
    ranges: list[tuple[str, str | None]] = field(default_factory=list)

    def commit(self, repository: str) -> str:
        """Give what lies in a repository's folder now a commit."""
        files = [path.read_bytes() for path in sorted((self.folder / repository).rglob("*")) if path.is_file()]
        made = hashlib.sha1(b"".join(files), usedforsecurity=False).hexdigest()
        self.commits.setdefault(repository, []).append(made)
        return made

    def sha(self, repository: str, revision: str) -> str | None:
        commits = self.commits.get(repository, [])
        return commits[-1] if revision == "main" and commits else next((c for c in commits if c == revision), None)

    def listing(self, repository: str) -> list[dict[str, object]]:
        root = self.folder / repository
        more = [
            {"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in self.more.get(repository, ())
        ]
        return more + [
            {
                "type": "file",
                "path": path.relative_to(root).as_posix(),
                "size": path.stat().st_size,
                "oid": _oid(path),
            }
            for path in sorted(root.rglob("*"))
            if path.is_file()
        ]


def _oid(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            repository, kind, revision = found.groups()
            self._api(repository, kind, revision or "main")
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*found.groups())
        else:
            self._send(404, b"{}")

    def _api(self, repository: str, kind: str | None, revision: str) -> None:
        commit = self.hub.sha(repository, revision)
        if commit is None:
            code = "RevisionNotFound" if repository in self.hub.commits else "RepoNotFound"
            return self._send(404, b"{}", {"X-Error-Code": code})
        listing = self.hub.listing(repository)
        if kind == "tree":
            return self._send(200, json.dumps(listing).encode())
        siblings = [{"rfilename": one["path"], "size": one["size"], "blobId": one["oid"]} for one in listing]
        info = {"id": repository, "sha": commit, "siblings": siblings, "cardData": self._card(repository)}
        return self._send(200, json.dumps(info | {"private": False, "tags": [], "downloads": 0}).encode())

    def _card(self, repository: str) -> object:
        card = self.hub.folder / repository / "README.md"
        return yaml.safe_load(card.read_text().split("---")[1]) if card.is_file() else None

    def _file(self, repository: str, revision: str, name: str) -> None:
        commit, path = self.hub.sha(repository, revision), self.hub.folder / repository / name
        if commit is None or not path.is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        whole, headers = path.read_bytes(), {"ETag": f'"{_oid(path)}"', "X-Repo-Commit": commit}
        if self.command == "HEAD":
            return self._send(200, whole, headers | {"Accept-Ranges": "bytes"})
        asked = self.headers.get("Range")
        self.hub.ranges.append((name, asked))
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        cuts = self.hub.cuts.get(name)
        return self._send(206 if asked else 200, whole[start:], headers, cuts.pop(0) if cuts else None)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True


@contextmanager
def serve_hub(folder: Path) -> Iterator[Hub]:
    """A hub of the repositories in a folder."""
    hub = Hub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
