"""The accuracy of a classifier on test images: none where it knows none of their classes."""

from pathlib import Path

import pytest
import torch

from ssl_cli.engine.build import build_objective
from ssl_cli.engine.evaluation.classify import accuracy_of
from ssl_cli.errors import DataError
from tests.data.files import open_folder
from tests.data.pictures import folder
from tests.engine.toy_run import toy_settings


def test_images_of_other_classes_alone_have_no_accuracy(tmp_path: Path) -> None:
    settings = toy_settings(source=str(tmp_path), classes=("bird", "fish"))
    others = open_folder(folder(tmp_path, {"cat": 1, "dog": 1}))
    with pytest.raises(DataError, match="No test image is of a class that was learned: bird, fish"):
        accuracy_of(build_objective(settings, torch.device("cpu")), settings, "fp32", others, "")
