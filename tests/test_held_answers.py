"""The form of a job's answers goes with its adapter, and every door holds answers to it."""

import json
import os
import shutil

import pytest
from safetensors.torch import load_file, save_file
from test_gateway import ASK, FROM, ask, kept, service, tokens  # noqa: F401
from tiny import AT, adapter_folder, as_csv, command

import prompt2lora as p2l
from prompt2lora.adapter.folder import form_of, read_origin
from prompt2lora.custody.bases import released_form
from prompt2lora.errors import DamagedFile, InputError
from prompt2lora.ground import answer_form as forms
from prompt2lora.plant.plant import Plant
from prompt2lora.serving import answered_files
from prompt2lora.serving.answer_file import RowsRequest

LABELS = forms.choices(["billing", "shipping", "returns"])


def with_form(folder, told):
    """An adapter folder whose origin tells a form."""
    file = adapter_folder(folder, "held") / "adapter_model.safetensors"
    save_file(load_file(file), file, metadata={"prompt2lora": json.dumps({"answers": told})})
    return folder


@pytest.fixture
def held(kept, tmp_path):  # noqa: F811
    """A released version of the job mail whose answers are labels."""
    made = kept.add_version("mail", with_form(tmp_path / "held", LABELS.to_dict()), FROM)
    kept.promote("mail", made, "better", expected=None)
    return made


def test_an_adapter_of_a_form_tells_it_and_answers_in_it(generator_folder, base, tmp_path):
    made = p2l.generate(["a", "b c"], tmp_path / "made", form=LABELS, generator=generator_folder, base=base)
    assert form_of(read_origin(tmp_path / "made")) == LABELS
    assert "choices:billing,shipping,returns" in (tmp_path / "made" / "README.md").read_text()
    assert all(p2l.ask(made.adapter, text) in LABELS.choices for text in ("a", "what now?"))
    free = p2l.generate(["a", "b c"], tmp_path / "free", generator=generator_folder, base=base)
    assert form_of(read_origin(tmp_path / "free")) is None
    assert p2l.ask(free.adapter, "a", max_new_tokens=8) not in LABELS.choices


def test_a_form_that_cannot_be_held_to_is_refused_before_anything_is_made(generator_folder, base, tmp_path):
    with pytest.raises(InputError, match="cannot be held"):
        p2l.generate(["a"], tmp_path / "made", form=forms.pattern("(?=a)b"), generator=generator_folder, base=base)
    assert not (tmp_path / "made").exists()


def test_the_command_line_finds_a_form_in_the_examples_or_says_what_they_seem_to_be(generator_folder, base, tmp_path):
    file = tmp_path / "examples.csv"
    file.write_text("input,output\n" + "".join(f"note {n},{LABELS.choices[n % 3]}\n" for n in range(9)))
    words = ("generate", "--examples", file, "--generator", generator_folder, "--base", base)
    code, _, told = command(*words, "--out", tmp_path / "free")
    assert code == 0 and "seem to be choices:billing,shipping,returns" in told
    code, out, told = command(*words, "--out", tmp_path / "made", "--answers", "auto", "--json")
    assert code == 0 and "Answers: choices:billing,shipping,returns" in told
    assert json.loads(out)["answers"] == LABELS.to_dict()
    assert form_of(read_origin(tmp_path / "made")) == LABELS
    code, _, told = command(*words, "--out", tmp_path / "other", "--answers", "number")
    assert code == 2 and "example 1" in told


def test_the_registry_tells_the_form_of_a_version_and_of_a_job_that_the_base_answers(kept, held):  # noqa: F811
    assert kept.form(held) == LABELS == kept.origin(held).form
    assert released_form(kept, kept.current("mail")) == LABELS
    back = kept.promote("mail", None, "back", expected=kept.current("mail").id)
    assert back.version is None and released_form(kept, back) == LABELS


def test_a_job_whose_adapter_is_lost_is_answered_by_the_base(service, tokens, kept, held):  # noqa: F811
    shutil.rmtree(kept.store.path(held.adapter))
    service.check_releases()
    assert kept.current("mail").version is None and released_form(kept, kept.current("mail")) is None
    assert ask(service, tokens["asks"], ASK).status_code == 200
    assert RowsRequest.of(kept, kept.current("mail")).form is None


def test_a_version_of_a_form_is_refined_with_answers_of_that_form_alone(service, held):  # noqa: F811
    pairs = [(f"note {n}", "billing") for n in range(8)]
    with pytest.raises(InputError, match="example 9"):
        service.refine("me", "mail", held.name, [*pairs, ("note 9", "something else")])
    assert service.queue.recent() == []


