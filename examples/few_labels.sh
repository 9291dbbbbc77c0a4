#!/bin/sh
# SimCLR v2's road on the embedded images: train without labels, fine-tune on few of them, distil into a smaller network,
# and compare with a linear probe and with training from scratch. Where it was stopped, the same line continues.
# sh examples/few_labels.sh [DIR]; with pictures of your own, one folder a class: DATA=photos/ sh examples/few_labels.sh
set -eu
out=${1:-runs/few-labels}

sslcli pipeline "${DATA:-shapes}" --labels 10% --method simclr-v2 --out "$out" --resume
sslcli export "$out/distill" --classifier -o "$out/student.onnx"
