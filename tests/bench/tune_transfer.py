"""How the `own` and `shapes` recipes of finetune and distill were tuned: on images held out of the training images.

Run by hand, one thread each: OMP_NUM_THREADS=1 python -m tests.bench.tune_transfer finetune|distill RUN [LABELS]
[section.key=value ...]

A run on the embedded shapes is measured on their validation stream; one on a folder of `train/` and `val/`, both of
training images, on `val/`. Prints one JSON line: the settings, top-1, its standard error, the last loss, seconds.
"""

import json
import math
import sys
import tempfile
import time
from typing import Any

import torch

from ssl_cli import checkpoint
from ssl_cli.data.places import is_shapes
from ssl_cli.data.sources import open_evaluation, open_test
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.evaluation.classify import accuracy_of
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.events import Stepped
from ssl_cli.transfer.start import Request, settle_start


def main() -> None:
    """Train once, measure on the held-out images."""
    command, run, *words = sys.argv[1:]
    labels = words.pop(0) if words and "=" not in words[0] else None
    with tempfile.TemporaryDirectory() as out:
        flags: dict[str, dict[str, Any]] = {"run": {"out": out, "evaluate": False}, "data": {"labels": labels}}
        settled = settle_start(Request(command, run, flags, words))
        start, loss = time.perf_counter(), math.nan
        for event in pretrain(settled.settings, origins=settled.origins, resume=False, overwrite=False):
            loss = event.loss if isinstance(event, Stepped) else loss
        seconds = time.perf_counter() - start
        state = checkpoint.load(checkpoint.locate(out)[0])
    settings = settled.settings
    objective = build_objective(settings, torch.device("cpu"))
    objective.load_state_dict(state["objective"])
    if is_shapes(settings.data.places):
        test = open_evaluation(settings.data, settings.run.seed, "validation").queries
    else:
        test, _ = open_test(settings.data, settings.run.seed)
    top1 = accuracy_of(objective, settings, "fp32", test, "")["top1"]
    error = math.sqrt(top1 * (1 - top1) / len(test))
    result = {"labels": labels, "sets": words, "top1": top1, "error": error, "loss": loss, "seconds": seconds}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
