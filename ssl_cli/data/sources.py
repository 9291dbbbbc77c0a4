"""Open the images to pretrain on and those to evaluate with, from the settings."""

from dataclasses import dataclass, replace

import torch

from ssl_cli.config.labels import parse_labels, require_unchanged
from ssl_cli.config.tree import DataSettings
from ssl_cli.data.bands import in_channels
from ssl_cli.data.folder import open_folder
from ssl_cli.data.labelled import choose, listed
from ssl_cli.data.places import folder_of, is_shapes, refuse_test_images, training_folder
from ssl_cli.data.shapes import CLASSES, Shapes, Stream
from ssl_cli.data.source import Source
from ssl_cli.data.split import hold_out, labelled, limited, part_of, relabelled, stratified, subset
from ssl_cli.errors import DataError, NoLabelsError
from ssl_cli.names import expanded, is_folder, shown

_TESTS = ("test", "val")
_TEST_IMAGES = 2048


@dataclass(frozen=True)
class Evaluation:
    """Hold labelled images for an evaluation, in two parts whose labels are numbered alike.

    Attributes:
        bank: the training images of the evaluation: kNN's bank, the linear probe's training set.
        queries: the test images.
        note: how the images were split.
    """

    bank: Source
    queries: Source
    note: str

    def part(self, bank: int, queries: int, seed: int) -> "Evaluation":
        """Return about so many images of each, the same share of each class, chosen by the seed; the note says so."""
        parts = part_of(self.bank, bank, seed), part_of(self.queries, queries, seed)
        left_out = len(parts[0]) + len(parts[1]) < len(self.bank) + len(self.queries)
        note = f"{self.note}; a part of them, chosen by seed {seed}: knn-eval takes all" if left_out else self.note
        return replace(self, bank=parts[0], queries=parts[1], note=note)


def open_pretraining(settings: DataSettings, seed: int) -> Source:
    """Open the images to train on; with `labels` those that are labelled, or all with these labels alone.

    With `labels` none is among the test images that `open_evaluation` opens.

    Raises:
        DataError: there is no such folder or data set, no image in it, or not the labels asked for.
    """
    source = _training(settings, seed)
    return source if settings.labels is None else _with_labels(source, settings, seed)


def open_evaluation(settings: DataSettings, seed: int, split: str = "test", labels: str | None = None) -> Evaluation:
    """Open bank and queries; with `split="validation"` neither holds a test image (to tune recipes on).

    With `labels` the bank holds the images alone that training with these labels would use.

    Raises:
        DataError: as `open_pretraining`; or there are no labels, or no class is in both parts.
    """
    if labels is not None:
        settings = settings.model_copy(update={"labels": labels, "labels_sha256": None})
    named = folder_of(settings.source) is None and not is_shapes(settings.source)
    bank = _labelled(_training(settings, seed, "train" if named else None))  # also of a name such as stl10:unlabeled
    queries, note = _test_images(settings, seed, split)
    if queries is None:
        bank, queries = stratified(bank, seed)
    else:
        queries = _labelled(limited(queries, settings.limit))
        unknown = sorted(set(queries.classes) - set(bank.classes))
        if len(unknown) == len(queries.classes):
            raise DataError(
                f"The test images' classes ({shown(', '.join(unknown[:3]))}, ...) are not among the training images'.",
                "Both need folders of the same names.",
            )
        queries = relabelled(queries, bank.classes)
        if unknown:
            note += f"; {len(unknown)} of its classes are not in the bank, such as '{shown(unknown[0])}'"
    if not len(queries):
        raise DataError(
            f"{shown(bank.name)} holds one image of each class; a split needs two.", "Give --test-data DIR."
        )
    if labels is not None:
        bank = subset(bank, choose(bank.labels, bank.classes, parse_labels(labels), seed))
        note = "; ".join(filter(None, (note, f"labels: {shown(labels)}")))
    return Evaluation(bank, queries, note)


