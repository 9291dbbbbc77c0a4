"""What to type in place of commands that other programs have and sslcli has not."""

LOAD = "from ssl_cli.engine.evaluation.features import open_run; f = open_run('RUN').objective.backbone.eval()"
"""Python that loads the encoder of a run: images `(N,C,S,S)`, prepared as in `augment.evaluation.fit`, to h."""
WEIGHTS = (
    "w = torch.load('RUN/checkpoints/step_N.pt', weights_only=True)['objective']; "
    "w = {k[9:]: v for k, v in w.items() if k.startswith('backbone.')}"
)
"""Python that reads the weights alone, under the names of torchvision's ResNets."""
VECTORS = f"sslcli embed RUN DATA -o vectors.npy writes a vector for each image; in Python: {LOAD}"
RESULTS = "sslcli runs lists runs with their results; all of one is in RUN/metrics.jsonl and RUN/eval/"
SUGGESTIONS = {
    "help": "All commands: sslcli --help. The flags of one, with examples: sslcli pretrain --help.",
    "version": "sslcli --version, or sslcli doctor for those of all packages.",
    "features": VECTORS,
    "weights": f"sslcli finetune RUN DATA trains all of a run's weights; they are in RUN/checkpoints/: {WEIGHTS}",
    "predict": "An encoder gives vectors, not classes: sslcli finetune RUN DATA trains a classifier on it, and "
    "sslcli export RUN --classifier -o classifier.onnx writes one that turns images into logits.",
    "compare": f"sslcli knn-eval RUN --baselines compares it with raw pixels and the network untrained; {RESULTS}.",
    "show": f"sslcli inspect-augs DATA shows the views of training; {RESULTS}.",
}
