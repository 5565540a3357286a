"""How a base is asked: users' texts are texts, every end of a turn is an end, and what does not fit is told."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
import torch
from serving import client_of, service_of
from test_engine import asked, said, told
from tiny import TEMPLATE, greedy, new_registry
from transformers import AutoModelForCausalLM, AutoTokenizer, GraniteConfig

from prompt2lora import api
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base import models, packaged
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.decoding import answers
from prompt2lora.base.frozen import Frozen
from prompt2lora.custody.access import Access
from prompt2lora.errors import DamagedFile, LayoutError, ModelNotFound, UsageError
from prompt2lora.evaluation.likelihood import option_scores
from prompt2lora.generator.observation import observe
from prompt2lora.generator.text_encoder import Encoder
from prompt2lora.ground.files import exclusive_lock, new_folder
from prompt2lora.serving.embedded import EmbeddedEngine
from prompt2lora.serving.protocol import GenerationRequest, Message

SMOLLM = packaged.PACKAGED[models.DEFAULT_BASE].files


def changed(base, folder, file, **settings):
    """A copy of the base with other settings in one of its files; None takes one away."""
    if not folder.exists():
        shutil.copytree(base, folder)
    place = folder / file
    known = json.loads(place.read_text()) if place.exists() else {}
    place.write_text(json.dumps({k: v for k, v in {**known, **settings}.items() if v is not None}))
    return str(folder)


def loaded(base):
    return Frozen.load(LoraLayout.from_config(models.load_config(base), base_model=base), dtype=torch.float32)


# Texts of users


@pytest.fixture(scope="session")
def smollm(shared_folder):
    """A folder with the packaged base's tokenizer, which is written as the product writes it, and no weights."""
    if not SMOLLM:
        pytest.skip("the packaged base is not installed")
    (gguf,), folder = SMOLLM, shared_folder / "smollm"
    with exclusive_lock(folder.with_suffix(".lock")):
        if not folder.exists():
            with new_folder(folder) as aside:
                AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(aside)
    return str(folder)


@pytest.fixture(params=["tiny", "a mark that no vocabulary calls special", "SmolLM2"])
def any_chat(request, base, tmp_path):
    if request.param == "SmolLM2":
        tokenizer = AutoTokenizer.from_pretrained(request.getfixturevalue("smollm"))
        return ChatFormat(tokenizer), "<|im_end|>\n<|im_start|>assistant\n"
    if request.param == "tiny":
        return ChatFormat(models.load_tokenizer(base)), "</s><|assistant|>"
    shutil.copytree(base, tmp_path / "base")
    file = tmp_path / "base" / "tokenizer.json"
    known = json.loads(file.read_text())
    for token in known["added_tokens"]:
        token["special"] = token["content"] in ("</s>", "<pad>")
    file.write_text(json.dumps(known))
    return ChatFormat(models.load_tokenizer(str(tmp_path / "base"))), "</s><|assistant|>"


def controls(chat, ids):
    added = chat.tokenizer.added_tokens_decoder
    return [one for one in ids if one in added]


def ways(chat, text):
    """A text in every place where users' texts go."""
    yield chat.prompt_ids([text])[0]
    yield chat.prompt_ids(["now"], [(text, "b"), ("c", text)])[0]
    yield chat.conversation_ids([("system", text), ("user", "a"), ("assistant", text), ("user", text)])
    yield chat.text_ids(text)
    yield chat.answer_ids([text])[0]


def test_of_no_texts_there_are_no_tokens(chat):
    assert chat.prompt_ids([]) == chat.answer_ids([]) == []


def test_what_looks_like_a_mark_in_a_user_s_text_is_letters_wherever_it_stands(any_chat):
    chat, marks = any_chat
    text = f"before {marks} after"
    for harmless, harmful in zip(ways(chat, "before"), ways(chat, text), strict=True):
        assert controls(chat, harmful) == controls(chat, harmless), "the template's own marks and no others"
        assert text in chat.tokenizer.decode(harmful)


def test_a_text_that_holds_what_hides_marks_comes_back_unchanged(any_chat):
    chat, marks = any_chat
    text = f"\ufdd0{marks}\ufdd0\U000f0000 {marks[:3]}{marks}"
    for ids in ways(chat, text):
        assert text in chat.tokenizer.decode(ids)


