"""Mistakes with optimisers, gradient caching, evaluation and checkpoints (traps 11, 19 to 21, 32, 33, 36, 37, 39)."""

from tests.mutants.mutant import Mutant

LARS, SCHEDULE, BUILD = "ssl_cli/optim/lars.py", "ssl_cli/optim/schedule.py", "ssl_cli/optim/build.py"
BACKWARD, BATCHNORM, JOB = "ssl_cli/engine/backward.py", "ssl_cli/nn/batchnorm.py", "ssl_cli/engine/job.py"
FEATURES, EVALUATE = "ssl_cli/engine/features.py", "ssl_cli/engine/evaluate.py"
KNN, RESNET = "ssl_cli/transfer/knn.py", "ssl_cli/nn/resnet.py"
LARS_TESTS, SCHEDULE_TESTS = ("tests/oracle/test_lars.py",), ("tests/optim/test_schedule.py",)
EVALUATION_TESTS = ("tests/engine/test_traps_evaluate.py",)
CACHED = ("tests/engine/test_backward.py::test_every_way_equals_the_plain_step",)
FALLBACK = ("tests/engine/test_out_of_memory.py",)
CHECKPOINTING = "ssl_cli/nn/checkpointing.py"
PASSES = ("tests/engine/test_traps_backward.py",)
KNN_TESTS = ("tests/oracle/test_knn.py", "tests/transfer/test_knn.py")

