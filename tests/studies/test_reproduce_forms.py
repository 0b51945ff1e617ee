"""Figures, tables of settings, imports and wrong requests of `initbench reproduce`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from initbench.published import tables, trials
from initbench.runs.read import read_runs
from initbench.tables.reproduce.measured import Asked, answers
from tests.commands import said
from tests.one_process import in_one_process
from tests.studies.reproduced import PHANTOM, TABLE, TINY, report, rows_of, write_rows


def test_a_figure_is_drawn_against_its_parameter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from matplotlib.image import imread

    for init, ratio, shift in (("lwi(mask_ratio=0.2)", 0.2, 0.0), ("lwi", 0.4, 0.02), ("lwi(mask_ratio=0.6)", 0.6, 0.01)):
        write_rows(tmp_path / "runs", {init: shift}, init_params={"mask_ratio": ratio})
    picture = tmp_path / "figure.png"
    found = rows_of(report(capsys, tmp_path / "runs", "--plot", str(picture), table="lwi:fig-4a"))
    assert [found[label]["x"] for label in ("0.2", "0.4", "0.6", "0.8")] == [0.2, 0.4, 0.6, 0.8]
    assert imread(picture).std() > 0.05
    said(
        capsys,
        *["reproduce", "lwi:fig-4a", *PHANTOM, "--report-only", "--out", str(tmp_path / "runs")],
        "--plot",
        "a.xyz",
        code=2,
    )


def test_points_are_the_papers_and_the_measured_ones(study: Path) -> None:
    from initbench.tables.reproduce.plot import series

    asked = Asked(TABLE, trials.trials(TABLE, TINY), TINY)
    (answer,) = answers(asked, read_runs(study))
    points = series(asked, answer.rows)[""]
    assert [point.published for point in points] == [row.value for row in TABLE.row]
    assert [point.measured is None for point in points] == [False] * 5 + [True] * 2
    assert points[4].measured.mean.value == pytest.approx(75, abs=0.2)  # type: ignore[union-attr]


def test_a_table_of_settings_stands_beside_the_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "reproduce", "lwi:table-5", "--json"))
    spacing = next(row for row in found if row["setting"] == "preprocess.spacing" and "Lung" in row["row"])
    assert (spacing["published"], spacing["here"]) == ("6.35, 1.52, 1.52", "1.245, 0.785, 0.785")
    patch = next(row for row in found if row["setting"] == "patch.size" and "Lung" in row["row"])
    assert patch["published"] == patch["here"] == "32, 192, 192"


def test_light_forms_import_no_torch(study: Path, tmp_path: Path) -> None:
    commands = [
        ["reproduce"],
        ["reproduce", "lwi:table-5"],
        ["reproduce", "lwi:table-7", "--json", "--report-only", "--out", "none"],
    ]
    commands += [["reproduce", "lwi:table-6", *PHANTOM, "--report-only", "--out", str(study)]]
    listing, settings, nowhere, table = in_one_process(tmp_path, *commands)
    assert [ended.code for ended in (listing, settings, nowhere, table)] == [0, 0, 2, 0]
    assert "there is no such folder of runs" in nowhere.said
    assert all(name.full_name in listing.out for name in tables.tables())
    assert not {"torch", "monai", "matplotlib"} & set(table.heavy)


def test_no_run_of_a_table_is_said_with_the_way_to_some(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "reproduce", "lwi:table-6", "--report-only", "--out", str(study), code=2)
    assert "no run is of lwi:table-6: `initbench reproduce lwi:table-6`" in " ".join(text.split())


@pytest.mark.parametrize(
    ("wrong", "code", "text"),
    [
        (["lwi:tabel-6"], 2, "did you mean lwi:table-6"),
        (["lwi:table-6", "--dry-run", "--report-only"], 2, "exclude each other"),
        (["lwi:table-6", "--measure"], 2, "--measure goes with --dry-run"),
        (["lwi:table-6", "--seeds", "2", "--seed", "1"], 2, "exclude each other"),
        (["lwi:table-6", "--set", "init.mask_ratio=0.6"], 2, "a published row states its init"),
        (["lwi:table-5", "--plot", "a.png"], 2, "a table of settings"),
        (["lwi:table-5", "--dataset", "lung"], 2, "a table of settings"),
        (["lwi:table-5", "--backbone", "unetr"], 2, "a table of settings"),
        (["lwi:table-6", "--backbone", "unter"], 2, "did you mean unetr"),
        (["lwi:table-6", "--backbone", "unter", "--report-only"], 2, "did you mean unetr"),
        (["lwi:table-6", "--set", "patch.sise=8", "--report-only"], 2, "there is no setting patch.sise"),
        (["lwi:table-6", "--dry-run", "--plot", "a.png"], 2, "--dry-run runs nothing"),
        (["lwi:table-6", "--dry-run", "--shared-seeds"], 2, "--dry-run runs nothing"),
        (["lwi:table-6", "--report-only", "--no-placebo"], 2, "--report-only runs nothing"),
        (["--seeds", "2"], 2, "--seeds: say which table or figure"),
        (["lwi:table-9", "--set", "init.path"], 2, "--set init.path: an assignment is section.field=value"),
        (["lwi:table-6", *PHANTOM, "--set", "patch.sise=8"], 2, "there is no setting patch.sise"),
        (["lwi:table-6"], 1, "lwi:table-6 needs synapse."),
        (["lwi:table-9"], 1, "lwi:table-9 needs synapse and btcv."),
        (["lwi:table-4"], 1, "Task06_Lung was not found"),
        (["lwi:table-6", "--dataset", "hipocampus"], 2, "did you mean hippocampus"),
    ],
    ids=str,
)
def test_wrong_requests_are_refused_in_a_sentence(
    wrong: list[str], code: int, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITBENCH_DATA", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert text in " ".join(said(capsys, "reproduce", *wrong, "--out", str(tmp_path / "runs"), code=code).split())
    assert not list(tmp_path.rglob("record.json"))
