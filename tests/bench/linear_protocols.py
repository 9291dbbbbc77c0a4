"""Accuracy and time of the linear protocols: python -m tests.bench.linear_protocols RUN [DATA] [--limit N]."""

import argparse
import time

from ssl_cli.events import Evaluated
from ssl_cli.protocols.linear import linear_eval
from ssl_cli.protocols.request import LINEAR


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("data", nargs="?")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--protocols", nargs="+", default=list(LINEAR))
    asked = parser.parse_args()
    for protocol in asked.protocols:
        wall, cpu = time.perf_counter(), time.process_time()
        *_, last = linear_eval(asked.run, asked.data, protocol=protocol, limit=asked.limit)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert isinstance(last, Evaluated)
        found, settings = last.result, last.result["settings"]
        chosen = {key: settings[key] for key in ("rate", "l2", "held_out_top1", "passes", "steps") if key in settings}
        sizes = f"{found['train']} for training, {found['test']} for testing"
        print(
            f"{protocol:>7}: top-1 {100 * found['top1']:.2f} %, {wall:.1f} s ({cpu:.1f} s of CPU), {sizes}, {chosen}",
            flush=True,
        )


if __name__ == "__main__":
    main()
