"""Mistakes of several ranks in one step (trap 14)."""

from tests.mutants.mutant import Mutant

DISTRIBUTED, TRAIN, ROWS = "ssl_cli/distributed.py", "ssl_cli/engine/train.py", "ssl_cli/engine/rows.py"
SYNC_BATCHNORM, INSTDISC = "ssl_cli/nn/sync_batchnorm.py", "ssl_cli/methods/instdisc.py"
EQUAL = "tests/ranks/test_equality.py::test_ranks_equal_one_process"
SIMCLR = (f"{EQUAL}[simclr, groups of 8, direct-2]",)
MOCO = (f"{EQUAL}[moco-v2, groups of 8, cached-2]",)
ACROSS_RANKS = (f"{EQUAL}[simclr-v2, one group, direct-2]",)
NCE = (f"{EQUAL}[instdisc, groups of 8, direct-2]",)

MUTANTS = [
    Mutant(
        14,
        "each-rank-has-the-gradient-of-the-whole-mean",
        DISTRIBUTED,
        "return grads[0] * ctx.fraction, None",
        "return grads[0], None",
        MOCO,
    ),
    Mutant(
        14,
        "the-loss-is-that-of-the-local-rows",
        DISTRIBUTED,
        "return all_reduce_sum(local_mean * fraction)",
        "return local_mean.clone()",
        MOCO,
    ),
    Mutant(
        14,
        "gradients-are-not-reduced",
        TRAIN,
        "        distributed.all_reduce_gradients(self.objective.parameters())\n",
        "",
        SIMCLR,
    ),
    Mutant(
        14,
        "gradients-are-a-mean-over-ranks",
        DISTRIBUTED,
        "flat = all_reduce_sum(torch.cat([grad.reshape(-1) for grad in bucket]))",
        "flat = all_reduce_sum(torch.cat([grad.reshape(-1) for grad in bucket])) / world_size()",
        SIMCLR,
    ),
    Mutant(
        14,
        "a-row-that-is-a-negative-on-another-rank-gets-no-gradient",
        "ssl_cli/losses/nt_xent_tiled.py",
        "weight = (logits + shift[local[block], None]).exp_().add_(logits.add_(shift[None]).exp_())",
        "weight = (logits + shift[local[block], None]).exp_()",
        ("tests/oracle/test_nt_xent.py",),
    ),
    Mutant(
        14,
        "running-statistics-of-the-local-rows",
        TRAIN,
        "        self.moments.pool()\n",
        "",
        SIMCLR,
    ),
    Mutant(
        14,
        "synchronised-forward-but-not-backward",
        SYNC_BATCHNORM,
        "distributed.all_reduce_sum(torch.cat([grad.sum(ctx.axes), (grad * out).sum(ctx.axes)])) / total",
        "torch.cat([grad.sum(ctx.axes), (grad * out).sum(ctx.axes)]) / (out.numel() / out.shape[1])",
        ACROSS_RANKS,
    ),
    Mutant(
        14,
        "positives-in-the-order-of-ranks",
        ROWS,
        "distributed.all_gather(x, counts)[torch.argsort(order).to(x.device, non_blocking=True)]",
        "distributed.all_gather(x, counts)",
        MOCO,
    ),
    Mutant(
        14,
        "z-is-estimated-by-each-rank-alone",
        INSTDISC,
        "noise, all_rows = targets[local], isinstance(local, slice)",
        "noise, all_rows = targets[local], True",
        NCE,
    ),
]
