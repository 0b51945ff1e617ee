"""One PNG of grey values, read with care."""

from __future__ import annotations

import io
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from initbench.errors import DataError

_GREY = ("1", "L")  # bits, which become 0 and 255, and bytes
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, zlib.error, Image.DecompressionBombError)


def grey(case_id: str, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Reads the grey values ``(rows, columns)`` of a picture.

    Args:
        case_id: for messages.
        path: of the file.
        size: columns and rows that it has to have, asked before a pixel is decoded.

    Raises:
        DataError: no PNG, truncated, of another size, in colours.
    """
    where = f"case {case_id}: {path}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are checked here
            content = path.read_bytes()
            with Image.open(io.BytesIO(content), formats=["PNG"]) as file:
                _check(where, file, size)
                file.verify()  # the checksums of all chunks, which Pillow passes over where it decodes
            with Image.open(io.BytesIO(content), formats=["PNG"]) as file:
                return np.asarray(file.convert("L"))
    except _UNREADABLE as error:
        raise DataError(f"{where} cannot be read ({error}); it is truncated or no PNG: copy or download it again") from None


def _check(where: str, file: Any, size: tuple[int, int]) -> None:
    if file.size != size:
        raise DataError(
            f"{where} is {file.size[0]} × {file.size[1]} pixels where the image has {size[0]} × {size[1]}; copy or "
            "download both again"
        )
    if file.mode not in _GREY:
        raise DataError(
            f"{where} is in colours or more than 8 bits deep ({file.mode}); labels are 8-bit grey values: export it so"
        )
