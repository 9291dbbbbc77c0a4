"""A trained encoder in Python: `ssl_cli.load(run).encode(images)`."""

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_cli.api.images import KINDS, GivenImages, Images
from ssl_cli.config.tree import Settings
from ssl_cli.engine.evaluation.features import Trained, Transform, encode
from ssl_cli.errors import DataError, DivergedError, UsageError
from ssl_cli.nn.evaluating import evaluating
from ssl_cli.objective import device_of
from ssl_cli.protocols.encoder import open_encoder
from ssl_cli.protocols.request import is_onnx, require
from ssl_cli.registry import FEATURES, H, Z


class Encoder:
    """The encoder of a run, or of an exported ONNX file, with the run's preprocessing.

    Attributes:
        backbone: f as a module, images `(N,C,S,S)` by the test transform to h; in evaluation mode.
        settings: of the run; of an ONNX file those of the images alone.
        step: optimiser steps that its weights have.
        notes: sentences on the run, such as that it has not finished.
    """

    def __init__(self, trained: Trained, transform: Transform | None = None) -> None:
        self._trained, self._transform = trained, transform
        self._trained.objective.eval()
        self.backbone: nn.Module = trained.objective.backbone
        self.settings: Settings = trained.settings
        self.step, self.notes = trained.step, trained.notes

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return device_of(self.backbone)

    def encode(self, images: Images, *, feature: str = H, l2: bool = False, batch: int = 64) -> Tensor:
        """Compute a row for each image, in their order.

        Args:
            images: one, several or a batch: paths of files; Pillow images; arrays `(H,W,C)` or `(H,W)`, a batch
                `(N,H,W,C)`; tensors `(C,H,W)`, a batch `(N,C,H,W)`. Of any size; uint8, or floats from 0 to 1. Of a run
                on numbers of other than 8 bits, such numbers, in its range.
            feature: `h`, the output of the backbone, or `z`, the projector's output of unit length.
            l2: divide rows by their length.
            batch: images per forward pass.

        Returns:
            float32 `(N,D)` on the CPU.

        Raises:
            DataError: an image that cannot be read, or none at all.
            UsageError: something that is no image, another feature, or a batch below 1.
            DivergedError: a row that is not finite.
        """
        require("feature", str(feature), FEATURES)
        if feature == Z and is_onnx(self._trained.checkpoint):
            raise UsageError("An exported encoder has no z.", "Load the run, or encode h.")
        if batch < 1:
            raise UsageError(f"batch is {batch}.", "Encode one image at a time at least.")
        source = GivenImages(images, self.settings.data)
        if not len(source):
            raise DataError("There is no image to encode.", f"Give {KINDS}.")
        trained = self._trained
        encoder = trained.objective if feature == Z else trained.objective.represent
        transforms = None if self._transform is None else {"": self._transform}
        try:
            with evaluating(trained.objective):
                found = encode(
                    {"": encoder}, source, self.settings, device=self.device, precision=trained.precision, micro=batch,
                    transforms=transforms,
                )  # fmt: skip
        except DataError as error:
            raise DataError(error.message, f"Give {KINDS}.") from error
        rows = found.h[""]
        if not bool(rows.isfinite().all()):
            raise DivergedError("The representation is not finite.", "Load an earlier checkpoint of the run.")
        return F.normalize(rows) if l2 else rows

    def __repr__(self) -> str:
        method, title = self.settings.method.name, self.settings.model.title
        what = self._trained.checkpoint if is_onnx(self._trained.checkpoint) else f"{method}, {title}"
        return f"Encoder({what}, {self.settings.data.size} pixels, step {self.step})"


def load(run: str | os.PathLike[str], *, device: str = "auto", method: str | None = None) -> Encoder:
    """Load the encoder of a run, or one that was exported.

    Args:
        run: run folder, of which the newest undamaged checkpoint is read, a checkpoint file, or an `.onnx` file of
            `sslcli export`, which onnxruntime runs on the CPU. Other exports are for their home libraries.
        device: `cpu`, `cuda`, `mps`, or `auto`, the best one here.
        method: the run's `file.py:Class` again, if its method is your own: that code is imported.

    Raises:
        CheckpointError: no such run, or one that is damaged.
        UsageError: no such device, or a method of your own that was not given again.
    """
    return Encoder(*open_encoder(os.fspath(run), device, method, projector=True))
