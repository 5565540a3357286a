"""Draws for training: a task's prompts for the generator, and its examples for the base model.

In: tasks, a chat format, a random generator seeded by the step (so that a resumed run draws the same).
Out: tasks, prompts, examples and packs. It knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.packing import Pack, pack_examples
from prompt2lora.ground.prompts import full_prompt
from prompt2lora.training.tasks import Example, Task, is_japanese

_JOINED, _SWAPPED = 0.08, 0.04  # shares of prompt groups in other forms than the usual one
_CANDIDATES = 24  # examples offered to a pack; more than fit
_WHOLE = 8  # inputs per task that are also encoded in one piece with their instruction


class PromptPool:
    """Prompt groups of tasks, drawn in many wordings and sizes, so that the generator relies on none."""

    def __init__(self, tasks: Sequence[Task], *, most: int, known: int, seed: int) -> None:
        self.most, self.known = most, known
        self.inputs: dict[str, list[str]] = {}
        for task in tasks:
            inputs = sorted({example.input for example in task.train})
            Random(f"{seed} {task.name}").shuffle(inputs)
            self.inputs[task.name] = inputs[:known]

    def texts(self, tasks: Sequence[Task]) -> set[str]:
        """Every text that `draw` may need, to be encoded beforehand."""
        texts: set[str] = set()
        for task in tasks:
            inputs = self.inputs[task.name]
            texts.update(wordings(task.instruction), (text.strip() for text in inputs))
            texts.update(f"{task.instruction} {text}".strip() for text in inputs[:_WHOLE])
        return texts

    def usual(self, task: Task, count: int) -> list[str]:
        """The first `count` prompts in the usual form: what a user would give."""
        return [task.prompt(text) for text in self.inputs[task.name][:count]]

    def draw(self, task: Task, random: Random) -> list[str]:
        """A group of 1 to `most` prompts (log-uniform), all in the same form."""
        inputs = self.inputs.get(task.name) or [example.input for example in task.train[: self.known]]
        count = min(len(inputs), int(2 ** random.uniform(0, self.most.bit_length() - 0.01)), self.most)
        form = random.random()
        if form < _JOINED:
            chosen = random.sample(inputs[:_WHOLE], min(count, len(inputs[:_WHOLE])))
            return [f"{task.instruction} {text}" for text in chosen]
        chosen = random.sample(inputs, count)
        if form < _JOINED + _SWAPPED:
            return [full_prompt(text.strip(), task.instruction) for text in chosen]
        instruction = random.choice(wordings(task.instruction))
        return [full_prompt(instruction, text) for text in chosen]


def wordings(instruction: str) -> list[str]:
    """The instruction and slight variations of it, as different people would type it."""
    if is_japanese(instruction):
        plain = instruction.rstrip("。")
        return [
            instruction,
            instruction,
            plain,
            f"作業：{instruction}",
            f"お願いします。{instruction}",
            f"【指示】{plain}",
        ]
    plain = instruction.rstrip(".")
    lowered = instruction[:1].lower() + instruction[1:]
    return [instruction, instruction, plain, f"Task: {instruction}", f"Please {lowered}", instruction.lower()]


def draw_examples(task: Task, random: Random) -> list[Example]:
    """Examples of the task's training part, more than a pack holds."""
    return random.sample(task.train, min(_CANDIDATES, len(task.train)))


def draw_others(task: Task, asked: Sequence[Example], count: int, random: Random) -> list[Example]:
    """Up to `count` examples beside those that are asked, none with the input of one of them."""
    inputs = {example.input for example in asked}
    others = [example for example in task.train if example.input not in inputs]
    return random.sample(others, min(count, len(others)))


def draw_turns(
    task: Task, asked: Sequence[Example], count: int, chat: ChatFormat, random: Random, *, bare: bool, room: int
) -> list[tuple[str, str]]:
    """Up to `count` other examples as turns before those that are asked (`draw_others`).

    Only as many as find room. Before bare questions all turns carry the instruction, or the first one, or none; before
    others all do.
    """
    chosen = draw_others(task, asked, count, random)
    told = random.choice((0, 1, len(chosen))) if bare else len(chosen)
    turns = [(task.prompt(one.input) if at < told else one.input, one.output) for at, one in enumerate(chosen)]
    return chat.turns_within(turns, room)


def make_pack(
    task: Task,
    examples: Sequence[Example],
    chat: ChatFormat,
    *,
    bare: bool,
    budget: int,
    turns: Sequence[tuple[str, str]] = (),
) -> Pack:
    """As many of the examples as the budget holds as one pack, with the instruction or (bare) without.

    The tokens of turns that stand before all of them come on top of the budget, and their answers are asked, too: each
    of them shows what as many examples as stand before it are good for.
    """
    prompts = chat.prompt_ids([one.input if bare else task.prompt(one.input) for one in examples], turns)
    answers = chat.answer_ids([example.output for example in examples])
    if not turns:
        return pack_examples(prompts, answers, budget)
    pack = pack_examples(prompts, answers, budget + len(chat.prompt_ids([""], turns)[0]))
    for number, (place, answer) in enumerate(chat.answers_within(turns), len(pack.used)):
        pack.predict.extend(range(place - 1, place - 1 + len(answer)))
        pack.labels.extend(answer)
        pack.label_example.extend([number] * len(answer))
    return pack


def task_weights(tasks: Sequence[Task]) -> list[float]:
    """A family of n tasks is drawn as often as the root of n: large families lead, but do not drown the small."""
    sizes: dict[str, int] = {}
    for task in tasks:
        sizes[task.family] = sizes.get(task.family, 0) + 1
    return [sizes[task.family] ** -0.5 for task in tasks]


def draw_tasks(tasks: Sequence[Task], weights: Sequence[float], count: int, random: Random) -> list[Task]:
    """`count` different tasks (with repeats only if there are fewer)."""
    keys = [random.random() ** (1 / weight) for weight in weights]  # Efraimidis and Spirakis 2006
    order = sorted(range(len(tasks)), key=lambda i: -keys[i])
    return [tasks[order[i % len(order)]] for i in range(count)]
