"""A file server on the loopback that misbehaves as it is told, and small stand-ins for the published archives."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from adaptgen.config import ArchiveConfig


class FileServer:
    """Serves `files` by their path.

    Attributes:
        files: content by name.
        ranges: the Range header of each request so far, None if it had none.
        cuts: after how many bytes the coming responses are cut; the last holds for all that follow.
        knows_ranges, says_length: whether it does.
        statuses: what it answers to the coming requests, in place of a file.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.cuts: list[int | None] = [None]
        self.statuses: list[int] = []
        self.knows_ranges = self.says_length = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        assert request.headers["User-Agent"].startswith("adaptgen/"), "some hosts refuse Python's own name"
        asked = request.headers["Range"]
        self.ranges.append(asked)
        content = self.files.get(request.path.lstrip("/"))
        status = self.statuses.pop(0) if self.statuses else 404 if content is None else 200
        if status != 200:
            request.send_error(status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.knows_ranges else 0
        if start >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.says_length:
            request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        cut = self.cuts.pop(0) if len(self.cuts) > 1 else self.cuts[0]
        request.wfile.write(content[start:][:cut])

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{name}"

    def offer(self, name: str, content: bytes) -> ArchiveConfig:
        """Serve a file, and say so as a recipe does."""
        self.files[name] = content
        return archive_of(self.url(name), content)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


def archive_of(url: str, content: bytes) -> ArchiveConfig:
    return ArchiveConfig(url=url, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def zip_of(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return content.getvalue()
