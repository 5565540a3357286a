"""The form of a job's answers: declared by a person, found in labelled answers, kept as JSON."""

import json
import time

import pytest

from prompt2lora.errors import InputError
from prompt2lora.ground import answer_form as forms
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.declared_form import declared, found


def test_a_form_is_what_a_person_writes(tmp_path):
    file, schema = tmp_path / "labels.txt", tmp_path / "schema.json"
    file.write_text("billing\nshipping, late\n\n返品\n", encoding="utf-8")
    schema.write_text(json.dumps({"type": "integer"}))
    kept = tmp_path / "form.json"
    kept.write_text(json.dumps({"kind": "date", "layout": "DD.MM.YYYY"}))
    assert declared("") is None is declared("free")
    assert declared("choices:a, b,c") == AnswerForm("choices", ("a", "b", "c"))
    assert declared("choices:不良、良品").choices == ("不良", "良品")
    assert declared("number") == AnswerForm("number")
    assert declared("date") == AnswerForm("date", text="YYYY-MM-DD")
    assert declared("date:DD.MM.YYYY").fits("28.11.2026") and not declared("date:DD.MM.YYYY").fits("2026-11-28")
    assert (
        declared('schema:{"type": "integer"}')
        == forms.schema({"type": "integer"})
        == declared(f"schema:{schema}", files=True)
    )
    assert declared({"kind": "number"}) == forms.number()
    assert declared("pattern:^[a-c]+$") == AnswerForm("pattern", text="[a-c]+")
    assert declared(f"schema:{schema}", files=True).to_dict() == {"kind": "schema", "schema": {"type": "integer"}}
    assert declared(str(file), files=True).choices == ("billing", "shipping, late", "返品")
    assert declared(str(kept), files=True) == forms.date("DD.MM.YYYY")


def test_a_dollar_at_the_end_of_a_pattern_is_its_end_unless_it_is_escaped():
    assert forms.pattern(r"^[0-9]+ US\$").fits("25 US$")
    assert forms.pattern(r"^[0-9]+ US\$$").fits("25 US$")
    assert forms.pattern(r"^[A-Z]:\\$").fits("C:\\")


@pytest.mark.parametrize(
    "spelling",
    [
        "choice:a,b",
        "choices:a",
        "choices:",
        "number:3",
        "date:month",
        "date:Datum DD.MM.YYYY",
        "pattern:(",
        "pattern:a{99999999999}",
        f"pattern:{'(' * 5000}a{')' * 5000}",
        "pattern:",
        "schema:nowhere",
        "auto",
    ],
)
def test_what_is_no_form_is_refused_in_one_line(spelling):
    with pytest.raises(InputError) as refused:
        declared(spelling)
    assert "\n" not in str(refused.value)


def test_what_comes_over_a_network_names_no_file(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("a\nb\n")
    for spelling in (str(file), f"schema:{file}"):
        with pytest.raises(InputError, match="names no form"):
            declared(spelling)


def test_an_example_of_another_form_is_refused_by_its_number():
    with pytest.raises(InputError, match=r"'refund' \(example 2\)"):
        declared("choices:billing,returns", ["billing", "refund"])


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["yes", "no", "yes", "no"], forms.choices(["yes", "no"])),
        (["no", *["yes"] * 19], forms.choices(["yes", "no"])),
        (["no", *["yes"] * 18], None),  # what occurs once leaves it likely that there are others
        (["yes"] * 9, None),
        (["12", "-3.5", "100"], forms.number()),
        (["第一　工場", "第二　工場"] * 8, forms.choices(["第一　工場", "第二　工場"])),
        (["1", "2"] * 8, forms.choices(["1", "2"])),
        (["1,000", "12"], None),
        (["2026-01-05", "2026-11-28"], forms.date()),
        (["2026年1月5日", "2026年11月28日"], forms.date("YYYY年M月D日")),
        (["05.01.2026", "28.11.2026"], forms.date("DD.MM.YYYY")),
        (["01/02/2026", "12/25/2026"], forms.date("MM/DD/YYYY")),
        (["01/02/2026", "03/04/2026"], None),
        (["KX-4825", "LM-0310"], None),
        ([], None),
    ],
)
def test_labelled_answers_show_their_form(answers, expected):
    assert found(answers) == expected
    assert declared("auto", answers) == expected if answers else True


def test_no_answer_that_showed_a_form_is_outside_of_it():
    for answers in (["a", "b"] * 5, ["1", "2.25", "-7"], ["2026/1/5", "2026/12/31"]):
        assert all(map(found(answers).fits, answers))


def test_a_form_comes_back_from_json_as_it_was():
    for spelling in ("choices:a,返品", "number", "date:D.M.YYYY", "pattern:[A-Z]{2}"):
        form = declared(spelling)
        assert forms.read(json.loads(json.dumps(form.to_dict()))) == form
        assert str(form) == spelling
    form = forms.schema({"type": "object"})
    assert forms.read(form.to_dict()) == form
    assert forms.read(None) is None


@pytest.mark.parametrize(
    "told",
    [1, "number", {}, {"kind": "choices"}, {"kind": "choices", "choices": [1, 2]}, {"kind": "schema"}, {"kind": 3}],
)
def test_json_that_is_no_form_is_refused(told):
    with pytest.raises(InputError):
        forms.read(told)


def test_a_pattern_is_followed_in_time_that_grows_with_the_answer_alone():
    slow = forms.pattern("(a+)+b")
    began = time.monotonic()
    assert slow.fits("a" * 4000 + "b") and not slow.fits("a" * 4000)
    assert time.monotonic() - began < 10, "`re` would need longer than there is"
    with pytest.raises(InputError, match="write a plainer one"):
        forms.pattern(".*a" * 2000).fits("a" * 4000)


def test_a_schema_of_too_many_levels_is_refused():
    deep = {"type": "string"}
    for _ in range(100_000):
        deep = {"properties": {"a": deep}}
    with pytest.raises(InputError, match="levels"):
        forms.schema(deep)
