"""`sslcli export`: write the encoder for use elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from ssl_cli.commands import options

EPILOG = options.examples(
    "ONNX with a free batch size, checked against torch: sslcli export runs/photos -o encoder.onnx",
    "For an older runtime: sslcli export runs/photos -o encoder.onnx --opset 18",
)
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")]
Opset = Annotated[int, typer.Option(metavar="N", help="ONNX opset, 18 to 23.")]


def export(
    run: options.Run,
    output: Output,
    opset: Opset = 18,
    method: options.RunMethod = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Write a run's encoder, from images to h, as ONNX."""
    from ssl_cli.engine.export import export_run
    from ssl_cli.ui.sinks import present

    return present("export", export_run(run, output, opset=opset, method=method), as_json=json)
