"""The null destinations, each in a process of its own on the loopback, as contexts.

nginx where it is installed, for it costs least; else `benchmarks.null_server`, which alone can
answer late or enforce a limit.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NGINX, ASYNCIO = "nginx", "asyncio"
PLACES = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
"""nginx is where the paths of ordinary users do not lead."""

PATIENCE = 10.0
"""Seconds in which a destination has to be up, and to end."""

CONFIG = """
worker_processes 1; daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events { worker_connections 4096; }
http {
  access_log off; client_max_body_size 0;
  keepalive_timeout 1h; keepalive_time 24h; keepalive_requests 1000000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {
    listen 127.0.0.1:%d backlog=4096;
    location / { default_type application/json; return 201 '{"message":"success"}'; }
  }
}
"""
"""`return` reads the body of a request and drops it."""


@dataclass
class Null:
    """A destination that is up; what came is told once it is down, and only with a limit."""

    url: str
    came: dict[str, Any] = field(default_factory=dict)


def nginx() -> str | None:
    """Return where nginx is, or None."""
    return shutil.which(NGINX, path=PLACES)


def chosen(asked: str = "auto") -> str:
    """Return which null destination is used. Raises `SystemExit` if it is not there."""
    if asked == NGINX and not nginx():
        raise SystemExit("nginx is not installed: install it, or say --null asyncio")
    return (NGINX if nginx() else ASYNCIO) if asked == "auto" else asked


@contextmanager
def serving(kind: str) -> Iterator[Null]:
    """Serve a null destination that answers at once."""
    with _nginx() if kind == NGINX else null_server() as null:
        yield null


@contextmanager
def null_server(latency: float = 0.0, jitter: float = 0.0, limit: str = "") -> Iterator[Null]:
    """Serve the null destination of our own: times in seconds, a limit such as 1000/1s."""
    options = ["--latency", str(latency), "--jitter", str(jitter)]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.null_server", *options]
        + (["--limit", limit] if limit else []),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        null = Null(f"http://127.0.0.1:{int(process.stdout.readline())}")
        yield null
        process.stdin.close()
        if limit:
            null.came = json.loads(process.stdout.read())
    finally:
        process.stdin.close()
        process.wait(timeout=PATIENCE)
        process.stdout.close()


@contextmanager
def _nginx() -> Iterator[Null]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(CONFIG % port)
        binary = nginx()
        assert binary is not None
        process = subprocess.Popen(
            [binary, "-p", folder, "-c", str(config), "-e", "stderr"], stderr=subprocess.DEVNULL
        )
        try:
            _wait_for(port, process)
            yield Null(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise SystemExit("nginx did not start: try --null asyncio")
