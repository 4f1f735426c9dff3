"""Writing a file without ever losing the one that was there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def check_writable(path: str) -> None:
    """Raise OSError or ValueError unless `path` can be written; leaves what is there untouched."""
    if not path:
        raise ValueError("expected the name of a file to write, got an empty one")
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(21, "is a directory", path)
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot write there: {os.strerror(error.errno or 0)}", path) from None
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(13, "exists and is read-only", path)


def replace_file(path: str, write: Callable[[str], None]) -> None:
    """Call write(name of a scratch file beside `path`) and put the result in the place of `path` (of what it points to, where
    it is a link) once it is whole. A device or pipe is written to directly."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        write(str(target))
        return
    handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix)
    os.close(handle)
    try:
        write(scratch)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(scratch, 0o666 & ~umask)  # mkstemp makes private files
        os.replace(scratch, target)
    except BaseException:
        os.unlink(scratch)
        raise
