"""`sslcli knn-eval`: measure a representation by the accuracy of its nearest neighbours."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ssl_cli.commands import complete, options
from ssl_cli.errors import UsageError
from ssl_cli.protocols.request import KNN, integers, require, require_suited, temperatures
from ssl_cli.registry import FEATURES

EPILOG = options.examples(
    "The run's own test images: sslcli knn-eval runs/photos",
    "Compared with raw pixels and the untrained network: sslcli knn-eval runs/photos --baselines",
    "As MoCo's authors report it: sslcli knn-eval runs/photos --protocol moco",
    "Several k and temperatures in one pass: sslcli knn-eval runs/photos birds/ --k 1,5,20 --temperature 0.07,0.1",
    "Which class is taken for which: sslcli knn-eval runs/photos --confusion confusion.png",
    "An exported encoder: sslcli knn-eval encoder.onnx birds/",
)
DEFAULT_TEMPERATURE = 0.1


def _checked(read: Callable[[Sequence[str]], object]) -> Callable[[list[str] | None], list[str] | None]:
    """Return a callback that refuses values which `read` refuses, and leaves them as they are."""

    def check(texts: list[str] | None) -> list[str] | None:
        try:
            read(texts or ())
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        return texts

    return check


Neighbours = Annotated[
    list[str] | None,
    typer.Option(
        "--k", "-k", metavar="N,...", callback=_checked(integers),
        help="Neighbours that vote, one or several (default: the smallest class's images, at most 200)",
        rich_help_panel=options.SCORE,
    ),
]  # fmt: skip
Temperature = Annotated[
    list[str] | None,
    typer.Option(
        metavar="T,...", callback=_checked(temperatures),
        help="A vote weighs exp(similarity / T); one or several (default: 0.1)",
        rich_help_panel=options.SCORE,
    ),
]  # fmt: skip


def require_feature(feature: str) -> None:
    """Refuse what is neither h nor z.

    Raises:
        UsageError: it is neither.
    """
    require("feature", feature, FEATURES)


FEATURE_HELP = "h: the backbone's output; z: the projector's, as in the published kNN of MoCo, InstDisc, InvaSpread"
Feature = Annotated[
    str,
    typer.Option(
        metavar="F", help=f"{FEATURE_HELP}.", autocompletion=complete.among(FEATURES), rich_help_panel=options.SCORE
    ),
]
ScoredFeature = Annotated[
    str | None,
    typer.Option(
        "--feature", metavar="F", help=f"{FEATURE_HELP} (default: h)", autocompletion=complete.among(FEATURES),
        rich_help_panel=options.SCORE,
    ),
]  # fmt: skip
Protocol = Annotated[
    str | None,
    typer.Option(
        metavar="P",
        help=f"{', '.join(KNN)}: the k, temperature and feature of published results; what else is given counts first.",
        autocompletion=complete.among(KNN),
        rich_help_panel=options.SCORE,
    ),
]
Confusion = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="PNG: which class is taken for which.", rich_help_panel=options.OUTPUT),
]
WithoutLabels = Annotated[
    bool,
    typer.Option(
        "--without-labels", metavar=options.SWITCH,
        help="RankMe, alignment, uniformity, consistency of views (as for images without labels)",
        rich_help_panel=options.SCORE,
    ),
]  # fmt: skip


def knn_eval(
    run: options.Run,
    data: options.EvalData = None,
    k: Neighbours = None,
    temperature: Temperature = None,
    feature: ScoredFeature = None,
    protocol: Protocol = None,
    confusion: Confusion = None,
    without_labels: WithoutLabels = False,
    baselines: options.Baselines = False,
    test_data: options.TestData = None,
    limit: options.Limit = None,
    group_by: options.SplitBy = None,
    download: options.Download = None,
    device: options.Device = None,
    method: options.RunMethod = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Weighted nearest-neighbour accuracy of a run's representation h, or of its embedding z."""
    from ssl_cli.commands.preflight import evaluation, picture
    from ssl_cli.ui.sinks import present

    if protocol is not None:
        require("protocol", protocol, tuple(KNN))
    preset = KNN.get(protocol or "")
    feature = feature or (preset.feature if preset else "h")
    require_feature(feature)
    require_suited(run, data, feature, baselines=baselines, method=method)
    if confusion is not None:
        picture(confusion, "confusion")
    if without_labels and (confusion is not None or baselines or k or temperature or protocol):
        raise UsageError(
            "--without-labels measures no neighbours of classes.", "Leave out the other flags of the score."
        )
    hardware, machine = evaluation(
        run, data, test_data, device=device, download=download, method=method, group_by=group_by
    )
    from ssl_cli.protocols.knn import knn_eval as evaluate  # imports torch: after the arguments are validated

    events = evaluate(
        run,
        options.places(data),
        ks=integers(k) if k else (preset.k,) if preset else (),
        temperatures=temperatures(temperature or [str(preset.temperature if preset else DEFAULT_TEMPERATURE)]),
        feature=feature,
        protocol=protocol,
        confusion=confusion,
        without_labels=without_labels,
        baselines=baselines,
        test_data=test_data,
        limit=limit,
        device=hardware,
        method=method,
        machine=machine,
    )
    return present("knn-eval", events, as_json=json)
