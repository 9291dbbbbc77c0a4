"""Pretraining from Python: the command is a loop over events, and so is this.

python examples/pretrain_from_python.py OUT [section.key=value ...]
"""

import sys

from ssl_cli.config.sources import settle
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.events import Evaluated, Stepped


def main(out: str, *sets: str) -> None:
    """Train MoCo v2 on the embedded shapes and say how good the encoder is."""
    settled = settle({"method": {"name": "moco-v2"}, "run": {"out": out}}, sets)
    for event in pretrain(settled.settings, origins=settled.origins, resume=False, overwrite=True):
        if isinstance(event, Stepped):
            print(f"step {event.step}: loss {event.loss:.3f}, {event.rate:.0f} images/s")
        if isinstance(event, Evaluated) and event.name == "knn":
            print(f"kNN {event.result['top1']:.1%}, untrained {event.result['baselines']['untrained']:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
