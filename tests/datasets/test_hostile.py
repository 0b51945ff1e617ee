"""Files made to do harm: each is refused with a sentence, nothing of them is executed, nothing is written outside."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import resource
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from initbench import limits
from initbench.datasets.download import archives
from initbench.datasets.download.archives import extract
from initbench.datasets.inspect.examine import examine
from initbench.datasets.msd import MsdDataset
from initbench.errors import DataError, UsageError
from initbench.preprocessing.preprocess import preprocess, resolve_parameters, scan
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Recipe
from tests.checkpoints.test_checkpoints import Hostile
from tests.cli.test_cli import Ended, in_one_process
from tests.msd_factory import make_msd

RUN = ["run", "--backbone", "unetr", "--size", "tiny", "--budget", "smoke", "--device", "cpu", "--out", "runs"]


def everything(folder: Path) -> dict[str, bytes | None]:
    """All below a folder, with what files hold."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_that_would_execute_is_refused_by_the_command(tmp_path: Path) -> None:
    mark, paths = tmp_path / "executed", {"zip": tmp_path / "zip.pt", "legacy": tmp_path / "legacy.pt"}
    for kind, path in paths.items():
        torch.save({"state_dict": {}, "x": Hostile(mark)}, path, _use_new_zipfile_serialization=kind == "zip")
    data = make_msd(tmp_path / "Task90_Noise", cases=5)
    commands = [[*RUN, "--dataset", str(data), "--init", f"checkpoint(path='{path}')"] for path in paths.values()]
    for path, ended in zip(paths.values(), in_one_process(tmp_path, *commands), strict=True):
        assert ended.code == 1
        assert f"{path.name} holds an object of type" in ended.said
        assert "nothing was run" in ended.said
        assert "Traceback" not in ended.said
        assert not mark.exists()
        assert not list(tmp_path.glob("runs/**/record.json"))
    torch.load(paths["zip"], weights_only=False)
    assert mark.exists(), "the mark is real"


# --- volumes ----------------------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(limits.psutil, "virtual_memory", lambda: memory)
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
    settings = load().preprocess.model_copy(update={"spacing": (1.0, 1.0, 1.0)})
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
    datasets = [(long, 2), (f"Task{long}", 1), (f"a/{long}", 1), ("~nobody-of-this-name/a", 1)]
    others = [("--recipe", long), ("--recipe", f"{long}.toml"), ("--init", f"{long}.py:a")]
    commands = [["data", "info", name] for name, _ in datasets]
    commands += [[*RUN, "--init", "default", "--dataset", name] for name, _ in datasets]
    commands += [[*RUN, "--init", "default", "--dataset", "phantom-lung", key, value] for key, value in others]
    codes = [code for _, code in datasets] * 2 + [2] * len(others)
    for command, code, ended in zip(commands, codes, in_one_process(tmp_path, *commands), strict=True):
        assert ended.code == code, [part[:40] for part in command]
        assert "Traceback" not in ended.said


# --- dataset.json -----------------------------------------------------------------------------------------------------

GOOD = {"image": "imagesTr/case_00.nii.gz", "label": "labelsTr/case_00.nii.gz"}


@pytest.mark.parametrize("key", ["image", "label"])
@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("../../x", "the training entry ../../x leads out"),
        ("imagesTr/../../x", "the training entry imagesTr/../../x leads out"),
        ("/etc/passwd", "the training entry /etc/passwd leads out"),
        ("../\0", "files that do not exist"),
        ("x" * 5000, "files that do not exist"),
        (["x"], "needs image and label"),
    ],
)
def test_a_table_that_leads_out_is_refused(tmp_path: Path, key: str, entry: Any, says: str) -> None:
    folder = make_msd(tmp_path / "a" / "b", cases=1)
    for outside in (tmp_path / "x", tmp_path / "a" / "x"):
        shutil.copy(folder / GOOD["image"], outside)
    table = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(table | {"training": [{**GOOD, key: entry}]}))
    with pytest.raises(DataError, match=re.escape(says)) as caught:
        MsdDataset(folder)
    assert str(folder) in str(caught.value)


