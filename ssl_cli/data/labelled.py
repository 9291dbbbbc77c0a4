"""The images whose labels training uses: class-balanced by a share or a number, chosen by the seed, or listed."""

from pathlib import Path

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.config.labels import Labels, read_labels
from ssl_cli.data.source import Source, entries_of
from ssl_cli.data.split import subset
from ssl_cli.errors import DataError
from ssl_cli.names import shown

_STREAM = -4
"""Of the permutations that choose: no epoch and no split uses it."""


def choose(labels: Tensor, classes: tuple[str, ...], spec: Labels, seed: int) -> Tensor:
    """Choose images of these labels `(N,)`; return their positions in ascending order.

    A share takes `round(share * images)` of each class, one at least. The images of a class are taken in an order that
    depends on the seed alone, so with the same seed a smaller choice is part of a larger one. A file takes all.

    Args:
        labels: 0 or above.
        classes: names of the labels, for messages.
        spec: what is asked for.
        seed: chooses the images.

    Raises:
        DataError: a class has fewer images than asked for.
    """
    if spec.file is not None:
        return torch.arange(len(labels))
    chosen = []
    for label in sorted(set(labels.tolist())):
        members = (labels == label).nonzero()[:, 0]
        count = spec.each if spec.each is not None else max(1, round((spec.share or 0) * len(members)))
        if count > len(members):
            least = int(min(size for size in labels.bincount().tolist() if size))
            raise DataError(
                f"The class '{shown(classes[label])}' has {len(members):,} training images, and {count:,} are asked "
                "for.",
                f"Pass --labels {least}-per-class or fewer, or a share such as 10%.",
            )
        chosen.append(members[draws.permutation(seed, len(members), _STREAM, label)[:count]])
    return torch.cat(chosen).sort().values


def listed(source: Source, file: Path) -> Source:
    """Return the source with the labels of the images that a file lists, and -1 for all others.

    Args:
        source: the images.
        file: of paths relative to the place of the images or to this folder, or absolute; see `read_labels`.

    Raises:
        DataError: it lists an image that is not there, or one without a label.
    """
    place = {source.path(index): index for index in range(len(source))}
    place |= {entry.name: index for index, entry in enumerate(entries_of(source))}
    names = read_labels(file)
    found, absolute = dict[int, str](), dict[Path, int]()
    for name, label in names.items():
        index = place.get(name)
        if index is None:
            absolute = absolute or {Path(path).absolute(): index for path, index in place.items()}
            index = absolute.get(Path(name).absolute())
        if index is None:
            where, example = shown(source.name), next(iter(entries_of(source)), None)
            such = f", such as {shown(example.name)}" if example else ""
            hint = f"Give paths relative to DATA{such}, to this folder, or absolute."
            raise DataError(f"'{shown(name)}' (in {shown(str(file))}) is no image of {where}.", hint)
        own = int(source.labels[index])
        words = label if label is not None else source.classes[own] if own >= 0 else None
        if words is None:
            what = f"'{shown(name)}' (in {shown(str(file))}) has no label."
            raise DataError(what, "Write path,label lines into a .csv, or one folder per class.")
        found[index] = words
    classes = tuple(sorted(set(found.values())))
    number = {name: k for k, name in enumerate(classes)}
    labels = torch.full((len(source),), -1)
    for index, words in found.items():
        labels[index] = number[words]
    return subset(source, torch.arange(len(source)), labels, classes)
