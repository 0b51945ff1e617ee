"""Objects and archives made to do harm."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Hostile:
    """Makes a folder, the mark, when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    """A member of a tar archive and its content; its mode asks for set-user-id and for everybody's writing."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size, member.mode = kind, link, len(content), 0o4777
    return member, content


def write_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """Writes a tar archive of one good file and these members; the ending says whether it is compressed."""
    good = tar_member("Task90/dataset.json", content=b"{}")
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as file:
        for member, content in (good, *members):
            file.addfile(member, io.BytesIO(content))
    return path


def write_zip(path: Path, *members: tuple[str, int, bytes]) -> Path:
    """Writes a zip archive of one good file and these members: name, mode and content of each."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, mode, content in (("Task90/dataset.json", 0, b"{}"), *members):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return path