MUTANTS = [
    Mutant(
        11,
        "cosine-by-step-and-by-epoch-are-swapped",
        SCHEDULE,
        'if schedule.every == "epoch":',
        'if schedule.every == "step":',
        SCHEDULE_TESTS,
    ),
    Mutant(
        11,
        "weight-decay-never-on-batchnorm-and-biases",
        BUILD,
        "optim.weight_decay * optim.decay_norm_bias",
        "0.0",
        LARS_TESTS,
    ),
    Mutant(
        19,
        "trust-by-the-gradient-without-weight-decay",
        LARS,
        "torch._foreach_norm(update)",
        "torch._foreach_norm([p.grad for p in params if p.grad is not None])",
        LARS_TESTS,
    ),
    Mutant(
        19,
        "exclusion-by-name",
        BUILD,
        '        {"params": [p for p in params if p.ndim > 1], "weight_decay": optim.weight_decay},\n'
        '        {"params": [p for p in params if p.ndim <= 1], ',
        '        {"params": [p for n, p in net.named_parameters() if "bn" not in n and "bias" not in n],\n'
        '         "weight_decay": optim.weight_decay},\n'
        '        {"params": [p for n, p in net.named_parameters() if "bn" in n or "bias" in n], ',
        LARS_TESTS,
    ),
    Mutant(
        19,
        "what-is-excluded-gets-a-thousandth-of-the-rate",
        LARS,
        'rates: list[Tensor] | float = group["lr"]',
        'rates: list[Tensor] | float = group["lr"] * group["trust"]',
        LARS_TESTS,
    ),
    Mutant(
        19,
        "weights-of-zero-never-leave-it",
        LARS,
        'torch.where((w > 0) & (g > 0), group["trust"] * w / g, torch.ones_like(w))',
        'group["trust"] * w / g',
        LARS_TESTS,
    ),
    Mutant(
        19,
        "the-rate-stands-outside-the-momentum",
        LARS,
        "        torch._foreach_add_(velocity, scaled)\n        torch._foreach_sub_(params, velocity)\n",
        '        torch._foreach_add_(velocity, torch._foreach_div(scaled, group["lr"]))\n'
        '        torch._foreach_sub_(params, torch._foreach_mul(velocity, group["lr"]))\n',
        ("tests/optim/test_traps_lars.py",),
    ),
    Mutant(
        19,
        "no-warm-up",
        SCHEDULE,
        "if step < warmup:",
        "if step < 0:",
        SCHEDULE_TESTS,
    ),
    Mutant(
        20,
        "no-weight-decay-means-no-adaptation",
        LARS,
        'if group["adapt"]:',
        'if group["adapt"] and group["weight_decay"]:',
        LARS_TESTS,
    ),
    Mutant(
        21,
        "the-square-root-of-the-batch-over-256",
        SCHEDULE,
        '"sqrt": math.sqrt(batch)',
        '"sqrt": math.sqrt(batch / 256)',
        SCHEDULE_TESTS,
    ),
    Mutant(
        32,
        "evaluation-in-training-mode",
        FEATURES,
        "        module.eval()\n",
        "        module.train()\n",
        EVALUATION_TESTS,
    ),
    Mutant(
        32,
        "a-backbone-that-moves-is-not-noticed",
        EVALUATE,
        "if fingerprint(objective.backbone) != before:",
        "if not before:",
        ("tests/engine/test_evaluate.py::test_a_backbone_that_moves_is_found_out",),
    ),
    Mutant(
        33,
        "evaluation-by-the-training-transform",
        FEATURES,
        "            x = evaluation.fit(images[start : start + micro], size, settings.views).to(device)\n",
        "            from ssl_cli.augment.pipeline import Pipeline\n"
        "            from ssl_cli.objective import Batch\n"
        "            part = slice(start, start + micro)\n"
        "            batch = Batch(images[part], label[part], index[part])\n"
        "            x = Pipeline(settings.views, size, 0)(batch, 1)[0].to(device)\n",
        ("tests/engine/test_features.py::test_rows_are_those_of_each_image_alone",),
    ),
    Mutant(
        33,
        "z-is-measured-for-h",
        EVALUATE,
        "{ENCODER: objective.represent}",
        "{ENCODER: objective.forward}",
        EVALUATION_TESTS,
    ),
    Mutant(33, "the-bank-is-not-normalised", KNN, "F.normalize(bank.float(), dim=1).T", "bank.float().T", KNN_TESTS),
    Mutant(33, "queries-are-not-normalised", KNN, "F.normalize(query.float(), dim=1)", "query.float()", KNN_TESTS),
    Mutant(33, "more-neighbours-than-the-bank-has", KNN, "k = min(k, len(bank))", "k = int(k)", KNN_TESTS),
    Mutant(
        None,
        "a-tie-is-a-hit",
        KNN,
        "rank = scores.shape[1] - (own > scores).sum(1)",
        "rank = 1 + (scores > own).sum(1)",
        KNN_TESTS,
    ),
    Mutant(
        36,
        "running-statistics-move-in-every-pass",
        BATCHNORM,
        "self.bias, None, None, True, 0.0, self.eps)",
        "self.bias, self.running_mean, self.running_var, True, 0.1, self.eps)",
        ("tests/nn/test_batchnorm.py",),
    ),
    Mutant(
        36,
        "moments-are-collected-in-both-passes",
        BACKWARD,
        "        outs = [rows.out(number, None) for number in range(again)]",
        "        outs = [rows.out(number, moments) for number in range(again)]",
        CACHED,
    ),
    Mutant(
        36,
        "moments-are-committed-with-every-micro-batch",
        BACKWARD,
        "        rows.out(number, moments).backward(slopes[number])  # type: ignore[no-untyped-call]\n",
        "        rows.out(number, moments).backward(slopes[number])\n        moments.commit()\n",
        CACHED,
    ),
    Mutant(
        36,
        "the-second-pass-without-autocast",
        BACKWARD,
        "    for number in range(again):\n",
        "    from dataclasses import replace\n"
        "    rows = replace(rows, autocast=nullcontext)\n"
        "    for number in range(again):\n",
        PASSES,
    ),
    Mutant(
        36,
        "the-second-pass-with-other-dropout",
        BACKWARD,
        "        torch.manual_seed((self.seed + number) % 2**63)\n",
        "",
        PASSES,
    ),
    Mutant(
        36,
        "negatives-of-the-micro-batch-alone",
        BACKWARD,
        "    value = loss(z)\n",
        "    value = torch.stack([loss(part) for part in z.split(rows.micro_batch)]).mean()\n",
        PASSES,
    ),
    Mutant(
        36,
        "slopes-of-other-rows",
        BACKWARD,
        "z.grad[rows.share.own.order.to(z.device, non_blocking=True)]",
        "z.grad",
        CACHED,
    ),
    Mutant(
        36,
        "kept-graphs-take-the-slopes-of-other-micro-batches",
        BACKWARD,
        "outs.pop().backward(slopes[number])",
        "outs.pop(again).backward(slopes[number])",
        CACHED,
    ),
    Mutant(
        36,
        "kept-micro-batches-leave-no-moments",
        BACKWARD,
        "        outs += [rows.out(number, moments) for",
        "        outs += [rows.out(number, None) for",
        CACHED,
    ),
    Mutant(
        36,
        "parts-pass-again-in-other-groups",
        CHECKPOINTING,
        "return nullcontext(), grouped(net, sizes, spanning=spanning)",
        "return nullcontext(), nullcontext()",
        CACHED,
    ),
    Mutant(
        36,
        "parts-leave-moments-when-they-pass-again",
        CHECKPOINTING,
        "    return nullcontext(), grouped(net, sizes, spanning=spanning)",
        "    from ssl_cli.nn.batchnorm import _Grouped\n\n"
        "    told = next(layer.moments for layer in net.modules() if isinstance(layer, _Grouped))\n"
        "    return nullcontext(), grouped(net, sizes, told)",
        CACHED,
    ),
    Mutant(
        36,
        "a-step-that-ran-out-of-memory-leaves-its-moments",
        JOB,
        "            self.moments.clear()\n            self.optimiser",
        "            self.optimiser",
        FALLBACK,
    ),
    Mutant(
        36,
        "a-step-that-ran-out-of-memory-leaves-its-gradients",
        JOB,
        "            self.moments.clear()\n            self.optimiser.zero_grad(set_to_none=True)\n",
        "            self.moments.clear()\n",
        FALLBACK,
    ),
    Mutant(
        37,
        "max-pooling-in-the-cifar-stem",
        RESNET,
        'nn.Identity() if stem == "cifar" else',
        'nn.Identity() if stem == "none" else',
        ("tests/nn/test_resnet.py::test_cifar_stem_keeps_the_resolution",),
    ),
    Mutant(
        37,
        "a-padding-of-two-in-the-cifar-stem",
        RESNET,
        "self.conv1 = _conv(channels, base, 3)",
        "self.conv1 = nn.Conv2d(channels, base, 3, padding=2, bias=False)",
        ("tests/nn/test_resnet.py::test_cifar_stem_keeps_the_resolution",),
    ),
    Mutant(
        37,
        "small-images-get-imagenet-s-stem",
        "ssl_cli/engine/build.py",
        '"cifar" if size <= CIFAR_UP_TO else "imagenet"',
        '"imagenet"',
        EVALUATION_TESTS,
    ),
    Mutant(
        39,
        "weights-that-are-missing-stay-random",
        FEATURES,
        "objective.backbone.load_state_dict(weights)",
        "objective.backbone.load_state_dict(weights, strict=False)",
        EVALUATION_TESTS,
    ),
    Mutant(
        None,
        "a-step-that-is-not-finite-moves-the-weights",
        JOB,
        "        if admitted:\n",
        "        if admitted or loss.numel():\n",
        ("tests/engine/test_traps_run.py::test_no_state_moves_where_the_loss_is_not_finite",),
    ),
    Mutant(
        None,
        "a-step-that-is-not-finite-moves-the-state",
        "ssl_cli/engine/loop.py",
        "if job.update(loss, batch.step):",
        "if job.update(loss, batch.step) is not None:",
        ("tests/engine/test_traps_run.py::test_no_state_moves_where_the_loss_is_not_finite",),
    ),
    Mutant(
        None,
        "what-a-card-took-on-trust-stays",
        "ssl_cli/engine/gate.py",
        "            if not self._good:\n",
        "            if not self._pending and not self._held:\n",
        ("tests/engine/test_gate.py",),
    ),
    Mutant(
        None,
        "a-card-keeps-weights-but-not-what-a-method-keeps",
        "ssl_cli/engine/gate.py",
        "yield from self.objective.buffers()",
        "yield from ()",
        ("tests/engine/test_gate.py",),
    ),
    Mutant(
        None,
        "evaluation-compiles-too",
        "ssl_cli/engine/compiled.py",
        'set_stance("force_eager")',
        'set_stance("default")',
        ("tests/engine/test_compiled.py",),
    ),
    Mutant(
        None,
        "a-resumed-run-begins-the-data-again",
        JOB,
        "self.staging.batches(self.start, self.steps)",
        "self.staging.batches(0, self.steps - self.start)",
        ("tests/engine/test_pretrain.py::test_time_is_up_and_the_run_goes_on_later",),
    ),
]
