"""What the benchmark of the second stage reckons from its measurements."""

import json

import pytest
from refine import Measured, Point, break_even, points, read, summary


def measured(way, labels, score, seconds, task="t"):
    return Measured(task, 0, Point(way, labels, 16 if labels else 0), seconds, 1.0, [score] * 4)


def test_the_break_even_point_is_the_fewest_labels_and_seconds_that_reach_the_generated_adapter():
    found = [
        measured("base", 0, 0.0, 0.0),
        measured("generated", 0, 0.5, 0.1),
        measured("from scratch", 8, 0.25, 10.0),
        measured("from scratch", 16, 0.5, 20.0),
        measured("from scratch", 32, 0.75, 30.0),
        measured("refined", 8, 0.75, 12.0),
        measured("in context", 4, 0.25, 0.0),
    ]
    told = break_even(summary(found))
    assert told["generated"] == {"score": 0.5, "ready": 0.1}
    assert told["from scratch"] == {"labels": 16, "seconds": 20.0}
    assert told["refined"] == {"labels": 8, "seconds": 12.0}
    assert told["in context"] == {"labels": None, "seconds": None}


def test_a_point_is_the_mean_of_its_tasks():
    (row,) = summary([measured("base", 0, 0.0, 1.0, "a"), measured("base", 0, 1.0, 3.0, "b")])
    assert (row["score"], row["ready"], row["tasks"]) == (0.5, pytest.approx(2.0), 2)


def test_only_what_can_be_done_with_so_many_labels_is_tried():
    tried = {(point.way, point.labels) for point in points([1, 8, 64], [16])}
    assert ("refined", 1) not in tried
    assert ("in context", 64) not in tried
    assert {("in context", 1), ("refined", 8), ("from scratch", 64), ("base", 0), ("generated", 0)} <= tried


def test_measurements_come_back_from_their_file(tmp_path):
    one = measured("refined", 8, 0.5, 1.0)
    (tmp_path / "lines.jsonl").write_text(json.dumps(one._asdict()) + "\n")
    assert read(tmp_path / "lines.jsonl") == [one]
    assert read(tmp_path / "none.jsonl") == []
