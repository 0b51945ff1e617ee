"""Archives made to do harm are refused with a sentence, and nothing is written outside."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from initbench.datasets.download import archives
from initbench.datasets.download.archives import extract
from initbench.errors import DataError, UsageError
from tests.folders import everything
from tests.hostile import tar_member, write_tar, write_zip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder to unpack into, in a folder that must stay as it is."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "keep").write_text("kept")
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def refuse(archive: Path, place: Path, says: str, error: type[Exception] = DataError) -> None:
    """The archive is refused with its name, and nothing is anywhere."""
    before = everything(place.parent)
    with pytest.raises(error, match=says) as caught:
        extract(archive, place / "data")
    assert archive.name in str(caught.value)
    assert everything(place.parent) == before


@pytest.mark.parametrize("name", ["good.tar", "good.tar.gz", "good.tgz", "good.zip"])
def test_a_good_archive_is_unpacked_whole(place: Path, name: str) -> None:
    if name.endswith("zip"):
        write_zip(place / name, ("Task90/imagesTr/", 0o40755, b""), ("Task90/imagesTr/a.nii", 0o100644, b"abc"))
    else:
        write_tar(
            place / name, tar_member("Task90/imagesTr", tarfile.DIRTYPE), tar_member("Task90/imagesTr/a.nii", content=b"abc")
        )
    extract(place / name, place / "new" / "data")
    found = everything(place / "new")
    assert found["data/Task90/imagesTr/a.nii"] == b"abc"
    assert set(found) == {"data", "data/Task90", "data/Task90/dataset.json", "data/Task90/imagesTr", "data/Task90/imagesTr/a.nii"}
    assert stat.S_IMODE((place / "new" / "data").stat().st_mode) == 0o755
    assert not (place / "new" / "data" / "Task90" / "imagesTr" / "a.nii").stat().st_mode & stat.S_ISUID
    with pytest.raises(UsageError, match="data exists"):
        extract(place / name, place / "new" / "data")


TARS: dict[str, tuple[Callable[[Path], tuple[Any, ...]], str]] = {
    "parent": (lambda _: tar_member("../outside/keep", content=b"x"), "'../outside/keep' leads out"),
    "parent inside": (lambda _: tar_member("Task90/../../outside/keep", content=b"x"), "leads out"),
    "absolute": (lambda out: tar_member(str(out / "keep"), content=b"x"), "is an absolute path"),
    "windows": (lambda _: tar_member("C:\\x", content=b"x"), "is an absolute path"),
    "backslash": (lambda _: tar_member("a\\..\\..\\x", content=b"x"), "leads out"),
    "link out": (lambda out: tar_member("l", tarfile.SYMTYPE, str(out)), "is a link to /"),
    "relative link out": (lambda _: tar_member("l", tarfile.SYMTYPE, "../../outside"), r"is a link to \.\./\.\./outside"),
    "hard link out": (lambda out: tar_member("l", tarfile.LNKTYPE, str(out / "keep")), "is a link to /"),
    "relative hard link": (lambda _: tar_member("l", tarfile.LNKTYPE, "../../outside/keep"), "is a link to"),
    "link inside": (lambda _: tar_member("l", tarfile.SYMTYPE, "Task90"), "is a link to Task90"),
    "device": (lambda _: tar_member("null", tarfile.CHRTYPE), "is a device"),
    "disk": (lambda _: tar_member("sda", tarfile.BLKTYPE), "is a device"),
    "pipe": (lambda _: tar_member("fifo", tarfile.FIFOTYPE), "is a device, a pipe"),
}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("name", TARS)
def test_a_tar_that_leads_out_is_refused_and_leaves_nothing(place: Path, name: str, suffix: str) -> None:
    make, says = TARS[name]
    refuse(write_tar(place / f"bad{suffix}", make(place.parent / "outside")), place, says)


def test_a_tar_that_writes_through_its_own_link_is_refused(place: Path) -> None:
    link = tar_member("l", tarfile.SYMTYPE, "../../outside")
    refuse(write_tar(place / "bad.tar", link, tar_member("l/keep", content=b"x")), place, "is a link")


@pytest.mark.parametrize(
    ("name", "mode", "says"),
    [
        ("../outside/keep", 0, "leads out"),
        ("Task90/../../outside/keep", 0, "leads out"),
        ("/tmp/absolute", 0, "is an absolute path"),  # noqa: S108
        ("C:/x", 0, "is an absolute path"),
        ("a\\..\\..\\x", 0, "leads out"),
        ("link", stat.S_IFLNK | 0o777, "is a link"),
        ("null", stat.S_IFCHR | 0o666, "is no file"),
    ],
)
def test_a_zip_that_leads_out_is_refused_and_leaves_nothing(place: Path, name: str, mode: int, says: str) -> None:
    refuse(write_zip(place / "bad.zip", (name, mode, b"../../outside")), place, says)


@pytest.mark.parametrize("name", ["bomb.tar.gz", "bomb.zip"])
def test_what_claims_more_than_the_disk_has_is_refused(place: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(3 * 2**20)
    if name.endswith("zip"):
        write_zip(place / name, ("a", 0, content), ("b", 0, content))
    else:
        write_tar(place / name, tar_member("a", content=content), tar_member("b", content=content))
    assert (place / name).stat().st_size < 10_000
    usage = type("Usage", (), {"free": 5 * 2**20})
    with monkeypatch.context() as patch:
        patch.setattr(archives.shutil, "disk_usage", lambda _: usage)
        patch.setattr(archives, "gib", lambda size: f"{size / 2**20:.0f} MiB")
        refuse(place / name, place, r"claims 6 MiB or more when unpacked, and 5 MiB are free in .*work")
    extract(place / name, place / "data")


def test_a_tar_whose_header_alone_is_large_is_refused(place: Path) -> None:
    member = tarfile.TarInfo("a")
    member.size = 2**50
    (place / "bad.tar").write_bytes(member.tobuf() + bytes(10240))
    refuse(place / "bad.tar", place, r"bad\.tar")


def test_a_zip_whose_header_lies_is_refused(place: Path) -> None:
    path = write_zip(place / "bad.zip", ("a", 0, bytes(2**20)))
    content = path.read_bytes()
    path.write_bytes(content.replace((2**20).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    assert path.read_bytes() != content
    refuse(path, place, "cannot be unpacked")


@pytest.mark.parametrize(
    ("offset", "value", "says"),
    [(2, 1, "encrypted"), (4, 99, "compression method is not supported")],  # of the fields, from the versions on
)
def test_a_zip_that_python_cannot_unpack_is_refused(place: Path, offset: int, value: int, says: str) -> None:
    """Encrypted members, and compressions of other programs; `zipfile` has errors of other kinds for the two."""
    path = write_zip(place / "bad.zip", ("a", 0, b"content"))
    content = bytearray(path.read_bytes())
    for start in (content.index(b"PK\3\4") + 4, content.index(b"PK\1\2") + 6):
        content[start + offset : start + offset + 2] = value.to_bytes(2, "little")
    path.write_bytes(content)
    refuse(path, place, f"cannot be unpacked .*{says}")


def test_too_many_files_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    members = [tar_member(f"{i}") for i in range(5)]
    refuse(write_tar(place / "bad.tar", *members), place, "more than 5 files")


@pytest.mark.parametrize("name", ["bad.tar", "bad.tar.gz", "bad.tgz", "bad.zip"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100, None], ids=["empty", "page", "half"])
def test_damaged_archives_are_refused(place: Path, name: str, content: bytes | None) -> None:
    noise = os.urandom(20_000)
    (
        write_zip(place / name, ("a", 0, noise))
        if name.endswith("zip")
        else write_tar(place / name, tar_member("a", content=noise))
    )
    half = (place / name).read_bytes()[:15_000]
    (place / name).write_bytes(half if content is None else content)
    refuse(place / name, place, "cannot be unpacked .* Copy or download it again")


def test_a_file_in_the_way_of_a_folder(place: Path) -> None:
    refuse(
        write_tar(place / "bad.tar", tar_member("a", content=b"x"), tar_member("a/b", content=b"x")), place, "cannot be unpacked"
    )


def test_wrong_requests_about_archives(place: Path) -> None:
    refuse(place / "none.tar", place, "there is no archive", UsageError)
    (place / "data.rar").write_bytes(b"Rar!")
    refuse(place / "data.rar", place, "is no .tar", UsageError)
    (place / "data").symlink_to(place / "nowhere")
    refuse(write_tar(place / "good.tar"), place, "data exists", UsageError)
