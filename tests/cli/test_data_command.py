"""`initbench data`: what it says of good and of damaged data sets."""

from __future__ import annotations

import errno
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from initbench import cache, plots
from initbench.cli.app import main
from initbench.datasets.inspect.fingerprint import facts, fingerprint, typical
from initbench.datasets.open import open_dataset
from initbench.errors import UsageError
from initbench.harness.cell import resolve_cell
from initbench.harness.request import RunRequest
from initbench.protocols import Case
from tests import layouts
from tests.commands import said
from tests.msd_factory import affine_of, make_msd, write_nifti

ACDC = ("patient001_frame01", "patient001_frame12", "patient002_frame01", "patient002_frame12")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "data"
    place.mkdir()
    monkeypatch.setenv("INITBENCH_DATA", str(place))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return place


def data(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["data", *arguments])
    return int(caught.value.code or 0)


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert data(*arguments, "--json") == code
    return json.loads(capsys.readouterr().out)


def test_list_says_where_things_are_and_how_to_get_the_others(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_msd(root / "Task04_Hippocampus", cases=2, modality="MRI")
    layouts.nnunet(root / "Dataset501_Mine", ("a",))
    (root / "ACDC" / "readme").mkdir(parents=True)
    rows = {row["name"]: row for row in told(capsys, "list")}
    assert (rows["hippocampus"]["cases"], rows["hippocampus"]["found"]) == (2, str(root / "Task04_Hippocampus"))
    assert (rows["lung"]["cases"], rows["lung"]["found"]) == (63, None)
    assert rows["Task09_Spleen"]["get"] == "initbench data download Task09_Spleen"
    assert "syn3193805" in rows["synapse"]["get"]
    assert rows["Dataset501_Mine"]["cases"] == 1
    assert "this is not how acdc looks" in rows["acdc"]["problem"]
    assert rows["phantom-lung"]["found"] == "comes with initbench"
    assert data("list") == 0
    text = capsys.readouterr().out
    assert "Dataset501_Mine" in text
    told_of = " ".join(text.partition("licence:")[0].split()), " ".join(text.split())
    assert "synapse, btcv register at synapse.org" in told_of[1]
    assert "initbench data download NAME" in told_of[0]
    assert "hippocampus" not in text[text.index("Task10_Colon") + 20 :], "what is here need not be got"


def test_facts_by_hand() -> None:
    label = np.zeros((4, 5, 6), np.uint8)
    label[0, 0, :3], label[1, 0, 0] = 1, 3
    image = np.arange(120, dtype=np.float32).reshape(1, 4, 5, 6)
    affine = np.diag([-2.0, 5.0, 10.0, 1.0])
    found = facts(Case("a", image, label, affine), [(1,), (2,), (1, 3)])
    assert (found.shape, found.spacing, found.axes, found.oblique) == ((4, 5, 6), (2.0, 5.0, 10.0), "LAS", 0.0)
    assert found.volumes_ml == pytest.approx((0.3, 0.0, 0.4))  # 3, 0 and 4 voxels of 100 cubic mm
    assert found.percentiles[0][2] == pytest.approx(59.5)
    turned = facts(Case("b", image, label, layouts.oblique((2, 5, 10), (4, 5, 6), 20)), [(1,)])
    assert turned.volumes_ml == pytest.approx((0.3,))
    assert turned.spacing == pytest.approx((2.0, 5.0, 10.0))
    assert 20 < turned.oblique < 40


def test_info_in_tables_json_and_a_picture(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layouts.acdc(root / "ACDC", ACDC)
    _, label, affine = layouts.volume(1, 4)
    write_nifti(
        root / "ACDC" / "patient001" / "patient001_frame12_gt.nii.gz", np.where(label == 3, 0, label).astype(np.uint8), affine
    )
    table = told(capsys, "info", "acdc", "--plot", str(tmp_path / "acdc.png"))
    assert (table["cases"], table["patients"]) == (4, 2)
    assert table["classes"]["left ventricle"]["absent_in"] == ["patient001_frame12"]
    assert table["classes"]["myocardium"]["cases"] == 4
    assert list(table["splits"]) == ["nnformer-70/10/20", "unetrpp-80/20", "medcontext-5-frame", "auto"]
    assert table["splits"]["nnformer-70/10/20"] == {"train": 2, "reported": 2, "unused": 0}
    volumes = [row["volumes_ml"]["right ventricle"] for row in table["per_case"]]
    assert table["classes"]["right ventricle"]["median_ml"] == pytest.approx(float(np.median([v for v in volumes if v])))
    assert len(table["axes"]) > 1
    assert imread(tmp_path / "acdc.png").std() > 0.05
    assert data("info", "acdc") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "4 cases of 2 patients" in said
    assert "patient001_frame12" in said
    assert "oblique" in said
    dataset = open_dataset("acdc")
    assert typical(fingerprint(dataset)) != "patient001_frame12", "the picture shows a case with all classes"


def test_info_of_one_case_says_that_there_is_no_split(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_msd(root / "Task90_One", cases=1)
    layouts.nnunet(root / "Dataset501_Mine", ("patient001_frame01", "patient001_frame12"))
    for name, kind in (("Task90_One", "cases"), ("Dataset501_Mine", "patients")):
        assert told(capsys, "info", name)["splits"] == {}
        assert data("info", name) == 0
        text = capsys.readouterr().out
        assert f"note there is no split: it needs two {kind}, one to train on" in text
        assert "reported" not in text, "no empty table"


def test_medians_are_by_axes_of_the_world(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two files of one grid, whose axes are stored in another order."""
    folder = make_msd(root / "Task90_Mixed", cases=2)
    sizes = {"L": (7, 0.8), "A": (9, 0.9), "S": (5, 4.0)}
    for case, codes in (("case_00", "LAS"), ("case_01", "SRA")):
        shape, spacing = zip(*(sizes["L" if code == "R" else code] for code in codes), strict=True)
        label = np.ones(shape, np.uint8)
        for place, array in (("imagesTr", label.astype(np.float32)), ("labelsTr", label)):
            write_nifti(folder / place / f"{case}.nii.gz", array, affine_of(codes, spacing, shape))
    table = told(capsys, "info", "Task90_Mixed")
    assert table["order"] == ["left-right", "front-back", "foot-head"]
    for of in ("median", "least", "most"):
        assert table["spacing_mm"][of] == pytest.approx([0.8, 0.9, 4.0])
        assert table["shape"][of] == [7, 9, 5]
    assert [(row["axes"], row["shape"]) for row in table["per_case"]] == [("LAS", [7, 9, 5]), ("SRA", [5, 7, 9])]
    assert data("info", "Task90_Mixed") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "sizes are left-right × front-back × foot-head; axes of files: LAS, SRA" in said
    assert "0.8 × 0.9 × 4" in said


def test_a_picture_needs_a_form(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layouts.nnunet(root / "Dataset501_Mine", ("a",))
    assert data("info", "Dataset501_Mine", "--plot", str(tmp_path / "a.jpeg")) == 2
    assert "ends in .png, .svg, .pdf" in capsys.readouterr().err
    for name in ("a.svg", "a.pdf"):
        assert data("info", "Dataset501_Mine", "--plot", str(tmp_path / name)) == 0
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize(("name", "says"), [("a.txt", "ends in .png, .svg, .pdf"), ("gone/a.png", "there is no folder")])
@pytest.mark.parametrize(
    "command",
    [
        ["data", "info", "Dataset501_Mine"],
        ["diagnose", "--init", "default", "--backbone", "unetr", "--dataset", "Dataset501_Mine"],
        ["reproduce", "lwi:fig-4a", "--dataset", "Dataset501_Mine"],
    ],
    ids=lambda command: command[0],
)
def test_a_picture_that_cannot_be_is_refused_before_the_work(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], name: str, says: str
) -> None:
    """Its cases cannot be read, so whoever looks at one says so."""
    layouts.nnunet(root / "Dataset501_Mine", ("a", "b"))
    for image in (root / "Dataset501_Mine" / "imagesTr").iterdir():
        image.write_bytes(b"no image")
    assert says in said(capsys, *command, "--plot", str(tmp_path / name), code=2)


def test_a_picture_may_go_where_the_runs_go(tmp_path: Path) -> None:
    plots.check(tmp_path / "runs" / "a.png", made=tmp_path / "runs")
    plots.check(None)
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UsageError, match="it is a folder"):
        plots.check(tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"b\.png cannot be written \(No space"), plots.written(tmp_path / "b.png"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_info_of_regions_has_their_volumes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels: dict[str, int | list[int]] = {"background": 0, "whole": [1, 2], "core": 2}
    layouts.nnunet(root / "Dataset501_Mine", ("a",), labels=labels)
    classes = told(capsys, "info", "Dataset501_Mine")["classes"]
    assert classes["whole"]["median_ml"] > classes["core"]["median_ml"] > 0


def test_verify_finds_what_is_wrong_and_goes_on(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = layouts.nnunet(root / "Dataset501_Mine", ("a", "b", "c", "d"))
    names = [f"labelsTr/{case}.nii.gz" for case in "abc"]
    (folder / "SHA256SUMS").write_text("".join(f"{sha256(folder / name)}  {name}\n" for name in names), "utf-8")
    good = told(capsys, "verify", "Dataset501_Mine")
    assert (good["cases"], good["checksums"], good["problems"], good["notes"]) == (4, 3, [], [])
    _, label, affine = layouts.volume(1, 3)
    write_nifti(folder / "labelsTr" / "b.nii.gz", label[:-1], affine)
    write_nifti(folder / "labelsTr" / "c.nii.gz", np.zeros_like(layouts.volume(2, 3)[1]), layouts.volume(2, 3)[2])
    image = folder / "imagesTr" / "d_0000.nii.gz"
    image.write_bytes(image.read_bytes()[:100])
    with (folder / "SHA256SUMS").open("a", encoding="utf-8") as file:
        file.write(f"{'0' * 64}  ../outside\nnonsense\n{'0' * 64}  imagesTr/gone.nii.gz\n")
    table = json.loads((folder / "dataset.json").read_text("utf-8"))
    (folder / "dataset.json").write_text(json.dumps({**table, "numTraining": 7}), "utf-8")
    found = {(row["where"], row["problem"]) for row in told(capsys, "verify", "Dataset501_Mine", code=1)["problems"]}
    for where, says in (
        ("b", "different shapes"),
        ("c", "label map is empty"),
        ("d", "cannot be read"),
        ("labelsTr/b.nii.gz", "is not the file that SHA256SUMS names"),
        ("SHA256SUMS", "../outside"),
        ("SHA256SUMS", "nonsense"),
        ("imagesTr/gone.nii.gz", "is missing"),
        ("dataset.json", "announces 7 cases, 4 are here"),
    ):
        assert any(place == where and says in text for place, text in found), (where, says, found)
    assert data("verify", "Dataset501_Mine") == 1
    assert "9 problem(s)" in capsys.readouterr().out


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_verify_compares_ids_with_the_published_split(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layouts.synapse(root / "Synapse", ("img0005", "img0001"), "img", "label")
    notes = told(capsys, "verify", "synapse")["notes"]
    assert any("of the published split transunet-18/12 only 2 of 30 cases are here" in note for note in notes)
    assert any("transunet-18/12 only 2 of 30" in note for note in told(capsys, "info", "synapse")["notes"])
    assert any("medcontext-5-shot" in note and "each side needs one" in note for note in notes)
    layouts.synapse(root / "Synapse", ("img0011",), "img", "label")
    found = told(capsys, "verify", "synapse", code=1)
    assert any("img0011 are not in the published split transunet-18/12" in row["problem"] for row in found["problems"])


def test_prepare_fills_the_cache(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INITBENCH_CACHE", str(root.parent / "cache"))
    make_msd(root / "Task90_Noise", cases=5)
    arguments = ["prepare", "Task90_Noise", "--size", "tiny", "--set", "preprocess.spacing=native"]
    row = {"name": "Task90_Noise", "recipe": "generic-ct", "split": "auto", "cases": 5, "notes": [], "mended": []}
    assert told(capsys, *arguments) == [row]
    assert len(list((cache.root() / "volumes").iterdir())) == 5
    rows = told(capsys, *arguments, "--fold", "1/2", "--train-cases", "1,2")
    assert [(row["split"], row["cases"]) for row in rows] == [
        ("fold 1/2, trained on 1 case", 4),
        ("fold 1/2", 5),
    ]
    assert data(*arguments) == 0
    assert "5 cases of split auto are ready for recipe generic-ct" in capsys.readouterr().out


# Volumes as a recipe plans them, of other cases, of other settings: what is prepared is what the run takes.
PREPARED: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["--fold", "1/2"], {"fold": "1/2"}),
    (["--train-cases", "2"], {"train_cases": 2}),
    (["--backbone", "unetrpp(variant=lung)"], {"backbone": "unetrpp(variant=lung)"}),
    (["--size", "tiny"], {"size": "tiny"}),
    (["--set", "preprocess.crop=false"], {"assignments": ("preprocess.crop=false",)}),
    (["--recipe", "btcv", "--backbone", "swin-unetr"], {"recipe": "btcv", "backbone": "swin-unetr"}),
    (["--recipe", "OWN", "--budget", "smoke"], {"recipe": "OWN", "budget": "smoke"}),
]


@pytest.mark.parametrize(("arguments", "options"), PREPARED, ids=[" ".join(arguments) for arguments, _ in PREPARED])
def test_what_is_prepared_is_what_a_run_takes(
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    options: dict[str, Any],
) -> None:
    """On spacings that differ, and coarse slices, of which a plan takes a tenth percentile and no median."""
    monkeypatch.setenv("INITBENCH_CACHE", str(root.parent / "cache"))
    own = root / "own.toml"
    own.write_text('name = "own"\nversion = 1\nsource = "tests"\npreprocess.crop = false\n', "utf-8")
    with own.open("a", encoding="utf-8") as file:
        file.write('[[override]]\nwhen = { budget = "smoke" }\npreprocess.spacing = [6.0, 2.0, 2.0]\n')
    arguments = [str(own) if item == "OWN" else item for item in arguments]
    options = options | ({"recipe": str(own)} if options.get("recipe") == "OWN" else {})
    coarse(root / "Task90_Coarse")
    told(capsys, "prepare", "Task90_Coarse", *arguments)
    volumes = {path.name for path in (cache.root() / "volumes").iterdir()}
    assert volumes
    request = RunRequest.of("default", options.pop("backbone", "unetr"), "Task90_Coarse", 0, device="cpu")
    cell = resolve_cell(replace(request, **options))
    assert {path.name for path in (cache.root() / "volumes").iterdir()} == volumes
    assert set(cell.prepared.keys.values()) == {name.partition(".")[0] for name in volumes}


def coarse(folder: Path) -> None:
    """Volumes of few slices 4 to 8 mm apart."""
    make_msd(folder, cases=5)
    for number, image in enumerate(sorted((folder / "imagesTr").iterdir())):
        affine = np.diag([1.0, 1.0, 4.0 + number, 1.0])
        values = np.random.default_rng(number).normal(0, 200, (40, 40, 8)).astype(np.float32)
        write_nifti(image, values, affine)
        write_nifti(folder / "labelsTr" / image.name, (values > 250).astype(np.uint8), affine)


def test_unknown_names_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("info", "verify", "prepare"):
        assert data(command, "hipocampus") == 2
        assert "did you mean hippocampus" in capsys.readouterr().err
