"""What `map` can draw: methods, colours and files; without torch."""

from dataclasses import dataclass
from pathlib import Path

from ssl_cli import packages
from ssl_cli.errors import UsageError
from ssl_cli.names import shown
from ssl_cli.registry import did_you_mean

METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
"""What maps to two dimensions, with its name for people."""
LIBRARIES = {"tsne": "sklearn", "umap": "umap"}
"""The module that a method needs."""
COLORS = ("label", "group", "none")
ENDINGS = (".png", ".html")
POINTS, MOST_POINTS = 5_000, 50_000


@dataclass(frozen=True)
class Map:
    """Say what is drawn.

    Attributes:
        run: run folder or checkpoint file.
        output: `.png` or `.html`.
        data: the images; None: those that the run was trained on.
        method: `pca`, `tsne` or `umap`.
        color: `label`, `group` or `none`; None: by what there is.
        points: images at most; of more, so many are chosen by the seed.
        feature: `h` or `z`.
        seed: of the choice, and of t-SNE and UMAP.
    """

    run: str
    output: Path
    data: str | tuple[str, ...] | None = None
    method: str = "pca"
    color: str | None = None
    points: int = POINTS
    feature: str = "h"
    seed: int = 0


def require_method(name: str) -> None:
    """Refuse a method that there is not, or whose library is not installed.

    Raises:
        UsageError: neither.
    """
    if name not in METHODS:
        raise UsageError(f"There is no map by '{shown(name)}'.", did_you_mean(name, METHODS))
    if name in LIBRARIES:
        packages.require(LIBRARIES[name], METHODS[name], "use --by pca")


def require_color(name: str | None) -> None:
    """Refuse what cannot be coloured by.

    Raises:
        UsageError: it is none of `COLORS`.
    """
    if name is not None and name not in COLORS:
        raise UsageError(f"Points cannot be coloured by '{shown(name)}'.", did_you_mean(name, COLORS))
