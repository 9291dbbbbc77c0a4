"""Mistakes in what Python is offered, in model cards, smaller exports, comparisons and the view of a run."""

from tests.mutants.mutant import Mutant

ENCODER, IMAGES, TRAIN = (f"ssl_cli/api/{name}.py" for name in ("encoder", "images", "train"))
CURVES, WATCH, LOOP = "ssl_cli/curves.py", "ssl_cli/watch.py", "ssl_cli/own_loop.py"
ENCODER_TESTS, TRAIN_TESTS = ("tests/api/test_encoder.py",), ("tests/api/test_train.py",)
WATCH_TESTS, CURVES_TESTS, LOOP_TESTS = ("tests/test_watch.py",), ("tests/test_curves.py",), ("tests/test_own_loop.py",)

MUTANTS = [
    Mutant(
        None,
        "a-run-that-is-not-read-further-is-lost",
        "ssl_cli/engine/pretrain.py",
        "        save_unsaved(trainer)\n",
        "",
        TRAIN_TESTS,
    ),
    Mutant(
        None,
        "a-step-counts-as-taken-before-its-update",
        "ssl_cli/engine/train.py",
        "        run.taken = step\n",
        "        run.taken = number\n",
        TRAIN_TESTS,
    ),
    Mutant(None, "an-argument-changes-nothing-on-a-resume", "ssl_cli/config/resume.py", '("--", ARGUMENT)', '("--",)',
           TRAIN_TESTS),
    Mutant(None, "bad-images-have-no-row", IMAGES, "    skips_bad = False\n", "    skips_bad = True\n", ENCODER_TESTS),
    Mutant(None, "pictures-lie-on-their-side", IMAGES, "ImageOps.exif_transpose(picture)", "picture", ENCODER_TESTS),
    Mutant(None, "floats-of-any-range-are-taken", IMAGES, "if not 0 <= ends[0] <= ends[1] <= 1:", "if False:",
           ENCODER_TESTS),
    Mutant(None, "infinite-rows-are-given-out", ENCODER, "if not bool(rows.isfinite().all()):", "if False:",
           ENCODER_TESTS),
    Mutant(
        None,
        "the-environment-changes-an-own-loop",
        LOOP,
        "env={}, cwd=nowhere",
        "cwd=nowhere",
        LOOP_TESTS,
    ),
    Mutant(None, "noise-is-the-same-in-each-epoch", LOOP, "places, epoch)", "places)", LOOP_TESTS),
    Mutant(
        None,
        "an-edited-model-card-is-replaced",
        "ssl_cli/exports/model_card.py",
        "digest=hashlib.sha256(text.encode()).hexdigest())\n    return False",
        "digest=mark.split()[-2])\n    return False",
        ("tests/exports/test_model_card.py::test_a_model_card_is_replaced_only_as_it_was_written",),
    ),
    Mutant(
        None,
        "the-accuracy-of-the-rounded-network-is-the-other-s",
        "ssl_cli/exports/measure.py",
        "knn(bank.h[encoder], bank.label, queries.h[encoder]",
        "knn(bank.h[FLOAT32], bank.label, queries.h[FLOAT32]",
        ("tests/exports/test_rounding.py::test_the_accuracies_are_those_of_the_two_networks",),
    ),
    Mutant(None, "a-lost-step-stays-in-the-curve", CURVES, "self.points[-1][0] >= step", "False", CURVES_TESTS),
    Mutant(None, "values-stand-on-their-head", CURVES, "(bottom - (bottom - top) *", "(top + (bottom - top) *",
           CURVES_TESTS),
    Mutant(None, "the-last-lines-of-a-run-are-not-seen", WATCH,
           "    state = _state(folder)\n        batch = lines.new()",
           "    batch = iter([*lines.new()])\n        state = _state(folder)", WATCH_TESTS),
    Mutant(None, "a-run-that-just-ended-has-died", WATCH,
           "return status.state(folder) if state == status.DIED else state", "return state", WATCH_TESTS),
    Mutant(None, "half-a-line-is-lost", WATCH, "(self._rest + data).split", "data.split", WATCH_TESTS),
    Mutant(
        None,
        "what-is-equal-is-shown-as-changed",
        "ssl_cli/comparison.py",
        "if any(value != row[0] for value in row)",
        "if row",
        ("tests/test_comparison.py",),
    ),
]  # fmt: skip