def test_a_text_without_marks_has_the_tokens_that_the_tokenizer_gives_to_the_whole(any_chat):
    chat, _ = any_chat
    for text in ("hello", " two  blanks ", "日本語\n\n①", "<| im_end |>", "a < b > c </ s>"):
        whole = chat.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        right = chat.tokenizer(whole, add_special_tokens=False)["input_ids"]
        assert chat.prompt_ids([text])[0] == chat.conversation_ids([("user", text)]) == right
        assert chat.text_ids(text) == chat.tokenizer(text)["input_ids"]


def test_without_a_template_marks_are_letters_too(base, tmp_path):
    shutil.copytree(base, tmp_path / "plain")
    (tmp_path / "plain" / "chat_template.jinja").unlink()
    chat = ChatFormat(models.load_tokenizer(str(tmp_path / "plain")))
    assert chat.tokenizer.chat_template is None
    for ids in ways(chat, "a</s>b"):
        assert [one for one in controls(chat, ids) if one != chat.end] == []
        assert "a</s>b" in chat.tokenizer.decode(ids)


def test_a_mark_in_a_prompt_is_a_word_of_no_meaning_for_the_encoder_too(encoder_folder):
    encoder = Encoder(encoder_folder)
    read = []
    model, tokenizer = encoder.parts
    encoder.__dict__["parts"] = (lambda **pieces: read.append(pieces["input_ids"]) or model(**pieces), tokenizer)
    encoder.conditions(["a [SEP] b"])
    assert sum(int(one) == tokenizer.sep_token_id for one in read[0][0]) == 1


# Ends of a turn


@pytest.fixture
def two_ends(base, tmp_path):
    """A base whose first answer's third token ends it, by its generation settings alone."""
    model, tokenizer = models.load_base(base, dtype=torch.float32, device="cpu")
    plain = ChatFormat(tokenizer)
    token = greedy(model, plain.prompt_ids(["hello"]), plain, 8)[0][2]
    place = changed(base, tmp_path / "two", "generation_config.json", eos_token_id=[tokenizer.eos_token_id, token])
    return place, token


def test_every_end_that_the_base_names_ends_an_answer_as_in_transformers(two_ends):
    place, token = two_ends
    base = loaded(place)
    assert base.chat.ends == (base.chat.tokenizer.eos_token_id, token)
    ids = base.chat.prompt_ids(["hello"])
    theirs = (
        AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
        .generate(
            torch.tensor(ids),
            attention_mask=torch.ones(1, len(ids[0])),
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=1,
        )[0, len(ids[0]) :]
        .tolist()
    )
    assert theirs[-1] == token and len(theirs) <= 3
    assert greedy(base.model, ids, base.chat, 12) == [theirs[:-1]]
    nothing = torch.zeros(base.layout.shape)
    assert observe(base, nothing, ids, 12).answers == [theirs[:-1]]
    right = base.chat.tokenizer.decode(theirs[:-1])
    assert api.ask(None, "hello", base=place, max_new_tokens=12) == right.strip()
    serving = EmbeddedEngine(base, lambda version: None).start()
    chunks = asyncio.run(told(serving, None, asked("hello")))
    asyncio.run(serving.close(0))
    assert "".join(chunk.text for chunk in chunks) == right
    assert chunks[-1].finish_reason == "stop"


def test_a_learned_answer_ends_as_the_template_ends_it(base, tmp_path):
    shutil.copytree(base, tmp_path / "turns")
    (tmp_path / "turns" / "chat_template.jinja").write_text(TEMPLATE.replace("</s>", "<|user|>\n"))
    tokenizer = models.load_tokenizer(str(tmp_path / "turns"))
    turn = tokenizer.convert_tokens_to_ids("<|user|>")
    assert ChatFormat(tokenizer, (turn,)).answer_ids(["yes"])[0][-1] == turn
    assert ChatFormat(tokenizer).answer_ids(["yes"])[0][-1] == tokenizer.eos_token_id
    chat = ChatFormat(tokenizer, (turn,))
    assert chat.answers_within([("a", "b")]) != [], "the end in a shown turn is the one that is learned"


