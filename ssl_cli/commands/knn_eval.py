"""`sslcli knn-eval`: measure a representation by the accuracy of its nearest neighbours."""

from typing import Annotated

import typer

from ssl_cli.commands import options
from ssl_cli.errors import UsageError
from ssl_cli.names import shown
from ssl_cli.registry import did_you_mean

EPILOG = options.examples(
    "The run's own test images: sslcli knn-eval runs/photos",
    "Compared with raw pixels and the untrained network: sslcli knn-eval runs/photos --baselines",
    "As the papers of MoCo, InstDisc and InvaSpread report it: sslcli knn-eval runs/photos --feature z",
    "Other images, one folder a class: sslcli knn-eval runs/photos birds/ -k 20 --temperature 0.07",
)
Neighbours = Annotated[
    int | None,
    typer.Option(
        "--k", "-k", metavar="N", min=1, max=10**9,
        help="Neighbours that vote (default: the smallest class's images, at most 200)",
        rich_help_panel=options.SCORE,
    ),
]  # fmt: skip
Temperature = Annotated[
    float,
    typer.Option(
        metavar="T",
        min=1e-6,
        callback=options.finite,
        help="A vote weighs exp(similarity / T).",
        rich_help_panel=options.SCORE,
    ),
]
FEATURES = ("h", "z")


def complete_feature(incomplete: str) -> list[str]:
    """Return the features that start with `incomplete`."""
    return [name for name in FEATURES if name.startswith(incomplete)]


def require_feature(feature: str) -> None:
    """Refuse what is neither h nor z.

    Raises:
        UsageError: it is neither.
    """
    if feature not in FEATURES:
        raise UsageError(f"There is no feature '{shown(feature)}'.", did_you_mean(feature, FEATURES))


Feature = Annotated[
    str,
    typer.Option(
        metavar="F",
        help="h: the backbone's output; z: the projector's, as in the published kNN of MoCo, InstDisc, InvaSpread.",
        autocompletion=complete_feature,
        rich_help_panel=options.SCORE,
    ),
]


def knn_eval(
    run: options.Run,
    data: options.EvalData = None,
    k: Neighbours = None,
    temperature: Temperature = 0.1,
    feature: Feature = "h",
    baselines: options.Baselines = False,
    test_data: options.TestData = None,
    limit: options.Limit = None,
    download: options.Download = None,
    device: options.Device = None,
    method: options.RunMethod = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Weighted nearest-neighbour accuracy of a run's representation h, or of its embedding z."""
    require_feature(feature)
    from ssl_cli.commands.preflight import evaluation
    from ssl_cli.ui.sinks import present

    hardware, machine = evaluation(run, data, test_data, device=device, download=download, method=method)
    from ssl_cli.engine.evaluation.evaluate import (
        knn_eval as evaluate,  # imports torch: after the arguments are validated
    )

    events = evaluate(
        run,
        options.places(data),
        k=k,
        temperature=temperature,
        feature=feature,
        baselines=baselines,
        test_data=test_data,
        limit=limit,
        device=hardware,
        method=method,
        machine=machine,
    )
    return present("knn-eval", events, as_json=json)
