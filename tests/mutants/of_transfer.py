"""Mistakes with fine-tuning, labels and distillation."""

from tests.mutants.mutant import Mutant

FINETUNE, DISTILL, WEIGHTS = (f"ssl_cli/transfer/{name}.py" for name in ("finetune", "distill", "weights"))
LABELLED, SOURCES = "ssl_cli/data/labelled.py", "ssl_cli/data/sources.py"
LOSSES, START = "ssl_cli/losses/cross_entropy.py", "ssl_cli/config/start.py"
FINETUNE_TESTS, DISTILL_TESTS = ("tests/transfer/test_finetune.py",), ("tests/transfer/test_distill.py",)
ORACLE, LABELLED_TESTS = ("tests/oracle/test_cross_entropy.py",), ("tests/data/test_labelled.py",)
RUNS = ("tests/engine/test_transfer.py",)

MUTANTS = [
    Mutant(
        34,
        "the-layer-is-read-before-its-relu",
        FINETUNE,
        "    return Projector(*layers_kept)",
        "    return Projector(*layers_kept[:-1])",
        FINETUNE_TESTS,
    ),
    Mutant(
        34,
        "the-middle-layer-is-never-the-default",
        START,
        "hidden_layers(settings) >= LAYERS_FOR_MIDDLE - 1 and few.share != 1",
        "False",
        RUNS,
    ),
    Mutant(
        34,
        "the-classifier-is-adapted-by-lars",
        FINETUNE,
        "        return tuple(self.classifier.parameters())",
        "        return ()",
        FINETUNE_TESTS,
    ),
    Mutant(
        34,
        "the-kept-layers-do-not-train",
        FINETUNE,
        'self.projector.requires_grad_(cfg.trains == "head")',
        'self.projector.requires_grad_(cfg.trains == "backbone")',
        FINETUNE_TESTS,
    ),
    Mutant(
        34,
        "training-starts-from-random-weights",
        WEIGHTS,
        "            module.load_state_dict(ours)",
        "            module.load_state_dict(module.state_dict())",
        FINETUNE_TESTS,
    ),
    Mutant(
        34,
        "the-choice-takes-images-of-any-class",
        LABELLED,
        "        members = (labels == label).nonzero()[:, 0]",
        "        members = torch.arange(len(labels))",
        LABELLED_TESTS,
    ),
    Mutant(
        34,
        "labelled-images-are-test-images-too",
        SOURCES,
        "        known = known[hold_out(source.labels[known], seed, group=group_ids(source, known))[0]]",
        "        known = known[:]",
        LABELLED_TESTS,
    ),
    Mutant(
        35,
        "the-teacher-is-in-training-mode",
        DISTILL,
        "    return net.eval().requires_grad_(False)",
        "    return net.train().requires_grad_(False)",
        DISTILL_TESTS,
    ),
    Mutant(
        35,
        "the-teacher-follows-the-mode-of-the-student",
        DISTILL,
        "        self._frozen = (load_classifier(self.cfg.checkpoint, self.cfg.sha256),)",
        "        self._frozen = (load_classifier(self.cfg.checkpoint, self.cfg.sha256),)\n"
        "        self.frozen = self._frozen[0]",
        DISTILL_TESTS,
    ),
    Mutant(
        35,
        "the-batchnorm-of-the-student-is-in-evaluation-mode",
        DISTILL,
        "        return self.classifier(self.backbone(x))",
        "        return self.classifier(self.backbone.eval()(x))",
        DISTILL_TESTS,
    ),
    Mutant(
        35,
        "the-loss-is-multiplied-by-the-temperature-squared",
        LOSSES,
        "    return -(wanted * ",
        "    return -(temperature**2 * wanted * ",
        ORACLE,
    ),
    Mutant(
        35,
        "alpha-weighs-the-labels",
        DISTILL,
        "(alpha * soft + (1 - alpha) * cross",
        "((1 - alpha) * soft + alpha * cross",
        DISTILL_TESTS,
    ),
    Mutant(
        35,
        "only-the-student-is-softened",
        LOSSES,
        "    wanted = (teacher.to(logits.dtype) / temperature).softmax(1)",
        "    wanted = teacher.to(logits.dtype).softmax(1)",
        ORACLE,
    ),
    Mutant(
        35,
        "rows-without-a-label-count-in-the-mean",
        LOSSES,
        "    return total / (label >= 0).sum().clamp(min=1)",
        "    return total / len(label)",
        ORACLE,
    ),
]
