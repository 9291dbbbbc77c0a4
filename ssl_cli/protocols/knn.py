"""Weighted kNN accuracy of a run or an exported encoder, for several k and temperatures in one pass."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_cli.config.images import refuse_among_images, with_data
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import Evaluation, open_evaluation
from ssl_cli.engine.evaluation.evaluate import knn_of
from ssl_cli.errors import NoLabelsError, OneClassError
from ssl_cli.events import Event
from ssl_cli.protocols import label_free
from ssl_cli.protocols.confusion import write_confusion
from ssl_cli.protocols.encoder import open_encoder
from ssl_cli.protocols.request import KNN
from ssl_cli.protocols.result import scored
from ssl_cli.registry import H, Z

NO_LABELS = "no kNN accuracy: it needs images with labels, of two classes at least"
IN_A_NAME = 4
"""Values of k or of the temperature that a file's name lists; of more, the first and how many."""


def knn_eval(
    run: str,
    data: str | tuple[str, ...] | None = None,
    *,
    ks: Sequence[int] = (),
    temperatures: Sequence[float] = (0.1,),
    feature: str = H,
    protocol: str | None = None,
    confusion: Path | None = None,
    without_labels: bool = False,
    baselines: bool = False,
    test_data: str | None = None,
    limit: int | None = None,
    device: str = "auto",
    method: str | None = None,
    machine: Mapping[str, Any] | None = None,
) -> Iterator[Event]:
    """Measure the weighted kNN accuracy of an encoder; the last event is `Evaluated` named `knn`.

    Of images without labels it is named `quality`, and holds what can be said without.

    Args:
        run: run folder, checkpoint file, or ONNX file of `sslcli export`.
        data: images of the bank; None: the run's own.
        ks: neighbours; none: `default_k`. The result is that of the first k and temperature, and `scores` has all.
        temperatures: T of the vote exp(s / T).
        feature: `h`, the output of the backbone, or `z`, the projector's output of unit length.
        protocol: name of the published protocol that these settings are from, for the result, where they are still its.
        confusion: PNG of the confusion matrix to write.
        without_labels: measure what needs no labels, though there are some.
        baselines: measure raw pixels and the same network untrained, too.
        test_data: folder of queries; None: what belongs to `data`.
        limit: use the first so many images of each class.
        device: where to compute.
        method: the run's method again, if it is the user's own.
        machine: `folder` of data sets, decode `threads`, `download`; what is left out is as in the run, but nothing is
            downloaded.

    Raises:
        SslcliError: no such run, no labels for `confusion` or `baselines`, features that are not finite, or a picture
            that cannot be written.
    """
    trained, transform = open_encoder(run, device, method, projector=feature == Z)
    settings = with_data(trained.settings, data, test_data, limit, machine)
    images, why = (None, "") if without_labels else _labelled(settings, confusion, required=baselines)
    if images is None:
        yield from label_free.measured(run, trained, settings, feature, transform, why)
        return
    result = knn_of(
        trained.objective, settings, trained.precision, images, ks=ks, temperatures=temperatures, feature=feature,
        baselines=baselines, details=True, transform=transform,
    )  # fmt: skip
    published = KNN[protocol].source if protocol and KNN[protocol].matches(ks, temperatures, feature) else None
    result |= {"protocol": protocol if published else None, "protocol_source": published}
    if confusion is not None:
        write_confusion(confusion, result["confusion"], result["per_class"], result["top1"])
        result["picture"] = str(confusion)
    words = [feature, _words("k", ks or (result["k"],)), _words("T", temperatures)]
    yield from scored(run, trained, images, "knn", result, settings, words, (*ks, *temperatures))


def _labelled(settings: Settings, picture: Path | None, *, required: bool) -> tuple[Evaluation | None, str]:
    """Open bank and queries; without labels, unless a picture or more requires them, return None and why.

    Raises:
        OneClassError: all labels are the same, which is no set without labels.
    """
    if picture is not None:
        refuse_among_images(picture, *settings.data.folders)
    try:
        return open_evaluation(settings.data, settings.run.seed), ""
    except NoLabelsError as error:
        if required or picture is not None or isinstance(error, OneClassError):
            raise
        return None, NO_LABELS


def _words(letter: str, values: Sequence[float]) -> str:
    """Name values in a file's name: `k20`, `k1+5+20`, or `k1-and-15-more`."""
    if len(values) > IN_A_NAME:
        return f"{letter}{values[0]:g}-and-{len(values) - 1}-more"
    return letter + "+".join(f"{value:g}" for value in values)
