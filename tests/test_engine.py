"""The embedded engine on a tiny real base: what answers in a crowd answers as if alone, and as PEFT does."""

import asyncio
import math
import time
from dataclasses import replace

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from peft import PeftModel
from tiny import write_base

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.constraints import check
from prompt2lora.base.decoding import answers, scored_answers
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.half import HalfLinear, halved
from prompt2lora.custody.versions import Version
from prompt2lora.errors import Busy, Misconfigured, TooLate, Unavailable, Unfit, UsageError
from prompt2lora.ground import answer_form as forms
from prompt2lora.serving.adapter_cache import fitted, narrowest
from prompt2lora.serving.deadline import within
from prompt2lora.serving.detokenizer import Detokenizer
from prompt2lora.serving.embedded import EmbeddedEngine
from prompt2lora.serving.protocol import STOP, GenerationRequest, Message, SamplingParams

COUNT = 5


@pytest.fixture(scope="module")
def adapters(layout, tmp_path_factory):
    """Folders of adapters that change answers a lot, of different ranks, alphas and targets."""
    place, made = tmp_path_factory.mktemp("adapters"), []
    config = models.load_config(layout.base_model)
    for number in range(COUNT):
        torch.manual_seed(number)
        other = {"rank": 8, "alpha": 8 * (1 + number % 2)}
        if number == 3:
            other["targets"] = ["q_proj", "down_proj"]
        own = LoraLayout.from_config(config, base_model=layout.base_model, **other)
        Adapter(own, torch.randn(own.shape) * 0.3).save(place / str(number))
        made.append(place / str(number))
    return made


@pytest.fixture(scope="module")
def frozen(layout):
    model, tokenizer = models.load_base(layout.base_model, dtype=torch.float32, device="cpu")
    return Frozen(model, ChatFormat(tokenizer), layout)


@pytest.fixture
def engine(frozen, adapters):
    begun = []

    def made(**sizes):
        model, tokenizer = models.load_base(frozen.layout.base_model, dtype=torch.float32, device="cpu")
        base = Frozen(model, ChatFormat(tokenizer), frozen.layout)
        begun.append(EmbeddedEngine(base, lambda version: adapters[version.number], **sizes).start())
        return begun[-1]

    yield made
    for one in begun:
        asyncio.run(one.close(0))


def version(layout, number):
    return Version(number, f"job{number}", number, f"{number}" * 64, layout.base_model, "generated", "now", None)


def asked(text, job="job", **sampling):
    return GenerationRequest(
        job, (Message("user", text),), sampling=SamplingParams(**{"max_new_tokens": 12, **sampling})
    )


async def told(engine, version, ask):
    return [chunk async for chunk in within(ask.seconds, engine.answer(version, ask))]


async def said(engine, version, ask):
    return "".join(chunk.text for chunk in await told(engine, version, ask))


TEXTS = ["ab", "a longer question than the others", "c", "dd ee ff", "ghi jkl"]


def expected(frozen, adapters, number, text):
    grid = Adapter.load(adapters[number], frozen.model.config) if number is not None else None
    layout = grid.layout if grid else None
    found = answers(
        frozen.model, frozen.chat, [text], layout=layout, grid=grid.grid if grid else None, max_new_tokens=12
    )
    return found[0]


def test_mixed_jobs_in_one_batch_answer_as_each_does_alone(engine, frozen, adapters, layout):
    serving = engine(max_batch_size=3)
    asks = [(number, text) for text in TEXTS for number in (None, *range(COUNT))]

    async def crowd():
        return await asyncio.gather(
            *(said(serving, None if n is None else version(layout, n), asked(text)) for n, text in asks)
        )

    given = [text.strip() for text in asyncio.run(crowd())]
    assert given == [expected(frozen, adapters, *one) for one in asks]
    assert len(set(given)) > len(asks) // 2  # they do differ


