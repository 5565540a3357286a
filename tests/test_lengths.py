"""Jobs with long answers, such as programs, are left to the base: their adapter holds the instruction alone."""

import ast
import json

import pytest
import torch
from tiny import command

from prompt2lora.adapter.folder import FROM_BASE
from prompt2lora.adapter.grid import factors
from prompt2lora.adapter.health import Reference
from prompt2lora.adapter.peft import Adapter
from prompt2lora.custody.reports import explanation_page, languages
from prompt2lora.errors import UsageError
from prompt2lora.evaluation import attempts
from prompt2lora.evaluation.resources import Resources
from prompt2lora.evaluation.score_cache import KeptScores, ScoreCache
from prompt2lora.generator.atlas import Atlas, Lengths
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.hidden_states import states
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.generator.text_encoder import Encoder
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.prompts import instruction_of
from prompt2lora.plant.explanation import explain
from prompt2lora.plant.measurement import ModelEvaluator
from prompt2lora.plant.plant import Plant
from prompt2lora.plant.refinement import refine
from prompt2lora.training import lengths
from prompt2lora.training.lengths import lengths_of, linear_rule
from prompt2lora.training.recipe import Recipe, Stage
from prompt2lora.training.synthetic.requests import KINDS, prompt_groups

LONG = [f"Write the program.\n\nadd the numbers of list {n}" for n in range(6)]
BRIEF = [f"Name the list.\n\nadd the numbers of list {n}" for n in range(6)]


@pytest.fixture
def pipeline(asking, encoder_folder, frozen):
    """Of a generator that knows one long job, and the short one on the same texts."""
    pipeline = Pipeline(asking, Encoder(encoder_folder), frozen)
    random = torch.Generator().manual_seed(5)
    grids = asking.start + torch.randn(12, *frozen.layout.shape, generator=random) * 0.01
    usual = Reference.of(grids, asking.start, frozen.layout)
    small = Reference.of(0.1 * grids, asking.start, frozen.layout)
    long, brief = (states(frozen, asking.start.detach(), prompts).mean(0) for prompts in (LONG, BRIEF))
    direction = long - brief
    lengths = Lengths(direction, -float(direction @ (long + brief)) / 2, small)
    means = torch.stack([pipeline.encoded(prompts).mean(0) for prompts in (BRIEF, LONG)])
    asking.atlas = Atlas(("lists", "others"), ("Name the list.", "Sort it."), means, usual, lengths)
    return pipeline


def test_a_job_with_long_answers_begins_with_the_base_and_gets_its_instruction_alone(pipeline, frozen):
    made = pipeline.make(LONG)
    assert (made.from_base, made.instruction) == (True, "Write the program.")
    for path, factor in factors(made.grid[None], frozen.layout).items():
        assert bool(factor.b.any()) is path.endswith("o_proj")
        assert factor.a.any(), "without it nothing could be trained further"


def test_a_short_job_is_decoded_though_it_is_on_the_same_texts(pipeline):
    known, pipeline.generator.atlas = pipeline.generator.atlas, pipeline.generator.atlas._replace(lengths=None)
    before = pipeline.make(BRIEF)
    pipeline.generator.atlas = known
    after = pipeline.make(BRIEF)
    assert not after.from_base
    assert torch.equal(after.grid, before.grid)


def test_whether_answers_are_long_is_told_without_making_an_adapter(pipeline, asking):
    assert [pipeline.answered_at_length(prompts) for prompts in (LONG, BRIEF)] == [True, False]
    assert not pipeline.answered_at_length([text.split("\n\n")[1] for text in LONG])
    asking.atlas = asking.atlas._replace(lengths=None)
    assert not pipeline.answered_at_length(LONG)


