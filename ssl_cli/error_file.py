"""Error files of torch's elastic launchers: each rank writes why it failed, and its launcher and rank 0 read it.

Imports no torch. The launcher gives each of its processes the path of a file,
`.../attempt_0/LOCAL_RANK/error.json` (see `torch.distributed.elastic.multiprocessing.LogsSpecs`).
"""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ssl_cli.errors import RankError, SslcliError
from ssl_cli.world import world

VARIABLE = "TORCHELASTIC_ERROR_FILE"


def write_error_file(error: SslcliError) -> None:
    """Write the error to this rank's error file, if a launcher asks for one.

    Note: a `RankError` is not written, since the launcher reports the earliest file as the cause.
    """
    path = os.environ.get(VARIABLE)
    if not path or isinstance(error, RankError):
        return
    extra = {
        "timestamp": str(int(time.time())),
        "rank": world().rank,
        "hint": error.hint or error.otherwise,
        "out_of_memory": error.out_of_memory,
    }
    data = {"message": {"message": error.message, "errorCode": error.code, "extraInfo": extra}}
    with suppress(OSError):
        Path(path).write_text(json.dumps(data), encoding="utf-8")


def read_error_files() -> RankError | None:
    """Return the first error that another rank of this launcher has written, if one has."""
    own = Path(os.environ.get(VARIABLE, ""))
    found = []
    for path in own.parent.parent.glob("*/error.json") if own.name else ():
        with suppress(OSError, ValueError):  # ValueError: it is being written
            data = json.loads(path.read_text(encoding="utf-8"))
            if path != own and (error := rank_error(data)):
                found.append((int(data["message"]["extraInfo"]["timestamp"]), error))
    return min(found, key=lambda item: item[0])[1] if found else None


def rank_error(data: Mapping[str, Any]) -> RankError | None:
    """Convert the content of an error file; None if `write_error_file` did not write it."""
    try:
        fields, extra = data["message"], data["message"]["extraInfo"]
        message = f"Rank {extra['rank']} failed: {fields['message']}"
        return RankError(message, extra["hint"], fields["errorCode"], out_of_memory=extra["out_of_memory"])
    except (TypeError, KeyError):
        return None