def test_memory_that_nobody_has_written_yet_changes_no_answer(engine, frozen, adapters, layout, monkeypatch):
    """What lies in new memory is anything; here it is what does most harm."""
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *args, **keys: empty(*args, **keys).fill_(float("nan")))
    serving = engine(max_batch_size=4)

    async def crowd():
        return await asyncio.gather(*(said(serving, version(layout, 0), asked(text)) for text in TEXTS))

    given = [text.strip() for text in asyncio.run(crowd())]
    assert given == [expected(frozen, adapters, 0, text) for text in TEXTS]
    assert all(held.isfinite().all() for held in serving._batch.held.values.values())


def test_an_answer_is_that_of_peft(engine, frozen, adapters, layout):
    serving = engine()
    for number in range(COUNT):
        plain, _ = models.load_base(layout.base_model, dtype=torch.float32, device="cpu")
        peft = PeftModel.from_pretrained(plain, adapters[number])
        ids = torch.tensor(frozen.chat.prompt_ids(["hello"]))
        settings = {
            "max_new_tokens": 12,
            "do_sample": False,
            "pad_token_id": 1,
            "eos_token_id": frozen.chat.tokenizer.eos_token_id,
        }
        new = peft.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)[0, ids.shape[1] :]
        right = frozen.chat.tokenizer.decode(new, skip_special_tokens=True)
        assert asyncio.run(said(serving, version(layout, number), asked("hello"))) == right


def test_a_stream_is_the_answer_in_pieces_and_the_last_one_says_why_it_ended(engine, layout):
    serving = engine()
    ask = asked("hello")
    whole = asyncio.run(told(serving, version(layout, 0), ask))
    chunks = asyncio.run(told(serving, version(layout, 0), GenerationRequest(**{**vars(ask), "stream": True})))
    assert len(whole) == 1 and len(chunks) > 1
    assert "".join(chunk.text for chunk in chunks) == whole[0].text
    assert chunks[-1].finish_reason == whole[0].finish_reason == "length"
    assert chunks[-1].completion_tokens == 12 and chunks[-1].prompt_tokens > 5


def test_an_answer_ends_before_its_stop_text(engine, layout):
    serving = engine()
    free = asyncio.run(said(serving, None, asked("hello", max_new_tokens=40)))
    stop = free[5:8]
    for stream in (False, True):
        ask = GenerationRequest(
            "job",
            (Message("user", "hello"),),
            sampling=SamplingParams(max_new_tokens=40, stop=("never", stop)),
            stream=stream,
        )
        chunks = asyncio.run(told(serving, None, ask))
        assert "".join(chunk.text for chunk in chunks) == free[: free.index(stop)]
        assert chunks[-1].finish_reason == "stop"


def test_a_seed_makes_a_warm_answer_repeatable_and_cold_ones_need_none(engine, layout):
    serving = engine()

    def warm(seed):
        return asyncio.run(said(serving, None, asked("hello", temperature=1.5, seed=seed)))

    assert warm(1) == warm(1)
    assert len({warm(seed) for seed in range(5)}) > 1
    narrow = asyncio.run(said(serving, None, asked("hello", temperature=1.5, top_p=1e-6, seed=3)))
    assert narrow == asyncio.run(said(serving, None, asked("hello")))


@pytest.mark.parametrize("odd", [{"temperature": 1e-45}, {"temperature": 1.0, "top_p": 1e-50}])
def test_the_smallest_temperature_or_share_draws_the_likeliest_tokens(engine, odd):
    serving = engine()
    cold = asyncio.run(said(serving, None, asked("hello")))
    assert asyncio.run(said(serving, None, asked("hello", seed=1, **odd))) == cold


def test_few_residents_serve_many_jobs_and_the_same_answers(engine, frozen, adapters, layout):
    serving = engine(adapter_cache_size=2)
    for number in (0, 1, 2, 0, 4, 2):
        given = asyncio.run(said(serving, version(layout, number), asked("hello")))
        assert given.strip() == expected(frozen, adapters, number, "hello")
    assert serving.stats()["adapters_cached"] == 2
    assert serving.stats()["adapter_loads_total"] == 6


