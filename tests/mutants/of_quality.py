"""Mistakes in what is said of an encoder: its measures, k, the advice, gentle views, and where results are written."""

from tests.mutants.mutant import Mutant

FREE, KNN, VERDICT = "ssl_cli/transfer/label_free.py", "ssl_cli/transfer/knn.py", "ssl_cli/verdict.py"
QUALITY, SOURCES = "ssl_cli/engine/evaluation/quality.py", "ssl_cli/config/sources.py"
FREE_TESTS, VERDICT_TESTS = ("tests/oracle/test_label_free.py",), ("tests/test_verdict.py",)
QUALITY_TESTS, SOURCES_TESTS = ("tests/engine/evaluation/test_quality.py",), ("tests/config/test_sources.py",)

MUTANTS = [
    Mutant(None, "rankme-of-squared-values", FREE, "p = values /", "p = values.square() /", FREE_TESTS),
    Mutant(None, "a-tie-is-a-whole-hit", FREE, "(nearest / (similarity == own).sum(1).clamp(min=1))", "nearest",
           FREE_TESTS),
    Mutant(None, "views-of-later-chunks-are-others", FREE, ".diagonal(start)", ".diagonal()", FREE_TESTS),
    Mutant(
        None,
        "k-exceeds-the-smallest-class",
        KNN,
        "return max(1, min(largest, smallest_class(labels)))",
        "return largest",
        ("tests/protocols/test_evaluations.py::test_k_follows_the_smallest_class_or_is_as_given",),
    ),
    Mutant(
        None,
        "results-of-two-k-share-a-file",
        "ssl_cli/protocols/knn.py",
        """_words("k", ks or (result["k"],)), """,
        "",
        ("tests/protocols/test_evaluations.py::test_results_of_other_settings_are_other_files",),
    ),
    Mutant(
        None,
        "a-result-on-other-images-is-the-run-s",
        "ssl_cli/protocols/result.py",
        "(own and as_many)",
        "as_many",
        ("tests/protocols/test_evaluations.py::test_a_result_on_other_images_does_not_replace_one_on_the_run_s_own",),
    ),
    Mutant(
        None,
        "a-read-s-time-has-the-decoder-s-import",
        "ssl_cli/data/sample.py",
        "times[1:] or times",
        "times",
        ("tests/data/test_sample.py",),
    ),
    Mutant(None, "harm-is-not-alarming", VERDICT, "_inspect(training), worse=True)", "_inspect(training))",
           VERDICT_TESTS),
    Mutant(None, "the-last-third-is-taken-for-the-first", VERDICT, "p.step <= steps / 3]", "p.step]", VERDICT_TESTS),
    Mutant(None, "chance-ignores-the-scale", VERDICT, " / training.loss_scale)", ")", VERDICT_TESTS),
    Mutant(None, "a-step-logged-twice-counts-first", "ssl_cli/records.py", "found[step] = event",
           "found.setdefault(step, event)", VERDICT_TESTS),
    Mutant(None, "the-view-is-the-image", QUALITY, "VIEW: augmented(pipeline)}",
           "VIEW: fitted(settings)}", QUALITY_TESTS),
    Mutant(None, "the-cost-has-no-bound", QUALITY, "most = max(FEWEST, step * settings.run.batch // PART)",
           "most = 10**9", QUALITY_TESTS),
    Mutant(None, "gentle-beats-a-set", SOURCES, "sources[2:2] = [Gentle", "sources[0:0] = [Gentle", SOURCES_TESTS),
    Mutant(None, "gentle-strengthens-a-crop", SOURCES, "max(low, GENTLE_CROP), max", "GENTLE_CROP, max", SOURCES_TESTS),
    Mutant(
        None,
        "a-wrapped-picture-is-left-behind",
        "ssl_cli/ui/live.py",
        "lines * (-(-columns // width) - 1)",
        "0 * lines",
        ("tests/ui/test_live.py",),
    ),
    Mutant(
        None,
        "the-sheet-shows-one-class",
        "ssl_cli/sheet.py",
        "order = spread(source, count, settings.run.seed)",
        "order = torch.arange(len(source))",
        ("tests/test_sheet.py::test_images_of_all_classes_are_shown",),
    ),
]  # fmt: skip
