"""Loads encoders of images as timm builds them, with weights from a file or from where timm publishes them.

Nothing is downloaded unless the user asks for it.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from initbench.checkpoints.efficientnet import package_names
from initbench.checkpoints.locating import locate
from initbench.checkpoints.quiet_timm import import_timm
from initbench.checkpoints.reading import first_line, read_checkpoint
from initbench.errors import InitbenchError, UsageError
from initbench.protocols import ImageWeights

# Tokens that stand before the image's: class, distillation, registers.
_PREFIX_TOKENS = ("cls_token", "dist_token", "reg_token")


@dataclass(frozen=True)
class Wanted:
    """Which weights of images a user asks for.

    Attributes:
        init: name of the init, for messages.
        source: timm's name of the encoder.
        path: file of its weights, "" for none.
        download: whether timm may download them.
    """

    init: str
    source: str
    path: str = ""
    download: bool = False

    def check(self) -> None:
        """Checks that the user names one place where the weights come from.

        Raises:
            UsageError: neither a file nor a download is asked for, or both are.
        """
        if self.path and self.download:
            raise UsageError(f"{self.init}: give path=FILE or download=True, not both")
        if not self.path and not self.download:
            raise UsageError(
                f"{self.init}: give the weights of {self.source} as path=FILE, or say download=True, since nothing is downloaded "
                f"unasked. To make the file where there is a network: {_saving(self.source)}"
            )


def _saving(source: str) -> str:
    """Returns a line of Python that writes the weights of a model to a file."""
    return f'torch.save(timm.create_model("{source}", pretrained=True).state_dict(), "weights.pth")'


@dataclass(frozen=True)
class ImageEncoder:
    """An encoder of images and its weights.

    Attributes:
        source: timm's name of it, with the tag of the weights where timm chose them.
        origin: what the weights were read from, for people.
        tensors: the weights by timm's keys, without the classifier.
        stem: key of the first convolution, without ``.weight``.
        cuts: whether that convolution cuts the image into patches (its stride is its kernel), rather than sliding over it.
        width: channels of a token, 0 where the model is no ViT.
        heads: attention heads, 0 where the model is no ViT.
    """

    source: str
    origin: str
    tensors: Mapping[str, Tensor]
    stem: str
    cuts: bool
    width: int
    heads: int

    @property
    def prefix(self) -> int:
        """Number of tokens that stand before the tokens of the image."""
        count = 0
        for key in _PREFIX_TOKENS:
            if key in self.tensors:
                count += self.tensors[key].shape[1]
        return count


def load_encoder(wanted: Wanted, declared: ImageWeights) -> ImageEncoder:
    """Loads the encoder that a user asks for, with its weights.

    Args:
        wanted: the encoder, and where its weights are.
        declared: what the network declares that the weights are for; a file may have its keys in place of timm's.

    Raises:
        UsageError: timm has no such model, its stem is not one convolution, the file is of another model, or nobody said where
            the weights come from.
        InitbenchError: the file cannot be read; the weights cannot be downloaded.
    """
    timm, source = import_timm(), wanted.source
    if not timm.is_model(source):
        raise UsageError(f"{wanted.init}: timm {timm.__version__} has no model {source!r}; timm.list_models() names those it has")
    wanted.check()
    outline = _outline(timm, source)
    known = outline.pretrained_cfg
    stem = known.get("first_conv")
    convolution: nn.Module | None = None
    if isinstance(stem, str):
        convolution = outline.get_submodule(stem)
    if not isinstance(convolution, nn.Conv2d):
        raise UsageError(
            f"{wanted.init}: the stem of {source} is not one convolution ({stem}), so none can be taken over: take another source"
        )
    if wanted.path:
        path = Path(wanted.path).expanduser()
        origin, name, tensors = path.name, source, _from_file(path, source, outline, declared)
    else:
        name = source
        if known.get("tag"):
            name = f"{known['architecture']}.{known['tag']}"
        origin, tensors = name, _download(timm, wanted)
    width = heads = 0
    if _is_vit(tensors):
        width = int(getattr(outline, "embed_dim", 0))
        heads = int(outline.get_submodule("blocks.0.attn").num_heads)
    weights = {key: value.float() for key, value in tensors.items() if not _is_classifier(key, outline)}
    return ImageEncoder(
        source=name,
        origin=origin,
        tensors=weights,
        stem=str(stem),
        cuts=convolution.stride == convolution.kernel_size and max(convolution.kernel_size) > 1,
        width=width,
        heads=heads,
    )


def _outline(timm: ModuleType, source: str) -> Any:
    """Builds a model without memory for its weights, to learn which keys, stem and heads it has."""
    try:
        with torch.device("meta"):
            return timm.create_model(source, pretrained=False)
    except NotImplementedError:  # a few models compute with numbers while they are built
        with torch.random.fork_rng(devices=[]):
            return timm.create_model(source, pretrained=False)


def _is_vit(tensors: Mapping[str, Tensor]) -> bool:
    """Returns whether weights are of a ViT, by the layers of its first block."""
    for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"):
        if f"blocks.0.{layer}.weight" not in tensors:
            return False
    return True


def _is_classifier(key: str, outline: Any) -> bool:
    """Returns whether a key of timm's model belongs to its classifier."""
    known = outline.pretrained_cfg.get("classifier") or ()
    if isinstance(known, str):
        known = (known,)
    return key.startswith(tuple(f"{name}." for name in known))