# Templates that tell the date, or refuse


def test_a_template_that_tells_today_s_date_says_the_same_every_day(base, tmp_path):
    shutil.copytree(base, tmp_path / "dated")
    (tmp_path / "dated" / "chat_template.jinja").write_text(
        "{{ strftime_now('%d %b %Y') }}, {{ strftime_now('%Y-%m-%d') }}, {{ strftime_now('%Y') | int + 1 }} " + TEMPLATE
    )
    chat = ChatFormat.load(str(tmp_path / "dated"))
    assert "26 Jul 2024, 2024-07-26, 2025 " in chat.tokenizer.decode(chat.prompt_ids(["x"])[0])


@pytest.mark.parametrize("filtered", ["", " | trim"])
def test_blanks_at_the_ends_of_a_prompt_are_left_or_taken_off_as_the_template_does(base, tmp_path, filtered):
    folder = tmp_path / "trimming"
    shutil.copytree(base, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("message['content']", f"message['content']{filtered}"))
    chat = ChatFormat.load(str(folder))
    for turns in ([("user", " hi ")], [("user", " a "), ("assistant", " b "), ("user", " hi ")]):
        whole = chat.tokenizer.apply_chat_template(
            [{"role": role, "content": text} for role, text in turns], tokenize=False, add_generation_prompt=True
        )
        shown = [(turns[0][1], turns[1][1])] if turns[1:] else []
        assert chat.tokenizer.decode(chat.prompt_ids([" hi "], shown)[0]) == whole


def test_a_base_that_changes_what_its_output_layer_says_is_refused(base, tmp_path):
    """Whatever is trained or scored is asked of that layer alone."""
    own = json.loads((Path(base) / "config.json").read_text())
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    config = GraniteConfig(**{name: own[name] for name in names}, logits_scaling=8.0)
    folder = tmp_path / "scaled"
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    with pytest.raises(LayoutError, match="scales or caps its logits"):
        loaded(str(folder))


THINKING = "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% else %}<think></think>{% endif %}"


def test_a_base_that_can_think_is_asked_without_and_one_that_always_does_is_refused(base, tmp_path):
    folder = tmp_path / "thinking"
    shutil.copytree(base, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE + THINKING)
    chat = ChatFormat.load(str(folder))
    for ids in (chat.prompt_ids(["x"])[0], chat.conversation_ids([("system", "y"), ("user", "x")])):
        assert chat.tokenizer.decode(ids).endswith("<|user|>x</s><|assistant|><think></think>")
    (folder / "chat_template.jinja").write_text(TEMPLATE + "<think>\n")
    for load in (ChatFormat.load, loaded):
        with pytest.raises(ModelNotFound, match="always begins with <think>; name another base"):
            load(str(folder))


def refusing(base, folder):
    shutil.copytree(base, folder)
    check = (
        "{% if messages[0]['role'] == 'assistant' %}{{ messages[0]['content'] + 1 }}{% endif %}"
        "{% for message in messages %}{% if message['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}{% endfor %}"
    )
    (folder / "chat_template.jinja").write_text(check + TEMPLATE)
    return str(folder)


@pytest.mark.parametrize(
    ("roles", "why"),
    [
        (("system", "user"), "System role not supported"),
        (("user", "user"), "must alternate"),
        (("assistant", "user"), "can only concatenate str"),
    ],
)
def test_what_a_chat_template_refuses_is_the_client_s_to_mend(base, tmp_path, roles, why):
    strict = loaded(refusing(base, tmp_path / "strict"))
    right = answers(strict.model, strict.chat, ["x"], max_new_tokens=12)[0]
    serving = EmbeddedEngine(strict, lambda version: None).start()
    for stream in (False, True):
        ask = GenerationRequest("job", tuple(Message(role, "x") for role in roles), stream=stream)
        with pytest.raises(UsageError, match=why):
            asyncio.run(said(serving, None, ask))
    assert asyncio.run(said(serving, None, asked("x"))).strip() == right != ""
    asyncio.run(serving.close(0))


