"""A bit that flipped in a file: a stream with a checksum refuses it or gives the same bytes, others have another digest."""

from __future__ import annotations

import contextlib
import gzip
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from initbench import cache
from initbench.audit.rescore import read_prediction
from initbench.checkpoints.reading import read_checkpoint
from initbench.datasets.download.archives import extract
from initbench.datasets.files.nifti import read_nifti
from initbench.datasets.files.png import grey
from initbench.errors import DataError, InitbenchError
from initbench.evaluation import slices
from initbench.runs import store
from initbench.runs.read import load_slice
from tests.msd_factory import write_nifti

Arrays = list[NDArray[Any]]
FULL = 200
COUNTS = [pytest.param(30, id="sample"), pytest.param(FULL, id="full", marks=pytest.mark.full)]
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(0, 300, (14, 12, 10)).astype(np.int16)
LABEL = RNG.integers(0, 3, (14, 12, 10)).astype(np.uint8)


def write_members(path: Path) -> None:
    """A file of several members, as parallel compressors write it, with zeros behind them, as tapes do."""
    write_nifti(path, IMAGE)
    content = gzip.decompress(path.read_bytes())
    parts = (content[:100], content[100:1000], b"", content[1000:])
    path.write_bytes(b"".join(gzip.compress(part) for part in parts) + bytes(64))


def write_named(path: Path) -> None:
    """A file whose gzip header holds a name and a comment."""
    write_nifti(path, IMAGE)
    header = b"\x1f\x8b\x08\x18" + bytes(6) + b"image.nii\0made by hand\0"
    path.write_bytes(header + gzip.compress(gzip.decompress(path.read_bytes()))[10:])


def write_freesurfer(path: Path) -> None:
    """A gzip stream that another ending than .gz names, as lists of MONAI may."""
    nibabel.save(nibabel.MGHImage(IMAGE, np.eye(4)), path)


def write_archive(path: Path) -> None:
    folder = path.parent / "packed"
    write_nifti(folder / "image.nii", IMAGE)
    (folder / "dataset.json").write_text("{}")
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)
        return
    with tarfile.open(path, "w:gz") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, file.name)


def unpacked(path: Path) -> Arrays:
    place = path.parent / f"unpacked-{len(list(path.parent.iterdir()))}"
    extract(path, place)
    return [np.frombuffer(f"{file.name}:".encode() + file.read_bytes(), np.uint8) for file in sorted(place.rglob("*"))]


def tensors(path: Path) -> Arrays:
    found = read_checkpoint(path).tensors
    return [np.frombuffer(name.encode(), np.uint8) for name in found] + [tensor.numpy() for tensor in found.values()]


def shown(path: Path) -> Arrays:
    """A slice of a run. A damaged one is missing in a report and no error."""
    found = load_slice(path.parent, "a")
    if found is None:
        raise DataError(f"no slice in {path}")
    return [found]


STREAMS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Arrays]]] = {
    "image.nii.gz": (lambda path: write_nifti(path, IMAGE), lambda path: list(read_nifti("a", path))),
    "label.nii.gz": (lambda path: write_nifti(path, LABEL), lambda path: list(read_nifti("a", path))),
    "several-members.nii.gz": (write_members, lambda path: list(read_nifti("a", path))),
    "named.nii.gz": (write_named, lambda path: list(read_nifti("a", path))),
    "image.mgz": (write_freesurfer, lambda path: list(read_nifti("a", path))),
    "prediction.nii.gz": (lambda path: write_nifti(path, LABEL), lambda path: [read_prediction("a", path)]),
    "label.png": (lambda path: Image.fromarray(LABEL[:, :, 0] * 60).save(path), lambda path: [grey("a", path, (12, 14))]),
    store.SLICES: (lambda path: slices.write(path, {"a": np.stack([LABEL[..., 0]] * 3)}), shown),
    "weights.pt": (lambda path: torch.save({"a": torch.from_numpy(IMAGE.copy())}, path), tensors),
    "archive.tar.gz": (write_archive, unpacked),
    "archive.zip": (write_archive, unpacked),
}


