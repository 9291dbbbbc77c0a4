"""`sslcli linear-eval`: measure a representation by the accuracy of a linear classifier on top of it."""

from ssl_cli.commands import options

EPILOG = options.examples(
    "The run's own images: sslcli linear-eval runs/photos",
    "With a tenth of the labels: sslcli linear-eval runs/photos --labels 10%",
    "Other images, with a test folder: sslcli linear-eval runs/photos birds/train --test-data birds/test",
    "For a program: sslcli linear-eval runs/photos --json",
)


def linear_eval(
    run: options.Run,
    data: options.EvalData = None,
    labels: options.Labels = None,
    baselines: options.Baselines = False,
    test_data: options.TestData = None,
    limit: options.Limit = None,
    download: options.Download = None,
    device: options.Device = None,
    method: options.RunMethod = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Accuracy of a linear classifier on a run's frozen representation h."""
    from ssl_cli.commands.preflight import evaluation
    from ssl_cli.ui.sinks import present

    if labels is not None:
        from ssl_cli.config.labels import parse_labels

        parse_labels(labels)
    hardware, machine = evaluation(run, data, test_data, device=device, download=download, method=method)
    from ssl_cli.protocols.linear import linear_eval as evaluate  # imports torch: after the arguments are validated

    events = evaluate(
        run,
        options.places(data),
        labels=labels,
        baselines=baselines,
        test_data=test_data,
        limit=limit,
        device=hardware,
        method=method,
        machine=machine,
    )
    return present("linear-eval", events, as_json=json)
