"""`compare`, `variance` and `power`: what they say of hand-made runs, in every form."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from initbench.runs import store
from tests.commands import said
from tests.recorded import reseal, write_run

CASES, SEEDS = 30, 5
FORMS = ("table", "md", "csv", "json", "latex")


def write_study(out: Path, shifts: dict[str, float], backbone: str = "unetr", spread: float = 0.004) -> None:
    """Runs whose Dice is 0.7 + shift + seed + case + noise."""
    rng = np.random.default_rng(len(backbone))
    hard, seeds = rng.normal(0, 0.05, CASES), rng.normal(0, 0.002, SEEDS)
    names = [f"c{i:02d}" for i in range(CASES)]
    for init, shift in shifts.items():
        for seed in range(SEEDS):
            folder = write_run(out, init, 0.7, seed=seed, backbone=backbone, reported_cases=names)
            found = np.clip(0.7 + shift + seeds[seed] + hard + rng.normal(0, spread, CASES), 0, 1)
            tp = np.round(1000 * found).astype(int)
            table = pd.DataFrame({"case": names, "class": 1, "class_name": "nodule", "tp": tp})
            table = table.assign(fp=1000 - tp, fn=1000 - tp, dice=tp / 1000, hd95_mm=None, nsd=None)
            table.to_csv(folder / store.CASES, index=False)
            reseal(folder)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "runs"
    for backbone in ("unetr", "unetrpp"):
        write_study(folder, {"default": 0.0, "lwi": 0.03, "mae": 0.0}, backbone)
    return folder


def test_compare_says_for_what_its_answer_holds(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(said(capsys, "compare", "lwi", "--out", str(out), "--backbone", "unetr", "--format", "json"))
    assert [row["scope"] for row in rows] == ["A", "B", "C"]
    assert rows[0]["holds_for"] == "new seeds and new cases, for this training set"
    bounded = "better where it does not collapse (0/5; up to 45 %)"
    assert [row["verdict"] for row in rows] == [bounded, bounded, "better"]  # of these weights no other run is asked about
    for row in rows:
        assert row["difference_low"] < 3.0 < row["difference_high"]
        assert row["p_adjusted"] == min(1.0, 2 * row["p"])
        assert (row["family"], row["family_size"]) == ("baseline", 2)
        assert (row["seeds"], row["cases"]) == (SEEDS, CASES)
    other = json.loads(said(capsys, "compare", "default", "lwi", "--out", str(out), "--backbone", "unetr", "--format", "json"))
    assert other[0]["verdict"] == "worse where the other does not collapse (0/5; up to 45 %)"
    assert other[0]["difference"] == pytest.approx(-rows[0]["difference"])
    assert (other[0]["difference_low"], other[0]["difference_high"]) == (-rows[0]["difference_high"], -rows[0]["difference_low"])
    same = json.loads(said(capsys, "compare", "mae", "--out", str(out), "--format", "json"))
    assert [row["verdict"] for row in same if row["scope"] == "A"] == ["equivalent", "equivalent"]
    pair = json.loads(said(capsys, "compare", "mae", "lwi", "--out", str(out), "--backbone", "unetr", "--format", "json"))
    assert {(row["family"], row["family_size"]) for row in pair} == {("pairs", 3)}
    text = said(capsys, "compare", "mae", "lwi", "--out", str(out), "--backbone", "unetr", "--format", "md")
    assert "| holds for | difference [95 %] | p alone | p adjusted | p beyond ±0.5 | verdict |" in text
    assert "judged together with all other pairs of inits (3 in all), as in every table" in text


def test_compare_names_what_is_missing(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no block has both tube and default; the inits of these runs: default, lwi, mae" in said(
        capsys, "compare", "tube", "--out", str(out), code=2
    )
    assert "holds no runs of nnformer" in said(capsys, "compare", "lwi", "--out", str(out), "--backbone", "nnformer", code=2)


def test_an_init_beside_itself_is_refused(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for names in (("lwi", "lwi"), ("default",)):
        text = said(capsys, "compare", *names, "--out", str(out), code=2)
        assert f"{names[0]} is compared with itself: name another init" in text
        assert "default, lwi, mae" in text


@pytest.mark.parametrize(
    "command", [("leaderboard",), ("compare", "lwi"), ("report",), ("reproduce", "lwi:table-6", "--report-only")]
)
@pytest.mark.parametrize("margin", ["0", "-1", "nan", "inf"])
def test_a_margin_that_is_none_is_refused(
    out: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], margin: str
) -> None:
    assert "--margin" in (text := said(capsys, *command, "--out", str(out), f"--margin={margin}", code=2))
    assert "above 0" in text


def test_the_placebo_is_asked_for_as_its_row_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for backbone in ("unetr", "unetrpp"):
        write_study(tmp_path, {"default": 0.0, "lwi": 0.03, "default(construct='other')": 0.0}, backbone)
    own = ("--out", str(tmp_path), "--backbone", "unetr")
    for name in ("placebo", "default(construct=other)"):
        text = said(capsys, "compare", name, "default", *own, "--format", "md")
        assert "placebo − default" in text
        assert "construct" not in text
        assert "vs placebo" in said(capsys, "leaderboard", "--against", name, *own, "--format", "md")
    for by in ("block", "all"):
        text = said(capsys, "leaderboard", "--against", "placebo", "--by", by, "--out", str(tmp_path), "--format", "md")
        assert "vs placebo" in text
        assert "construct" not in text
    across = said(capsys, "variance", "--across", "--out", str(tmp_path), "--format", "md")
    assert "| placebo | 2 |" in across
    assert "construct" not in across
    assert "vs placebo" in page(tmp_path, capsys)
    assert "vs default(" not in page(tmp_path, capsys)
    for command in ("leaderboard", "report"):
        wrong = said(capsys, command, "--against", "tube", *own, code=2)
        assert "--against tube: the inits of these runs are default, lwi, placebo" in wrong
    assert "no block has both placebo and tube" in said(capsys, "compare", "placebo", "tube", *own, code=2)


def page(out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    said(capsys, "report", "--against", "placebo", "--out", str(out), "--html", str(out / "page.html"))
    return (out / "page.html").read_text("utf-8")


def test_an_incomplete_init_gets_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path, {"default": 0.0, "lwi": 0.03})
    [folder] = tmp_path.glob("*/*/lwi-*/seed-4")
    (folder / store.CASES).unlink()
    [row, *_] = json.loads(said(capsys, "compare", "lwi", "--out", str(tmp_path), "--format", "json"))
    assert (row["verdict"], row["p"]) == ("untestable", None)
    assert "no score for seed 4 (invalid: cases.csv is missing)" in row["reason"]


def test_variance_finds_what_was_put_in(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(said(capsys, "variance", "--out", str(out), "--backbone", "unetr", "--format", "json"))
    found = {row["source"]: row for row in rows}
    assert found["case"]["sd_low"] < 5 < found["case"]["sd_high"]
    assert found["residual"]["sd"] == pytest.approx(0.4, abs=0.08)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    for row in rows:
        assert row["sd_low"] <= row["sd"] <= row["sd_high"]
        over = {"init": 1, "seed": SEEDS, "seed_init": SEEDS, "case": CASES, "init_case": CASES}.get(row["source"], SEEDS * CASES)
        assert row["sd_left"] == pytest.approx(row["sd"] / np.sqrt(over))
        assert row["between_init_sd"] == found["init"]["sd"]
        assert row["between_init_sd_high"] == found["init"]["sd_high"]
    text = said(capsys, "variance", "--out", str(out), "--backbone", "unetr", "--format", "md")
    assert "| source | SD of one case [95 %] | share | SD left in a mean [95 %] |" in text
    (headline,) = (line for line in text.splitlines() if line.startswith("- Choosing the init"))
    assert headline in said(capsys, "leaderboard", "--out", str(out), "--backbone", "unetr", "--format", "md").splitlines()
    across = json.loads(said(capsys, "variance", "--across", "--out", str(out), "--format", "json"))
    assert [(row["init"], row["blocks"]) for row in across] == [("lwi", 2), ("mae", 2)]


def test_power_from_runs_and_from_stated_sds(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(said(capsys, "power", "--out", str(out), "--backbone", "unetr", "--cases", "30", "--format", "json"))
    points = [row["detectable"] for row in rows]
    assert points == sorted(points, reverse=True)
    assert all(row["floor"] <= row["detectable"] for row in rows)
    stated = json.loads(said(capsys, "power", "--sd", "1.5,3,10", "--cases", "63", "--format", "json"))
    told = 1.9989715 + 0.8416212  # of t with 62 degrees of freedom at 97.5 %, of the normal law at 80 %
    assert [row["floor"] for row in stated] == pytest.approx([told * np.sqrt(2 * 9 / 63)] * len(stated))
    assert {row["detectable_low"] for row in stated} == {None}  # stated SDs are as they are
    for row in rows:
        assert row["detectable_low"] <= row["detectable"] <= row["detectable_high"]
        assert row["power"] == pytest.approx(0.8, abs=0.001)
        assert row["power_low"] <= row["power"] <= row["power_high"]
        assert row["comparisons"] == 2
    text = said(capsys, "power", "--out", str(out), "--backbone", "unetr", "--cases", "30", "--format", "md")
    assert "2 differences are judged at once" in text
    assert f"{rows[2]['detectable']:.2f} [{rows[2]['detectable_low']:.2f}, {rows[2]['detectable_high']:.2f}]" in text
    for wrong in ("1,2", "a,b,c", "-1,2,3", "1,nan,2", "1e300,1,1", "1,1,inf"):
        assert "--sd" in said(capsys, "power", f"--sd={wrong}", "--cases", "63", code=2)
    assert "add --cases" in said(capsys, "power", "--sd", "1,2,3", code=2)
    assert "--cases" in said(capsys, "power", "--sd", "1,2,3", "--cases", "9" * 400, code=2)
    for tiny in ("0,0,0", "1e-100,1,0", "1e-300,1e-300,1e-300"):
        assert said(capsys, "power", "--sd", tiny, "--cases", "63", "--format", "json")


@pytest.mark.parametrize("command", [("compare", "lwi"), ("variance",), ("variance", "--across"), ("power",)])
def test_every_form_holds_every_row(out: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    forms = {form: said(capsys, *command, "--out", str(out), "--format", form) for form in FORMS}
    rows = json.loads(forms["json"])
    assert len(list(csv.DictReader(io.StringIO(forms["csv"])))) == len(rows)
    body = [line for line in forms["latex"].splitlines() if line.endswith(r"\\") and " & " in line]
    table = [line for line in forms["md"].splitlines() if line.startswith("| ") and "---" not in line]
    assert len(body) == len(table)
    assert forms["latex"].count(r"\begin{table}") == forms["latex"].count(r"\end{table}") == forms["md"].count("### ")
    assert not any(sign in "".join(body).replace(r"\%", "").replace(" & ", "") for sign in "%_#–×±−")
    assert "Traceback" not in forms["table"]