def test_answered_files_are_kept_for_a_week_and_then_deleted(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path))
    answered_files.forget(AT)  # where there are none
    now = AT.timestamp()
    (tmp_path / "answers").mkdir()
    for name, days in (("old.xlsx", 7.1), ("old.kept", 8), ("new.csv", 6.9), ("new.kept", 0)):
        file = tmp_path / "answers" / name
        file.touch()
        os.utime(file, (now - days * 86400,) * 2)
    answered_files.forget(AT)
    assert {file.name for file in (tmp_path / "answers").iterdir()} == {"new.csv", "new.kept"}


def test_an_origin_that_tells_no_form_is_refused(tmp_path):
    with pytest.raises(DamagedFile, match="none"):
        form_of(read_origin(with_form(tmp_path / "a", {"kind": "anything"})))


def test_a_request_to_a_job_is_answered_in_its_form(service, tokens, held):  # noqa: F811
    assert ask(service, tokens["asks"], ASK).status_code == 200
    assert service.engine.asks[-1].form == LABELS
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    refused = ask(service, tokens["asks"], {**ASK, "response_format": schema})
    assert refused.status_code == 400 and "choices:billing" in refused.json()["error"]["message"]


def test_a_request_may_name_the_job_s_own_schema_in_any_order_of_its_keys(service, tokens, kept, tmp_path):  # noqa: F811
    own = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}, "required": ["a"]}
    made = kept.add_version("mail", with_form(tmp_path / "held", forms.schema(own).to_dict()), FROM)
    kept.promote("mail", made, "better", expected=None)
    turned = {**dict(reversed(own.items())), "properties": dict(reversed(own["properties"].items()))}
    for told, status in ((turned, 200), ({**own, "required": ["b"]}, 400)):
        asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": told}}
        assert ask(service, tokens["asks"], {**ASK, "response_format": asked}).status_code == status
    assert service.engine.asks[-1].form == forms.schema(own)


def test_a_request_may_ask_for_json_where_answers_are_free(service, tokens, kept, tmp_path):  # noqa: F811
    made = kept.add_version("mail", adapter_folder(tmp_path / "free", "free"), FROM)
    kept.promote("mail", made, "better", expected=None)
    told = {"type": "object", "properties": {"part": {"type": "string"}}}
    for asked, expected in (
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": told, "strict": True}}, forms.schema(told)),
        ({"type": "json_object"}, forms.schema({"type": "object"})),
        ({"type": "text"}, None),
    ):
        assert ask(service, tokens["asks"], {**ASK, "response_format": asked}).status_code == 200
        assert service.engine.asks[-1].form == expected
    broken = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}
    assert ask(service, tokens["asks"], {**ASK, "response_format": broken}).status_code == 400


def test_a_pilot_holds_the_base_and_the_adapter_to_the_form_and_its_release_answers_a_file(
    plant_generator, base, tmp_path, monkeypatch
):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    pairs = [(f"note {n}", LABELS.choices[n % 3]) for n in range(12)]
    files = {name: tmp_path / f"{name}.csv" for name in ("examples", "inspection", "rows")}
    files["examples"].write_text(as_csv(pairs))
    files["inspection"].write_text(as_csv([(f"{text} again, and more", answer) for text, answer in pairs]))
    files["rows"].write_text("text\n" + "".join(f"{text}\n" for text, _ in pairs))
    words = ("--examples", files["examples"], "--inspection", files["inspection"], "--answers", "auto")
    code, out, told = command("pilot", "--job", "mail", *words, "--generator", plant_generator, "--json")
    assert code == 0, told
    assert json.loads(out)["answers"] == LABELS.to_dict()
    kept = Plant.open().registry  # noqa: F811
    made = kept.versions("mail")[0]
    inspected = kept.measured(made).inspection
    assert {one.base for one in inspected} | {one.generated for one in inspected} <= {*LABELS.choices}
    assert all(one.confidence is not None and 0 < one.confidence <= 1 for one in inspected)
    assert kept.measured(made).metrics.format.score == 1
    answer = ("answer", "--job", "mail", "--in", files["rows"], "--out", tmp_path / "out.csv", "--json")
    assert command(*answer)[0] == 2  # nothing is released
    kept.promote("mail", made, "better", expected=None)
    code, out, told = command(*answer)
    assert code == 0, told
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert rows[0] == "text,answer,confidence,note" and len(rows) == 13
    assert {row.split(",")[1] for row in rows[1:]} <= {*LABELS.choices}
    kept.engine.dispose()
