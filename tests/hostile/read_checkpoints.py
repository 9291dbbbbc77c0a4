"""`python -m tests.hostile.read_checkpoints NAME...`: read each `NAME/checkpoint.pt`, and write a line of JSON."""

import json
import os
import sys
import time
from pathlib import Path

import torch

from ssl_cli import checkpoint, memory
from ssl_cli.errors import convert_exception


def main() -> None:
    top = Path.cwd()
    for name in sys.argv[1:]:
        os.chdir(top / name)
        since, what, code = time.process_time(), "it was loaded", 0
        try:
            checkpoint.load(Path("checkpoint.pt"))
        except Exception as error:
            converted = convert_exception(error)
            what, code = converted.message, converted.code
        peak = memory.peak(torch.device("cpu"))
        facts = {"code": code, "what": what, "seconds": time.process_time() - since, "peak": peak}
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