def test_resident_adapters_take_two_bytes_a_number_and_lose_none(engine, adapters, layout):
    serving = engine()
    grid = serving._adapters.get(version(layout, 0))
    assert grid.dtype == torch.float16
    own = Adapter.load(adapters[0], models.load_config(layout.base_model))
    assert torch.equal(grid.float(), fitted(own, layout, "job0"))
    fine = torch.full(layout.shape, 1 + 2.0**-20)  # no 16 bits hold it
    assert narrowest(fine) is fine


def test_what_requests_of_a_job_begin_with_is_read_once_and_changes_no_answer(engine, frozen, adapters, layout):
    texts = [f"Say in one word what this is about, please: {text}" for text in TEXTS]
    asks = [(number, text) for number in (None, 0, 3) for text in texts]

    async def crowd(serving):
        return await asyncio.gather(
            *(said(serving, None if n is None else version(layout, n), asked(text)) for n, text in asks)
        )

    apart, together = engine(max_batch_size=4, prefix_cache_mb=0), engine(max_batch_size=4)
    given = asyncio.run(crowd(together))
    assert given == asyncio.run(crowd(apart))
    assert [text.strip() for text in given] == [expected(frozen, adapters, *one) for one in asks]
    counts, whole = together.stats(), apart.stats()
    assert counts["prompt_tokens_total"] == whole["prompt_tokens_total"]
    assert counts["shared_prompt_tokens_total"] > counts["prompt_tokens_total"] / 2
    assert whole["shared_prompt_tokens_total"] == whole["prefix_cache_bytes"] == 0


def test_an_answer_tells_how_much_of_its_prompt_was_read_for_an_earlier_one_of_its_version(engine, layout):
    async def ends(serving):
        of = [version(layout, 0), version(layout, 0), version(layout, 3)]
        return [[chunk async for chunk in serving.answer(one, asked(TEXTS[0]))][-1] for one in of]

    first, again, other = asyncio.run(ends(engine()))
    assert (first.cached_tokens, again.cached_tokens, other.cached_tokens) == (0, first.prompt_tokens - 1, 0)


def test_what_a_version_begins_with_goes_with_it(engine, layout):
    serving = engine(adapter_cache_size=1)
    for number in (0, 1, 2):
        asyncio.run(said(serving, version(layout, number), asked("hello")))
        assert serving.stats()["prefixes_cached"] == 1
        assert serving._prefixes.find(version(layout, number).name, [1])[0]


def test_answers_in_a_crowd_are_the_same_from_a_base_in_16_bits(engine, layout, monkeypatch):
    texts = [f"{text} {n}" for n, text in enumerate(TEXTS)]

    def crowd(serving):
        async def all_at_once():
            versions = [None, *(version(layout, number) for number in range(COUNT))]
            return await asyncio.gather(*(said(serving, one, asked(text)) for one in versions for text in texts))

        return asyncio.run(all_at_once())

    def load_base(name, *, dtype, device, load=models.load_base):
        model, tokenizer = load(name, dtype=torch.bfloat16, device=device)
        return model.to(dtype), tokenizer

    monkeypatch.setattr(models, "load_base", load_base)
    right = crowd(engine(max_batch_size=4))
    monkeypatch.setattr(models, "load_base", lambda name, **how: (halved((one := load_base(name, **how))[0]), one[1]))
    serving = engine(max_batch_size=4)
    assert any(isinstance(one, HalfLinear) for one in serving._batch.model.modules())
    assert crowd(serving) == right


