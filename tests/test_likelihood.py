import torch
from tiny import greedy

from prompt2lora.adapter.hooks import adapted
from prompt2lora.base.forest import Reader
from prompt2lora.base.frozen import Frozen
from prompt2lora.evaluation.likelihood import choices, option_scores, read

PROMPTS = ["Is it red?", "A longer question of more words?"] * 9
OPTIONS = [["yes", "no"], ["always", "never", "at times"]] * 9


def by_hand(model, chat, prompt, option, context):
    (ids,), (answer,) = chat.prompt_ids([prompt]), chat.answer_ids([option])
    with context, torch.inference_mode():
        logits = model(torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1].log_softmax(-1)
    return float(logits.gather(1, torch.tensor(answer)[:, None]).sum()), len(answer)


def test_option_scores_are_those_of_the_options_one_by_one(model, chat, layout):
    grid = torch.randn(layout.shape, generator=torch.Generator().manual_seed(1)) * 0.05
    for adapter in (None, grid):
        found = option_scores(Frozen(model, chat, layout), PROMPTS, OPTIONS, adapter)
        for index in (0, 1, 17):
            for option, scores in zip(OPTIONS[index], found[index], strict=True):
                context = adapted(model, grid[None], layout) if adapter is not None else torch.no_grad()
                total, count = by_hand(model, chat, PROMPTS[index], option, context)
                assert torch.allclose(scores, torch.tensor([total, total / count]), atol=1e-3)


def test_the_most_likely_option_is_chosen(model, chat, layout):
    base = Frozen(model, chat, layout)
    for per_token in (False, True):
        found = choices(base, PROMPTS, OPTIONS, per_token=per_token)
        scores = option_scores(base, PROMPTS, OPTIONS)
        assert found == [int(each[:, int(per_token)].argmax()) for each in scores]
        assert len(found) == len(PROMPTS)


def test_what_the_base_would_write_is_told_as_far_as_it_is_an_option(model, chat, layout):
    (ids,) = chat.prompt_ids(["Is it red?"])
    (own,) = greedy(model, [ids], chat, 3)
    texts = [own, [own[0], (own[1] + 1) % 256, 5], [(own[0] + 1) % 256]]
    reader = Reader(Frozen(model, chat, layout))
    assert read(reader, [(ids, texts)])[0].written == own
    assert read(reader, [(ids, texts[1:])])[0].written == own[:2]
    assert read(reader, [(ids, texts[2:])])[0].written == own[:1]
    assert read(reader, []) == []
