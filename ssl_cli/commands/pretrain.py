"""`sslcli pretrain`: train an encoder without labels."""

import typer

from ssl_cli.commands import options
from ssl_cli.errors import DONE
from ssl_cli.world import world

EPILOG = options.examples(
    "Your images, sized for their number and this machine: sslcli pretrain photos/",
    "The same in another time, complete when it is over: sslcli pretrain photos/ --time 2h --out runs/photos",
    "The embedded shapes, about four minutes: sslcli pretrain",
    "A batch of any size, on any machine: sslcli pretrain --method simclr --batch 4096",
    "Pictures that strong crops or flips would spoil: sslcli pretrain photos/ --gentle",
    "From the weights of a run, or of other code (FILE.pth): sslcli pretrain photos/ --init-from runs/photos",
    "Continue after an interruption: sslcli pretrain --resume --out runs/photos",
    "On two GPUs, or in two processes: sslcli pretrain photos/ --devices 2 --batch 512",
    "The plan, and what other times would give, without training: sslcli pretrain photos/ --dry-run",
    "Settings without a flag: sslcli pretrain --set method.temperature=0.5 --set data.images=65536",
)


def pretrain(
    ctx: typer.Context,
    data: options.Data = None,
    method: options.Method = None,
    backbone: options.Backbone = None,
    width: options.Width = None,
    init_from: options.InitFrom = None,
    pretrained: options.Pretrained = None,
    batch: options.BatchSize = None,
    epochs: options.Epochs = None,
    lr: options.Lr = None,
    gentle: options.Gentle = False,
    seed: options.Seed = None,
    time: options.Time = None,
    max_time: options.MaxTime = None,
    image_size: options.ImageSize = None,
    test_data: options.TestData = None,
    download: options.Download = None,
    on_bad_image: options.OnBadImage = None,
    group_by: options.GroupBy = None,
    threads: options.Threads = None,
    device: options.Device = None,
    precision: options.Precision = None,
    micro_batch: options.MicroBatch = None,
    memory: options.Memory = None,
    compile: options.Compile = None,
    devices: options.Devices = None,
    recipe: options.Recipe = None,
    config: options.Config = None,
    set_: options.Set = None,
    tracker: options.Tracker = None,
    out: options.Out = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Train an encoder on images without labels."""
    from ssl_cli.commands import preflight, training
    from ssl_cli.config.sources import settle

    settled = settle(options.flags(ctx.params), set_ or (), config, flag_names=options.FLAG_NAMES, gentle=gentle)
    if not world().is_rank_zero and dry_run:
        return DONE
    if world().is_rank_zero:
        preflight.training(settled.settings, resume=resume, overwrite=overwrite, dry_run=dry_run, devices=devices)
    request = training.Request("pretrain", ctx.obj, devices, resume=resume, overwrite=overwrite, as_json=json)
    return training.dry_run(settled.settings, request) if dry_run else training.train(settled, request)