def flipped(content: bytes, count: int) -> list[bytes]:
    """Copies of `content` with one bit flipped each: some at both ends, where headers and checksums are, the rest anywhere."""
    bits = 8 * len(content)
    ends = [*range(0, 96, 16), *range(bits - 8 * 8, bits, 11)]
    places = [*ends, *np.random.default_rng(0).integers(0, bits, count - len(ends)).tolist()]
    copies = []
    for place in places:
        copy = bytearray(content)
        copy[place // 8] ^= 1 << place % 8
        copies.append(bytes(copy))
    return copies


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", STREAMS)
def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path, name: str, count: int) -> None:
    write, read = STREAMS[name]
    path = tmp_path / name
    write(path)
    content, whole = path.read_bytes(), read(path)
    refused: list[str] = []
    for copy in flipped(content, count):
        path.write_bytes(copy)
        try:
            found = read(path)
        except InitbenchError as error:
            refused.append(str(error))
        else:
            for ours, theirs in zip(found, whole, strict=True):
                assert np.array_equal(ours, theirs)
    assert all(str(path) in message for message in refused)
    assert len(refused) > count / 2, "most bits of a stream are content"


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".png", ".dcm"])
@pytest.mark.parametrize("count", COUNTS)
def test_a_flipped_bit_is_another_digest(tmp_path: Path, ending: str, count: int) -> None:
    """Also where size and time of modification stay, as after a copy with a tool that preserves them."""
    path = tmp_path / f"image{ending}"
    content = RNG.bytes(5000)
    path.write_bytes(content)
    status = path.stat()
    first = cache.file_digest(path)
    for copy in flipped(content, count):
        path.write_bytes(copy)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert cache.file_digest(path) != first


def test_what_follows_the_voxels_is_read_and_bounded(tmp_path: Path) -> None:
    """Padding behind the voxels is nobody's damage; far more than the header announces is no padding."""
    path = tmp_path / "a.nii.gz"
    write_nifti(path, IMAGE)
    content, compressed = gzip.decompress(path.read_bytes()), path.read_bytes()
    expected = read_nifti("a", path)[0]
    path.write_bytes(gzip.compress(content + bytes(512)))
    assert np.array_equal(read_nifti("a", path)[0], expected)
    path.write_bytes(gzip.compress(content + bytes(2**21)))
    with pytest.raises(DataError, match=r"more than 1,048,576 bytes follow the voxels"):
        read_nifti("a", path)
    path.write_bytes(compressed + b"garbage")
    with pytest.raises(DataError, match="cannot be read"):
        read_nifti("a", path)
    path.write_bytes(compressed[:-4])
    with pytest.raises(DataError, match="cannot be read"):
        read_nifti("a", path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".NII.GZ"])
def test_voxels_and_affine_are_those_of_nibabel(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    image = nibabel.Nifti1Image(IMAGE, np.diag([1.0, 2.0, 3.0, 1.0]))
    image.header.set_slope_inter(0.5, -7)
    nibabel.save(image, path)
    voxels, affine = read_nifti("a", path)
    assert np.array_equal(voxels, nibabel.load(path).get_fdata(dtype=np.float32))
    assert np.array_equal(affine, image.affine)


def test_voxels_stay_when_their_file_changes(tmp_path: Path) -> None:
    """They are in memory: under a mapping they would become what the file becomes after it was checked."""
    path = tmp_path / "a.nii"
    write_nifti(path, IMAGE.astype(np.float32))
    voxels, _ = read_nifti("a", path)
    with path.open("r+b") as file:
        file.seek(352)
        file.write(bytes(IMAGE.size * 4))
    assert np.array_equal(voxels, IMAGE)


def test_no_bit_of_a_png_changes_a_pixel(tmp_path: Path) -> None:
    """Every bit: Pillow compares no checksum where it decodes, and finds most damage all the same."""
    path = tmp_path / "label.png"
    Image.fromarray(LABEL[:, :, 0] * 60).save(path)
    content, whole = path.read_bytes(), grey("a", path, (12, 14))
    for place in range(8 * len(content)):
        copy = bytearray(content)
        copy[place // 8] ^= 1 << place % 8
        path.write_bytes(copy)
        with contextlib.suppress(DataError):
            assert np.array_equal(grey("a", path, (12, 14)), whole)
