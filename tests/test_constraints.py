"""Answers of a form cannot be of another: tokens of several kinds of tokenizers, and greedy decoding."""

import json
import re
import time

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.constraints import check
from prompt2lora.base.decoding import answers, scored_answers
from prompt2lora.errors import InputError
from prompt2lora.ground import answer_form as forms

LABELS = forms.choices(["billing", "shipping", "returns", "returns and refunds", "外観不良"])
SCHEMA = forms.schema(
    {
        "type": "object",
        "properties": {"part": {"type": "string", "maxLength": 4}, "count": {"type": "integer", "maximum": 99}},
        "required": ["part", "count"],
        "additionalProperties": False,
    }
)
FORMS = {
    "choices": (LABELS, ["returns", "returns and refunds", "外観不良"], ["bill", "billings", "return", ""]),
    "number": (forms.number(), ["0", "-12", "3.50"], ["", "1,000", "12 pieces", "-", "3."]),
    "date": (forms.date(), ["2026-11-28"], ["2026-13-01", "28.11.2026", "2026-11"]),
    "Japanese date": (forms.date("YYYY年M月D日"), ["2026年1月5日"], ["2026年01月5日", "2026-1-5"]),
    "pattern": (forms.pattern("^[A-Z]{2}-[0-9]{4}$"), ["KX-4825"], ["KX-482", "kx-4825", "KX-48250"]),
    "schema": (
        SCHEMA,
        ['{"part":"KX","count":3}', '{"part": "KX", "count": 3}'],
        ['{"part":"KX"}', "KX", "{}", '{\n"part":"KX","count":3}'],
    ),
}


def prefixing_tokenizer() -> PreTrainedTokenizerFast:
    """As of Llama 2: a space is put before every text, letters that have no token are bytes."""
    pieces = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127)), "▁r", "et", "ur", "ns"]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(
        BPE(vocab=vocabulary, merges=[("▁", "r"), ("e", "t"), ("u", "r"), ("n", "s")], byte_fallback=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


@pytest.fixture(params=["bytes", "a space before"])
def asked(request, chat):
    return chat if request.param == "bytes" else ChatFormat(prefixing_tokenizer())


def taken(chat, form, text):
    """Whether a matcher lets an answer through, token by token, to its end."""
    width, matcher = len(chat.tokenizer), chat.constraints.begin(form)
    for token in chat.answer_ids([text])[0]:
        if not matcher.mask(width)[token]:
            return False
        matcher.accept(token)
    return True


@pytest.mark.parametrize("kind", FORMS)
def test_what_is_of_the_form_is_let_through_and_nothing_else(asked, kind):
    form, right, wrong = FORMS[kind]
    assert [text for text in right if not taken(asked, form, text)] == []
    assert [text for text in wrong if taken(asked, form, text)] == []


@pytest.mark.parametrize("kind", FORMS)
def test_an_answer_ends_only_where_its_form_is_complete(asked, kind):
    form, right, _ = FORMS[kind]
    width = len(asked.tokenizer)
    for text in right:
        matcher = asked.constraints.begin(form)
        for at, token in enumerate(ids := asked.answer_ids([text])[0]):
            written = asked.tokenizer.decode(ids[:at])
            if form.pattern is not None:
                whole = re.fullmatch(form.pattern, written) is not None
                assert all(bool(matcher.mask(width)[end]) == whole for end in asked.ends)
            matcher.accept(token)


@pytest.mark.parametrize("kind", FORMS)
def test_every_answer_of_a_base_that_writes_at_random_is_of_the_form(model, chat, kind):
    form = FORMS[kind][0]
    given = answers(model, chat, ["a", "bb", "which one is it?"], form=form, max_new_tokens=120)
    free = answers(model, chat, ["a", "bb", "which one is it?"], max_new_tokens=20)
    assert not any(map(form.fits, free))
    assert all(map(form.fits, given))
    if kind == "schema":
        assert all({*json.loads(one)} == {"part", "count"} for one in given)


def test_a_batch_with_a_form_answers_as_each_prompt_does_alone(model, chat):
    asked = ["a", "bb", "which one is it?", "x" * 40]
    whole = answers(model, chat, asked, form=LABELS)
    assert whole == [answers(model, chat, [one], form=LABELS)[0] for one in asked]


def test_probabilities_are_those_among_the_tokens_that_the_form_allows(model, chat):
    two = forms.choices(["aa", "ab"])
    found = scored_answers(model, chat, ["q", "longer question"], form=two, scored=True)
    for one, prompt in zip(found, chat.prompt_ids(["q", "longer question"]), strict=True):
        a, b = chat.answer_ids(["ab"])[0][:2]
        logits = model(input_ids=torch.tensor([[*prompt, a]])).logits[0, -1]
        likely = logits[[a, b]].log_softmax(0).tolist()
        assert one.log_probabilities == pytest.approx([0.0, max(likely)], abs=1e-4)


def test_a_pattern_that_cannot_be_followed_is_refused_before_anything_is_asked():
    for form in (forms.pattern("(a)\\1"), forms.pattern("a(?=b)"), forms.schema({"type": "nothing"})):
        with pytest.raises(InputError, match="cannot be held"):
            check(form)
    for form, _, _ in FORMS.values():
        assert check(form) == form


def test_what_a_schema_notes_beside_its_rules_may_be_a_number_of_any_size(chat):
    form = check(forms.schema({"type": "boolean", "serial": 10**40}))
    assert taken(chat, form, "true")
    assert not taken(chat, form, "1")


@pytest.mark.parametrize("form", [forms.pattern("(a{1000}){1000}"), forms.schema({"$ref": "#"})])
def test_a_form_that_costs_too_much_is_refused_where_it_is_declared(form):
    began = time.monotonic()
    with pytest.raises(InputError, match="write a plainer one"):
        check(form)
    assert time.monotonic() - began < 10
