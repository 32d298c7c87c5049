"""Figures of classes against scikit-learn's, and the warnings that come with them."""

from __future__ import annotations

import random

import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from edgelm_export.class_report import NONE, of_classes, of_entities, of_labels, row_warnings

NAMES = ("late", "broken", "fine")


def test_the_figures_of_classes_are_those_of_scikit_learn() -> None:
    draw = random.Random(0)
    expected, answered = ([draw.choice(NAMES) for _ in range(50)] for _ in range(2))
    report = of_classes(expected, answered, NAMES)
    right = precision_recall_fscore_support(expected, answered, labels=NAMES, zero_division=0)
    for index, one in enumerate(report.classes):
        assert (one.label, one.support) == (NAMES[index], right[3][index])
        assert [one.precision, one.recall, one.f1] == pytest.approx([100 * figure[index] for figure in right[:3]])
    assert [list(row) for row in report.confusion] == confusion_matrix(expected, answered, labels=NAMES).tolist()
    assert report.warnings() == []
    assert report.to_dict()["confusion"]["labels"] == list(NAMES)


def test_the_figures_of_labels_are_those_of_scikit_learn() -> None:
    draw = random.Random(1)
    expected, answered = ([{n for n in NAMES if draw.random() < 0.4} for _ in range(50)] for _ in range(2))
    report = of_labels(expected, answered, NAMES)
    held = [[[int(name in row) for name in NAMES] for row in rows] for rows in (expected, answered)]
    right = precision_recall_fscore_support(*held, zero_division=0)
    for index, one in enumerate(report.classes):
        assert [one.precision, one.recall, one.f1] == pytest.approx([100 * figure[index] for figure in right[:3]])
    assert "confusion" not in report.to_dict()


def test_entities_are_right_at_their_place_alone() -> None:
    expected = [{("BRAND", 0, 4), ("SIZE", 5, 7)}, {("BRAND", 0, 4)}]
    answered = [{("BRAND", 0, 4), ("BRAND", 5, 7)}, {("BRAND", 0, 5)}]
    report = of_entities(expected, answered)
    brand, size = report.classes
    assert (brand.precision, brand.recall, brand.support) == (pytest.approx(100 / 3), 50.0, 2)
    assert (size.precision, size.recall, size.f1, size.support) == (0.0, 0.0, 0.0, 1)
    assert report.labels == ("BRAND", "SIZE", NONE)
    assert report.confusion == ((1, 0, 1), (1, 0, 0), (1, 0, 0))
    assert report.warnings() == [
        "every answer is 'BRAND': the model tells nothing apart. Train it longer, with another learning rate, or on "
        "about as many rows of each class"
    ]


def test_a_model_that_knows_one_answer_is_named() -> None:
    report = of_classes(["late", "fine"], ["fine", "fine"], NAMES)
    assert "every answer is 'fine'" in report.warnings()[0]
    assert of_classes(["late", "fine", "fine"], ["fine", "fine", "broken"], NAMES).warnings() == [
        "never answered: 'late' (1)"
    ]
    assert of_classes(["fine"], ["fine"], NAMES).warnings() == []  # one class in the rows says nothing of the others


def test_many_classes_show_what_is_confused_most() -> None:
    names = [f"class {index}" for index in range(12)]
    report = of_classes([*names, "class 1", "class 1"], [*names, "class 2", "class 2"], names)
    assert report.table().splitlines()[-1].split() == ["class", "1", "class", "2", "2"]
    assert of_classes(names, names, names).table().endswith("nothing was confused")
    assert "right answer \\ answered  late  broken  fine" in of_classes(["late"], ["late"], NAMES).table()


def test_chinese_names_stand_in_their_columns() -> None:
    lines = of_classes(["物流", "ok"], ["物流", "ok"], ("物流", "ok")).table().splitlines()
    assert lines[2].startswith("物流   100.00")
    assert lines[3].startswith("ok     100.00")


def test_rows_are_warned_of() -> None:
    assert row_warnings({"a": 30, "b": 30}, {"a": 1, "b": 1}, 0, 2) == []
    few = row_warnings({"a": 29, "b": 7, "c": 40}, {"a": 2}, 3, 10)
    assert few == [
        "3 of 10 development rows are training rows as well: the figures are too good",
        "fewer than 30 training rows of a class: 'b' (7), 'a' (29); give more",
        "no development row has 'b', 'c': nothing is known of how well that is told",
    ]
    assert "only say what was learned by heart" in row_warnings({"a": 30}, {"a": 30}, 30, 30)[0]
