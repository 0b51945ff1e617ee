"""Writes DICOM series and stacks of PNG."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

SLOPE, INTERCEPT = 0.5, -100.0


def dicom_series(
    folder: Path, names: Sequence[str], voxels: NDArray[Any], affine: NDArray[np.float64], **more: Any
) -> list[Path]:
    """Writes voxels ``(X, Y, Z)`` as DICOM slices of 16 bits.

    Args:
        folder: of the files.
        names: of the slices.
        voxels: their values.
        affine: of the volume, in mm.
        more: elements that every slice gets besides.
    """
    pydicom = pytest.importorskip("pydicom")
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    series, paths = pydicom.uid.generate_uid(), []
    for k, name in enumerate(names):
        table = _slice(np.rint((voxels[..., k].T - INTERCEPT) / SLOPE).astype(np.int16), series)
        edges = np.linalg.norm(lps[:3, :3], axis=0)
        table.ImageOrientationPatient = _texts((lps[:3, :2] / edges[:2]).T.ravel())
        table.PixelSpacing = _texts((edges[1], edges[0]))
        table.ImagePositionPatient = _texts((lps @ (0, 0, k, 1))[:3])
        for key, value in more.items():
            setattr(table, key, value)
        paths.append(folder / f"{name}.dcm")
        table.save_as(paths[-1], enforce_file_format=True)
    return paths


def _slice(stored: NDArray[np.int16], series: str) -> Any:
    import pydicom

    table = pydicom.Dataset()
    table.file_meta = pydicom.dataset.FileMetaDataset()
    table.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    table.SOPClassUID = pydicom.uid.MRImageStorage
    table.SOPInstanceUID, table.SeriesInstanceUID = pydicom.uid.generate_uid(), series
    table.Modality = "MR"
    table.Rows, table.Columns = stored.shape
    table.SamplesPerPixel, table.PhotometricInterpretation = 1, "MONOCHROME2"
    table.BitsAllocated = table.BitsStored = 16
    table.HighBit, table.PixelRepresentation = 15, 1
    table.RescaleSlope, table.RescaleIntercept = str(SLOPE), str(INTERCEPT)
    table.PixelData = stored.astype("<i2").tobytes()
    return table


def _texts(numbers: Any) -> list[str]:
    """Numbers as decimal strings of the standard, of 16 letters at most."""
    import pydicom

    return [pydicom.valuerep.format_number_as_ds(float(number)) for number in numbers]


def change(path: Path, **values: Any) -> None:
    """Sets elements of a DICOM file; None takes one away."""
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that the standard does not allow: they are meant
        table = pydicom.dcmread(path)
        for key, value in values.items():
            if value is None:
                delattr(table, key)
            else:
                setattr(table, key, value)
        table.save_as(path)


def ground(folder: Path, names: Sequence[str], values: NDArray[Any], *, bits: bool = False) -> None:
    """Writes grey values ``(X, Y, Z)`` as PNG files of the given names, one for each slice; `bits` makes them black and white."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        picture = Image.fromarray(values[..., k].T.astype(np.uint8))
        (picture.convert("1") if bits else picture).save(folder / f"{name}.png")
