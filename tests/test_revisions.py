"""The code behind kept scores: whoever changes it says whether it still computes the same."""

import ast

import pytest

from prompt2lora.errors import UsageError
from prompt2lora.evaluation import judge as judging
from prompt2lora.evaluation import revisions
from prompt2lora.evaluation.arms import ARMS
from prompt2lora.evaluation.attempts import Attempt
from prompt2lora.evaluation.revisions import components, refreshed, said, text

CODE = 'def double(x: int) -> int:\n    """Twice."""\n    # easy\n    return 2 * x\n'


@pytest.mark.parametrize("name", sorted(components()))
def test_the_code_behind_kept_scores_is_that_of_its_revision(name):
    told = f"{name} changed: run `python -m prompt2lora.evaluation.revisions` and choose same or changed"
    assert components()[name].digest() == components()[name].sha256, told


@pytest.mark.parametrize(
    "other",
    [
        "def double(x: int) -> int:\n    return 2 * x",
        'def double(\n    x: int,\n) -> int:\n    """Two times."""\n    return (2 * x)\n',
    ],
)
def test_comments_docstrings_and_layout_say_nothing(other):
    assert said(ast.parse(other)) == said(ast.parse(CODE))


@pytest.mark.parametrize("change", [("2 * x", "3 * x"), ("2 * x", "x * 2"), ("2 * x", "None"), ("2", "2.0")])
def test_any_other_change_is_one(change):
    assert said(ast.parse(CODE.replace(*change))) != said(ast.parse(CODE))


def test_a_changed_component_gets_the_next_revision_and_another_digest_though_its_code_is_the_same():
    before, after = components(), refreshed(components(), ("alignment",))
    assert after["alignment"].revision == before["alignment"].revision + 1
    assert after["alignment"].digest() == after["alignment"].sha256 != before["alignment"].digest()
    assert {name for name in before if after[name].revision != before[name].revision} == {"alignment"}
    with pytest.raises(UsageError, match="there are answers, "):
        refreshed(before, ("nothing",))


def test_the_table_is_written_as_it_is_read(tmp_path):
    (tmp_path / "table.toml").write_text(text(components()), encoding="utf-8")
    assert components(tmp_path / "table.toml") == components()
    assert revisions.TABLE.read_text(encoding="utf-8") == text(components())


def test_a_score_of_another_revision_has_another_key(generator, tasks_folder, monkeypatch):
    from test_benchmark import resources

    from prompt2lora.training.tasks import read_tasks

    tasks = read_tasks([tasks_folder])
    request = judging.BenchmarkRequest()
    judge = judging.Judge(resources(generator, tasks), request)

    def keys():
        attempts = {"decoder": ("decoder",), "alignment": ("decoder", "alignment")}
        return {name: judge.key(tasks[0], "full", Attempt(("x",), code)) for name, code in attempts.items()}

    before = keys()
    raised = refreshed(components(), ("alignment",))
    monkeypatch.setattr(revisions, "components", lambda: raised)
    after = keys()
    assert before["decoder"] == after["decoder"]
    assert before["alignment"] != after["alignment"]


def test_every_arm_names_only_components_that_there_are(generator, tasks_folder):
    from test_benchmark import resources

    from prompt2lora.training.tasks import read_tasks

    tasks = read_tasks([tasks_folder])
    free = {"base", "icl-1", "icl-4", "decoded", "generated", "mean-condition", "few-shot-16", "few-shot-64"}
    for arm in free:
        attempt = ARMS[arm].attempt(resources(generator, tasks), tasks[0], 0)
        assert set(attempt.code) <= components().keys()
