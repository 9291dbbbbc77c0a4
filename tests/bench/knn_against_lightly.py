"""Time of kNN against lightly's knn_predict, in turns on the same rows: python -m tests.bench.knn_against_lightly.

Where lightly is not installed, the same algorithm in plain torch (its utils/benchmarking/knn.py) stands for it.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli.transfer.knn import score

BATCH = 256
"""Queries that lightly's users pass at once."""


def transcription(
    feature: Tensor, bank: Tensor, labels: Tensor, num_classes: int, knn_k: int = 200, knn_t: float = 0.1
) -> Tensor:
    """Predict classes `(B, num_classes)`, the best first, of rows `(B,D)` by a bank `(D,N)`."""
    weight, index = torch.mm(feature, bank).topk(k=knn_k, dim=-1)
    label = torch.gather(labels.expand(feature.size(0), -1), dim=-1, index=index)
    weight = (weight / knn_t).exp()
    one_hot = torch.zeros(feature.size(0) * knn_k, num_classes)
    one_hot = one_hot.scatter(dim=-1, index=label.view(-1, 1), value=1.0)
    return (one_hot.view(feature.size(0), -1, num_classes) * weight.unsqueeze(-1)).sum(1).argsort(-1, descending=True)


def theirs() -> tuple[str, Callable[..., Tensor]]:
    try:
        from lightly.utils.benchmarking import knn_predict
    except ImportError:
        return "transcription", transcription
    return "lightly", knn_predict


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, value in {"bank": 20_000, "queries": 1024, "width": 512, "classes": 10, "rounds": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(asked.classes, asked.width, generator=draw)
    label, wanted = (torch.randint(asked.classes, (n,), generator=draw) for n in (asked.bank, asked.queries))
    bank, queries = (centres[of] + 2 * torch.randn(len(of), asked.width, generator=draw) for of in (label, wanted))
    name, predict = theirs()
    for ks, temperatures in (((200,), (0.1,)), ((1, 5, 20, 200), (0.07, 0.1))):
        compare(name, predict, (bank, label, queries, wanted), asked.classes, ks, temperatures, asked.rounds)


def compare(
    name: str, predict: Callable[..., Tensor], rows: tuple[Tensor, ...], classes: int, ks: Sequence[int],
    temperatures: Sequence[float], rounds: int,
) -> None:  # fmt: skip
    """Print the medians of both, measured in turns, and whether they answer alike."""
    bank, label, queries, wanted = rows

    def ours() -> list[float]:
        found = score(bank, label, queries, wanted, classes=classes, ks=ks, temperatures=temperatures)
        return [one.tally.top1 for one in found]

    def other() -> list[float]:
        unit, found = F.normalize(bank, dim=1).T.contiguous(), list[float]()
        for k in ks:
            for temperature in temperatures:
                parts = torch.split(F.normalize(queries, dim=1), BATCH)
                best = [predict(part, unit, label, classes, k, temperature)[:, 0] for part in parts]
                found.append(float((torch.cat(best) == wanted).double().mean()))
        return found

    times: dict[str, list[float]] = {"ours": [], name: []}
    answers = {"ours": ours(), name: other()}
    for _ in range(rounds):
        for who, call in (("ours", ours), (name, other)):
            began = time.process_time()
            call()
            times[who].append(time.process_time() - began)
    ratio = statistics.median(a / b for a, b in zip(times[name], times["ours"], strict=True))
    apart = max(abs(a - b) for a, b in zip(*answers.values(), strict=True))
    medians = ", ".join(f"{who} {statistics.median(took):.2f} s" for who, took in times.items())
    print(f"k {list(ks)}, T {list(temperatures)}: {medians} of CPU, {ratio:.2f} x; accuracies differ by {apart:.5f}")


if __name__ == "__main__":
    main()
