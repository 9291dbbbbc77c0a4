"""Mistakes by which a tracker stops or slows a run, or has a step twice."""

from tests.mutants.mutant import Mutant

TRACK, RECORDER = "ssl_cli/trackers/track.py", "ssl_cli/trackers/recorder.py"
TESTS, REAL = ("tests/trackers/test_track.py",), ("tests/trackers/test_real.py",)

MUTANTS = [
    Mutant(
        None,
        "an-exit-of-a-tracker-is-not-caught",
        RECORDER,
        "except BaseException as error:",
        "except Exception as error:",
        TESTS,
    ),
    Mutant(None, "a-queue-has-no-end", RECORDER, "if len(self._waiting) >= QUEUE:", "if False:", TESTS),
    Mutant(
        None, "what-waits-when-it-hangs-is-not-counted", RECORDER, "self.dropped += len(self._waiting)", "pass", TESTS
    ),
    Mutant(
        None,
        "each-tracker-has-all-the-time",
        RECORDER,
        "recorder.join(deadline)",
        "recorder.join(time.monotonic() + seconds)",
        ("tests/trackers/test_track.py::test_waiting_is_bounded_for_all_together",),
    ),
    Mutant(None, "a-tracker-prints-into-the-result", RECORDER, "_quiet.on = True", "pass", TESTS),
    Mutant(
        None,
        "steps-are-logged-again",
        TRACK,
        "self._logged[name] = logged if run.earlier else {}",
        "self._logged[name] = {}",
        TESTS,
    ),
    Mutant(None, "results-are-taken-for-steps", TRACK, """event.get("name"))""", "TRAIN)", TESTS),
    Mutant(None, "a-failure-is-said-at-each-step", TRACK, "self._said.add(recorder.name)", "pass", TESTS),
    Mutant(
        None, "trackers-are-closed-before-the-run-is-saved", TRACK, "with closing(events):", "with ExitStack():", TESTS
    ),
    Mutant(
        None,
        "a-folder-is-a-package",
        "ssl_cli/packages.py",
        "return spec is not None and spec.origin is not None",
        "return spec is not None",
        TESTS,
    ),
    Mutant(
        None,
        "a-resume-forgets-its-trackers",
        "ssl_cli/config/resume.py",
        """"run.stop_on_collapse", "run.trackers",""",
        """"run.stop_on_collapse",""",
        REAL,
    ),
]
