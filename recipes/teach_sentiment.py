"""Give training rows the class probabilities of a linear teacher, for `edgelm finetune sentiment` to distil.

usage: python recipes/teach_sentiment.py ROWS.jsonl OUT.jsonl

The teacher is logistic regression on character 1- to 4-grams, once on tf-idf and once on naive Bayes log-count ratios
(Wang and Manning, 2012), the two averaged. No row is judged by a teacher that has seen it: it is cross-fitted in five
parts, and the development rows are neither learned from nor taught.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prepare_data import DEV_FRACTION, write_rows
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from edgelm_export.finetune.data import read_rows, split_rows

FOLDS = 5


def main(source: Path, target: Path) -> None:
    train, dev = split_rows(read_rows([source]), DEV_FRACTION)
    labels = np.array([int(row["label"]) for row in train])
    vectorizer = CountVectorizer(analyzer="char", ngram_range=(1, 4), min_df=2, dtype=np.float32)
    counts = vectorizer.fit_transform([row["text"] for row in train])
    positive = np.zeros(len(train))
    for learned, held_out in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(counts, labels):
        positive[held_out] = teach(counts[learned], labels[learned], counts[held_out])
    print(f"teacher on rows that it has not seen: {100 * np.mean((positive > 0.5) == labels):.2f} %")
    taught = [
        {**row, "teacher": [round(1 - p, 4), round(p, 4)]} for row, p in zip(train, positive.tolist(), strict=True)
    ]
    write_rows(target, [*taught, *dev])


def teach(counts: Any, labels: NDArray[np.int64], others: Any) -> NDArray[np.float64]:
    """The probability of the positive class for each of the others, [rows]."""
    tfidf = TfidfTransformer(sublinear_tf=True).fit(counts)
    present, present_others = (counts > 0).astype(np.float32), (others > 0).astype(np.float32)
    ratio = _log_count_ratio(present, labels)
    views = [
        (tfidf.transform(counts), tfidf.transform(others), 10.0),
        (present.multiply(ratio).tocsr(), present_others.multiply(ratio).tocsr(), 0.1),
    ]
    judged = [
        LogisticRegression(C=c, solver="liblinear").fit(seen, labels).predict_proba(unseen)[:, 1]
        for seen, unseen, c in views
    ]
    return np.mean(judged, axis=0)


def _log_count_ratio(present: Any, labels: NDArray[np.int64]) -> NDArray[np.float32]:
    shares = []
    for label in (0, 1):
        count = np.asarray(present[labels == label].sum(axis=0)) + 1.0
        shares.append(count / count.sum())
    return np.log(shares[1] / shares[0]).astype(np.float32)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
