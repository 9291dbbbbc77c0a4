"""Benchmarks and measurements behind the README's numbers; run by hand, alone: `python -m tests.bench.NAME`.

| name | measures |
|---|---|
| `auto_choices` | a step as planned against every precision, memory format, micro-batch (and `--compile`) |
| `big_batch` | time and memory of a step of 4,096 images in each mode, against a direct step of 256 |
| `exactness` | differences of every way of dividing a batch from the direct step, in float64 and float32 |
| `large_pages` | training with and without large memory pages |
| `lightly_loop` | SimCLR of LightlySSL's parts in a plain PyTorch loop, on the same images |
| `logging_cost` | the share of a run's time that logging takes |
| `nt_xent` | time, memory and error of NT-Xent: tiled, dense, LightlySSL |
| `oracle_errors` | largest differences from the papers in plain loops |
| `plan_against_fact` | planned and actual time, memory, images/s and checkpoint size of twelve runs |
| `positives_by_group` | kNN accuracy with and without positives by group, on bursts of shots |
| `processes` | differences and images/s of several processes against one |
| `step_profile` | shares of a step's CPU time by kind of operation |
| `survey_on_cifar` | kNN accuracy of all methods, and two ablations, on CIFAR-10 |
| `tune_shapes` | kNN accuracy of settings of the `shapes` recipes, on the validation stream |
| `views` | augmentation against torchvision v2, each operation, and its share of a step |

`command` runs `sslcli pretrain` for them.
"""
