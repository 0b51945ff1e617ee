"""Downloads against a server of this machine that cuts, lies and forgets."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from initbench.cli.app import main
from initbench.datasets.download import archives, download
from initbench.datasets.download.download import Archive, fetch
from initbench.datasets.known import DECATHLON
from initbench.datasets.open import open_dataset
from initbench.errors import DataError, InitbenchError, UsageError
from tests.folders import everything
from tests.msd_factory import make_msd

TASK = "Task04_Hippocampus"


@dataclass
class Server:
    """What it sends, how it behaves, and what it was asked for."""

    content: bytes = b""
    tag: str | None = '"one"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes after which an answer ends, one an answer
    errors: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    location: str | None = None
    lie: bool = False
    silent: bool = False  # about the size
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        said: Server = self.server.said
        wanted = self.headers.get("Range")
        said.asked.append(wanted)
        if said.errors:
            self.send_error(said.errors.pop(0))
            return
        if said.location and self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", said.location)
            self.end_headers()
            return
        start, whole = 0, len(said.content)
        if wanted and said.ranges and self.headers.get("If-Range") in (None, said.tag):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= whole:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{whole}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start + (5 if said.lie else 0)}-{whole - 1}/{whole}")
        else:
            self.send_response(200)
        if not said.silent:
            self.send_header("Content-Length", str(whole - start))
        if said.tag:
            self.send_header("ETag", said.tag)
        self.end_headers()
        end = start + said.cuts.pop(0) if said.cuts else whole
        self.wfile.write(said.content[start:end])

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.said = Server(url=f"http://127.0.0.1:{http.server_port}/{TASK}.tar")  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield http.said  # type: ignore[attr-defined]
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def tar(tmp_path: Path) -> bytes:
    """A small task as its publisher packs it."""
    folder = make_msd(tmp_path / "source" / TASK, cases=5, modality="MRI")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        file.add(folder, TASK)
    return stream.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def archive(server: Server, content: bytes | None = None) -> Archive:
    server.content = server.content if content is None else content
    return Archive(server.url, TASK, hashlib.md5(server.content, usedforsecurity=False).hexdigest())


def test_a_task_arrives_whole(server: Server, tar: bytes, root: Path) -> None:
    wanted = archive(server, tar)
    folder = fetch(wanted, root)
    assert folder == root / TASK
    assert [path.name for path in root.iterdir() if path.suffix != ".lock"] == [TASK]
    assert len(open_dataset(str(folder)).case_ids()) == 5
    assert fetch(wanted, root) == folder
    assert server.asked == [None], "what is there is not asked for again"


def test_the_archive_is_kept_where_asked(server: Server, tar: bytes, root: Path) -> None:
    fetch(archive(server, tar), root, keep=True)
    assert (root / f"{TASK}.tar").read_bytes() == tar


@pytest.mark.parametrize("when", ["before it is unpacked", "while it is unpacked"])
def test_a_full_disk_costs_no_download(
    server: Server, tar: bytes, root: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    wanted = archive(server, tar)
    with monkeypatch.context() as patch:
        if when == "while it is unpacked":
            patch.setattr(tarfile.TarFile, "extractall", full)
        else:
            little = SimpleNamespace(free=100)
            patch.setattr(archives, "shutil", SimpleNamespace(disk_usage=lambda _: little, rmtree=shutil.rmtree))
        with pytest.raises(DataError, match=r"[Ff]ree disk space.* The download is kept"):
            fetch(wanted, root)
    assert [path.name for path in root.iterdir() if path.suffix != ".lock"] == [f".{TASK}.tar"]
    assert fetch(wanted, root) == root / TASK
    assert server.asked == [None], "what had come was unpacked"
    assert [path.name for path in root.iterdir() if path.suffix != ".lock"] == [TASK]


def test_a_damaged_archive_is_not_kept(server: Server, tar: bytes, root: Path) -> None:
    server.content = tar[: len(tar) // 2]
    with pytest.raises(DataError, match="cannot be unpacked"):
        fetch(Archive(server.url, TASK, None), root)
    assert [path.name for path in root.iterdir() if path.suffix != ".lock"] == []


def test_a_connection_that_is_cut_goes_on_where_it_was(server: Server, tar: bytes, root: Path) -> None:
    server.cuts = [1000, 1, 2000]
    fetch(archive(server, tar), root)
    assert server.asked == [None, "bytes=1000-", "bytes=1001-", "bytes=3001-"]


def test_a_stopped_download_goes_on_with_the_next_command(
    server: Server, tar: bytes, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop:
        def start(self, stage: str, total: int) -> None:
            assert total == len(tar)

        def advance(self, done: int, info: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(download, "_CHUNK", 700)
    with pytest.raises(KeyboardInterrupt):
        fetch(archive(server, tar), root, Stop())
    assert (root / f".{TASK}.part").read_bytes() == tar[:700]
    assert not (root / TASK).exists()
    fetch(archive(server), root)
    assert server.asked == [None, "bytes=700-"]
    assert (root / TASK / "dataset.json").is_file()


def test_a_whole_part_is_not_fetched_again(server: Server, tar: bytes, root: Path) -> None:
    """The process died between the last byte and the check."""
    (root / f".{TASK}.part").write_bytes(tar)
    (root / f".{TASK}.part.json").write_text(json.dumps({"validator": '"one"'}), "utf-8")
    fetch(archive(server, tar), root)
    assert server.asked == [f"bytes={len(tar)}-"]


@pytest.mark.parametrize("how", ["no ranges", "no tag", "another file"])
def test_it_begins_again_where_it_cannot_go_on(server: Server, tar: bytes, root: Path, how: str) -> None:
    server.cuts = [1000]
    server.ranges = how != "no ranges"
    server.tag = None if how == "no tag" else '"two"'
    if how == "another file":
        (root / f".{TASK}.part").write_bytes(b"x" * 500)
        (root / f".{TASK}.part.json").write_text(json.dumps({"validator": '"one"'}), "utf-8")
    fetch(archive(server, tar), root)
    assert (root / TASK / "dataset.json").is_file()
    assert len(server.asked) == 2


def test_a_damaged_note_is_no_harm(server: Server, tar: bytes, root: Path) -> None:
    for text in ("{", "[1]", json.dumps({"validator": "a\r\nX-Other: b"}), json.dumps({"validator": 5})):
        (root / f".{TASK}.part").write_bytes(b"x" * 500)
        (root / f".{TASK}.part.json").write_text(text, "utf-8")
        server.asked.clear()
        download._receive(archive(server, tar).url, root / f".{TASK}.part", download.NoProgress())
        assert server.asked == [None]
        assert (root / f".{TASK}.part").read_bytes() == tar


def test_a_wrong_checksum_leaves_nothing(server: Server, tar: bytes, root: Path) -> None:
    server.content = tar
    with pytest.raises(DataError, match=r"not the checksum 0000 \(md5\).*Try again"):
        fetch(Archive(server.url, TASK, "0000"), root)
    assert [path for path in root.iterdir() if path.suffix != ".lock"] == []


def hostile(*names: str, link: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        for name in names:
            info = tarfile.TarInfo(name)
            if name == link:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc"
                file.addfile(info)
            else:
                info.size = 2
                file.addfile(info, io.BytesIO(b"{}"))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (hostile(f"{TASK}/dataset.json", "../evil"), "leads out of the folder"),
        (hostile("/evil"), "absolute path"),
        (hostile(f"{TASK}/dataset.json", f"{TASK}/a", link=f"{TASK}/a"), "is a link"),
        (hostile("Other/dataset.json"), f"holds no {TASK}/dataset.json"),
        (b"<html>sign in</html>", "cannot be unpacked"),
    ],
)
def test_a_hostile_archive_leaves_nothing(server: Server, root: Path, content: bytes, says: str) -> None:
    before = everything(root.parent)
    with pytest.raises(DataError, match=says):
        fetch(archive(server, content), root)
    after = everything(root.parent)
    assert {name for name in after if not name.endswith(".lock")} == set(before)


@pytest.mark.parametrize(
    ("errors", "says", "asked"),
    [([404], "the server answers 404", 1), ([403], "403", 1), ([500] * 9, "the server answers 500.*the same command goes on", 5)],
)
def test_what_the_server_refuses_is_said(
    server: Server, tar: bytes, root: Path, errors: list[int], says: str, asked: int
) -> None:
    server.errors = errors
    with pytest.raises(DataError, match=says):
        fetch(archive(server, tar), root)
    assert len(server.asked) == asked


def test_a_moment_of_trouble_is_waited_out(server: Server, tar: bytes, root: Path) -> None:
    server.errors = [503, 503]
    fetch(archive(server, tar), root)
    assert len(server.asked) == 3


def test_a_server_that_sends_another_part_is_refused(server: Server, tar: bytes, root: Path) -> None:
    server.cuts, server.lie = [1000], True
    with pytest.raises(DataError, match="asked for bytes from 1000 on, the server sends"):
        fetch(archive(server, tar), root)


def test_a_server_that_might_send_for_ever_is_refused(server: Server, tar: bytes, root: Path) -> None:
    server.silent = True
    with pytest.raises(DataError, match="does not say how large the file is"):
        fetch(archive(server, tar), root)
    assert not (root / f".{TASK}.part").exists()


def test_a_full_disk_is_said_before_a_byte_is_written(
    server: Server, tar: bytes, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": len(tar)}))
    with pytest.raises(DataError, match="free disk space or choose another folder"):
        fetch(archive(server, tar), root)
    assert not (root / f".{TASK}.part").exists()


def test_only_the_web_and_no_step_down(server: Server, root: Path) -> None:
    for url in ("file:///etc/passwd", "ftp://x/y.tar", "/etc/passwd"):
        with pytest.raises(UsageError, match="https or http"):
            fetch(Archive(url, TASK, None), root)
    request = download.urllib.request.Request("https://example.org/a.tar")
    with pytest.raises(DataError, match="is not https"):
        download._NoDowngrade().redirect_request(request, None, 302, "", http_headers(), "http://example.org/a.tar")


def http_headers() -> Any:
    return download.http.client.HTTPMessage()


def test_a_redirect_is_followed(server: Server, tar: bytes, root: Path) -> None:
    wanted = archive(server, tar)
    server.location = server.url
    fetch(Archive(server.url.replace(f"/{TASK}.tar", "/moved"), TASK, wanted.md5), root)
    assert (root / TASK).is_dir()


def test_two_at_a_time_are_one(server: Server, tar: bytes, root: Path) -> None:
    with download.FileLock(root / f".{TASK}.lock"), pytest.raises(InitbenchError, match="another process downloads"):
        fetch(archive(server, tar), root)


def test_a_place_that_cannot_be_written_is_said(server: Server, tar: bytes, root: Path) -> None:
    (root / "file").write_text("", "utf-8")
    with pytest.raises(DataError, match=r"file/below cannot be written .*--data-root"):
        fetch(archive(server, tar), root / "file" / "below")


def test_nobody_answers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    with pytest.raises(DataError, match="connection was cut"):
        fetch(Archive("http://127.0.0.1:9/x.tar", TASK, None), root)


# --- the command ------------------------------------------------------------------------------------------------------


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["data", *arguments])
    return int(caught.value.code or 0)


def test_the_command(
    server: Server, tar: bytes, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = archive(server, tar)
    own = type(DECATHLON[TASK])(TASK, 5, 0.001, str(wanted.md5))
    monkeypatch.setitem(DECATHLON, TASK, own)
    arguments = ["download", "hippocampus", "--data-root", str(root), "--url", server.url]
    assert ended(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"name": TASK, "folder": str(root / TASK), "state": "downloaded"}
    assert ended(*arguments) == 0
    assert "is there already" in capsys.readouterr().out
    assert own.url.startswith("https://")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("synapse", "register at synapse.org"),
        ("acdc", "patient001_frame01_gt"),
        ("chaos", "T2SPIR/Ground"),
        ("camus", "subgroup_training"),
        ("nothing", "Task09_Spleen"),
    ],
)
def test_what_is_not_downloaded_says_how(name: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("download", name) == 2
    assert says in capsys.readouterr().err
