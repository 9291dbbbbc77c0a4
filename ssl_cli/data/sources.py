"""Open the images to pretrain on and those to evaluate with, from the settings."""

from dataclasses import dataclass

from ssl_cli.config.tree import DataSettings
from ssl_cli.data.bands import in_channels
from ssl_cli.data.folder import open_folder
from ssl_cli.data.places import folder_of, is_shapes, refuse_test_images, training_folder
from ssl_cli.data.shapes import CLASSES, Shapes, Stream
from ssl_cli.data.source import Source
from ssl_cli.data.split import labelled, limited, relabelled, stratified
from ssl_cli.errors import DataError
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


def open_pretraining(settings: DataSettings, seed: int) -> Source:
    """Open the images to pretrain on.

    Raises:
        DataError: there is no such folder or data set, or no image in it.
    """
    return limited(_training(settings, seed), settings.limit)


def open_evaluation(settings: DataSettings, seed: int, split: str = "test") -> Evaluation:
    """Open bank and queries; with `split="validation"` neither holds a test image (to tune recipes on).

    Raises:
        DataError: as `open_pretraining`; or there are no labels, or no class is in both parts.
    """
    bank, queries, note = _pair(settings, seed, split)
    bank = _labelled(bank, settings)
    if queries is None:
        bank, queries = stratified(bank, seed)
    else:
        queries = _labelled(queries, settings)
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
    return Evaluation(bank, queries, note)


def _training(settings: DataSettings, seed: int) -> Source:
    folder = folder_of(settings.source)
    if folder is not None:
        return open_folder(training_folder(folder), settings.channels)
    if is_shapes(settings.source):
        return in_channels(Shapes(settings.images, settings.size, seed), settings.channels)
    return _open_named(settings)


def _pair(settings: DataSettings, seed: int, split: str) -> tuple[Source, Source | None, str]:
    """Return bank, queries and note; queries are None if they are to be split off the bank."""
    by_seed = f"a fifth of each class held out by seed {seed}"
    folder = folder_of(settings.source)
    if folder is None and is_shapes(settings.source):
        if settings.test is not None:
            refuse_test_images(settings.source)
        stream: Stream = "validation" if split == "validation" else "test"
        count = max(len(CLASSES), min(_TEST_IMAGES, settings.images // 8))
        queries = in_channels(Shapes(count, settings.size, seed, stream), settings.channels)
        return _training(settings, seed), queries, f"the embedded set's {stream} stream"
    if folder is None:
        # The bank is the training split, also of a name such as stl10:unlabeled.
        bank: Source = _open_named(settings, "train")
    else:
        bank = _training(settings, seed)
    if split == "validation":
        return bank, None, f"the training images, {by_seed}"
    if settings.test is not None:
        return (
            bank,
            open_folder(expanded(settings.test), settings.channels),
            f"the images of {shown(settings.test)}",
        )
    if folder is None:
        return bank, _open_named(settings, "test"), "the data set's own test split"
    for name in _TESTS if is_folder(folder / "train") else ():
        if is_folder(folder / name):
            return bank, open_folder(folder / name, settings.channels), f"the folder's own {name}/"
    return bank, None, f"no test images were given: {by_seed}, though pretraining saw them"


def _labelled(source: Source, settings: DataSettings) -> Source:
    source = limited(labelled(source), settings.limit)
    if not len(source):
        raise DataError(
            f"The images of {shown(source.name)} have no labels, so there is nothing to evaluate with.",
            "Put them into one folder per class, or give a labelled folder as DATA.",
        )
    return source


def _open_named(settings: DataSettings, split: str | None = None) -> Source:
    """Open a torchvision data set; torchvision, which takes seconds to import, is needed for these only."""
    from ssl_cli.data.catalogue import open_named

    return open_named(str(settings.source), settings, *([split] if split else []))
