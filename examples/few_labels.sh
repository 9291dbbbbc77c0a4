#!/bin/sh
# SimCLR v2's road on the embedded images: train without labels, fine-tune on few of them, distil into a smaller network.
# sh examples/few_labels.sh [DIR]; with pictures of your own, one folder a class: DATA=photos/ sh examples/few_labels.sh
set -eu
out=${1:-runs/few-labels}

sslcli pretrain ${DATA:+"$DATA"} --method simclr-v2 --out "$out/encoder"
sslcli finetune "$out/encoder" --labels 10% --out "$out/classifier"
sslcli distill "$out/classifier" --width 0.125 --out "$out/student"
sslcli export "$out/student" --classifier -o "$out/student.onnx"
