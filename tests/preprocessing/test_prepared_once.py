"""The data of a study are prepared once, by one of several processes, and wherever they lie they are the same data."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from initbench import cache, claims, interrupt
from initbench.datasets.open import open_dataset
from initbench.errors import InterruptedRunError
from initbench.harness import cell as cells
from initbench.harness import choose
from initbench.harness.execute import folder_of
from initbench.harness.record import block_digest
from initbench.harness.request import RunRequest
from initbench.preprocessing import prepare as preparing
from initbench.protocols import Case, NoProgress
from initbench.recipes import files
from initbench.recipes.load import load_recipe
from tests.claimed import other_machine
from tests.runs_factory import LIGHT, SMALL


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, for what is read in its absence to be counted."""
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    return tmp_path / "cache"


def request(data: Path, **options: Any) -> RunRequest:
    settings = (*SMALL, *options.pop("more", ()))
    given = {"size": "tiny", "budget": "smoke", "device": "cpu", "precision": "float32", **options}
    return RunRequest.of("default", options.pop("backbone", LIGHT), str(data), 0, assignments=settings, **given)


class Waiting(NoProgress):
    """A reporter that lets the other process go on as soon as this one waits for it."""

    def __init__(self, go_on: threading.Event) -> None:
        self.stages: list[str] = []
        self._go_on = go_on

    def start(self, stage: str, total: int) -> None:
        self.stages.append(stage)
        if stage.startswith("waiting"):
            self._go_on.set()


def test_of_two_that_prepare_the_same_data_one_waits(data: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LOOK", 0.01)
    dataset = open_dataset(str(data))
    began, go_on = threading.Event(), threading.Event()
    loaded: list[str] = []
    load = type(dataset).load

    def counted(self: Any, case_id: str) -> Case:
        loaded.append(case_id)
        began.set()
        assert go_on.wait(60)
        return load(self, case_id)

    monkeypatch.setattr(type(dataset), "load", counted)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(choose.choose(request(data)).prepare)
        assert began.wait(60)
        reporter = Waiting(go_on)
        second = choose.choose(request(data)).prepare(reporter)
        assert first.result().keys == second.keys
    assert reporter.stages[0] == f"waiting for another process that prepares {dataset.name}"
    scanned, stored = len(second.split.train), len(second.keys)
    assert len(loaded) == scanned + stored, "each case is read once for its numbers and once for its volume, by one of the two"


def test_who_waits_for_prepared_data_can_be_stopped(data: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose.choose(request(data))
    alone = preparing._Alone(chosen.dataset.name, chosen.recipe.preprocess, NoProgress(), lambda: None)
    other_machine(alone._place)
    monkeypatch.setattr(interrupt, "asked", lambda: True)
    with pytest.raises(InterruptedRunError, match="the same command goes on"):
        chosen.prepare()


def test_data_that_are_prepared_need_no_claim(data: Path, own_cache: Path) -> None:
    chosen = choose.choose(request(data))
    made = chosen.prepare()
    shutil.rmtree(own_cache / preparing._CLAIMS)
    assert chosen.prepare().keys == made.keys
    assert not (own_cache / preparing._CLAIMS).exists(), "a cache that can be read alone will do"


def test_runs_on_staged_data_are_the_same_runs(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set and the cache are copied to a disk of the node, as jobs on clusters do it."""
    here = cells.resolve_cell(request(data, out=tmp_path))
    staged = Path(shutil.copytree(data, tmp_path / "node" / data.name))
    elsewhere = cells.resolve_cell(request(staged, out=tmp_path))
    shutil.copytree(cache.root(), tmp_path / "node" / "cache")
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "node" / "cache"))
    monkeypatch.setattr(preparing, "preprocess", None)  # nothing is preprocessed again
    by_root = cells.resolve_cell(request(Path(data.name), data_root=staged.parent, out=tmp_path))
    assert here.id == elsewhere.id == by_root.id
    assert block_digest(here) == block_digest(elsewhere) == block_digest(by_root)
    assert folder_of(here) == folder_of(elsewhere) == folder_of(by_root)


def test_blocks_of_one_preprocessing_share_their_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Any] = []
    opened: list[str] = []
    prepare, open_ = choose.prepare, cells.open_dataset
    monkeypatch.setattr(choose, "prepare", lambda *given: prepared.append(given) or prepare(*given))
    monkeypatch.setattr(cells, "open_dataset", lambda *given: opened.append(str(given[0])) or open_(*given))
    blocks = cells.Blocks()
    whole = [cells.resolve_cell(request(data, more=more), blocks=blocks) for more in ((), ("steps.smoke=11",))]
    assert whole[0].id != whole[1].id
    assert len(prepared) == 1
    cells.resolve_cell(request(data, fold="1/3"), blocks=blocks)
    cells.resolve_cell(request(data, more=("preprocess.spacing=1,1,1",)), blocks=blocks)
    assert len(prepared) == 3, "another split and another preprocessing are other data"
    assert opened == [str(data)]


def test_a_recipe_file_is_parsed_once_and_again_where_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    loads = files.tomllib.loads
    monkeypatch.setattr(files.tomllib, "loads", lambda text: parsed.append(text) or loads(text))
    path = tmp_path / "own.toml"

    def lr() -> float:
        return load_recipe(str(path), size="tiny", backbone="unetr", budget="smoke").optimizer.lr

    text = 'name = "own"\nsource = "a test"\nextends = "generic-ct"\n[optimizer]\nlr = 0.5\n'
    path.write_text(text)
    assert [lr(), lr()] == [0.5, 0.5]
    assert parsed.count(text) == 1
    path.write_text(text.replace("0.5", "0.25"))
    assert lr() == 0.25
