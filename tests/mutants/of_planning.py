"""Mistakes with the size and the time of a run."""

from tests.mutants.mutant import Mutant

SIZE, TIMING, SOURCES = "ssl_cli/planning/size.py", "ssl_cli/planning/timing.py", "ssl_cli/config/sources.py"
TRAIN, PRETRAIN, RESUME = "ssl_cli/engine/train.py", "ssl_cli/engine/pretrain.py", "ssl_cli/config/resume.py"
SIZE_TESTS, TIMING_TESTS = ("tests/planning/test_size.py",), ("tests/planning/test_timing.py",)
RUNS = "tests/engine/plan/test_size.py"

SUITED, SUITED_TESTS = "ssl_cli/engine/plan/suited.py", ("tests/engine/plan/test_suited.py",)
PIXELS = "ssl_cli/transfer/pixels.py"

MUTANTS = [
    Mutant(None, "mirrored-top-to-bottom", SUITED, "originals.flip(3)", "originals.flip(2)", SUITED_TESTS),
    Mutant(
        None,
        "what-was-fitted-is-tested",
        PIXELS,
        "tested = torch.cat([first[held_out::2], second[held_out::2]])",
        "tested = torch.cat([first[1 - held_out :: 2], second[1 - held_out :: 2]])",
        SUITED_TESTS,
    ),
    Mutant(
        None,
        "a-given-flip-is-chosen-all-the-same",
        SUITED,
        'f"augment.{key}" in settings.run.fit and',
        "settings.run.fit and",
        SUITED_TESTS,
    ),
    Mutant(
        None,
        "a-study-s-arms-have-crops-of-their-own",
        "ssl_cli/study/prepare.py",
        "**width, **views,",
        "**width,",
        ("tests/test_study.py::test_all_arms_have_the_crops_and_flips_of_the_first",),
    ),
    Mutant(
        None,
        "a-resumed-plan-shows-the-steps-planned-first",
        "ssl_cli/engine/pretrain.py",
        'state["step"] if state else 0, resolved.as_calibrated(settings)',
        'state["step"] if state else 0, settings',
        ("tests/engine/plan/test_size.py::test_a_resume_repeats_the_corrected_run_exactly",),
    ),
    Mutant(
        None,
        "a-batch-takes-more-than-half-of-the-images",
        SIZE,
        "min(most, wished, images // 2)",
        "min(most, wished, images)",
        SIZE_TESTS,
    ),
    Mutant(
        None,
        "images-are-enlarged",
        SIZE,
        "[rung for rung in LADDER if rung[2] <= side]",
        "list(LADDER)",
        SIZE_TESTS,
    ),
    Mutant(
        None,
        "the-memory-of-a-group-is-ignored",
        SIZE,
        "wanted and _fits(work, size, machine)",
        "wanted",
        SIZE_TESTS,
    ),
    Mutant(
        None,
        "the-time-of-the-evaluation-is-not-reserved",
        TIMING,
        "left = self.limit - self.end",
        "left = self.limit",
        TIMING_TESTS,
    ),
    Mutant(
        None,
        "a-run-is-corrected-by-its-small-views-alone",
        TIMING,
        "if not first or last > first + FEWEST_MEASURED:",
        "if not first or last:",
        TIMING_TESTS,
    ),
    Mutant(
        None,
        "the-time-that-is-over-is-not-counted",
        TIMING,
        "(timing.limit - seconds) / slower",
        "timing.limit / slower",
        TIMING_TESTS,
    ),
    Mutant(
        None,
        "corrected-steps-change-the-rates-of-earlier-ones",
        TIMING,
        "return next(schedule for step, schedule in reversed(self._since) if step <= number)",
        "return self.schedule",
        TIMING_TESTS,
    ),
    Mutant(
        None,
        "a-run-ends-with-its-rate-high",
        TIMING,
        "-(-4 * step // 3), FEWEST_STEPS)",
        "step, FEWEST_STEPS)",
        TIMING_TESTS,
    ),
    Mutant(
        None,
        "a-correction-is-not-recorded",
        TRAIN,
        "run.folder.amend_plan(resolved=run.resolved.as_dict())",
        "run.folder.amend_plan()",
        (f"{RUNS}::test_the_correction_is_recorded_before_the_next_step",),
    ),
    Mutant(
        None,
        "a-checkpoint-holds-the-settings-as-asked",
        PRETRAIN,
        "trainer = Trainer(settings, resolved,",
        "trainer = Trainer(asked, resolved,",
        (f"{RUNS}::test_a_sized_run_is_recorded_evaluated_and_resumed",),
    ),
    Mutant(
        None,
        "what-is-given-stays-open",
        SOURCES,
        "if key not in given)\n    return settings.model_copy",
        "if key)\n    return settings.model_copy",
        ("tests/config/test_sources.py::test_what_is_given_is_no_longer_open",),
    ),
    Mutant(
        None,
        "epochs-given-on-a-resume-are-counted-by-the-time",
        RESUME,
        "[other for other in before.run.fit if other != key]",
        "list(before.run.fit)",
        (f"{RUNS}::test_epochs_that_are_given_on_a_resume_end_the_correction",),
    ),
]