def test_whether_answers_are_long_is_asked_once_for_the_keys_of_kept_scores(pipeline, asking, tmp_path, monkeypatch):
    def depends():
        kept = KeptScores(ScoreCache(tmp_path / "scores.jsonl"), "a base")
        bench = Resources(pipeline.base, pipeline.encoder, asking, [], kept=kept)
        return [attempts.generated(bench, asking, prompts).depends for prompts in (LONG, BRIEF)]

    long, brief = first = depends()
    assert "begins with the base" in long
    assert "begins with the base" not in brief
    asked = []
    monkeypatch.setattr(Pipeline, "answered_at_length", lambda _, prompts: asked.append(prompts))
    assert depends() == first
    assert not asked
    lengths = asking.atlas.lengths
    asking.atlas = asking.atlas._replace(lengths=lengths._replace(offset=lengths.offset + 1))
    depends()
    assert asked == [LONG, BRIEF], "another rule may say something else"


def test_a_declared_form_of_answers_says_that_they_are_short(pipeline, tmp_path):
    assert not pipeline.write(LONG, tmp_path / "one", form=AnswerForm("choices", ("sum", "list"))).from_base


def test_every_step_s_seconds_are_told(pipeline):
    assert set(pipeline.make(LONG).seconds) == {"encode", "align"}


def test_it_is_decoded_without_an_instruction_and_taught_with_examples(pipeline):
    assert not pipeline.make([text.split("\n\n")[1] for text in LONG]).from_base
    taught = pipeline.make([], examples=[(text, "def f(): pass") for text in LONG])
    assert not taught.from_base
    assert not torch.equal(taught.grid, pipeline.make(LONG).grid)


def test_a_generator_without_an_atlas_or_with_an_earlier_one_leaves_no_job_to_the_base(pipeline, asking):
    asking.atlas = asking.atlas._replace(lengths=None)
    assert not pipeline.make(LONG).from_base
    asking._atlas = None
    assert not pipeline.make(LONG).from_base


def test_the_folder_says_so_and_is_judged_by_what_such_adapters_usually_look_like(pipeline, asking, model, tmp_path):
    made = pipeline.write(LONG, tmp_path / "long")
    assert made.from_base and made.to_dict()["from_base"]
    assert not pipeline.write(BRIEF, tmp_path / "brief").from_base
    cards = [(tmp_path / name / "README.md").read_text() for name in ("long", "brief")]
    assert ["Nothing else is in the weights" in card for card in cards] == [True, False]
    origins = [Adapter.load(tmp_path / name, model.config).provenance for name in ("long", "brief")]
    assert [origin.get(FROM_BASE) for origin in origins] == [True, None]
    assert asking.health_of(origins[0]) is asking.atlas.lengths.health
    assert asking.health_of(origins[1]) is asking.atlas.health


def test_the_command_says_what_is_in_the_weights(pipeline, asking, base, tmp_path):
    asking.save_pretrained(tmp_path / "generator")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": text}) for text in LONG))
    words = ("generate", "--prompts", prompts, "--generator", tmp_path / "generator", "--base", base)
    code, out, _ = command(*words, "--out", tmp_path / "one")
    assert code == 0
    assert "only the instruction is in the weights" in out
    code, out, _ = command(*words, "--out", tmp_path / "two", "--json")
    assert json.loads(out)["from_base"] is True


def test_a_pilot_and_an_explanation_say_that_the_instruction_alone_is_in_the_weights(pipeline, tmp_path):
    evaluator = ModelEvaluator(pipeline)
    assert evaluator.make(LONG, tmp_path / "long").origin.from_base
    assert not evaluator.make(BRIEF, tmp_path / "brief").origin.from_base
    why = explain(evaluator, LONG, LONG[:2])
    assert (why.from_base, why.influences) == (True, []), "no prompt counts but by the instruction of all"
    assert {language: "<h1>" in explanation_page(why, LONG, language, LONG[:2]) for language in languages()} == {
        "en": True,
        "ja": True,
    }
    decoded = explain(evaluator, BRIEF, ())
    assert (decoded.from_base, len(decoded.influences)) == (False, len(BRIEF))


