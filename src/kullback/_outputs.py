"""Files that are written: a regular file is replaced as a whole, a link is written through, a device is written to."""

from __future__ import annotations

import io
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write_file(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a file that appears under its name only when it is complete, with the mode of the old one."""
    if is_stream(path):
        content = io.BytesIO()
        write(content)
        with open(path, "wb") as file:
            file.write(content.getbuffer())
        return
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.partial")
    try:
        with open(partial, "xb") as file:
            write(file)
        if target.exists():
            os.chmod(partial, stat.S_IMODE(target.stat().st_mode))
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Return whether the path, through links, is a device, a pipe or a socket, which is written to and not replaced."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))
