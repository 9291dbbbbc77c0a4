"""`sslcli watch`: show a run that another process trains."""

from ssl_cli.commands import options
from ssl_cli.errors import CheckpointError
from ssl_cli.names import expanded, is_folder, shown

EPILOG = options.examples(
    "A run that trains elsewhere on this machine: sslcli watch runs/photos",
    "Wait for its end, then continue: sslcli watch runs/photos && sslcli export runs/photos -o encoder.onnx",
)


def watch(run: options.Run, json: options.Json = False, debug: options.Debug = False) -> int:
    """Show a run as it trains, from another terminal; the exit code is the run's. Ctrl-C ends the view, not the run."""
    folder = expanded(run)
    if not is_folder(folder):
        raise CheckpointError(f"There is no run folder {shown(run)}.", "Give one, as sslcli runs lists them.")
    from ssl_cli.runs import read_run
    from ssl_cli.ui.screen import TRAINING
    from ssl_cli.ui.sinks import present
    from ssl_cli.watch import watch as events

    found = read_run(folder)
    method = found.method if found and found.method in TRAINING else TRAINING[0]
    try:
        return present(method, events(folder), as_json=json, watched=True)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"metrics.jsonl in {shown(run)} holds what no run writes."
        raise CheckpointError(what, "sslcli runs lists what its other files say.") from error
