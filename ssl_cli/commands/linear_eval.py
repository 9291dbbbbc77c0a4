"""`sslcli linear-eval`: measure a representation by the accuracy of a linear classifier on top of it."""

from typing import Annotated

import typer

from ssl_cli.commands import complete, options
from ssl_cli.errors import UsageError
from ssl_cli.protocols.request import BY_SGD, LBFGS, LINEAR, require, require_suited

EPILOG = options.examples(
    "The run's own images: sslcli linear-eval runs/photos",
    "With a tenth of the labels: sslcli linear-eval runs/photos --labels 10%",
    "Other images, with a test folder: sslcli linear-eval runs/photos birds/train --test-data birds/test",
    "As MoCo's authors measure it, on 100 epochs of crops: sslcli linear-eval runs/photos --protocol moco",
    "For a program: sslcli linear-eval runs/photos --json",
)


Protocol = Annotated[
    str,
    typer.Option(
        metavar="P",
        help="lbfgs: h of each image as it is; moco, simclr: SGD on 100 or 90 epochs of crops and flips; "
        "fast: a grid of rates and penalties on a few such passes.",
        autocompletion=complete.among(LINEAR),
        rich_help_panel=options.SCORE,
    ),
]


def linear_eval(
    run: options.Run,
    data: options.EvalData = None,
    protocol: Protocol = LBFGS,
    labels: options.Labels = None,
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
    """Accuracy of a linear classifier on a run's frozen representation h."""
    from ssl_cli.commands.preflight import evaluation
    from ssl_cli.ui.sinks import present

    require("protocol", protocol, tuple(LINEAR))
    require_suited(run, data, "h", baselines=baselines, method=method)
    if baselines and protocol in BY_SGD:
        raise UsageError(f"--baselines are not trained by --protocol {protocol}.", "Give --protocol lbfgs or fast.")
    if labels is not None:
        from ssl_cli.config.labels import parse_labels

        parse_labels(labels)
    hardware, machine = evaluation(
        run, data, test_data, device=device, download=download, method=method, group_by=group_by
    )
    from ssl_cli.protocols.linear import linear_eval as evaluate  # imports torch: after the arguments are validated

    events = evaluate(
        run,
        options.places(data),
        protocol=protocol,
        labels=labels,
        baselines=baselines,
        test_data=test_data,
        limit=limit,
        device=hardware,
        method=method,
        machine=machine,
    )
    return present("linear-eval", events, as_json=json)
