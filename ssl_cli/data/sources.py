"""Open the images to pretrain on and those to evaluate with, from the settings."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ssl_cli.config.labels import parse_labels, require_unchanged
from ssl_cli.config.tree import DataSettings
from ssl_cli.data.bands import in_channels
from ssl_cli.data.collect import given_parts, refuse_overlap, test_parts, training_parts
from ssl_cli.data.folder import Files
from ssl_cli.data.grouping import grouped
from ssl_cli.data.labelled import choose, listed
from ssl_cli.data.part import Folder, Part
from ssl_cli.data.places import are_paths, is_shapes, refuse_test_images
from ssl_cli.data.shapes import CLASSES, Shapes, Stream
from ssl_cli.data.source import Source, group_ids, groups_of
from ssl_cli.data.split import hold_out, labelled, limited, part_of, relabelled, stratified, subset
from ssl_cli.errors import DataError, NoLabelsError, OneClassError
from ssl_cli.names import shown

_TEST_IMAGES = 2048
_NAMED = 3
"""Classes that a note names."""


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

    With `labels` none is among the test images that `open_evaluation` opens; with `hold_out` none is among those that
    it opens for validation.

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
    named = not are_paths(settings.places) and not is_shapes(settings.places)
    bank = _labelled(_training(settings, seed, "train" if named else None))  # also of a name such as stl10:unlabeled
    queries, note = _test_images(settings, seed, split)
    _require_classes(bank)
    if queries is None:
        bank, queries = stratified(bank, seed)
        note += _group_note(bank)
    else:
        queries = _labelled(limited(queries, settings.limit))
        unknown = sorted(set(queries.classes) - set(bank.classes))
        if len(unknown) == len(queries.classes):
            raise DataError(
                f"The test images' classes ({shown(', '.join(unknown[:3]))}, ...) are not among the training images'.",
                "Both need folders of the same names.",
            )
        queries = relabelled(queries, bank.classes)
        note += _shared_groups(bank, queries)
        if unknown:
            note += f"; {len(unknown)} of its classes are not in the bank, such as '{shown(unknown[0])}'"
    if not len(queries):
        one = "image" if groups_of(bank) is None else "group"
        raise DataError(
            f"{shown(bank.name)} holds one {one} of each class; a split needs two.", "Give --test-data DIR."
        )
    note = "; ".join(filter(None, [note, _without_queries(bank, queries)]))
    if labels is not None:
        bank = subset(bank, choose(bank.labels, bank.classes, parse_labels(labels), seed))
        note = "; ".join(filter(None, (note, f"labels: {shown(labels)}")))
    return Evaluation(bank, queries, note)


def open_own_test(settings: DataSettings, seed: int) -> Source | None:
    """Open the test images that there are, labelled or not; None: they would be split off the training images.

    Raises:
        DataError: as `open_pretraining`.
    """
    return _test_images(settings, seed, "test")[0]


def open_test(settings: DataSettings, seed: int) -> tuple[Source, str]:
    """Open the test images of `open_evaluation` alone, whose labels are numbered as theirs; return what they are, too.

    Raises:
        DataError: as `open_evaluation`.
    """
    queries, note = _test_images(settings, seed, "test")
    if queries is not None:
        return _labelled(limited(queries, settings.limit)), note
    bank, queries = stratified(_labelled(_training(settings, seed)), seed)
    return queries, note + _group_note(bank)


def _training(settings: DataSettings, seed: int, split: str | None = None) -> Source:
    """Open the training images, `split` of a named set if given; their labels are those of a file, if there is one."""
    if are_paths(settings.places):
        source: Source = _files(grouped(training_parts(settings.places), settings.group_by), settings)
    elif is_shapes(settings.places):
        source = in_channels(Shapes(settings.images, settings.size, seed), settings.channels)
    else:
        source = _open_named(settings, split)
    source, file = limited(source, settings.limit), parse_labels(settings.labels).file if settings.labels else None
    require_unchanged(settings.labels, settings.labels_sha256)
    return source if file is None else listed(source, file)


def _files(parts: list[Part], settings: DataSettings) -> Files:
    name = parts[0].where if len(parts) == 1 else ", ".join(part.prefix for part in parts[:_NAMED])
    name += ", ..." if len(parts) > _NAMED else ""
    skips_bad = settings.on_bad_image == "skip"
    return Files(name, parts, settings.channels, settings.value_range, settings.bits, skips_bad=skips_bad)


def _with_labels(source: Source, settings: DataSettings, seed: int) -> Source:
    """Keep the labels that `settings.labels` asks for, numbered as `settings.classes`.

    Raises:
        DataError: a class has fewer images than asked for, there are no labels, or one is not among the classes.
    """
    known = (source.labels >= 0).nonzero()[:, 0]
    if not len(known):
        raise _unlabelled(source, "learn from")
    if _test_images(settings, seed, "validation" if settings.hold_out else "test")[0] is None:
        known = known[hold_out(source.labels[known], seed, group=group_ids(source, known))[0]]
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
    paths = are_paths(settings.places)
    if not paths and is_shapes(settings.places):
        if settings.test is not None:
            refuse_test_images(settings.places)
        stream: Stream = "validation" if split == "validation" else "test"
        count = max(len(CLASSES), min(_TEST_IMAGES, settings.images // 8))
        queries = in_channels(Shapes(count, settings.size, seed, stream), settings.channels)
        return queries, f"the embedded set's {stream} stream"
    if split == "validation":
        return None, f"the training images, {by_seed}"
    if settings.test is not None:
        if paths:
            refuse_overlap(settings.places, settings.test)
        return _files(
            _test_groups(given_parts(settings.test), settings), settings
        ), f"the images of {shown(settings.test)}"
    if not paths:
        return _open_named(settings, "test"), "the data set's own test split"
    if parts := test_parts(settings.places):
        where = Path(parts[0].where).name
        own = f"{shown(where)}/" if isinstance(parts[0].storage, Folder) else f"test images, of {shown(where)}"
        return _files(_test_groups(parts, settings), settings), f"the data's own {own}"
    return None, f"no test images were given: {by_seed}, though pretraining saw them"


def _require_classes(source: Source) -> None:
    """Refuse images of one class, which nothing can be asked about.

    Raises:
        OneClassError: there is one.
    """
    if len(source.classes) == 1:
        what = f"The images of {shown(source.name)} are of one class, '{shown(source.classes[0])}'"
        hint = "Give a folder for each of two classes; knn-eval --without-labels measures what needs none."
        raise OneClassError(f"{what}, so there is nothing to evaluate with.", hint)


def _without_queries(bank: Source, queries: Source) -> str:
    """Name the classes of the bank that no query is of; empty: there is none."""
    asked, known = (set(source.labels.tolist()) for source in (queries, bank))
    left = sorted(known - asked)
    if not left:
        return ""
    names = ", ".join(shown(bank.classes[label]) for label in left[:_NAMED])
    more = ", ..." if len(left) > _NAMED else ""
    group = group_ids(bank)
    of = torch.arange(len(bank)) if group is None else group
    each = torch.unique(torch.stack([bank.labels, of]), dim=1)[0].bincount()
    few = int((each[left] == 1).sum())
    why = f", {few} of them with a single {'image' if group is None else 'group'}" if few else ""
    have = "has" if len(left) == 1 else "have"
    return f"{len(left)} of its {len(known)} classes {have} no test image{why}: {names}{more}"


def _test_groups(parts: list[Part], settings: DataSettings) -> list[Part]:
    """Group test images, whose paths need not have groups."""
    return grouped(parts, settings.group_by, required=False)


def _group_note(source: Source) -> str:
    return "" if groups_of(source) is None else ", in whole groups: none is on both sides"


def _shared_groups(bank: Source, queries: Source) -> str:
    """Count the groups that the test images have in common with the others, which are as given."""
    found = [groups_of(source) for source in (bank, queries)]
    names = [{groups.names[k] for k in set(groups.of.tolist()) if k >= 0} for groups in found if groups]
    both = len(set.intersection(*names)) if len(names) == 2 else 0
    return (
        f"; {both:,} of the {len(names[1]):,} groups of the test images are among the training images" if both else ""
    )


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

    return open_named(settings.places[0], settings, *([split] if split else []))
