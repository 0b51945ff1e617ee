"""Commands as people run them, in this process."""

from __future__ import annotations

import pytest

from initbench.cli.app import main


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Runs a command and returns what it prints: its output, or its complaint where it is to end with another code than 0."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    printed = capsys.readouterr()
    assert ended.value.code == code, printed.err
    return printed.err if code else printed.out
