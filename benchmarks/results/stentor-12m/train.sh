#!/bin/sh
# Train stentor-12m and its teachers as they were trained. usage: sh train.sh, beside a folder corpus/ with
# edu-train-*.jsonl.zst and edu-val.jsonl.zst, on a machine with four GPUs of 80 GB. On H100s: 35 minutes of updates for
# the teachers, one after the other, and 8 for the model.
set -eu
stentor prepare stentor-12m --data data/stentor-12m
for seed in 0 1 2 3; do
  stentor train stentor2-12m-teacher --data data/stentor-12m --run "runs/teacher-$seed" \
    --set train.seed="$seed" --set train.tokens=393_216_000
done
torchrun --nproc-per-node 4 -m -- stentor train stentor-12m
stentor export runs/stentor-12m model.gguf --to gguf --dtype q8_0
