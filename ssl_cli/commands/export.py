"""`sslcli export`: write the encoder for use elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from ssl_cli.commands import complete, options
from ssl_cli.formats.request import FLOAT, INPUTS, OPSET, SUFFIXES, check_options
from ssl_cli.formats.request import Options as Form

EPILOG = options.examples(
    "For images that you have fitted yourself: sslcli export runs/photos -o encoder.onnx",
    "For images as decoded, of any size: sslcli export runs/photos -o encoder.onnx --input uint8-nhwc",
    "For search by cosine: sslcli export runs/photos -o search.onnx --input uint8-nhwc --l2",
    "A fine-tuned run, images to logits: sslcli export runs/classifier --classifier -o classifier.onnx",
    "Weights for torchvision's own network: sslcli export runs/photos --to torchvision -o encoder.pth",
    "A quarter of the size, and what that costs: sslcli export runs/photos -o small.onnx --int8",
    "For a newer runtime, with the facts as JSON: sslcli export runs/photos -o encoder.onnx --opset 23 --json",
)
PANEL = "ONNX"


complete_input = complete.among(INPUTS)
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="The file to write, such as FILE.onnx; it appears once it agrees with torch.",
        rich_help_panel=options.OUTPUT,
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="FORMAT",
        help=f"{', '.join(SUFFIXES)} (default: by the file's ending)",
        autocompletion=complete.among(SUFFIXES),
        rich_help_panel=options.OUTPUT,
    ),
]
Input = Annotated[
    str,
    typer.Option(
        "--input",
        metavar="KIND",
        help="float-nchw: images by the test transform; uint8-nhwc: as decoded, any size, the transform inside.",
        autocompletion=complete_input,
        rich_help_panel=PANEL,
    ),
]
L2 = Annotated[
    bool,
    typer.Option(
        "--l2", metavar=options.SWITCH, help="Divide h by its length (default: as it is)", rich_help_panel=PANEL
    ),
]
WithClassifier = Annotated[
    bool,
    typer.Option(
        "--classifier",
        metavar=options.SWITCH,
        help="Of a fine-tuned run: images to logits, with class names (default: to h)",
        rich_help_panel=PANEL,
    ),
]
Opset = Annotated[
    int, typer.Option(metavar="N", help="ONNX opset, 18 to 23; older runtimes need a low one.", rich_help_panel=PANEL)
]
DynamicSize = Annotated[
    bool,
    typer.Option(
        "--dynamic-size", metavar=options.SWITCH, help="Fitted images of any size (default: the run's)",
        rich_help_panel=PANEL,
    ),
]  # fmt: skip
Half = Annotated[
    bool,
    typer.Option(
        "--half", metavar=options.SWITCH, help="Weights of float16: half the size.", rich_help_panel=PANEL
    ),
]  # fmt: skip
Int8 = Annotated[
    bool,
    typer.Option(
        "--int8", metavar=options.SWITCH, help="Weights of 8 bits: a quarter of the size.", rich_help_panel=PANEL
    ),
]  # fmt: skip


def export(
    run: options.Run,
    output: Output,
    to: To = None,
    input_kind: Input = FLOAT,
    l2: L2 = False,
    classifier: WithClassifier = False,
    opset: Opset = OPSET,
    dynamic_size: DynamicSize = False,
    half: Half = False,
    int8: Int8 = False,
    method: options.RunMethod = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Write a run's encoder, from images to h, for other programs: one file, checked against torch."""
    from ssl_cli.commands import preflight
    from ssl_cli.exports.write import write
    from ssl_cli.ui.sinks import present

    form = Form(to, classifier, opset, input_kind, l2, dynamic_size, half, int8)
    check_options(output, form)  # before torch is imported; `write` checks again for its other callers
    preflight.evaluation(run, None, None, device=None, download=None, method=method)
    return present("export", write(run, output, form, method), as_json=json)