def test_links_that_the_user_made_are_followed(tmp_path: Path) -> None:
    folder = make_msd(tmp_path / "b", cases=1)
    (folder / "imagesTr").rename(tmp_path / "store")
    (folder / "imagesTr").symlink_to(tmp_path / "store")
    MsdDataset(folder).load("case_00")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"labels": ' + "9" * 10_000 + "}", '{"modality": {"0": "CT"}, "labels": {"1e9": "x"}, "training": [1]}'],
)
def test_a_table_that_breaks_readers_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset\.json"):
        MsdDataset(tmp_path)


def test_more_classes_than_a_label_map_holds_are_refused(tmp_path: Path) -> None:
    folder = make_msd(tmp_path / "b", cases=1, classes=2)
    table = json.loads((folder / "dataset.json").read_text())
    labels = {str(k): f"part {k}" for k in range(257)}
    (folder / "dataset.json").write_text(json.dumps(table | {"labels": labels}))
    with pytest.raises(DataError, match=r"257 labels; .* tell 256 apart"):
        MsdDataset(folder)


# --- recipes ----------------------------------------------------------------------------------------------------------

HEAD = 'name = "own"\nversion = 1\nsource = "test"\n'
RECIPES: dict[str, tuple[str, str]] = {
    "syntax": ("[patch\n", "at line 4"),
    "type": ("[patch]\nbatch = 'many'\n", "patch.batch: "),
    "section": ("patch = 3\n", "patch: "),
    "key": ("[patch]\nbatches = 1\n", "patch.batches: "),
    "infinite": ("[optimizer]\nlr = inf\n", "optimizer.lr: "),
    "no number": ("[optimizer]\nweight_decay = nan\n", "optimizer.weight_decay: "),
    "batch": (f"[patch]\nbatch = 1{'0' * 30}\n", "patch.batch: "),
    "steps": (f"[steps]\nsmoke = 1{'0' * 30}\n", "steps.smoke: "),
    "digits": (f"[steps]\nsmoke = 1{'0' * 5000}\n", "4300 digits"),
    "whole patch": ("[patch]\nsize = [4096, 4096, 4096]\n", "patch.size: Value error, more than"),
    "patch": ("[patch]\nsize = [16000, 16, 16]\n", "patch.size.0: "),
    "negative patch": ("[patch]\nsize = [16, -16, 16]\n", "patch.size.1: "),
    "no patch": ("[patch]\nsize = [16, 16, 0]\n", "patch.size.2: "),
    "spacing": ("[preprocess]\nspacing = [0.0, 1.0, 1.0]\n", "preprocess.spacing"),
    "fine spacing": ("[preprocess]\nspacing = [1e-9, 1.0, 1.0]\n", "preprocess.spacing"),
    "window": ("[preprocess]\nwindow = [400.0, -1000.0]\n", "preprocess.window: Value error, the first number must be below"),
    "percentiles": ("[preprocess]\npercentiles = [1.0, 300.0]\n", "preprocess.percentiles.1: "),
    "override": ("override = 3\n", "override must be a list of tables"),
    "overrides": ("override = [1]\n", "override must be a list of tables"),
    "when": ("[[override]]\nwhen = 3\n", "`when` may name size, backbone, budget"),
    "nested": (f"a = {'[' * 100_000}\n", "recursion"),
    "text": (f"[patch]\nbatch = '{'x' * 100_000}'\n", "more characters"),
}


def load(name: str = "phantom-lung") -> Recipe:
    return load_recipe(name, size="tiny", backbone="unetr", budget="smoke")


@pytest.mark.parametrize("name", RECIPES)
def test_a_hostile_recipe_names_the_key_and_the_file(tmp_path: Path, name: str) -> None:
    text, says = RECIPES[name]
    (tmp_path / "own.toml").write_text(HEAD + text)
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        load(str(tmp_path / "own.toml"))
    assert str(tmp_path / "own.toml") in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_recipe_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_bytes(b"# \xe9")
    with pytest.raises(UsageError, match=r"own\.toml cannot be read as text"):
        load(str(tmp_path / "own.toml"))


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """The command's answers to some of them."""
    folder = tmp_path_factory.mktemp("recipes")
    names = ("syntax", "type", "key", "infinite", "patch", "nested")
    for name in names:
        (folder / f"{name}.toml").write_text(HEAD + RECIPES[name][0])
    commands = [[*RUN, "--init", "default", "--recipe", f"{name}.toml"] for name in names]
    return dict(zip(names, in_one_process(folder, *commands), strict=True))


