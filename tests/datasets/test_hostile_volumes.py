"""Volumes made to do harm are refused with a sentence, and nothing is allocated for what a header claims."""

from __future__ import annotations

import gzip
import json
import resource
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest

from initbench.datasets import folder as folder_layout
from initbench.datasets.files import nifti
from initbench.datasets.inspect.examine import examine
from initbench.datasets.msd import MsdDataset
from initbench.datasets.open import open_folder
from initbench.errors import DataError
from initbench.preprocessing.parameters import resolve_parameters, scan
from initbench.preprocessing.preprocess import preprocess
from initbench.recipes.load import load_recipe
from tests.msd_factory import make_msd
from tests.one_process import in_one_process

RUN = ["run", "--backbone", "unetr", "--size", "tiny", "--budget", "smoke", "--device", "cpu", "--out", "runs"]


def claim(path: Path, shape: tuple[int, ...], dtype: type = np.float32, content: bytes = b"\0" * 100) -> None:
    """A NIfTI file of a few hundred bytes whose header claims `shape`."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    data = header.binaryblock + b"\0" * 4 + content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture(params=[".nii", ".nii.gz"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The image of a data set of one case, to be overwritten."""
    folder = make_msd(tmp_path / "Task90_Hostile", cases=1)
    path: Path = folder / "imagesTr" / f"case_00{request.param}"
    table = json.loads((folder / "dataset.json").read_text())
    table["training"][0]["image"] = f"imagesTr/{path.name}"
    (folder / "dataset.json").write_text(json.dumps(table))
    path.touch()
    return path


@pytest.mark.parametrize(
    ("shape", "dtype", "says"),
    [
        ((30000, 30000, 30000), np.float32, "more than any examination"),
        ((1200, 1200, 1200), np.float32, "6,912,000,000 bytes, and a file of"),
        ((1200, 1200, 1200), np.uint8, "1,728,000,000 bytes, and a file of"),
        ((64, 64, 64), np.int16, "524,288 bytes, and a file of"),
    ],
)
def test_a_header_that_claims_too_much_is_refused_before_anything_is_allocated(
    volume: Path, shape: tuple[int, ...], dtype: type, says: str
) -> None:
    claim(volume, shape, dtype)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=says) as caught:
        MsdDataset(volume.parents[1]).load("case_00")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024, "KiB"
    assert str(caught.value).startswith("case case_00: ")
    assert str(volume) in str(caught.value)


def test_what_fits_the_file_must_fit_the_memory(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim(volume, (10, 10, 10), np.float32, bytes(4000))
    label = volume.parents[1] / "labelsTr" / "case_00.nii.gz"
    claim(label, (10, 10, 10), np.uint8, bytes(1000))
    MsdDataset(volume.parents[1]).load("case_00")
    memory = type("Memory", (), {"available": 7999})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(DataError, match=r"case case_00: reading .*case_00\.nii.*: \(10, 10, 10\) voxels take") as caught:
        MsdDataset(volume.parents[1]).load("case_00")
    assert "GiB are free; close other programs" in str(caught.value)


def test_the_best_deflate_can_do_is_read(tmp_path: Path) -> None:
    """A whole volume of one value is no lie, though a byte of the file stands for a thousand."""
    folder = make_msd(tmp_path / "Task90_Flat", cases=1)
    for name, dtype in (("imagesTr", np.int16), ("labelsTr", np.uint8)):
        claim(folder / name / "case_00.nii.gz", (256, 256, 256), dtype, bytes(256**3 * np.dtype(dtype).itemsize))
    assert (folder / "imagesTr" / "case_00.nii.gz").stat().st_size < 40_000
    assert MsdDataset(folder).load("case_00").image.shape == (1, 256, 256, 256)


def test_a_voxel_of_a_metre_is_not_resampled(tmp_path: Path) -> None:
    folder = make_msd(tmp_path / "Task90_Large", cases=1)
    for path in folder.glob("*Tr/*.nii.gz"):
        image = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), np.diag([1e3, 1e3, 1e3, 1])), path)
    case = MsdDataset(folder).load("case_00")
    settings = load_recipe("phantom-lung", size="tiny", backbone="unetr", budget="smoke").preprocess.model_copy(
        update={"spacing": (1.0, 1.0, 1.0)}
    )
    with pytest.raises(DataError, match=r"case case_00: resampling .* of 1e\+03 × 1e\+03 × 1e\+03 mm to 1 × 1 × 1 mm: .*GiB"):
        preprocess(case, resolve_parameters(settings, "CT", [scan(case)]))


COLOUR = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def coloured(path: Path) -> Path:
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 6, 6), COLOUR), np.eye(4)), path)
    return path


def complex_(path: Path) -> Path:
    nibabel.save(nibabel.Nifti1Image(np.full((6, 6, 6), 1 + 1j, np.complex64), np.eye(4)), path)
    return path


def surface(path: Path) -> Path:
    path = path.with_name(f"{path.name.partition('.')[0]}.gii")
    points = nibabel.gifti.GiftiDataArray(np.zeros((4, 3), np.float32), datatype="NIFTI_TYPE_FLOAT32")
    nibabel.save(nibabel.GiftiImage(darrays=[points]), path)
    return path


