"""Small image folders and sources for the tests of this folder."""

import threading
from collections.abc import Collection
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ssl_cli.errors import DataError


def save(path: Path, shade: int = 0, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(path, "PNG")
    return path


def folder(root: Path, classes: dict[str, int]) -> Path:
    """`classes`: how many images each holds; every image has a shade of its own."""
    shade = 0
    for name, count in classes.items():
        for k in range(count):
            save(root / name / f"{k:03}.png", shade)
            shade += 1
    return root


class Toy:
    """`count` images, read one by one; image i is filled with i; some are bad, some hang."""

    def __init__(self, count: int, bad: Collection[int] = (), hang: Collection[int] = (), ragged: bool = False) -> None:
        self.name = "toy"
        self.classes: tuple[str, ...] = ("a", "b")
        self.labels = torch.arange(count) % 2
        self.bad, self.hang, self.ragged = frozenset(bad), frozenset(hang), ragged
        self.reads: list[int] = []
        self.release = threading.Event()

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> str:
        return f"file\x1b[31m{index}.png"

    def read(self, index: int, cap: int | None = None) -> Tensor:
        self.reads.append(index)
        if index in self.hang:
            self.release.wait()
        if index in self.bad:
            raise DataError("it is damaged") if index % 2 else ZeroDivisionError("a decoder's own fault")
        return torch.full((3, 4 + (index % 3 if self.ragged else 0), 4), index % 256, dtype=torch.uint8)
