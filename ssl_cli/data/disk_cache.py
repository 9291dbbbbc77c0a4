"""A cache of decoded images on disk, which every later epoch and run reads in place of decoding."""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_cli.data.decode import DECODER
from ssl_cli.data.image_store import SCHEMA, ImageStore
from ssl_cli.data.numbers import PIXEL
from ssl_cli.data.source import Source, entries_of
from ssl_cli.data.split import Subset, files_of
from ssl_cli.data.waiting import ReadTimes
from ssl_cli.errors import write_error
from ssl_cli.names import expanded, shown

_LIBRARIES = ("pillow", "pillow-heif", "pydicom", "tifffile")
"""Packages that decode: another version may give other pixels."""


def folder_of(setting: str | None) -> Path:
    """Return the folder that holds all caches: as given, or the platform's own for caches."""
    if setting is not None:
        return expanded(setting)
    from platformdirs import user_cache_path

    return user_cache_path("sslcli") / "images"


def identity_of(source: Source, cap: int, channels: int, value_range: Any, depth: int) -> dict[str, Any] | None:
    """Return what determines the decoded images of a source; None: they are no files."""
    digest, empty = hashlib.sha256(), True
    for entry in entries_of(source):
        name, empty = entry.name.encode("utf-8", "surrogatepass"), False
        digest.update(b"%d %d %d " % (len(name), entry.size, entry.changed) + name)
    if empty:
        return None
    return {
        "schema": SCHEMA, "images": len(source), "content": digest.hexdigest(), "short_side": cap, "channels": channels,
        "range": None if value_range is None else list(value_range), "depth": depth,
        "decoder": DECODER, "libraries": dict(_versions()),
    }  # fmt: skip


def _versions() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            yield name, version(name)


class DiskCache(Subset):
    """Serve the images of a source, decoded once: they are read from disk from then on.

    Images that are no files are served, too, but not cached.

    Args:
        source: the images.
        root: folder of all caches; made if it is not there.
        cap: short side of the images that are cached; images of another one are decoded.

    Attributes:
        store: of the decoded images; None: they are no files.

    Raises:
        ResourceError: the folder cannot be written.
    """

    keeps_reads = True
    """Whether an image that was read once is not decoded again."""

    def __init__(self, source: Source, root: Path, cap: int) -> None:
        super().__init__(source, torch.arange(len(source)))
        self.cap = cap
        self.store: ImageStore | None = None
        files, _ = files_of(source, 0)
        self._times: ReadTimes | None = getattr(files, "times", None)
        channels, depth = int(getattr(files, "channels", 0)), int(getattr(files, "depth", 8))
        identity = identity_of(source, cap, channels, getattr(files, "value_range", None), depth)
        if identity is None:
            return
        try:
            self.store = ImageStore(root, identity, (len(source), channels), PIXEL[depth])
        except OSError as error:
            hint = "Choose another --set data.cache_folder, or data.cache=auto."
            raise write_error(f"the cache of images in {shown(str(root))}", error, hint) from error

    @property
    def full(self) -> str:
        """Why no more images are cached; empty: they are."""
        return self.store.full if self.store is not None else ""

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Return image `index` from disk, or decode it and write it there; errors as the source's.

        Note:
            Runs in decode threads, so no torch operation is called.
        """
        if self.store is None or cap != self.cap:
            return self.source.read(index, cap)
        began = time.perf_counter()
        pixels = self.store.get(index)
        if self._times is not None:
            self._times.add(disk=time.perf_counter() - began)
        if pixels is None:
            pixels = np.ascontiguousarray(self.source.read(index, cap).numpy().transpose(1, 2, 0))
            self.store.put(index, pixels)
        return torch.from_numpy(pixels).permute(2, 0, 1)
