"""onnxruntime, imported so that it sends no telemetry."""

import os
from types import ModuleType


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry disabled; all of sslcli and its tests import it by this function.

    Note:
        Its Linux wheels since 1.29 write files below HOME and connect to a server as soon as they are imported, unless
        ORT_DISABLE_TELEMETRY is 1 by then. The variable stays set in this process.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime  # type: ignore[no-any-return]
