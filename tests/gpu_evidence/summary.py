"""What the stages come to: a few numbers, each with what it stands against."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.gpu_evidence.stages import RUNS, SMALL

TARGET_SHARE = 0.6
"""Of the byte bound of eager kernels: what NVIDIA's own ResNet-50 reaches on an A100, 62 %."""
TARGET_CIFAR = 0.25
"""Of the byte bound of a ResNet-18 on 32 pixels, where launching kernels takes its time."""


def summary(stages: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each number: `what`, `value`, `share_of_byte_bound` and its `target`, memory against plan."""
    found = []
    for name in (*RUNS, *SMALL):
        result = stages.get(name, {}).get("result")
        if result:
            found.append(
                {
                    "what": name,
                    "images_per_second": result["images_per_second"]["median"],
                    "share_of_byte_bound": result["share_of_byte_bound"],
                    "target": TARGET_SHARE if name in RUNS else TARGET_CIFAR,
                    "memory_over_plan": _over(result["peak_memory"]),
                }
            )
    bench = stages.get("bench-cifar", {}).get("result") or {}
    bound = bench.get("parts", {}).get("step", {}).get("bounds", {}).get("memory")
    for name, stage in stages.items():
        result = stage.get("result") if name.startswith("cifar-") else None
        if result:
            rate = result["images_per_second"]["median"]
            own = bound if result["method"] == bench.get("run", {}).get("method") else None
            found.append(
                {
                    "what": name,
                    "images_per_second": rate,
                    "share_of_byte_bound": rate / own if own and rate else None,
                    "target": TARGET_CIFAR,
                    "memory_over_plan": _over(result["peak_memory"]),
                    "epochs": result["epochs"],
                    "knn": result["knn"][-1]["top1"] if result["knn"] else None,
                }
            )
    return found


def _over(memory: Mapping[str, float | None]) -> float | None:
    planned, actual = memory["planned"], memory["actual"]
    return actual / planned - 1 if planned and actual else None


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The summary for people."""
    tests = document["stages"].get("tests", {}).get("result")
    if tests:
        failed = tests["failures"] + tests["errors"]
        yield f"tests: {tests['passed']} passed, {failed} failed, {tests['skipped']} left out"
    for entry in document["summary"]:
        rate, share, over = entry["images_per_second"], entry["share_of_byte_bound"], entry["memory_over_plan"]
        words = [
            f"{rate:,.0f} images/s" if rate else "",
            f"{100 * share:.0f} % of the byte bound (target {100 * entry['target']:.0f} %)" if share else "",
            f"memory {100 * over:+.0f} % of the plan" if over is not None else "",
            f"kNN {100 * entry['knn']:.1f} % after {entry['epochs']} epochs" if entry.get("knn") is not None else "",
        ]
        yield f"{entry['what']}: {', '.join(word for word in words if word)}"
