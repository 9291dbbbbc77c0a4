"""Mistakes with studies: their budget, their statistics, and what they are measured with."""

from tests.mutants.mutant import Mutant

BUDGET, STATISTICS, SUMMARY = "ssl_cli/study/budget.py", "ssl_cli/study/statistics.py", "ssl_cli/study/summary.py"
RUN, MEASURE, BOOK = "ssl_cli/study/run.py", "ssl_cli/study/measure.py", "ssl_cli/study/book.py"
BUDGETS, INTERVALS, CONCLUSIONS = (
    (f"tests/study/test_{name}.py",) for name in ("budget", "statistics", "summary")
)  # fmt: skip
RUNS, MEASURED = ("tests/study/test_run.py",), ("tests/study/test_measure.py",)

MUTANTS = [
    Mutant(
        None,
        "arms-run-one-after-another",
        BUDGET,
        "return [(arm, seed) for seed in seeds for arm in turn[seed]]",
        "return [(arm, seed) for arm in arms for seed in seeds]",
        BUDGETS,
    ),
    Mutant(
        None,
        "one-arm-is-always-first",
        BUDGET,
        "*arms[number % len(arms) :], *arms[: number % len(arms)]",
        "*arms",
        BUDGETS,
    ),
    Mutant(
        None,
        "seeds-do-not-divide-the-time",
        BUDGET,
        "return (seconds / seeds - overhead) / weight",
        "return (seconds - overhead) / weight",
        BUDGETS,
    ),
    Mutant(
        None,
        "seeds-are-not-blocks",
        STATISTICS,
        "(x - fmean(row) - seed + whole) ** 2",
        "(x - fmean(row)) ** 2",
        INTERVALS,
    ),
    Mutant(
        None,
        "each-pair-has-an-interval-of-its-own",
        STATISTICS,
        "studentized_range.ppf(LEVEL, arms, ",
        "studentized_range.ppf(LEVEL, 2, ",
        INTERVALS,
    ),
    Mutant(
        None,
        "an-interval-around-zero-is-a-difference",
        STATISTICS,
        "return self.half is not None and abs(self.value) > self.half",
        "return self.half is not None",
        CONCLUSIONS,
    ),
    Mutant(
        None,
        "arms-that-failed-are-compared",
        SUMMARY,
        "for name, found in values.items() if not self.book.failed(name)}",
        "for name, found in values.items()}",
        CONCLUSIONS,
    ),
    Mutant(
        None,
        "arms-of-a-quarter-of-the-time-compete",
        SUMMARY,
        "            if row.arm.share == full:\n",
        "            if True:\n",
        CONCLUSIONS,
    ),
    Mutant(
        None,
        "an-arm-that-diverges-ends-the-study",
        RUN,
        "    if code == DivergedError.code:\n",
        "    if False:\n",
        RUNS,
    ),
    Mutant(
        None,
        "a-killed-run-is-given-up",
        RUN,
        "            if code < 0 and not attempt:\n",
        "            if False:\n",
        RUNS,
    ),
    Mutant(
        None,
        "a-study-chooses-by-test-images",
        MEASURE,
        'settings.run.seed, split="validation")',
        "settings.run.seed)",
        MEASURED,
    ),
    Mutant(
        None,
        "arms-have-views-of-their-own-to-be-measured-with",
        MEASURE,
        'same = settings.model_copy(update={"augment": common})',
        "same = settings",
        MEASURED,
    ),
    Mutant(
        None,
        "runs-read-the-test-images-at-their-end",
        BOOK,
        '"run.evaluate": False,',
        '"run.evaluate": True,',
        ("tests/study/test_book.py",),
    ),
]
