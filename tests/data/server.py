"""An HTTP server on this machine that does to a download what networks do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Mirror:
    """Files under names, and how badly they are served.

    cut: the next answers break off after so many bytes; ranges: whether Range is understood;
    seen: (name, Range header) of each request.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.cut: list[int] = []
        self.ranges = True
        self.seen: list[tuple[str, str | None]] = []

    def answer(self, name: str, wanted: str | None) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers for a request."""
        self.seen.append((name, wanted))
        if name not in self.files:
            return 404, b"", {}
        body = self.files[name]
        if wanted is None or not self.ranges:
            return 200, body, {}
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            return 416, b"", {"Content-Range": f"bytes */{len(body)}"}
        extent = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return 206, body[start:], {"Content-Range": extent}


@contextmanager
def serve() -> Iterator[Mirror]:
    """A mirror on a free port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body, headers = mirror.answer(self.path[1:], self.headers.get("Range"))
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: mirror.cut.pop(0)] if mirror.cut else body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    mirror = Mirror(f"http://127.0.0.1:{server.server_port}/")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def dead_url() -> str:
    """Where nobody listens: a port that was free a moment ago."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    port = server.server_port
    server.server_close()
    return f"http://127.0.0.1:{port}/"
