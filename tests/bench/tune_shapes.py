"""How the `shapes` recipes were tuned: settings against kNN on the validation stream, never the test stream.

Run by hand: python -m tests.bench.tune_shapes METHOD [section.key=value ...]; prints one JSON line.
"""

import json
import sys
import tempfile
import time

import torch

from ssl_cli import checkpoint
from ssl_cli.config.sources import settle
from ssl_cli.data.sources import open_evaluation
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.evaluation.evaluate import knn_of
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.events import Stepped


def main() -> None:
    """Train once, measure on the validation stream."""
    method, *sets = sys.argv[1:]
    with tempfile.TemporaryDirectory() as out:
        settled = settle({"method": {"name": method}, "run": {"out": out, "evaluate": False}}, sets)
        start, losses, rates = time.perf_counter(), [], []
        for event in pretrain(settled.settings, origins=settled.origins, resume=False, overwrite=False):
            if isinstance(event, Stepped):
                losses.append(event.loss)
                rates.append(event.rate)
        seconds = time.perf_counter() - start
        state = checkpoint.load(checkpoint.locate(out)[0])
    objective = build_objective(settled.settings, torch.device("cpu"))
    objective.load_state_dict(state["objective"])
    found = open_evaluation(settled.settings.data, settled.settings.run.seed, split="validation")
    result = knn_of(objective, settled.settings, state["resolved"]["precision"], found)
    record = {
        "method": method, "sets": sets, "knn": round(result["top1"], 4), "seconds": round(seconds, 1),
        "loss": round(losses[-1], 3), "images_per_second": round(sorted(rates)[len(rates) // 2]),
    }  # fmt: skip
    sys.stdout.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
