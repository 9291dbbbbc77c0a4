"""Packages that not every installation has: which extra of sslcli installs each, and the error where one is missing."""

from importlib.util import find_spec

from ssl_cli.errors import UsageError
from ssl_cli.registry import TRACKERS

EXTRAS: dict[str, tuple[str, ...]] = {
    "timm": ("timm",), "parquet": ("pyarrow",), "tiff": ("tifffile", "imagecodecs"), "dicom": ("pydicom",),
    "heic": ("pillow_heif",), "map": ("sklearn", "umap"), "plot": ("matplotlib",),
    **{name: (name,) for name in TRACKERS},
}  # fmt: skip
"""By extra, the modules that it installs."""
DISTRIBUTIONS = {"pillow_heif": "pillow-heif", "sklearn": "scikit-learn", "umap": "umap-learn"}
"""By module, the name of its package where that is another one."""


def is_installed(module: str) -> bool:
    """Return whether a module can be imported; a folder of its name, such as `wandb/` next to a run, is none."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None


def missing(module: str, what: str, *, extra: str | None = None, instead: str = "") -> UsageError:
    """Return the error about a module that is not installed.

    Args:
        module: that is missing.
        what: needs it, as the sentence starts.
        extra: that installs it; None: the one in `EXTRAS`, or the package itself.
        instead: what to do without it, as the hint ends.
    """
    package = DISTRIBUTIONS.get(module, module)
    extra = extra or next((name for name, modules in EXTRAS.items() if module in modules), None)
    install = f"pip install 'sslcli[{extra}]'" if extra else f"pip install {package}"
    hint = f"{install}, or {instead}." if instead else install
    return UsageError(f"{what} needs {package}, which is not installed.", hint)


def require(module: str, what: str, instead: str = "") -> None:
    """Refuse what needs a module that is not installed; see `missing`.

    Raises:
        UsageError: it is not.
    """
    if not is_installed(module):
        raise missing(module, what, instead=instead)
