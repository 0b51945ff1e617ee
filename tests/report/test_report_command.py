"""`initbench report` writes the page and says where, needs no torch, and gives the same page twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import said
from tests.report.studies import html_of, write_study


def test_the_command_writes_the_page_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    write_study(out, {"default": 0.0, "mae": 0.0}, seeds=2)
    write_study(out, {"default": 0.0}, seeds=2, backbone="unetrpp")
    assert str(out / "report.html") in said(capsys, "report", "--out", str(out))
    assert "unetrpp" in (out / "report.html").read_text("utf-8")
    file = tmp_path / "deep" / "page.html"
    said(capsys, "report", "--out", str(out), "--backbone", "unetr", "--html", str(file), "--margin", "2", "--against", "mae")
    text = file.read_text("utf-8")
    assert "unetrpp" not in text
    assert "vs mae [95 %]" in text
    assert "±2 Dice points" in text
    assert "that is a folder" in said(capsys, "report", "--out", str(out), "--html", str(tmp_path), code=2)
    assert "there is no such folder" in said(capsys, "report", "--out", str(tmp_path / "none"), code=2)
    (tmp_path / "file").write_text("", "utf-8")
    assert "cannot be written" in said(capsys, "report", "--out", str(out), "--html", str(tmp_path / "file" / "r.html"), code=1)


def test_the_report_needs_no_torch() -> None:
    code = "import sys, initbench.report.page; assert not {'torch', 'monai', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_same_study_is_the_same_page(whole: Path, html: str, tmp_path: Path) -> None:
    assert html_of(whole, tmp_path / "again.html") == html