def pair(path: Path) -> Path:
    """A header whose voxels lie in a file beside it."""
    path = path.with_name(f"{path.name.partition('.')[0]}.hdr")
    nibabel.save(nibabel.Nifti1Pair(np.zeros((6, 6, 6), np.uint8), np.eye(4)), path)
    return path


def placed(*affine: float) -> Callable[[Path], Path]:
    """A volume whose header has this diagonal, or these nine numbers row by row."""

    def write(path: Path) -> Path:
        image = nibabel.Nifti1Image(np.zeros((6, 6, 6), np.uint8), np.eye(4))
        rows = np.diag(affine) if len(affine) == 3 else np.reshape(affine, (3, 3))
        image.header["sform_code"], image.header["qform_code"], image.header["magic"] = 1, 0, b"n+1"
        image.header["vox_offset"] = 352
        for name, row in zip(("srow_x", "srow_y", "srow_z"), rows, strict=True):
            image.header[name] = [*row, 0]
        path.write_bytes(gzip.compress(image.header.binaryblock + b"\0" * 4 + bytes(216)))
        return path

    return write


ODD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "colours": (coloured, "holds colours or complex numbers"),
    "complex": (complex_, "holds colours or complex numbers"),
    "surface": (surface, r"holds no volume \(GiftiImage\)"),
    "pair": (pair, r"is one of several files of a volume \(Nifti1Pair\)"),
    "singular": (placed(1, 1, 1, 1, 1, 1, 1, 1, 1.000001), "does not place voxels in space"),
    "nearly singular": (placed(1, 0, 0, 0, 1, 1, 0, 0, 1e-17), "does not place voxels in space"),
    "far too fine": (placed(1e-5, 1, 1), r"voxels of 1e-05 × 1 × 1 mm; edges are 0\.001 to 1000 mm"),
    "no size at all": (placed(1e-30, 1e-30, 1e-30), "does not place voxels in space|voxels of 1e-30"),
    "far too large": (placed(1, 1, 2000), "edges are"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["image", "label"])
@pytest.mark.parametrize("name", ODD)
def test_a_file_that_is_no_volume_in_space_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    folder = make_msd(tmp_path / "Task90_Odd", cases=3)
    write, says = ODD[name]
    path = write(folder / f"{kind}sTr" / "case_01.nii.gz")
    table = json.loads((folder / "dataset.json").read_text())
    table["training"][1][kind] = str(path.relative_to(folder))
    table["training"][1]["image" if kind == "label" else "label"] = (
        f"{'labelsTr' if kind == 'image' else 'imagesTr'}/case_01.nii.gz"
    )
    (folder / "dataset.json").write_text(json.dumps(table))
    dataset = MsdDataset(folder)
    odd = dataset.case_ids()[1]
    with pytest.raises(DataError, match=says) as caught:
        dataset.load(odd)
    assert str(caught.value).startswith(f"case {odd}: {path}")
    assert [problem.where for problem in examine(dataset).problems] == [odd], "the others were looked at"


def test_any_exception_of_the_library_names_case_and_file(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise AttributeError("'NoneType' object has no attribute 'shape'")

    monkeypatch.setattr(nibabel, "load", fail)
    with pytest.raises(DataError, match=r"case case_00: .*case_00\.nii.* cannot be read \('NoneType' object"):
        MsdDataset(volume.parents[1]).load("case_00")


def test_the_commands_name_an_odd_file(tmp_path: Path) -> None:
    folder = make_msd(tmp_path / "Task90_Odd", cases=5)
    coloured(folder / "labelsTr" / "case_01.nii.gz")
    commands = [["data", name, str(folder)] for name in ("info", "verify", "prepare")]
    for ended in in_one_process(tmp_path, *commands, [*RUN, "--init", "default", "--dataset", str(folder)]):
        assert ended.code == 1
        assert "case case_01" in ended.said
        assert "Traceback" not in ended.said


def test_names_that_no_file_system_takes_are_refused(tmp_path: Path) -> None:
    long = "x" * 5000
    datasets = [(long, 2), (f"Task{long}", 1), (f"a/{long}", 2), ("~nobody-of-this-name/a", 2)]
    others = [("--recipe", long), ("--recipe", f"{long}.toml"), ("--init", f"{long}.py:a")]
    commands = [["data", "info", name] for name, _ in datasets]
    commands += [[*RUN, "--init", "default", "--dataset", name] for name, _ in datasets]
    commands += [[*RUN, "--init", "default", "--dataset", "phantom-lung", key, value] for key, value in others]
    codes = [code for _, code in datasets] * 2 + [2] * len(others)
    for command, code, ended in zip(commands, codes, in_one_process(tmp_path, *commands), strict=True):
        assert ended.code == code, [part[:40] for part in command]
        assert "Traceback" not in ended.said


def test_shapes_that_differ_are_told_before_any_voxel_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image may have gigabytes, and its label the shape of another one."""
    folder = make_msd(tmp_path / "Task90_Noise", cases=2)
    label = next((folder / "labelsTr").iterdir())
    stored = nibabel.load(label)
    nibabel.save(nibabel.Nifti1Image(np.asarray(stored.dataobj)[:-1], stored.affine), label)
    monkeypatch.setattr(folder_layout, "LARGE", 1)
    monkeypatch.setattr(nifti, "read_with_header", None)
    with pytest.raises(DataError, match="have different shapes"):
        open_folder(folder).load(label.name.removesuffix(".nii.gz"))
