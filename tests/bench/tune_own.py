"""How the `own` recipes were tuned: settings against kNN and a linear probe on images that no run trained on.

Run by hand, one thread each: OMP_NUM_THREADS=1 python -m tests.bench.tune_own METHOD DATA [section.key=value ...]

DATA holds `train/` and `val/`, both of training images (never of a test set), a folder for each class; or it is
`shapes`, which are measured on their validation stream. Prints one JSON line: the settings, kNN (k 20, T 0.1) and
linear accuracy on `val/`, losses, seconds.
"""

import json
import sys
import tempfile
import time

import torch

from ssl_cli.config.sources import settle
from ssl_cli.data.sources import open_evaluation
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.evaluation.evaluate import knn_of, linear_of
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.engine.run import checkpoint
from ssl_cli.events import Stepped

K = 20


def main() -> None:
    """Train once, measure on the held-out training images."""
    method, data, *sets = sys.argv[1:]
    with tempfile.TemporaryDirectory() as out:
        tables = {"method": {"name": method}, "run": {"out": out, "evaluate": False}, "data": {"source": data}}
        settled = settle(tables, sets)
        start, losses, top1 = time.perf_counter(), [], []
        for event in pretrain(settled.settings, origins=settled.origins, resume=False, overwrite=False):
            if isinstance(event, Stepped):
                losses.append(event.loss)
                top1.append(event.numbers.get("top1", 0.0))
        seconds = time.perf_counter() - start
        state = checkpoint.load(checkpoint.find(out))
    objective = build_objective(settled.settings, torch.device("cpu"))
    objective.load_state_dict(
        {key: value for key, value in state["objective"].items() if key in objective.state_dict()}, strict=False
    )
    split = "validation" if data == "shapes" else "test"
    found = open_evaluation(settled.settings.data, settled.settings.run.seed, split)
    precision = state["resolved"]["precision"]
    knn = knn_of(objective, settled.settings, precision, found, k=K, baselines=True)
    linear = linear_of(objective, settled.settings, precision, found, baselines=True)
    record = {
        "method": method, "data": data, "sets": sets, "steps": state["step"], "seconds": round(seconds, 1),
        "knn": round(100 * knn["top1"], 1), "linear": round(100 * linear["top1"], 1),
        "knn_baselines": {name: round(100 * value, 1) for name, value in knn["baselines"].items()},
        "linear_baselines": {name: round(100 * value, 1) for name, value in linear["baselines"].items()},
        "loss": round(losses[-1], 3), "top1": round(top1[-1], 3),
    }  # fmt: skip
    sys.stdout.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