def open_test(settings: DataSettings, seed: int) -> tuple[Source, str]:
    """Open the test images of `open_evaluation` alone, whose labels are numbered as theirs; return what they are, too.

    Raises:
        DataError: as `open_evaluation`.
    """
    queries, note = _test_images(settings, seed, "test")
    if queries is not None:
        return _labelled(limited(queries, settings.limit)), note
    return stratified(_labelled(_training(settings, seed)), seed)[1], note


def _training(settings: DataSettings, seed: int, split: str | None = None) -> Source:
    """Open the training images, `split` of a named set if given; their labels are those of a file, if there is one."""
    folder, root = folder_of(settings.source), None
    if folder is not None:
        root = training_folder(folder)
        source: Source = open_folder(root, settings.channels, settings.value_range)
    elif is_shapes(settings.source):
        source = in_channels(Shapes(settings.images, settings.size, seed), settings.channels)
    else:
        source = _open_named(settings, split)
    source, file = limited(source, settings.limit), parse_labels(settings.labels).file if settings.labels else None
    require_unchanged(settings.labels, settings.labels_sha256)
    return source if file is None else listed(source, file, root)


def _with_labels(source: Source, settings: DataSettings, seed: int) -> Source:
    """Keep the labels that `settings.labels` asks for, numbered as `settings.classes`.

    Raises:
        DataError: a class has fewer images than asked for, there are no labels, or one is not among the classes.
    """
    known = (source.labels >= 0).nonzero()[:, 0]
    if not len(known):
        raise _unlabelled(source, "learn from")
    if _test_images(settings, seed, "test")[0] is None:
        known = known[hold_out(source.labels[known], seed)[0]]
    chosen = known[choose(source.labels[known], source.classes, parse_labels(str(settings.labels)), seed)]
    labels = torch.full((len(source),), -1)
    labels[chosen] = source.labels[chosen]
    unknown = sorted(set(source.classes) - set(settings.classes or source.classes))
    if unknown:
        what = f"The class '{shown(unknown[0])}' of {shown(source.name)} is not one of the run's"
        raise DataError(f"{what}: {shown(', '.join(settings.classes[:5]))}.", "Give images of its classes.")
    used = torch.arange(len(source)) if settings.unlabelled else chosen
    return relabelled(subset(source, used, labels[used]), settings.classes or source.classes)


def _test_images(settings: DataSettings, seed: int, split: str) -> tuple[Source | None, str]:
    """Return the test images, None if they are to be split off the training images, and what they are."""
    by_seed = f"a fifth of each class held out by seed {seed}"
    folder = folder_of(settings.source)
    if folder is None and is_shapes(settings.source):
        if settings.test is not None:
            refuse_test_images(settings.source)
        stream: Stream = "validation" if split == "validation" else "test"
        count = max(len(CLASSES), min(_TEST_IMAGES, settings.images // 8))
        queries = in_channels(Shapes(count, settings.size, seed, stream), settings.channels)
        return queries, f"the embedded set's {stream} stream"
    if split == "validation":
        return None, f"the training images, {by_seed}"
    if settings.test is not None:
        test = open_folder(expanded(settings.test), settings.channels, settings.value_range)
        return test, f"the images of {shown(settings.test)}"
    if folder is None:
        return _open_named(settings, "test"), "the data set's own test split"
    for name in _TESTS if is_folder(folder / "train") else ():
        if is_folder(folder / name):
            found = open_folder(folder / name, settings.channels, settings.value_range)
            return found, f"the folder's own {name}/"
    return None, f"no test images were given: {by_seed}, though pretraining saw them"


def _labelled(source: Source) -> Source:
    source = labelled(source)
    if not len(source):
        raise _unlabelled(source)
    return source


def _unlabelled(source: Source, purpose: str = "evaluate with") -> NoLabelsError:
    return NoLabelsError(
        f"The images of {shown(source.name)} have no labels, so there is nothing to {purpose}.",
        "Put them into one folder per class, or give a labelled folder as DATA.",
    )


def _open_named(settings: DataSettings, split: str | None = None) -> Source:
    """Open a torchvision data set; torchvision, which takes seconds to import, is needed for these only."""
    from ssl_cli.data.catalogue import open_named

    return open_named(str(settings.source), settings, *([split] if split else []))
