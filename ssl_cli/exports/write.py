"""Write a run in the format that is asked for: what `sslcli export` and `ssl_cli.export` share."""

from collections.abc import Iterator
from pathlib import Path

from ssl_cli.events import Event
from ssl_cli.formats.request import ONNX, Options, check_options


def write(run: str, output: Path, options: Options, method: str | None = None) -> Iterator[Event]:
    """Write a run for other programs; the last event is `Evaluated` named `export`.

    Args:
        run: run folder or checkpoint file.
        output: the file; it is replaced only by what agrees with the run.
        options: its format and form.
        method: the run's method again, if it is the user's own.

    Raises:
        UsageError: what cannot be written so.
        CheckpointError: no such run, or what was written computes something else.
        ResourceError: `output` cannot be written.
    """
    form = check_options(output, options)
    if form != ONNX:
        from ssl_cli.exports.weights import export_weights

        return export_weights(run, output, form, classifier=options.classifier, method=method)
    from ssl_cli.exports.onnx import export_run

    return export_run(
        run, output, opset=options.opset, input_kind=options.input_kind, l2=options.l2, classifier=options.classifier,
        dynamic_size=options.dynamic_size, dtype=options.dtype, method=method,
    )  # fmt: skip
