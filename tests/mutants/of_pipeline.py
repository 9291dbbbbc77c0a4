"""Mistakes with the pipeline of pretraining, fine-tuning and distillation."""

from tests.mutants.mutant import Mutant

STAGES, REACHED, SOURCES = "ssl_cli/planning/stages.py", "ssl_cli/planning/reached.py", "ssl_cli/data/sources.py"
PIPELINE, COMMAND, FINETUNE = "ssl_cli/pipeline.py", "ssl_cli/commands/pipeline.py", "ssl_cli/transfer/finetune.py"
STAGES_TESTS, REACHED_TESTS = ("tests/planning/test_stages.py",), ("tests/planning/test_reached.py",)
RUNS, RECORD = ("tests/test_pipeline.py",), "ssl_cli/planning/record.py"

MUTANTS = [
    Mutant(
        None,
        "scratch-starts-from-the-encoder",
        FINETUNE,
        "        if not self.cfg.scratch:\n",
        "        if True:\n",
        ("tests/transfer/test_finetune.py",),
    ),
    Mutant(
        None,
        "the-linear-probe-learns-from-all-labels",
        SOURCES,
        "        bank = subset(bank, choose(bank.labels, bank.classes, parse_labels(labels), seed))\n",
        "",
        ("tests/data/test_labelled.py",),
    ),
    Mutant(
        None,
        "a-stopped-stage-is-done",
        REACHED,
        "return status.state(folder / stage.name) == status.FINISHED",
        "return status.state(folder / stage.name) is not None",
        REACHED_TESTS,
    ),
    Mutant(
        None,
        "the-time-between-processes-counts",
        REACHED,
        'if first is None or event["event"] == "planned":',
        "if first is None:",
        REACHED_TESTS,
    ),
    Mutant(
        None,
        "stages-on-labels-fill-their-time",
        STAGES,
        "return min(epochs, max(int(seconds * VIEWS * rate / images), 1))",
        "return max(int(seconds * VIEWS * rate / images), 1)",
        STAGES_TESTS,
    ),
    Mutant(
        None,
        "flags-of-a-resume-are-ignored",
        RECORD,
        "        if value not in (None, ()) and value != old:\n",
        "        if False:\n",
        STAGES_TESTS,
    ),
    Mutant(
        None,
        "code-that-a-file-names-is-run",
        STAGES,
        'if before.method is not None and ":" in before.method and given.get("method") is None:',
        "if False:",
        STAGES_TESTS,
    ),
    Mutant(
        None,
        "later-stages-read-the-variables-of-now",
        PIPELINE,
        "flags, flag_names=FLAG_NAMES, env=self.asked.env,\n",
        "flags, flag_names=FLAG_NAMES,\n",
        RUNS,
    ),
    Mutant(
        None,
        "a-pipeline-goes-past-a-stage-that-was-stopped",
        COMMAND,
        "            if screen.stopped is not None:\n",
        "            if False:\n",
        RUNS,
    ),
    Mutant(
        None,
        "a-signal-in-a-last-step-is-forgotten",
        "ssl_cli/signals.py",
        "                handler.signal = request.signal",
        "                pass",
        ("tests/test_signals.py",),
    ),
    Mutant(
        None,
        "a-changed-file-of-labels-is-read",
        "ssl_cli/config/labels.py",
        "    if before is not None and fingerprint(labels) != before:\n",
        "    if False:\n",
        STAGES_TESTS,
    ),
    Mutant(
        None,
        "overwriting-deletes-files-of-the-user",
        PIPELINE,
        "            run.discard()\n",
        "            import shutil\n\n            shutil.rmtree(folder / stage.name)\n",
        RUNS,
    ),
]
