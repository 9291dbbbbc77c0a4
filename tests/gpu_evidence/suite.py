"""The GPU tests as a stage: `python -m tests.gpu_evidence.suite [PATHS]` counts what passed, in JSON."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree


def counted(report: Path) -> dict[str, Any]:
    """What pytest's XML report says: how many tests, how many of them failed or were left out, and which failed."""
    suite = ElementTree.parse(report).getroot()
    suite = suite if suite.tag == "testsuite" else suite[0]
    numbers = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    passed = numbers["tests"] - numbers["failures"] - numbers["errors"] - numbers["skipped"]
    return {**numbers, "passed": passed, "failed_tests": failed}


def main(words: list[str]) -> int:
    """Run, count, print; 0 where nothing failed."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", f"--junitxml={report}", *words]
        code = subprocess.run(command, stdout=sys.stderr, check=False).returncode
        if not report.is_file():
            sys.stdout.write(json.dumps({"error": f"pytest ended with exit code {code} and no report"}))
            return 1
        found = counted(report)
    if found["failed_tests"]:
        found["error"] = f"{len(found['failed_tests'])} of {found['tests']} tests failed"
    sys.stdout.write(json.dumps(found))
    return int(code != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
