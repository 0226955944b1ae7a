"""Files elsewhere, by URL: `s3://`, `gs://`, `https://` and whatever else fsspec knows.

This module decides what a URL is called in front of people: what signs or opens it is never shown.
It does not know what the files hold. It is the one module that imports fsspec (extra `remote`).
"""

from __future__ import annotations

import glob
import io
import re
from collections.abc import Callable
from typing import Any, BinaryIO, Final, TypeVar, cast
from urllib.parse import urlsplit

from ingest.errors import InputError, MissingExtra

BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Bytes asked for at a time: at 20 ms a request that is 200 MB/s, and memory hardly notices."""

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_PACKAGES: Final = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
}
"""What fsspec itself needs for a scheme, besides what the extra brings."""

T = TypeVar("T")


def is_url(path: str) -> bool:
    """Tell whether a path is meant for fsspec, and not for the local file system."""
    return _URL.match(path) is not None


def shown(path: str) -> str:
    """Return a path for people: a URL without user, password, query and fragment."""
    if not is_url(path):
        return path
    try:
        parts = urlsplit(path)
    except ValueError:
        return f"{path.partition('://')[0]}://..."
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def listed(url: str) -> list[str]:
    """Return the URLs that one stands for: itself, or what its pattern matches, sorted.

    Raises `InputError` if it matches nothing, and as `opened` does.
    """
    if _scheme(url) in ("http", "https") or not glob.has_magic(url):
        return [url]  # a query has a question mark, and the web has no listing
    system, path = _located(url)
    found = _asked(url, lambda: sorted(system.glob(path)))
    if not found:
        raise InputError(f"{shown(url)} matches no file.")
    head = url[: url.index("://") + 3]
    return [head + str(name).removeprefix("/" if "///" not in url else "") for name in found]


def _scheme(url: str) -> str:
    """Return the scheme of a URL in lower case."""
    return url.partition("://")[0].lower()


def size(url: str) -> int | None:
    """Return the bytes of a file, None where its server does not say. Raises as `opened` does."""
    system, path = _located(url)
    found = _asked(url, lambda: system.info(path))
    if found.get("type") == "directory":
        raise InputError(
            f"{shown(url)} is a directory: name its files, or a glob such as .../*.csv."
        )
    told = found.get("size")
    return told if isinstance(told, int) else None


def opened(url: str) -> BinaryIO:
    """Open a file for reading. Raises `InputError`; `MissingExtra` without fsspec."""
    system, path = _located(url)
    file = _asked(url, lambda: system.open(path, "rb", block_size=BUFFER_BYTES))
    return cast(BinaryIO, _File(file))


class _File(io.RawIOBase):
    """A file of some make, whose every failure is an `OSError` that tells no secret."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        data = self._safely(lambda: self._file.read(len(view)))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return int(self._safely(lambda: self._file.seek(offset, whence)))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _safely(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except Exception as error:  # as below
            raise OSError(_said(error)) from None


def _said(error: Exception) -> str:
    """Say what a file system says: its words may quote a URL with all that signs it."""
    status = getattr(error, "status", None)
    return f"status {status}" if isinstance(status, int) else type(error).__name__


def _located(url: str) -> tuple[Any, str]:
    """Return the file system that a URL lies in, and its path there."""
    try:
        import fsspec  # type: ignore[import-not-found, import-untyped, unused-ignore]  # an extra
    except ImportError:
        raise MissingExtra(f"Reading {shown(url)}", "remote") from None
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError:
        scheme = _scheme(url)
        package = _PACKAGES.get(scheme)
        needs = f"the package {package}: run  pip install {package}" if package else "a package"
        raise InputError(f"{shown(url)} cannot be opened: {scheme}:// needs {needs}.") from None
    except ValueError:
        raise InputError(
            f"{shown(url)} cannot be opened: {_scheme(url)}:// is a protocol that fsspec "
            "does not know. Copy the file here first, or pipe it in and import -."
        ) from None
    return system, path


def _asked(url: str, ask: Callable[[], T]) -> T:
    """Return what a file system says. Raises `InputError`, without the URL's secrets."""
    try:
        return ask()
    except FileNotFoundError:
        raise InputError(f"{shown(url)} does not exist.") from None
    except PermissionError:
        raise InputError(
            f"{shown(url)} cannot be opened: access is denied. Look at the credentials of this "
            "environment for it."
        ) from None
    except Exception as error:  # a file system of any make raises what it likes
        raise InputError(f"{shown(url)} cannot be opened ({_said(error)}).") from None
