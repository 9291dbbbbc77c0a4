"""Contrastive self-supervised pretraining of image encoders from the terminal, and from Python.

- `load(run).encode(images)`: a row for each image, by a trained encoder.
- `train(data, ...)`: pretrain; an iterator of events.
- `knn(bank, labels, queries)`: the votes of the nearest neighbours.
- `export(run, path, to=...)`: write the encoder for other programs.
- `Objective`: what a method trains: subclass it for a method of your own, or `Objective.of(...)` in a loop of your own.

Errors are those of `ssl_cli.errors`: an `SslcliError` with a `message` and a `hint`. Importing this imports no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_cli.api.encoder import load as load
    from ssl_cli.api.export import export as export
    from ssl_cli.api.knn import knn as knn
    from ssl_cli.api.train import train as train
    from ssl_cli.objective import Objective as Objective

__version__ = "0.1.0"
__all__ = ["Objective", "export", "knn", "load", "train"]
_HOMES = {
    "Objective": "ssl_cli.objective",
    "export": "ssl_cli.api.export",
    "knn": "ssl_cli.api.knn",
    "load": "ssl_cli.api.encoder",
    "train": "ssl_cli.api.train",
}


def __getattr__(name: str) -> Any:
    """Import a public name where it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ssl_cli' has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = getattr(import_module(_HOMES[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