def test_more_than_may_wait_is_refused_at_once(engine):
    serving = engine(max_batch_size=1, max_waiting=1)

    async def crowd():
        return await asyncio.gather(
            *(said(serving, None, asked("hello", max_new_tokens=300)) for _ in range(4)), return_exceptions=True
        )

    given = asyncio.run(crowd())
    assert sum(isinstance(one, Busy) for one in given) >= 1
    assert sum(isinstance(one, str) for one in given) >= 1


def test_for_a_question_that_is_refused_no_adapter_is_loaded(engine, layout):
    serving = engine(max_batch_size=1, max_waiting=1)

    async def crowd():
        long = []
        for state in ("requests_running", "requests_waiting"):
            long.append(asyncio.create_task(said(serving, None, asked("hello", max_new_tokens=300))))
            while not serving.stats()[state]:
                await asyncio.sleep(0.001)
        with pytest.raises(Busy):
            await said(serving, version(layout, 0), asked("hello"))
        await asyncio.gather(*long)

    asyncio.run(crowd())
    assert serving.stats()["adapter_loads_total"] == 0


def test_a_question_has_its_time_the_wait_included(engine):
    serving = engine(max_batch_size=1)

    async def crowd():
        first = asyncio.create_task(said(serving, None, asked("hello", max_new_tokens=400)))
        await asyncio.sleep(0.05)
        late = GenerationRequest(
            "job", (Message("user", "hello"),), sampling=SamplingParams(max_new_tokens=400), seconds=0.01
        )
        with pytest.raises(TooLate, match=r"0\.01 seconds"):
            await said(serving, None, late)
        return await first

    assert asyncio.run(crowd())


def test_who_leaves_frees_the_row(engine):
    serving = engine(max_batch_size=1)

    async def leave():
        chunks = serving.answer(
            None,
            GenerationRequest("job", (Message("user", "a"),), sampling=SamplingParams(max_new_tokens=450), stream=True),
        )
        await anext(chunks)
        await chunks.aclose()
        return await said(serving, None, asked("b", max_new_tokens=2))

    asyncio.run(leave())
    assert serving.stats()["completion_tokens_total"] < 450


def test_what_cannot_be_served_says_why(engine, layout, adapters, tmp_path):
    serving = engine(context_length=64)
    with pytest.raises(UsageError, match="64 tokens"):
        asyncio.run(said(serving, None, asked("x" * 100)))
    with pytest.raises(UsageError, match="at least one token"):
        asyncio.run(said(serving, None, GenerationRequest("job", text="")))
    other = version(layout, 0)._replace(base="another")
    with pytest.raises(Misconfigured, match="another"):
        asyncio.run(said(serving, other, asked("a")))
    config = models.load_config(layout.base_model)
    wide = LoraLayout.from_config(config, base_model=layout.base_model, rank=16)
    nothing = torch.zeros(layout.shape)
    Adapter(wide, torch.ones(wide.shape)).save(tmp_path / "wide")
    Adapter(layout, nothing).save(tmp_path / "nothing")
    adapters_of = {7: tmp_path / "wide", 8: tmp_path / "nothing", 9: tmp_path / "gone"}
    serving._adapters.folder = lambda version: adapters_of[version.number]
    assert serving.stats()["adapters_cached"] == 0
    for number, error, why in (
        (7, Misconfigured, "rank 16"),
        (8, Unfit, "as the base"),
        (9, Unfit, "cannot be served"),
    ):
        with pytest.raises(error, match=why):
            asyncio.run(said(serving, version(layout, number), asked("a")))
    assert asyncio.run(said(serving, None, asked("a")))


def test_without_a_limit_an_answer_gets_the_room_that_the_prompt_leaves(engine):
    serving = engine(context_length=64)
    for length in (10, 40):
        (chunk,) = asyncio.run(told(serving, None, asked("x" * length, max_new_tokens=None)))
        assert chunk.prompt_tokens + chunk.completion_tokens <= 64
        assert chunk.finish_reason == "stop" or chunk.prompt_tokens + chunk.completion_tokens == 64
    with pytest.raises(UsageError, match=r"64 tokens together and this request needs \d+ \+ 1;"):
        asyncio.run(said(serving, None, asked("x" * 64, max_new_tokens=None)))


