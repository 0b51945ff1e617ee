"""`initbench validate init` as a command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from initbench.cli.app import main
from initbench.errors import UsageError
from initbench.spec import parse
from initbench.validation.inits.subject import init_subjects
from tests.validation.toys import EVERYTHING, broken, subject


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        main(["validate", "init", *arguments])
        code: Any = 0
    except SystemExit as error:
        code = error.code or 0
    out, err = capsys.readouterr()
    return code, " ".join(out.split()), " ".join(err.split())


def test_the_command_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "shuffled(orthogonal(gain=2.0))", "--backbone", "probe,unet")
    assert code == 0
    assert "shuffled(orthogonal(gain=2.0)) on probe (default), tiny size, patch (16, 16, 16)" in out
    assert "on unet (default)" in out
    assert out.count(f"all {len(EVERYTHING)} checks passed") == 2
    name = subject(tmp_path, broken("leaves a hook")).component.spec.name
    code, out, _ = command(capsys, name, "--backbone", "probe")
    assert code == 1
    assert f"1 of {len(EVERYTHING)} checks failed" in out
    assert re.search(r"hooks +FAILED +hooks or a forward", out)


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "lwi-as-released", "--steps", "1", "--backbone", "probe", "--backbone", "unetr", "--json")
    table, refused = json.loads(out)  # what could be checked comes first
    assert code == 0
    assert refused["checks"] == []
    assert refused["refused"].startswith("LWI released code for unetr and unetrpp, not for probe")
    assert (table["backbone"], table["variant"], table["size"], table["patch"]) == ("unetr", "perceptron", "tiny", [32, 16, 32])
    assert [check["name"] for check in table["checks"]] == EVERYTHING
    assert next(check for check in table["checks"] if check["name"] == "budget")["detail"].startswith("1 of 1 steps")


def test_a_refused_network_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "lwi-as-released", "--steps", "1", "--backbone", "probe,unetr")
    assert code == 0
    assert "on probe (default), tiny size, patch (16, 16, 16) refused: LWI released code for" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["xavier"], "unknown initializer 'xavier': did you mean xavier-"),
        (["lwi(mask=0.3)"], "lwi takes no mask; its parameters: mask_ratio=0.4"),
        (["shuffled(lwi(mask=0.3))"], "lwi takes no mask"),
        (["checkpoint"], "checkpoint needs path: write checkpoint(path=...)"),
        (["checkpoint(path=gone.pt)", "--backbone", "probe"], "gone.pt"),
        (["./nowhere.py:init"], "there is no file"),
        (["lwi", "--backbone", "unett"], "unknown backbone 'unett'"),
        (["lwi", "--steps", "0"], "greater than or equal to 1"),
        (
            ["zero-residual", "--backbone", "unet"],
            "zero-residual was not checked, it takes none of unet: zero-residual: unet declares no exits of residual branches",
        ),
        (["zero-residual", "--backbone", "unet"], "Choose others with --backbone"),
        (
            ["mae(mask_ratio=2)", "--backbone", "probe"],
            "it takes none of probe: mask_ratio must lie between 0 and 1, got 2. Choose",
        ),
    ],
)
def test_wrong_requests_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    code, _, err = command(capsys, *arguments)
    assert code == 2
    assert text in err


def test_a_component_that_is_no_function(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("drawn = 3\n")
    with pytest.raises(UsageError, match="is int and no function"):
        init_subjects(parse(f"{tmp_path / 'mine.py'}:drawn"))
