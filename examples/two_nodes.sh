#!/bin/sh
# One run on two machines. On the first:  sh examples/two_nodes.sh 0 FIRST-HOST photos/
#                         On the second: sh examples/two_nodes.sh 1 FIRST-HOST photos/
# The images must be on both; the run folder is written on the first alone, and read there by --resume.
set -eu
[ $# -ge 2 ] || { echo "usage: $0 NODE (0 or 1) FIRST-HOST [DATA] [flags of sslcli pretrain]" >&2; exit 2; }
node=$1 first=$2
shift 2

export TORCHELASTIC_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1
exec torchrun --nnodes 2 --node-rank "$node" --nproc-per-node "${PROCESSES:-1}" \
  --master-addr "$first" --master-port "${PORT:-29500}" \
  -m ssl_cli pretrain --resume --out "${OUT:-runs/two-nodes}" "$@"