def _from_file(path: Path, source: str, outline: Any, declared: ImageWeights) -> dict[str, Tensor]:
    """Reads the weights of a model from a file; its classifier and the tokens before the image may be lacking.

    The file may have the keys of timm, of the network, or of the file from which the network's authors start. An EfficientNet may
    also have a package's keys (`package_names`). An archive of numpy is read as Google's of a ViT.

    Args:
        path: of the file.
        source: timm's name of the model, for messages.
        outline: timm's model.
        declared: what the network declares that the weights are for.

    Raises:
        UsageError: the file lacks other weights of the model. InitbenchError: it cannot be read.
    """
    if path.suffix == ".npz":
        return _from_google(path, source)
    stored = read_checkpoint(path).tensors
    expected = dict(outline.named_parameters())
    tensors = dict(locate(stored, expected).tensors)
    absent = _absent(tensors, expected, outline)
    if not absent:
        return tensors
    own_names, released_names = {}, {}
    for key in outline.state_dict():
        released_names[declared.released_key(key)] = key
        for name in declared.places(key):
            own_names[name] = key
    for names in (package_names(outline), own_names, released_names):
        renamed = {}
        for key, value in locate(stored, names).tensors.items():
            if key in names:
                renamed[names[key]] = value
        if not _absent(renamed, expected, outline):
            return renamed
    more = ""
    if len(absent) > 1:
        more = f" and {len(absent) - 1} more"
    raise UsageError(
        f"{path} holds no weights of {source}: {absent[0]}{more} are not in it; it has {', '.join(list(tensors)[:4])}, ... "
        "Say which timm model it is of with source=NAME"
    )


def _from_google(path: Path, source: str) -> dict[str, Tensor]:
    """Reads the weights of a ViT from an archive of Google's, under timm's names; timm reads it.

    Raises:
        UsageError: it is no such archive, or of another model.
    """
    try:
        # The header of an array may ask for a pickle, which would run code: numpy refuses it here, before timm opens the file.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                archive[name]
        with torch.random.fork_rng(devices=[]):
            model = import_timm().create_model(source, pretrained=False)
        model.load_pretrained(str(path))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} cannot be read as an archive of arrays of numpy ({error}); download it again") from None
    except (AttributeError, KeyError, RuntimeError) as error:
        raise UsageError(
            f"{path} is not Google's archive of {source} ({first_line(error)}); say which timm model it is of with source=NAME"
        ) from None
    return dict(model.state_dict())


def _absent(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], outline: Any) -> list[str]:
    """Returns the keys that a model needs and `tensors` lack.

    Args:
        tensors: what was found in a file.
        expected: what the model has.
        outline: timm's model.
    """
    absent = []
    for key in expected:
        may_be_gone = key in _PREFIX_TOKENS or _is_classifier(key, outline)
        if key not in tensors and not may_be_gone:
            absent.append(key)
    return absent


def _download(timm: ModuleType, wanted: Wanted) -> dict[str, Tensor]:
    """Lets timm download the weights that it publishes, into its own cache.

    Raises:
        InitbenchError: they cannot be downloaded, mostly because there is no network.
    """
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: nn.Module = timm.create_model(wanted.source, pretrained=True)
    except Exception as error:  # whatever the libraries below timm raise without a network
        raise InitbenchError(
            f"{wanted.init}: the weights of {wanted.source} cannot be downloaded ({first_line(error)}). Where there is no "
            f"network, save them elsewhere ({_saving(wanted.source)}) and give path=weights.pth"
        ) from None
    return dict(model.state_dict())
