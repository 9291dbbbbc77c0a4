"""`sslcli linear-eval`: how good a representation is, by a linear classifier on top of it."""

from typing import Annotated

import typer

from ssl_cli.commands import options

EPILOG = options.examples(
    "The run's own images: sslcli linear-eval runs/photos",
    "Other images, with a test folder: sslcli linear-eval runs/photos birds/train --test-data birds/test",
    "For a program: sslcli linear-eval runs/photos --json",
)
Baselines = Annotated[
    bool, typer.Option("--baselines", metavar=options.SWITCH, help="Also raw pixels, and the same network untrained.")
]


def linear_eval(
    run: options.Run,
    data: options.EvalData = None,
    baselines: Baselines = False,
    test_data: options.TestData = None,
    limit: options.Limit = None,
    device: options.Device = None,
    method: options.RunMethod = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Accuracy of a linear classifier on a run's frozen representation h."""
    from ssl_cli.engine.evaluate import linear_eval as evaluate
    from ssl_cli.ui.sinks import present

    events = evaluate(
        run,
        data,
        baselines=baselines,
        test_data=test_data,
        limit=limit,
        device=device or "auto",
        method=method,
    )
    return present("linear-eval", events, as_json=json)