@pytest.mark.parametrize("name", ["syntax", "type", "key", "infinite", "patch", "nested"])
def test_the_command_refuses_a_hostile_recipe(refused: dict[str, Ended], name: str) -> None:
    ended = refused[name]
    assert ended.code == 2
    assert f"{name}.toml" in ended.said
    assert RECIPES[name][1].strip() in ended.said
    assert "Traceback" not in ended.said


# --- archives ---------------------------------------------------------------------------------------------------------


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size, member.mode = kind, link, len(content), 0o4777
    return member, content


def write_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    good = tar_member("Task90/dataset.json", content=b"{}")
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as file:
        for member, content in (good, *members):
            file.addfile(member, io.BytesIO(content))
    return path


def write_zip(path: Path, *members: tuple[str, int, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, mode, content in (("Task90/dataset.json", 0, b"{}"), *members):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder to unpack into, in a folder that must stay as it is."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "keep").write_text("kept")
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def refuse(archive: Path, place: Path, says: str, error: type[Exception] = DataError) -> None:
    """The archive is refused with its name, and nothing is anywhere."""
    before = everything(place.parent)
    with pytest.raises(error, match=says) as caught:
        extract(archive, place / "data")
    assert archive.name in str(caught.value)
    assert everything(place.parent) == before


@pytest.mark.parametrize("name", ["good.tar", "good.tar.gz", "good.tgz", "good.zip"])
def test_a_good_archive_is_unpacked_whole(place: Path, name: str) -> None:
    if name.endswith("zip"):
        write_zip(place / name, ("Task90/imagesTr/", 0o40755, b""), ("Task90/imagesTr/a.nii", 0o100644, b"abc"))
    else:
        write_tar(
            place / name, tar_member("Task90/imagesTr", tarfile.DIRTYPE), tar_member("Task90/imagesTr/a.nii", content=b"abc")
        )
    extract(place / name, place / "new" / "data")
    found = everything(place / "new")
    assert found["data/Task90/imagesTr/a.nii"] == b"abc"
    assert set(found) == {"data", "data/Task90", "data/Task90/dataset.json", "data/Task90/imagesTr", "data/Task90/imagesTr/a.nii"}
    assert stat.S_IMODE((place / "new" / "data").stat().st_mode) == 0o755
    assert not (place / "new" / "data" / "Task90" / "imagesTr" / "a.nii").stat().st_mode & stat.S_ISUID
    with pytest.raises(UsageError, match="data exists"):
        extract(place / name, place / "new" / "data")


TARS: dict[str, tuple[Callable[[Path], tuple[Any, ...]], str]] = {
    "parent": (lambda _: tar_member("../outside/keep", content=b"x"), "'../outside/keep' leads out"),
    "parent inside": (lambda _: tar_member("Task90/../../outside/keep", content=b"x"), "leads out"),
    "absolute": (lambda out: tar_member(str(out / "keep"), content=b"x"), "is an absolute path"),
    "windows": (lambda _: tar_member("C:\\x", content=b"x"), "is an absolute path"),
    "backslash": (lambda _: tar_member("a\\..\\..\\x", content=b"x"), "leads out"),
    "link out": (lambda out: tar_member("l", tarfile.SYMTYPE, str(out)), "is a link to /"),
    "relative link out": (lambda _: tar_member("l", tarfile.SYMTYPE, "../../outside"), r"is a link to \.\./\.\./outside"),
    "hard link out": (lambda out: tar_member("l", tarfile.LNKTYPE, str(out / "keep")), "is a link to /"),
    "relative hard link": (lambda _: tar_member("l", tarfile.LNKTYPE, "../../outside/keep"), "is a link to"),
    "link inside": (lambda _: tar_member("l", tarfile.SYMTYPE, "Task90"), "is a link to Task90"),
    "device": (lambda _: tar_member("null", tarfile.CHRTYPE), "is a device"),
    "disk": (lambda _: tar_member("sda", tarfile.BLKTYPE), "is a device"),
    "pipe": (lambda _: tar_member("fifo", tarfile.FIFOTYPE), "is a device, a pipe"),
}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("name", TARS)
def test_a_tar_that_leads_out_is_refused_and_leaves_nothing(place: Path, name: str, suffix: str) -> None:
    make, says = TARS[name]
    refuse(write_tar(place / f"bad{suffix}", make(place.parent / "outside")), place, says)


def test_a_tar_that_writes_through_its_own_link_is_refused(place: Path) -> None:
    link = tar_member("l", tarfile.SYMTYPE, "../../outside")
    refuse(write_tar(place / "bad.tar", link, tar_member("l/keep", content=b"x")), place, "is a link")


@pytest.mark.parametrize(
    ("name", "mode", "says"),
    [
        ("../outside/keep", 0, "leads out"),
        ("Task90/../../outside/keep", 0, "leads out"),
        ("/tmp/absolute", 0, "is an absolute path"),  # noqa: S108
        ("C:/x", 0, "is an absolute path"),
        ("a\\..\\..\\x", 0, "leads out"),
        ("link", stat.S_IFLNK | 0o777, "is a link"),
        ("null", stat.S_IFCHR | 0o666, "is no file"),
    ],
)
def test_a_zip_that_leads_out_is_refused_and_leaves_nothing(place: Path, name: str, mode: int, says: str) -> None:
    refuse(write_zip(place / "bad.zip", (name, mode, b"../../outside")), place, says)


@pytest.mark.parametrize("name", ["bomb.tar.gz", "bomb.zip"])
def test_what_claims_more_than_the_disk_has_is_refused(place: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(3 * 2**20)
    if name.endswith("zip"):
        write_zip(place / name, ("a", 0, content), ("b", 0, content))
    else:
        write_tar(place / name, tar_member("a", content=content), tar_member("b", content=content))
    assert (place / name).stat().st_size < 10_000
    usage = type("Usage", (), {"free": 5 * 2**20})
    with monkeypatch.context() as patch:
        patch.setattr(archives.shutil, "disk_usage", lambda _: usage)
        patch.setattr(archives, "_gib", lambda size: f"{size / 2**20:.0f} MiB")
        refuse(place / name, place, r"claims 6 MiB or more when unpacked, and 5 MiB are free in .*work")
    extract(place / name, place / "data")


def test_a_tar_whose_header_alone_is_large_is_refused(place: Path) -> None:
    member = tarfile.TarInfo("a")
    member.size = 2**50
    (place / "bad.tar").write_bytes(member.tobuf() + bytes(10240))
    refuse(place / "bad.tar", place, r"bad\.tar")


def test_a_zip_whose_header_lies_is_refused(place: Path) -> None:
    path = write_zip(place / "bad.zip", ("a", 0, bytes(2**20)))
    content = path.read_bytes()
    path.write_bytes(content.replace((2**20).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    assert path.read_bytes() != content
    refuse(path, place, "cannot be unpacked")


def test_too_many_files_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    members = [tar_member(f"{i}") for i in range(5)]
    refuse(write_tar(place / "bad.tar", *members), place, "more than 5 files")


@pytest.mark.parametrize("name", ["bad.tar", "bad.tar.gz", "bad.tgz", "bad.zip"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100, None], ids=["empty", "page", "half"])
def test_damaged_archives_are_refused(place: Path, name: str, content: bytes | None) -> None:
    noise = os.urandom(20_000)
    (
        write_zip(place / name, ("a", 0, noise))
        if name.endswith("zip")
        else write_tar(place / name, tar_member("a", content=noise))
    )
    half = (place / name).read_bytes()[:15_000]
    (place / name).write_bytes(half if content is None else content)
    refuse(place / name, place, "cannot be unpacked .* Copy or download it again")


def test_a_file_in_the_way_of_a_folder(place: Path) -> None:
    refuse(
        write_tar(place / "bad.tar", tar_member("a", content=b"x"), tar_member("a/b", content=b"x")), place, "cannot be unpacked"
    )


def test_wrong_requests_about_archives(place: Path) -> None:
    refuse(place / "none.tar", place, "there is no archive", UsageError)
    (place / "data.rar").write_bytes(b"Rar!")
    refuse(place / "data.rar", place, "is no .tar", UsageError)
    (place / "data").symlink_to(place / "nowhere")
    refuse(write_tar(place / "good.tar"), place, "data exists", UsageError)
