"""Archives to folders: nothing is written outside, nothing is left of an archive that is refused."""

from __future__ import annotations

import contextlib
import errno
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from initbench import staging
from initbench.errors import DataError, UsageError
from initbench.units import gib

# A data set has a file or two per case; a million of them would fill a file system's tables before its bytes.
MAX_MEMBERS = 1_000_000
_CHUNK = 2**20  # bytes
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_BROKEN_ZIP = (RuntimeError, NotImplementedError)  # encrypted members; compressions of other programs


@dataclass(frozen=True)
class _Member:
    """What an archive says of one member: its name, its bytes when unpacked, and why it is refused whatever its name is."""

    name: str
    size: int
    strange: str


class NoRoomError(DataError):
    """What an archive holds does not fit onto the disk; nothing is said against the archive."""


def extract(archive: Path, folder: Path) -> None:
    """Unpacks a .tar, .tar.gz, .tgz or .zip; the members lie directly in `folder`.

    The members are unpacked beside `folder`, and moved there together at the end: so `folder` is whole or does not exist. Links
    are refused even where they stay inside: data sets need none, and they are how archives get out of their folder (the filters
    of `tarfile` had several such holes, Python's CVE-2025-4517 among them).

    Raises:
        UsageError: `folder` exists, or the archive does not, or is none of the three kinds.
        DataError: a member would lie outside or is no plain file or folder, the members claim more bytes than the disk has
            free (`NoRoomError`), or the archive is damaged. Names the archive and the member.
    """
    if not archive.is_file():
        raise UsageError(f"there is no archive {archive} ({archive.resolve()})")
    unpack = _kind(archive)
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} exists; remove it or unpack {archive.name} somewhere else")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with staging.beside(folder) as temporary, _damage(archive):
        unpack(archive, temporary)
        temporary.chmod(0o755)  # mkdtemp's are the user's alone
        staging.sync(temporary)
        staging.move(temporary, folder)


def _kind(archive: Path) -> Callable[[Path, Path], None]:
    """Chooses the unpacking by the archive's name, because a tar whose last member is a zip looks like a zip from its end."""
    name = archive.name.lower()
    if name.endswith(".zip"):
        return _unpack_zip
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return _unpack_tar
    raise UsageError(f"{archive} is no .tar, .tar.gz, .tgz or .zip; unpack it by hand")


@contextlib.contextmanager
def _damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except (*_BROKEN, *_BROKEN_ZIP) as error:
        said = f"{archive} cannot be unpacked ({' '.join(str(error).split())}); nothing was unpacked"
        if isinstance(error, OSError) and error.errno in _FULL:
            raise NoRoomError(f"{said}. Free disk space") from None
        raise DataError(f"{said}. Copy or download it again") from None


def _unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive, "r:*") as file:
        _check(archive, folder, (_of_tar(member) for member in file))
        file.extractall(folder, filter="data")  # which also takes away ownership, set-user bits and write access of others
        _read_to_the_end(file)


def _read_to_the_end(file: tarfile.TarFile) -> None:
    """Reads what is left behind the last member: there is the checksum of a compressed tar, which is compared when it is read."""
    if file.fileobj is not None:
        while file.fileobj.read(_CHUNK):
            pass


def _of_tar(member: tarfile.TarInfo) -> _Member:
    if member.issym() or member.islnk():
        return _Member(member.name, 0, f"is a link to {member.linkname}")
    if member.isreg() or member.isdir():
        return _Member(member.name, member.size, "")
    return _Member(member.name, member.size, "is a device, a pipe or something else that is no file")


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        _check(archive, folder, (_of_zip(member) for member in file.infolist()))
        file.extractall(folder)  # noqa: S202 - names are checked; it reads no more of a member than its header claims


def _of_zip(member: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive comes from another system
    strange = {0: "", stat.S_IFREG: "", stat.S_IFDIR: "", stat.S_IFLNK: "is a link"}
    return _Member(member.orig_filename, member.file_size, strange.get(kind, "is no file"))


def _check(archive: Path, folder: Path, members: Iterable[_Member]) -> None:
    """Refuses before a byte is written; reads no header behind the one that is refused."""
    free, claimed = shutil.disk_usage(folder).free, 0
    for number, member in enumerate(members, start=1):
        problem = member.strange or _leads_out(member.name)
        if problem:
            raise DataError(
                f"{archive}: {member.name!r} {problem}. Nothing was unpacked; take the data set from its publisher, or where "
                "you trust this archive, unpack it by hand"
            )
        claimed += member.size
        if claimed > free:
            raise NoRoomError(
                f"{archive} claims {gib(claimed)} or more when unpacked, and {gib(free)} are free in {folder.parent}. Nothing "
                "was unpacked; free disk space, choose another folder, or look at who made this archive"
            )
        if number > MAX_MEMBERS:
            raise DataError(
                f"{archive} holds more than {MAX_MEMBERS:,} files, as no data set does. Nothing was unpacked; "
                "take the data set from its publisher"
            )


def _leads_out(name: str) -> str:
    """Says why a member's name is refused, "" where it is not; by both kinds of separators, whatever the system."""
    if "\0" in name:
        return "has a zero byte in its name"
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.anchor:
            return "is an absolute path"
        if ".." in path.parts:
            return "leads out of the folder"
    return ""
