"""Files that are written: a regular file is replaced as a whole, a link is written through, a device is written to."""

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO

NEW_MODE = 0o666
"""The mode of a new file, of which the process's umask takes its part."""


def write_file(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a file that appears under its name only when it is complete, with the mode of the old one.

    Other hard links of the old file keep the old content. Whatever goes wrong is an OSError that names the path, and
    leaves the old file and nothing else.
    """
    try:
        if is_stream(path):
            _write_stream(path, write)
        else:
            _replace(*find_target(path), write)
    except OSError as error:
        raise name_path(error, path) from None


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Return whether the path, through links, is a device, a pipe or a socket, which is written to and not replaced."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def find_target(path: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """Return the file behind links, and its mode where it exists; raise an OSError where it could not be replaced."""
    target, mode = Path(os.path.realpath(path)), None
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "its directory does not exist", os.fspath(path)) from None
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a directory", os.fspath(path))
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "its directory cannot be written to", os.fspath(path))
    if mode is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "cannot be written to", os.fspath(path))
    return target, mode


def name_path(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """Return the error as one of this path. Not every library says which file it was about, or about its own name."""
    reason = error.strerror or str(error) or type(error).__name__
    return OSError(error.errno or errno.EIO, reason, os.fspath(path))


class _Writer:
    """A file that NumPy does not know as one, as its own way to write to files forgets why the system refused to."""

    def __init__(self, file: IO[bytes]) -> None:
        self.write, self.flush = file.write, file.flush
        self.seek, self.tell = file.seek, file.tell
        self.read = file.read  # NumPy takes what has none for a path


def _replace(target: Path, mode: int | None, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file beside the target, on the disk, and then give it the target's name."""
    partial = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.partial")

    def open_private(name: str, flags: int) -> int:
        return os.open(name, flags, NEW_MODE if mode is None else mode)  # never more open than what it replaces

    try:
        with open(partial, "xb", opener=open_private) as file:
            write(_Writer(file))  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())  # so that no name stands for an empty file after the power was cut
        if mode is not None:
            os.chmod(partial, mode)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _write_stream(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Write to a device or a pipe, once all content is known, as the content may be written in any order."""
    content = io.BytesIO()
    write(content)
    with open(path, "wb") as file:
        file.write(content.getbuffer())
