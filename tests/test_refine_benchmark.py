"""What the benchmark of the second stage reckons from its measurements."""

import json
import sys
from types import SimpleNamespace

import pytest
import refine
from refine import Measured, Point, break_even, points, shuffled, summary

from prompt2lora import api
from prompt2lora.errors import UsageError
from prompt2lora.generator.generator import Generator


def measured(way, labels, score, seconds):
    return {Point(way, labels, 16 if labels else 0): [Measured(seconds, 1.0, [score] * 4)]}


def test_the_break_even_point_is_the_fewest_labels_and_seconds_that_reach_the_generated_adapter():
    found = {
        **measured("base", 0, 0.0, 0.0),
        **measured("generated", 0, 0.5, 0.1),
        **measured("from scratch", 8, 0.25, 10.0),
        **measured("from scratch", 16, 0.5, 20.0),
        **measured("from scratch", 32, 0.75, 30.0),
        **measured("refined", 8, 0.75, 12.0),
        **measured("in context", 4, 0.25, 0.0),
    }
    told = break_even(summary(found, 1))
    assert told["generated"] == {"score": 0.5, "ready": 0.1}
    assert told["from scratch"] == {"labels": 16, "seconds": 20.0}
    assert told["refined"] == {"labels": 8, "seconds": 12.0}
    assert told["in context"] == {"labels": None, "seconds": None}


def test_nothing_is_reached_where_the_generated_adapter_answers_nothing():
    told = break_even(summary(measured("generated", 0, 0.0, 0.1) | measured("refined", 8, 0.5, 12.0), 1))
    assert told["refined"] == {"labels": None, "seconds": None}


def test_a_point_is_the_mean_of_its_tasks():
    (point,) = summary({Point("base", 0, 0): [Measured(1.0, 1.0, [0.0] * 4), Measured(3.0, 1.0, [1.0] * 4)]}, 2)
    assert (point["score"], point["ready"], point["tasks"]) == (0.5, pytest.approx(2.0), 2)


def test_only_what_can_be_done_with_so_many_labels_is_tried():
    tried = {(point.way, point.labels) for point in points([1, 8, 64], [16])}
    assert ("refined", 1) not in tried
    assert ("in context", 64) not in tried
    assert {("in context", 1), ("refined", 8), ("from scratch", 64), ("base", 0), ("generated", 0)} <= tried


def test_the_order_of_the_tasks_hangs_on_their_names_alone():
    tasks = [SimpleNamespace(name=name) for name in "abcdef"]
    assert shuffled(tasks) == shuffled(tasks[::-1]) != tasks


def test_a_run_goes_on_where_it_was_with_the_same_generator_and_begins_anew_with_another(
    tasks_folder, generator_folder, tmp_path, monkeypatch, capsys
):
    def run(*more, generator=generator_folder, out="refine.json"):
        words = ["--tasks", tasks_folder, "--split", "train", "--labels", "1", "8", "--steps", "2", "--examples", "3"]
        words += ["--generator", generator, "--out", tmp_path / out, *more]
        monkeypatch.setattr(sys, "argv", ["refine.py", *map(str, words)])
        refine.main()
        return json.loads((tmp_path / out).read_text()), capsys.readouterr().out.count(" after ")

    first, measured = run("--minutes", "0.005")
    assert (len(first["tasks"]), first["left_out"], measured) == (1, 5, 6)
    with pytest.raises(UsageError, match="must not exist"):
        run()
    (tmp_path / "refine.json").unlink()
    again, measured = run("--minutes", "0")
    assert (again["points"], measured) == (first["points"], 0), "what is measured is not measured again"
    assert again["generator"] == Generator.from_pretrained(generator_folder).provenance["sha256"]
    other = Generator.from_pretrained(generator_folder)
    other.start.data += 0.1
    other.save_pretrained(tmp_path / "other")
    (tmp_path / "refine.json").unlink()
    with pytest.raises(SystemExit, match="no task is complete"):
        run("--minutes", "0", generator=tmp_path / "other")


def test_what_was_measured_stands_on_the_page(tmp_path):
    found = measured("base", 0, 0.0, 0.0) | measured("generated", 0, 0.5, 0.1) | measured("refined", 8, 0.75, 9)
    points = summary(found, 1)
    told = {"tasks": ["t"], "left_out": 3, "order": "any", "examples": 4, "generator": "9" * 64, "command": "python"}
    found = {"points": points, "break_even": break_even(points), **told}
    (tmp_path / "refine.json").write_text(json.dumps(found))
    written = api.report(tmp_path, tmp_path / "page.md")
    page = written[0].read_text()
    assert "1 of 4 tasks" in page
    assert "| refined | 8 | 16 | 0.750 (0.750 to 0.750) | 9.0 | 1.0 |" in page
    assert "* refined: 8 labels, 9.0 s" in page
    assert "* from scratch: none of these" in page
    assert (tmp_path / "images" / "refine.png").read_bytes().startswith(b"\x89PNG")
