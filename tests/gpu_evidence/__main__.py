"""`python -m tests.gpu_evidence --out FILE [--tiny] [--data CIFAR_FOLDER] [--budget SECONDS] [--only NAME ...]`.

Each stage is a process of its own, of less than nine minutes, and is written to FILE as it ends. A second call
continues where the first one stopped: what is done is left alone, what failed is tried again. Exit codes: 0 all is
done, 1 a stage failed, 2 there is no CUDA device or FILE is of another machine, 75 stages are left for the next call.
"""

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from tests.gpu_evidence.evidence import Evidence
from tests.gpu_evidence.stage import LIMIT, PARTIAL, Stage
from tests.gpu_evidence.stages import stages
from tests.gpu_evidence.summary import lines, summary

DONE, FAILED, USAGE = 0, 1, 2


def main(words: Sequence[str] | None = None) -> int:
    """Run what is left to run; the exit code."""
    asked = _parser().parse_args(words)
    if not asked.tiny and not torch.cuda.is_available():
        sys.stderr.write("There is no CUDA device here; --tiny rehearses the stages on the CPU.\n")
        return USAGE
    place = asked.out.with_name(f"{asked.out.name}.runs").absolute()
    known = stages(place, tiny=asked.tiny, data=str(Path(asked.data).absolute()) if asked.data else None)
    names = [stage.name for stage in known]
    if strange := set(asked.only or ()) - set(names):
        sys.stderr.write(f"There is no stage {', '.join(sorted(strange))}. Known: {', '.join(names)}.\n")
        return USAGE
    try:
        evidence = Evidence(asked.out, tiny=asked.tiny)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return USAGE
    wanted = [stage for stage in known if not asked.only or stage.name in asked.only]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(PARTIAL))  # a stage under way ends with this process
    return run(wanted, evidence, place, asked.budget)


def run(wanted: Sequence[Stage], evidence: Evidence, place: Path, budget: float | None) -> int:
    """Run each stage that is not done while the budget lasts, and keep what it finds; the exit code."""
    until = time.monotonic() + budget if budget else float("inf")
    for stage in wanted:
        left = until - time.monotonic()
        if evidence.done(stage.name) or left < stage.least:
            continue
        _say(f"{stage.name}: begins, within {min(LIMIT, left):.0f} s")
        outcome = stage.run(place, min(LIMIT, left))
        evidence.keep(stage.name, outcome)
        _say(f"{stage.name}: {outcome['state']} in {outcome['seconds']:.0f} s {outcome.get('error', '')}".rstrip())
    evidence.document["summary"] = summary(evidence.stages)
    evidence.write()
    for line in lines(evidence.document):
        _say(line)
    states = [evidence.stages.get(stage.name, {}).get("state", "left") for stage in wanted]
    if waiting := list(_waiting(wanted, states)):
        _say(f"Left for the next call: {', '.join(waiting)}.")
        return PARTIAL
    return FAILED if "failed" in states else DONE


def _waiting(wanted: Sequence[Stage], states: Sequence[str]) -> Iterator[str]:
    for stage, state in zip(wanted, states, strict=True):
        if state in ("left", "partial"):
            yield stage.name


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu_evidence")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the JSON document")
    parser.add_argument("--tiny", action="store_true", help="rehearse on the CPU, in a minute")
    parser.add_argument("--data", metavar="FOLDER", help="CIFAR-10 as JPEG files in train/ and test/")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="of this call; default: all stages")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these stages alone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
