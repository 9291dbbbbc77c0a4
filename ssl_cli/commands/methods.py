"""`sslcli methods`: list methods, backbones and recipes; show a recipe with the source of every value."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from ssl_cli.commands import complete, options
from ssl_cli.errors import UsageError
from ssl_cli.names import shown
from ssl_cli.registry import BACKBONE_LIBRARIES, BACKBONES, FAMILIES, METHODS, did_you_mean, method_path
from ssl_cli.ui.stream import write_result

EPILOG = options.examples(
    "What there is: sslcli methods",
    "A paper's settings, each with its source: sslcli methods moco-v2",
    "Those for small images: sslcli methods instdisc --recipe cifar",
    "For a program: sslcli methods simclr --json",
)
PAPERS = {
    "instdisc": ("1805.01978", "a view agrees with its image's own row in a memory bank, against all other rows"),
    "invaspread": ("1904.03436", "two views of each image agree and all else in the batch is pushed apart: no memory"),
    "moco-v1": ("1911.05722", "a query meets its key from a momentum encoder, against a queue of earlier keys"),
    "moco-v2": ("2003.04297", "moco-v1 with a two-layer head, blur and a cosine schedule"),
    "simclr": ("2002.05709", "two views of each image agree, against all other views of a large batch"),
    "simclr-v2": ("2006.10029", "simclr with a three-layer head, for larger networks and few labels"),
}
"""The arXiv number of each method's paper, and its idea in a sentence."""
SIZES = {
    "resnet18": (512, 11.2),
    "resnet34": (512, 21.3),
    "resnet50": (2048, 23.5),
    "resnet101": (2048, 42.5),
    "resnet152": (2048, 58.1),
}
"""The dimensions of h and the millions of parameters of each backbone at width 1."""
SUITED = {
    "own": "any DATA: network, image size, batch and epochs by the images, the machine and --time",
    "shapes": "no DATA: a narrow ResNet-18 at 32 pixels, about four minutes",
    "cifar": "the papers' own for CIFAR, up to 64 pixels; hundreds of epochs",
    "stl10": "the paper's own for STL-10, at 96 pixels; hundreds of epochs",
    "imagenet": "the papers' own for ImageNet, at 224 pixels; wants GPUs",
}
"""The images that each family of recipes suits."""


Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="A method, to see its recipe. Absent: all there is.",
        show_default=False,
        autocompletion=complete.methods,
    ),
]
Family = Annotated[
    str | None,
    typer.Option(
        metavar="FAMILY",
        help=f"{', '.join(FAMILIES)} (default: the method's largest)",
        autocompletion=complete.among(FAMILIES),  # which does not know the method typed before an unfinished flag
        rich_help_panel=options.SETTING,
    ),
]


def methods(
    method: Name = None, recipe: Family = None, json: options.Json = False, debug: options.Debug = False
) -> int:
    """List methods, backbones and recipes, or show a recipe."""
    if recipe is not None and recipe not in FAMILIES:
        raise UsageError(f"There is no recipe family '{shown(recipe)}'.", did_you_mean(recipe, FAMILIES))
    if method is None:
        if recipe is not None:
            raise UsageError("A recipe is a method's.", f"Name one: sslcli methods moco-v2 --recipe {recipe}.")
        document, lines = _everything(), _listing()
    else:
        method_path(method)
        document, lines = _shown(method, recipe)
    if json:
        from ssl_cli.ui.sinks import write_json

        write_json({"schema": 1, "command": "methods", **document})
    else:
        write_result("".join(f"{line}\n" for line in lines))
    return 0


def _about(method: str) -> dict[str, Any]:
    from ssl_cli.config.recipe import families

    paper, sentence = PAPERS.get(method, (None, "a method of your own"))
    return {"name": method, "paper": paper, "sentence": sentence, "families": families(method)}


def _row(about: dict[str, Any]) -> tuple[str, str, str, str]:
    paper = f"arXiv {about['paper']}" if about["paper"] else ""
    return about["name"], paper, ", ".join(about["families"]), about["sentence"]


def _backbone(name: str) -> str:
    features, millions = SIZES[name]
    return f"h of {features} dimensions, {millions} M parameters"


def _installed() -> list[str]:
    """Return the methods of other installed packages, by their entry points."""
    from importlib.metadata import entry_points

    return sorted({point.name for point in entry_points(group="sslcli.methods")} - set(METHODS))


def _everything() -> dict[str, Any]:
    return {
        "methods": [_about(name) for name in [*METHODS, *_installed()]],
        "backbones": [
            {"name": name, "features": SIZES[name][0], "parameters": round(SIZES[name][1] * 1e6)} for name in BACKBONES
        ],
        "libraries": list(BACKBONE_LIBRARIES),
        "families": [{"name": name, "for": SUITED[name]} for name in FAMILIES],
    }


def _listing() -> Iterator[str]:
    """Yield a line for each method, backbone and family."""
    yield "methods: --method NAME, or file.py:Class, your own"
    yield from _columns([_row(_about(name)) for name in [*METHODS, *_installed()]])
    yield "backbones: --backbone NAME, at --width 1"
    others = [(f"{library}:NAME", f"any of {library}'s, by its name there") for library in BACKBONE_LIBRARIES]
    yield from _columns([*((name, _backbone(name)) for name in BACKBONES), *others])
    yield "recipes: --recipe FAMILY, or FILE; where none is named own, without DATA shapes"
    yield from _columns([(name, SUITED[name]) for name in FAMILIES])
    yield "A method's recipe, with a source for every value: sslcli methods NAME"


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _shown(method: str, family: str | None) -> tuple[dict[str, Any], Iterator[str]]:
    """Return one recipe, as a document and as the lines of a file that --recipe and --config take.

    Raises:
        UsageError: the method has no recipe in this family.
    """
    from ssl_cli.config.recipe import citations, families, recipe_file

    family = family or families(method)[-1]
    file = recipe_file(method, family)
    sources = citations(file.text)
    settings = {key: {"value": value, "source": sources.get(key)} for key, value in file.values.items()}
    document = {"method": _about(method), "recipe": family, "settings": settings}
    return document, _commented(method, family, file.text)


def _commented(method: str, family: str, text: str) -> Iterator[str]:
    from ssl_cli.config.recipe import families

    data = "" if family == "shapes" else "DATA "
    yield f"# sslcli pretrain {data}--method {shown(method)} --recipe {family}"
    others = [name for name in families(method) if name != family]
    yield f"# Its other recipes: {', '.join(others)}."
    if method not in METHODS:
        yield "# A method of your own starts from SimCLR's recipe; of [method] it takes what every method has."
    yield ""
    yield from text.splitlines()
