"""Comma lists of a request: a path that is there, or a part in quotes, stays whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from initbench.cli.app import main
from initbench.harness.request import assign, split_lists
from initbench.spec import Spec
from tests.msd_factory import make_msd
from tests.runs_factory import TINY

FOLDERS = (
    "my data/Liver",
    "lung, 2023/Liver",
    "lung,2023",
    "Task (copy)/Liver",
    "a=b/Liver",
    "half (open/Liver",
    "O'Brien, 1/Liver",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for folder in FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("form", ["{}", "./{}", "{here}/{}", "{}/"])
@pytest.mark.parametrize("around", [("", ""), ("lung,", ""), ("", ",hippocampus"), ("brats, ", " , lung,")])
def test_a_path_that_is_there_stays_whole(here: Path, folder: str, form: str, around: tuple[str, str]) -> None:
    path = form.format(folder, here=here)
    before, after = ([item.strip() for item in text.split(",") if item.strip()] for text in around)
    assert split_lists(f"{around[0]}{path}{around[1]}") == [*before, path, *after]
    assert split_lists([around[0], path, around[1]]) == [*before, path, *after]


@pytest.mark.parametrize("folder", ["gone, 2023/Liver", "lung,gone", "a(b,c"])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_what_stands_in_quotes_stays_whole(here: Path, folder: str, quote: str) -> None:
    assert split_lists(f"lung,{quote}{folder}{quote},brats") == ["lung", folder, "brats"]


def test_of_two_paths_the_longer_one_is_meant(here: Path) -> None:
    (here / "lung").mkdir()
    assert split_lists("lung,2023") == ["lung,2023"]
    shutil.rmtree(here / "lung,2023")
    assert split_lists("lung,2023") == ["lung", "2023"]


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder.count("(") == folder.count(")")])
def test_a_file_below_such_a_folder_is_one_component(here: Path, folder: str) -> None:
    (here / folder / "mine.py").write_text("", "utf-8")
    for component in (f"./{folder}/mine.py:scheme", f"{here}/{folder}/mine.py:scheme"):
        assert split_lists(f"default,{component},lwi") == ["default", component, "lwi"]
    component = f"./{folder}/mine.py:scheme(a=1, b=2)"
    assert split_lists(f"default,{component},lwi(x=1, y=2)") == ["default", component, "lwi(x=1, y=2)"]


@pytest.mark.parametrize("folder", ["lung, 2023/Liver", "Task (copy)/Liver", "O'Brien, 1/Liver"])
def test_a_plan_takes_such_a_folder(
    tmp_path: Path, folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITBENCH_DATA", str(tmp_path))
    data = make_msd(tmp_path / folder, 4)
    asked = ["plan", "--no-measure", "--init", "default", *TINY]
    with pytest.raises(SystemExit) as caught:
        main([*asked, "--dataset", str(data), "--out", str(tmp_path / "runs")])
    assert not caught.value.code
    words = capsys.readouterr().out.split()  # a cell may break between two of them
    assert words[words.index("Liver") + 1] == "×"


@pytest.mark.parametrize("written", ["lwi(mask_ratio=0.2)", "'lwi(mask_ratio=0.2)'"])
def test_set_names_the_component_that_another_one_works_on(written: str) -> None:
    asked, rest = assign([Spec("shuffled"), Spec("default")], [f"init.of={written}", "loss.ce=1"])
    assert asked == [Spec("shuffled", (("of", Spec("lwi", (("mask_ratio", 0.2),))),)), Spec("default")]
    assert rest == ["loss.ce=1"]