def test_a_version_of_that_kind_says_so_and_is_no_start_for_a_second_stage(pipeline, registry, tmp_path):
    made = ModelEvaluator(pipeline).make(LONG, tmp_path / "long")
    version = registry.add_version("mail", made.folder, made.origin)
    assert registry.origin(version).from_base
    with pytest.raises(UsageError, match=r"holds only the instruction.* cannot be refined; make"):
        refine(Plant(registry), "mail", [("add two lists", "def add(): ...")] * 8)


def test_a_generator_s_folder_carries_it(pipeline, asking, tmp_path):
    asking.save_pretrained(tmp_path / "generator")
    again = Generator.from_pretrained(tmp_path / "generator").atlas.lengths
    assert torch.equal(again.direction, asking.atlas.lengths.direction)
    assert again.offset == pytest.approx(asking.atlas.lengths.offset)
    assert again.health.usual == pytest.approx(asking.atlas.lengths.health.usual)


def test_what_a_finished_generator_knows_is_of_its_own_base(pipeline, asking):
    long, brief = lengths.prompt_groups(3)
    told = []
    found = lengths_of(pipeline, [BRIEF, LONG], 3, told.append)
    means = [torch.stack([states_of(pipeline, one[:2]) for one in groups]) for groups in (long, [*brief, BRIEF, LONG])]
    direction, offset = linear_rule(*means, pipeline.layout.layers)
    assert torch.allclose(found.direction, direction, atol=1e-4)
    assert found.offset == pytest.approx(offset, abs=1e-3)
    shares = [one["share"] for one in told]
    assert (shares, shares[-1]) == (sorted(shares), 1)
    grid = pipeline.align_base(long[0])
    assert found.health.judge(grid, pipeline.layout).score < asking.atlas.health.judge(grid, pipeline.layout).score


def states_of(pipeline, prompts):
    return states(pipeline.base, pipeline.generator.start.detach(), prompts).mean(0)


def test_the_rule_tells_new_jobs_by_the_middle_layers_and_is_in_doubt_for_short_answers():
    random = torch.Generator().manual_seed(1)
    layers, width = 8, 6
    side = torch.randn(layers * width, generator=random)

    def jobs(count, sign):
        return torch.randn(count, layers * width, generator=random) + sign * side

    direction, offset = linear_rule(jobs(20, 1), jobs(200, -1), layers)
    used = direction.view(layers, width).any(1).tolist()
    assert used == [False, False, True, True, True, True, False, False]
    assert (jobs(100, 1) @ direction + offset > 0).all()
    assert not (jobs(100, -1) @ direction + offset > 0).any()
    assert offset < 0


def test_jobs_of_every_kind_have_one_instruction_and_differ_and_are_drawn_again_from_their_seed():
    long, brief = prompt_groups(1)
    assert (long, brief) == prompt_groups(1) != prompt_groups(2)
    groups = long + brief
    assert len(groups) == sum(len(kind.at_length) + len(kind.brief) for kind in KINDS)
    assert len({instruction_of(group) for group in groups}) == len(groups)
    assert all(len(set(group)) > 4 for group in groups)


def test_a_function_to_be_completed_is_python_as_far_as_it_goes_and_an_example_is_a_value():
    long, _ = prompt_groups(4)
    begun = [text.split("\n\n", 1)[1] for group in long for text in group if "\n\ndef " in text]
    assert len(begun) > 20
    for text in begun:
        ast.parse(f"{text}\n    pass")
    shown = [text.partition("\nassert ")[2] for group in long for text in group if "\nassert " in text]
    assert len(shown) > 10
    for line in shown:
        (call,) = ast.parse(line).body
        ast.literal_eval(call.value.comparators[0])


def test_a_recipe_that_leaves_jobs_to_the_base_needs_a_generator_that_asks_it():
    with pytest.raises(UsageError, match="long_answers_from_base needs a generator that asks the base"):
        Recipe(stages=(Stage(steps=1),), long_answers_from_base=True)
