"""Downloads archives and unpacks them: what was cut short goes on, and a wrong or damaged archive is refused."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import shutil
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from initbench import staging
from initbench.datasets.download.archives import NoRoomError, extract
from initbench.datasets.tables import read_json
from initbench.errors import DataError, InitbenchError, UsageError
from initbench.protocols import NoProgress, Progress

_CHUNK = 2**20  # bytes that are read before progress is told
_SECONDS = 60.0  # without a byte
_TRIES = 5  # in a row that bring nothing
_PAUSE = 1.0  # seconds before the second try, doubled with each
_UNPACKED = 2.0  # bytes of files for one of a .tar, at the most: archives of volumes hold compressed files


@dataclass(frozen=True)
class Archive:
    """What to get.

    Attributes:
        url: of a tar; https, or http where a checksum or the user vouches for it.
        folder: the one folder in it.
        md5: of the archive, None where nobody states one.
    """

    url: str
    folder: str
    md5: str | None


class _CutError(InitbenchError):
    """The connection ended before the file did."""


def fetch(archive: Archive, root: Path, progress: Progress | None = None, *, keep: bool = False) -> Path:
    """Downloads, checks and unpacks an archive; its folder appears below `root` when it is whole.

    It goes on with the file of an earlier try. Ctrl-C leaves what has come.

    Args:
        archive: what to get.
        root: folder that holds the data sets.
        progress: told of progress.
        keep: whether the archive stays beside its folder.

    Raises:
        UsageError: no such kind of address. DataError: the server does not give it, the checksum is another, the disk is full,
            or the archive is refused. Where the disk is full what was downloaded stays; an archive that is refused does not.
    """
    scheme = urlsplit(archive.url).scheme
    if scheme not in ("https", "http"):
        raise UsageError(f"{archive.url}: downloads come by https or http")
    target = root / archive.folder
    if target.exists():
        return target
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{archive.folder}.lock", blocking=False):
            tar = root / f".{archive.folder}.tar"
            if not tar.is_file():
                _download(archive, tar, progress or NoProgress())
            _unpack(archive, tar, target)
            if keep:
                tar.replace(root / f"{archive.folder}.tar")
            tar.unlink(missing_ok=True)
    except Timeout:
        raise InitbenchError(f"another process downloads {archive.folder} into {root}; wait until it is done") from None
    except OSError as error:
        raise DataError(f"{root} cannot be written ({error.strerror or error}); choose another folder (--data-root)") from None
    return target


def _unpack(archive: Archive, tar: Path, target: Path) -> None:
    """Unpacks beside the place and moves the one folder there."""
    beside = target.with_name(f".{archive.folder}.unpacked")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        extract(tar, beside)
        if not (beside / archive.folder / "dataset.json").is_file():
            raise DataError(
                f"{archive.url} holds no {archive.folder}/dataset.json; nothing was kept. Take the archive from its publisher"
            )
        staging.move(beside / archive.folder, target)
    except NoRoomError as error:
        raise NoRoomError(f"{error}. The download is kept ({tar.name}): the same command unpacks it once there is room") from None
    except DataError:
        tar.unlink(missing_ok=True)  # another try has to bring another file
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


# --- one file ---------------------------------------------------------------------------------------------------------


def _download(archive: Archive, tar: Path, progress: Progress) -> None:
    """Downloads the whole file to `tar`; until it is whole, what came of it lies in ``.part`` beside it."""
    part, tries, pause = tar.with_suffix(".part"), 0, _PAUSE
    while True:
        before = _size(part)
        try:
            _receive(archive.url, part, progress)
            break
        except _CutError as error:
            if _size(part) > before:
                tries = 0
                continue
            tries += 1
            if tries >= _TRIES:
                raise DataError(f"{error}. {_size(part):,} bytes are kept; the same command goes on from there") from None
            time.sleep(pause)
            pause *= 2
    if archive.md5 is not None and _md5(part, progress) != archive.md5:
        _forget(part)
        raise DataError(
            f"{archive.url}: what came has not the checksum {archive.md5} (md5) of {archive.folder}, so it was removed. Try "
            "again, or take the archive from another place"
        )
    staging.sync(part)
    staging.move(part, tar)
    _note(part).unlink(missing_ok=True)


def _receive(url: str, part: Path, progress: Progress) -> None:
    """Goes on with `part` until the file is whole.

    Raises:
        _CutError: the connection ended before. DataError: the server refuses, or the disk has no room.
    """
    start, validator = _size(part), _validator(part)
    headers = {"User-Agent": "initbench", "Accept-Encoding": "identity"}
    if start and validator:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    try:
        with contextlib.closing(_open(url, headers)) as answer:
            whole = _whole(answer, start)
            if answer.status != 206:  # no ranges there, or the file is another one now: from the beginning
                start = 0
                _remember(part, answer.headers)
            _check_room(part, whole, start)
            progress.start(f"downloading {url.rpartition('/')[2]}", whole)
            with part.open("ab" if start else "wb") as file:
                got = start
                while chunk := answer.read(_CHUNK):
                    file.write(chunk)
                    got += len(chunk)
                    progress.advance(got, {})
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            if error.headers.get("Content-Range", "").removeprefix("bytes */") == str(start):
                return  # all of it was there
            _forget(part)
            raise _CutError(f"{url}: the file has changed") from None
        if error.code >= 500:
            raise _CutError(f"{url}: the server answers {error.code} {error.reason}") from None
        raise DataError(f"{url}: the server answers {error.code} {error.reason}; get the archive by hand") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
        raise _CutError(
            f"{url}: the connection was cut ({getattr(error, 'reason', None) or error or type(error).__name__})"
        ) from None
    except OSError as error:
        raise DataError(
            f"{part} cannot be written ({error.strerror or error}); free disk space or choose another folder"
        ) from None
    if got != whole:
        raise _CutError(f"{url}: the connection was cut at {got:,} of {whole:,} bytes")


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to anything less."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https" and urlsplit(req.full_url).scheme == "https":
            raise DataError(
                f"{req.full_url} sends on to {newurl}, which is not https; nothing was downloaded. Get the archive by hand"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, headers: dict[str, str]) -> Any:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - `fetch` lets http and https through alone
    return urllib.request.build_opener(_NoDowngrade).open(request, timeout=_SECONDS)


def _whole(answer: Any, start: int) -> int:
    """Returns the bytes of the whole file.

    Raises:
        DataError: the server does not say, so it could send for ever, or a part was sent that was not asked for.
    """
    if answer.status == 206:
        told = answer.headers.get("Content-Range", "")
        place, _, total = told.removeprefix("bytes ").partition("/")
        if place.partition("-")[0] != str(start) or not total.isdecimal():
            raise DataError(
                f"{answer.url}: asked for bytes from {start} on, the server sends {told!r:.100}; get the archive by hand"
            )
        return int(total)
    told = answer.headers.get("Content-Length", "")
    if not told.isdecimal():
        raise DataError(f"{answer.url}: the server does not say how large the file is; get the archive by hand")
    return int(told)


def _check_room(part: Path, whole: int, start: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if (whole - start) + _UNPACKED * whole > free:
        raise DataError(
            f"{part.parent}: the archive takes {whole / 1e9:.1f} GB and about as much unpacked, {free / 1e9:.1f} GB are free; "
            "free disk space or choose another folder (--data-root)"
        )


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _note(part: Path) -> Path:
    return part.with_suffix(".part.json")


def _remember(part: Path, headers: Message) -> None:
    """Writes down the tag or date that tells this version of the file from another; a weak tag does not."""
    tag = headers.get("ETag", "")
    validator = headers.get("Last-Modified")
    if tag and not tag.startswith("W/"):
        validator = tag
    _note(part).write_text(json.dumps({"validator": validator}), "utf-8")


def _validator(part: Path) -> str | None:
    if not _note(part).is_file():
        return None
    with contextlib.suppress(DataError):
        table = read_json(_note(part))
        if not isinstance(table, dict):
            return None
        found = table.get("validator")
        if isinstance(found, str) and found.isprintable():
            return found
    return None


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _md5(path: Path, progress: Progress) -> str:
    found, done = hashlib.md5(usedforsecurity=False), 0
    progress.start(f"checking {path.stem.lstrip('.')}", path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            done += len(chunk)
            progress.advance(done, {})
    return found.hexdigest()