def test_closing_finishes_what_runs_and_refuses_the_rest(engine):
    serving = engine(max_batch_size=2)

    async def close():
        asks = [asyncio.create_task(said(serving, None, asked("hello", max_new_tokens=40))) for _ in range(4)]
        await asyncio.sleep(0.02)
        await serving.close(30)
        with pytest.raises(Unavailable, match="shutting down"):
            await said(serving, None, asked("a"))
        return await asyncio.gather(*asks)

    assert all(asyncio.run(close()))
    assert not asyncio.run(serving.ready())


def test_closing_at_once_leaves_nobody_waiting(engine):
    serving = engine(max_batch_size=1)

    async def close():
        asks = [asyncio.create_task(said(serving, None, asked("hello", max_new_tokens=400))) for _ in range(3)]
        await asyncio.sleep(0.02)
        began = time.monotonic()
        await serving.close(0)
        given = await asyncio.gather(*asks, return_exceptions=True)
        assert time.monotonic() - began < 5
        return given

    assert all(isinstance(one, Unavailable) for one in asyncio.run(close()))


def test_a_failure_at_one_token_ends_its_own_question_alone(engine, monkeypatch):
    serving = engine()

    def fails(*_):
        raise RuntimeError("the random generator is broken")

    monkeypatch.setattr("prompt2lora.serving.sequence.drawn", fails)

    async def crowd():
        asks = (asked("hello"), asked("hello", temperature=1.0), asked("hello"))
        return await asyncio.gather(*(said(serving, None, ask) for ask in asks), return_exceptions=True)

    first, broken, last = asyncio.run(crowd())
    assert first == last and isinstance(first, str)
    assert isinstance(broken, Unavailable) and serving.stats()["failures_total"] == 1


def test_a_failure_in_the_model_ends_its_questions_and_no_others(engine, monkeypatch):
    serving = engine()
    read = serving._batch.read
    monkeypatch.setattr(serving._batch, "read", lambda *_, **__: 1 / 0)
    with pytest.raises(Unavailable, match="failed"):
        asyncio.run(said(serving, None, asked("a")))
    monkeypatch.setattr(serving._batch, "read", read)
    assert asyncio.run(said(serving, None, asked("a")))


