"""The live view: a read-only server on loopback that shows a run directory while its trials run."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import mimetypes
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from patchscale.errors import InputError
from patchscale.report.page import render
from patchscale.report.payload import payload
from patchscale.report.run import Run, read, read_live
from patchscale.studies import RunDirectory, Trial

READABLE = {".json", ".jsonl", ".csv", ".yaml", ".html", ".svg", ".png", ".log"}
"""Endings of files that the server hands out; checkpoints and locks are none of them."""
WATCHED = ("study.yaml", "results.csv", "laws.json")
NOTES = ("config.json", "metrics.jsonl", "result.json", "progress.json", "failed.json")


class LiveServer(ThreadingHTTPServer):
    """Serves `/` (the page), `/data.json` (its data, by version) and files of one run directory."""

    daemon_threads = True

    def __init__(self, run_dir: Path, port: int, host: str, *, allow_remote: bool) -> None:
        self.run_dir = Path(run_dir).resolve()
        self.allow_remote = allow_remote
        self._lock = threading.Lock()
        self._version = ""
        self._data: dict = {}
        self._fitted: tuple[frozenset[str], Run] | None = None
        self._planned: tuple[int, list[Trial]] | None = None
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), LiveHandler)

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}/" if self.address_family == socket.AF_INET6 else f"http://{host!s}:{port}/"

    def data(self) -> tuple[str, dict]:
        """(version, payload) of the directory as it is now; read again only if a file in it changed."""
        with self._lock:
            version = self.version()
            if version != self._version:
                self._data = payload([self._read()], live=True)
                self._data["version"] = version
                self._version = version
            return version, self._data

    def version(self) -> str:
        """A digest of names, sizes and times of everything the page shows."""
        digest = hashlib.sha256()
        paths = [self.run_dir / name for name in WATCHED]
        paths += [folder / name for folder in sorted((self.run_dir / "trials").glob("*")) for name in NOTES]
        for path in paths:
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            digest.update(f"{path.name} {path.parent.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        digest.update(" ".join(self._states()).encode())
        return digest.hexdigest()[:16]

    def _states(self) -> list[str]:
        """Where every planned trial stands: a killed trial frees its lock without touching a file."""
        directory = RunDirectory(self.run_dir)
        if not directory.study_file.is_file():
            return []
        written = directory.study_file.stat().st_mtime_ns
        if self._planned is None or self._planned[0] != written:
            self._planned = written, directory.read_study()[0].trials()
        return [directory.state(trial) for trial in self._planned[1]]

    def _read(self) -> Run:
        """The directory now; laws are fitted anew only when another trial has finished."""
        run = read(self.run_dir)
        finished = frozenset(run.outcomes)
        if len(run.results) == len(finished):
            return run
        if self._fitted is None or self._fitted[0] != finished:
            self._fitted = finished, read_live(self.run_dir)
        known = self._fitted[1]
        return Run(**{**vars(run), "results": known.results, "results_text": known.results_text, "laws": known.laws})


class LiveHandler(BaseHTTPRequestHandler):
    """GET and HEAD only; anything outside the run directory is refused."""

    server: LiveServer
    server_version = "patchscale"
    sys_version = ""

    def do_GET(self) -> None:
        if not self._host_is_allowed():
            self._refuse(HTTPStatus.FORBIDDEN, "this view is served on loopback only")
            return
        path = unquote(urlsplit(self.path).path)
        try:
            if path == "/":
                self._send(render(self.server.data()[1]).encode(), "text/html; charset=utf-8")
            elif path == "/data.json":
                self._send_data()
            else:
                self._send_file(path)
        except InputError as error:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET

    def _send_data(self) -> None:
        version, data = self.server.data()
        if self.headers.get("If-None-Match") == f'"{version}"':
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self.end_headers()
            return
        content = json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
        self._send(content, "application/json", version)

    def _send_file(self, path: str) -> None:
        root = self.server.run_dir
        try:
            file = (root / path.lstrip("/")).resolve()
            inside = file.is_relative_to(root) and "\0" not in path
        except (OSError, ValueError):
            inside = False
        if not inside:
            self._refuse(HTTPStatus.FORBIDDEN, "outside the run directory")
        elif not file.is_file() or file.suffix not in READABLE:
            self._refuse(HTTPStatus.NOT_FOUND, "no such file in the run directory")
        else:
            kind = "text/plain" if file.suffix in (".jsonl", ".log", ".yaml") else mimetypes.guess_type(file.name)[0]
            self._send(file.read_bytes(), kind or "application/octet-stream")

    def _send(self, content: bytes, kind: str, version: str | None = None) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if version:
            self.send_header("ETag", f'"{version}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        content = f"{reason}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _host_is_allowed(self) -> bool:
        """The name the browser used: a foreign name pointed at loopback must not read the page either."""
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        return self.server.allow_remote or is_loopback(name)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the terminal belongs to the one line that says where the page is."""


def server(run_dir: Path, port: int = 0, host: str = "127.0.0.1", *, allow_remote: bool = False) -> LiveServer:
    """A server that is bound but does not answer yet; `serve_forever` starts it.

    Args:
        run_dir: the run directory to show.
        port: 0 takes a free one.
        host: address to bind.
        allow_remote: bind and answer other hosts than loopback too: anyone who reaches the port can then read the run.

    Raises:
        InputError: not a run directory, a host that is not loopback without `allow_remote`, or a port that is taken.
    """
    read(run_dir)
    if not allow_remote and not is_loopback(host):
        raise InputError(f"host {host} is not loopback; use 127.0.0.1, or allow other machines explicitly")
    try:
        return LiveServer(Path(run_dir), port, host, allow_remote=allow_remote)
    except OSError as error:
        raise InputError(f"cannot serve on {host}:{port} ({error.strerror}); choose another port") from error


def watch(run_dir: Path, port: int = 8321, host: str = "127.0.0.1", *, allow_remote: bool = False) -> None:
    """Serves the live view of a run directory until interrupted; prints where. Arguments as for `server`."""
    with server(run_dir, port, host, allow_remote=allow_remote) as live:
        print(f"watching {run_dir} at {live.url} (Ctrl-C ends this view, not the study)", flush=True)
        try:
            live.serve_forever()
        except KeyboardInterrupt:
            print("view ended")


def is_loopback(host: str) -> bool:
    """`localhost` or an address of this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