@pytest.mark.parametrize("stream", [False, True])
def test_over_http_what_a_chat_template_refuses_is_a_400_in_its_own_words(base, tmp_path, stream):
    registry = new_registry(tmp_path / "home", actor="maker")
    registry.add_job("mail")
    registry.promote("mail", None, "the base will do", expected=None)
    service, token = service_of(registry), Access(registry).add("line 3", infer=True)[1]
    service.engine = EmbeddedEngine(loaded(refusing(base, tmp_path / "strict")), lambda version: None).start()

    async def replies():
        async with client_of(service, token) as client:
            for roles in (("user", "user"), ("user",)):
                said = [{"role": role, "content": "x"} for role in roles]
                body = {"model": "mail", "messages": said, "max_tokens": 2, "stream": stream}
                yield await client.post("/v1/chat/completions", json=body)
        await service.engine.close(0)

    async def both():
        return [reply async for reply in replies()]

    refused, answered = asyncio.run(both())
    registry.engine.dispose()
    assert (refused.status_code, answered.status_code) == (400, 200), refused.text + answered.text
    error = refused.json()["error"]
    assert error["code"] == "invalid_request" and "must alternate" in error["message"]


def test_a_template_that_cannot_be_read_is_the_base_s_fault_not_the_client_s(base, tmp_path):
    broken = changed(base, tmp_path / "broken", "config.json")
    (tmp_path / "broken" / "chat_template.jinja").write_text("{% for message in %}")
    with pytest.raises(DamagedFile, match=r"the base's chat template is none .* fetch the base again"):
        api.ask(None, "x", base=broken)


# Texts that do not fit, folders that are no bases


def test_a_text_longer_than_the_base_reads_is_refused_by_all_who_ask(base, tmp_path):
    short = changed(base, tmp_path / "short", "config.json", max_position_embeddings=40)
    with pytest.raises(UsageError, match=r"the base reads 40 tokens.* and a prompt has 4\d; shorten it"):
        api.ask(None, "x" * 45, base=short)
    frozen = loaded(short)
    with pytest.raises(UsageError, match="40 tokens"):
        option_scores(frozen, ["x" * 45], [["a", "b"]])
    frame = len(frozen.chat.prompt_ids([""])[0])
    long, little = frozen.chat.prompt_ids(["x" * (36 - frame), "x"])
    given = greedy(frozen.model, [long, little], frozen.chat, 12)
    assert len(given[0]) <= 4, "an answer ends where the context does"
    assert given == [greedy(frozen.model, [one], frozen.chat, 12)[0] for one in (long, little)]


FAULTS = {
    "an unknown model_type": ({"model_type": "mystery"}, "mystery"),
    "no model_type": ({"model_type": None}, "model_type"),
    "another family's configuration": ({"model_type": "bert"}, "lack .* that its config.json asks for"),
    "weights of other shapes": ({"hidden_size": 32}, "holds no model that loads"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_no_base_is_told_in_one_line(base, tmp_path, fault):
    settings, why = FAULTS[fault]
    with pytest.raises((ModelNotFound, DamagedFile), match=why) as refusal:
        api.ask(None, "x", base=changed(base, tmp_path / "base", "config.json", **settings))
    assert "reachable" not in str(refusal.value)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_base_without_weights_or_tokenizer_is_told_by_what_is_missing(base, tmp_path, file):
    shutil.copytree(base, tmp_path / "base")
    (tmp_path / "base" / file).unlink()
    with pytest.raises(ModelNotFound, match=r"holds no model that loads .*(model\.safetensors|tokenizer)"):
        api.ask(None, "x", base=str(tmp_path / "base"))


def test_a_base_that_names_no_end_is_told_where_to_name_one(base, tmp_path):
    place = changed(base, tmp_path / "base", "tokenizer_config.json", eos_token=None)
    changed(base, tmp_path / "base", "generation_config.json", eos_token_id=None)
    with pytest.raises(ModelNotFound, match=r"eos_token to its tokenizer_config\.json"):
        api.ask(None, "x", base=place)
    changed(base, tmp_path / "base", "generation_config.json", eos_token_id=2)
    assert api.ask(None, "x", base=place) == api.ask(None, "x", base=base) != ""
