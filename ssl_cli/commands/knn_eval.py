"""`sslcli knn-eval`: measure a representation by the accuracy of its nearest neighbours."""

from typing import Annotated

import typer

from ssl_cli.commands import options

EPILOG = options.examples(
    "The run's own test images: sslcli knn-eval runs/photos",
    "Compared with raw pixels and the untrained network: sslcli knn-eval runs/photos --baselines",
    "Other images, one folder a class: sslcli knn-eval runs/photos birds/ -k 20 --temperature 0.07",
)
Neighbours = Annotated[
    int, typer.Option("--k", "-k", metavar="N", min=1, help="Neighbours that vote.", rich_help_panel=options.SCORE)
]
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


def knn_eval(
    run: options.Run,
    data: options.EvalData = None,
    k: Neighbours = 200,
    temperature: Temperature = 0.1,
    baselines: options.Baselines = False,
    test_data: options.TestData = None,
    limit: options.Limit = None,
    download: options.Download = None,
    device: options.Device = None,
    method: options.RunMethod = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Weighted nearest-neighbour accuracy of a run's representation h."""
    from ssl_cli.commands.preflight import evaluation
    from ssl_cli.ui.sinks import present

    hardware, machine = evaluation(run, data, test_data, device=device, download=download, method=method)
    from ssl_cli.engine.evaluation.evaluate import (
        knn_eval as evaluate,  # imports torch: after the arguments are validated
    )

    events = evaluate(
        run,
        data,
        k=k,
        temperature=temperature,
        baselines=baselines,
        test_data=test_data,
        limit=limit,
        device=hardware,
        method=method,
        machine=machine,
    )
    return present("knn-eval", events, as_json=json)
