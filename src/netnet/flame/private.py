"""Where processes hand each other requests and results: a folder that belongs to one user, and that nobody else can enter.

A program that allows attaching obeys what it finds there, so what is not its user's own is not looked at: the folder's
owner and mode are those of the open descriptor, and files are opened below that, never through a symbolic link.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import Any, Final

from netnet.errors import UsageError

#: the same for all programs, whatever ``TMPDIR`` says in each
PLACE: Final = "/tmp"

#: the longest result that is read, in bytes
RESULT_MAX: Final = 256 << 20


def folder_of(user: int) -> str:
    """The name of the folder of the user with this number, in ``PLACE``."""
    return f"netnet-flame-{user}"


def open_folder(path: str, user: int) -> int:
    """A descriptor of the folder *path*. Raises ``UsageError`` for one that is not *user*'s alone, ``OSError``."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    about = os.fstat(folder)
    if about.st_uid != user or stat.S_IMODE(about.st_mode) & 0o077:
        os.close(folder)
        raise UsageError(f"{path} does not belong to user {user} alone (mode 0700); remove it")
    return folder


def make_folder(path: str, user: int) -> int:
    """As ``open_folder``; makes it for *user* where it is missing."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
        if user != os.geteuid():
            os.chown(path, user, -1, follow_symlinks=False)
    return open_folder(path, user)


def write_json(folder: int, name: str, value: Any, user: int | None = None) -> None:
    """Writes a file so that readers find all of it or none; owned by *user*, if that is somebody else. ``OSError``."""
    beside = f"{name}.part"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(beside, flags, 0o600, dir_fd=folder), "w", encoding="utf-8", errors="replace") as file:
        if user is not None and user != os.geteuid():
            os.fchown(file.fileno(), user, -1)
        json.dump(value, file)
    os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)


def read_json(folder: int, name: str, user: int) -> Any:
    """The value in a file of *user*'s; ``None`` where there is no such file, or one that is not to be trusted."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != user or about.st_size > RESULT_MAX:
            return None
        try:
            return json.load(file)
        except ValueError:
            return None


def remove(folder: int, name: str) -> None:
    """Removes a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
