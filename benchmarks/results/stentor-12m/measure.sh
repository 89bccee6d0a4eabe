#!/bin/sh
# Measure stentor-12m and write its card again. usage: sh benchmarks/results/stentor-12m/measure.sh CORPUS TASKS
# CORPUS: edu-train-*.jsonl.zst and edu-val.jsonl.zst. TASKS: blimp-first-30/, the first 30 lines of each of BLiMP's 67
# files; arc-easy.jsonl, arc-challenge.jsonl, openbookqa.jsonl, piqa.jsonl and hellaswag.jsonl, their validation parts
# with lm-eval's words (docs/evaluate.md). Memorisation and the held-out text were measured on a GPU: add --device cuda.
set -eu
corpus=$(realpath "$1") tasks=$(realpath "$2")
run=$(realpath "$(dirname "$0")") models=$(realpath "$(dirname "$0")/../../../src/stentor/models")
cd "$corpus"
out=$run/results
stentor evaluate stentor-12m edu-val.jsonl.zst --by document --by position --json > "$out/evaluate-edu-val.json"
stentor evaluate stentor-12m edu-val.jsonl.zst --stride 512 --json > "$out/evaluate-strided-edu-val.json"
stentor contamination edu-val.jsonl.zst 'edu-train-*.jsonl.zst' --model stentor-12m --json > "$out/contamination.json"
stentor memorization stentor-12m edu-train-000.jsonl.zst --samples 1000 --json > "$out/memorization-train-000.json"
stentor memorization stentor-12m edu-val.jsonl.zst --samples 1000 --json > "$out/memorization-val.json"
stentor export stentor-12m --compare edu-val.jsonl.zst --calibrate edu-train-000.jsonl.zst --json > "$out/quantization.json"
stentor bench stentor-12m --quick --json > "$out/bench.json"
stentor generate "The history of computing began" --model stentor-12m --max-new-tokens 120 --seed 1 --json \
  > "$out/generate-history.json"
stentor generate "Water boils when" --model stentor-12m --max-new-tokens 120 --seed 1 --json > "$out/generate-water.json"
cd "$tasks"
stentor evaluate stentor-12m --task blimp=blimp-first-30 --json > "$out/evaluate-blimp-first-30.json"
stentor evaluate stentor-12m --task choice=arc-easy.jsonl --task choice=arc-challenge.jsonl \
  --task choice=openbookqa.jsonl --task choice=piqa.jsonl --json > "$out/evaluate-choice.json"
stentor evaluate stentor-12m --task choice=hellaswag.jsonl --json > "$out/evaluate-hellaswag.json"
# The model's own folder is nobody's business.
sed -i 's#"[^"]*/models/stentor-12m/model.gguf"#"stentor-12m"#' "$out"/*.json
cd "$models"
stentor card stentor-12m --run "$run" --results "$out" --about "$run/card.toml" --force