@pytest.mark.parametrize(
    "text", ["plain words and more of them, more than eight", "日本語の部品番号は ①②③ です", "a\nb  c\té"]
)
def test_words_tell_every_text_in_whole_characters(base, text):
    tokenizer = models.load_tokenizer(base)
    words = Detokenizer(tokenizer, ())
    chunks = [words.add(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert "".join(chunks) + words.rest() == text
    assert not any("\ufffd" in chunk for chunk in chunks)


def test_a_base_with_a_sliding_window_answers_in_a_crowd_as_alone(tmp_path):
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    folder = tmp_path / "gemma"
    write_base(folder)
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, vocab_size=300, max_position_embeddings=512, sliding_window=8, initializer_range=0.2,
        layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip
    Gemma3ForCausalLM(config).save_pretrained(folder)
    model, tokenizer = models.load_base(str(folder), dtype=torch.float32, device="cpu")
    layout = LoraLayout.from_config(config, base_model=str(folder))
    chat = ChatFormat(tokenizer)
    right = [answers(model, chat, [text], max_new_tokens=12)[0] for text in TEXTS]
    serving = EmbeddedEngine(Frozen(model, chat, layout), lambda version: tmp_path).start()

    async def crowd():
        given = await asyncio.gather(*(said(serving, None, asked(text)) for text in TEXTS))
        await serving.close(1)
        return [text.strip() for text in given]

    assert asyncio.run(crowd()) == right


LABELS = forms.choices(["billing", "shipping", "returns", "returns and refunds"])


def test_requests_with_a_form_and_without_share_a_batch_and_each_answers_as_alone(engine, frozen, layout):
    serving = engine(max_batch_size=4)
    held = [None, LABELS, forms.number(), forms.date()]
    asks = [(text, form) for text in TEXTS for form in held]

    async def crowd():
        return await asyncio.gather(
            *(
                said(serving, None, replace(asked(text, max_new_tokens=30), form=form, stream=bool(form)))
                for text, form in asks
            )
        )

    for (text, form), given in zip(asks, asyncio.run(crowd()), strict=True):
        assert given.strip() == answers(frozen.model, frozen.chat, [text], form=form, max_new_tokens=30)[0]
        if form:
            assert form.fits(given)


def test_drawn_answers_are_of_their_form_too(engine):
    serving = engine()

    async def drawn():
        return [
            await said(serving, None, replace(asked("q", temperature=2.0, seed=seed, max_new_tokens=40), form=LABELS))
            for seed in range(12)
        ]

    given = asyncio.run(drawn())
    assert {*given} <= {*LABELS.choices} and len({*given}) > 1


def test_a_request_for_tokens_is_told_how_likely_each_was_within_the_form(engine, frozen):
    async def last():
        return (await told(engine(), None, replace(asked("q"), form=LABELS, logprobs=0)))[-1]

    chunk = asyncio.run(last())
    right = scored_answers(frozen.model, frozen.chat, ["q"], form=LABELS, scored=True)[0]
    likelihoods = [token.log_probability for token in chunk.tokens]
    assert likelihoods == pytest.approx(right.log_probabilities, abs=1e-4)
    assert right.text in LABELS.choices


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_are_told_in_the_order_of_the_answer_each_beside_the_likeliest_in_its_place(engine, stream):
    async def all_of():
        return await told(engine(), None, replace(asked(TEXTS[0]), logprobs=3, stream=stream))

    chunks = asyncio.run(all_of())
    tokens = [token for chunk in chunks for token in chunk.tokens]
    letters = iter("".join(chunk.text for chunk in chunks))  # a character of several tokens stands between theirs
    assert all(letter in letters for token in tokens if "\ufffd" not in token.text for letter in token.text)
    assert len(tokens) == chunks[-1].completion_tokens + (chunks[-1].finish_reason == STOP)
    for token in tokens:  # greedy: what was chosen is the likeliest
        likelihoods = [likelihood for _, likelihood in token.likeliest]
        assert token.likeliest[0] == (token.text, pytest.approx(token.log_probability))
        assert len(likelihoods) == 3 and likelihoods == sorted(likelihoods, reverse=True)
        assert sum(math.exp(one) for one in likelihoods) <= 1 + 1e-5
    assert stream == (sum(bool(chunk.tokens) for chunk in chunks) > 1)


def test_a_form_that_is_too_much_refuses_its_own_request_and_no_other(engine, frozen):
    costly = check(forms.pattern("(?:a|b|[a-z]{2,900}){1,900}q"))  # as is found out only while it is followed

    async def both():
        serving = engine()
        return await asyncio.gather(
            said(serving, None, replace(asked("q", max_new_tokens=200), form=costly)),
            said(serving, None, asked(TEXTS[0])),
            return_exceptions=True,
        )

    refused, given = asyncio.run(both())
    assert isinstance(refused, Unavailable) and "cannot be held to its form" in str(refused)
    assert given.strip() == answers(frozen.model, frozen.chat, [TEXTS[0]], max_new_tokens=12)[0]


def test_a_tensor_of_the_wrong_shape_is_refused(engine, layout):
    batch = engine()._batch
    with pytest.raises(BeartypeCallHintViolation):
        batch.adapters.set(0, torch.zeros(layout.shape[1:]))
    with pytest.raises(BeartypeCallHintViolation):
        batch.held.update(torch.zeros(2, 1, 1, 4), torch.zeros(2, 1, 1, 4), 0)
