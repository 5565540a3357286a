"""Twists: a training task with another format or other labels, asked for in its instruction.

In: a task. Out: a task whose instruction has one sentence more and whose answers obey it; its inputs are the same, or
have options added to choose from. Hundreds of tasks become many thousands that conflict on the same inputs: a generator
that only recognises its training tasks fails at them, one that reads the instruction does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import NamedTuple

from prompt2lora.training.tasks import Example, Task, is_japanese


class Format(NamedTuple):
    wordings: tuple[str, ...]
    apply: Callable[[str], str]


FORMATS = (
    Format(("Answer in capital letters.", "Use upper case only."), str.upper),
    Format(("Put the answer in square brackets.", "Write it in square brackets."), "[{}]".format),
    Format(("Put the answer in round brackets.", "Write it in parentheses."), "({})".format),
    Format(("Put the answer in double quotes.", "Quote the answer."), '"{}"'.format),
    Format(("Put the answer between asterisks.", "Write an asterisk on both sides of it."), "*{}*".format),
    Format(('Begin with "Answer:".', 'Write "Answer:" first.'), "Answer: {}".format),
    Format(('Begin with "Result:".', 'Start the line with "Result:".'), "Result: {}".format),
    Format(("End with a full stop.", "Put a period at the end."), "{}.".format),
    Format(("End with an exclamation mark.", "Put an exclamation mark at the end."), "{}!".format),
    Format(("Write a hash sign before the answer.", "Put # in front."), "#{}".format),
    Format(("Write the answer twice, with a space between.", "Say it two times."), lambda text: f"{text} {text}"),
    Format(("Write the answer twice, with a comma between.",), lambda text: f"{text}, {text}"),
    Format(("Give only the first letter of the answer.", "Only the first character of it."), lambda text: text[:1]),
    Format(("Give only the last letter of the answer.", "Only the final character of it."), lambda text: text[-1:]),
    Format(('Answer as JSON with the key "answer".',), lambda text: json.dumps({"answer": text}, ensure_ascii=False)),
    Format(('Answer as JSON with the key "value".',), lambda text: json.dumps({"value": text}, ensure_ascii=False)),
    Format(("Write the answer in an XML tag named out.",), "<out>{}</out>".format),
)
FORMATS_IN_JAPANESE = (
    Format(("答えは角括弧[ ]で囲んでください。", "[ ]に入れて答えること。"), "[{}]".format),
    Format(("答えをかぎ括弧で囲んでください。", "「」を付けて答えること。"), "「{}」".format),
    Format(("答えを【】で囲んでください。", "隅付き括弧に入れて答えること。"), "【{}】".format),
    Format(("最初に「答え：」と書いてください。", "「答え：」で始めること。"), "答え：{}".format),
    Format(("最初に「結果：」と書いてください。", "「結果：」で始めること。"), "結果：{}".format),
    Format(("最後に句点を付けてください。", "「。」で終えること。"), "{}。".format),
    Format(("最後に「です」を付けてください。", "「です」で終えること。"), "{}です".format),
    Format(("答えの前に#を付けてください。", "先頭に#を書くこと。"), "#{}".format),
    Format(("答えの前に「・」を付けてください。", "中点で始まる箇条書きにすること。"), "・{}".format),
    Format(("答えを読点で区切って2回書いてください。",), lambda text: f"{text}、{text}"),
    Format(("答えの最初の1文字だけを書いてください。", "1文字目だけ答えること。"), lambda text: text[:1]),
    Format(("答えの最後の1文字だけを書いてください。", "最後の文字だけ答えること。"), lambda text: text[-1:]),
    Format(("キーが「答え」のJSONで書いてください。",), lambda text: json.dumps({"答え": text}, ensure_ascii=False)),
)
_WORDS = (
    "A B C D E F 1 2 3 4 5 6 7 8 9 0 X Y Z P Q yes no true false ok ng good bad ja nein left right red green blue "
    "up down high low in out on off open closed cat dog sun moon tea milk gold iron north south"
)
_MOST_LABELS = 6
LETTERED = (
    "Answer with the letter of the right option.",
    "Which option is right? Give its letter.",
    "Choose a letter.",
)
LETTERED_IN_JAPANESE = (
    "正しい選択肢の記号で答えてください。",
    "正しいものを記号で選ぶこと。",
    "選択肢の記号だけを書いてください。",
)
_MARKS = ("{}. ", "{}. ", "{}) ", "({}) ", "{}: ")  # of options; the first as most published tasks have it
_LETTERS = "ABCDE"
_LONGEST_OPTION = 60  # characters


def draw(task: Task, random: Random) -> Task:
    """The task with a format drawn at random, or, where its answers are few labels, half the time with other labels."""
    labels = sorted({example.output for example in task.train})
    if 1 < len(labels) <= _MOST_LABELS and random.random() < 0.5:
        return relabelled(task, dict(zip(labels, random.sample(_WORDS.split(), len(labels)), strict=True)))
    form = random.choice(FORMATS_IN_JAPANESE if is_japanese(task.instruction) else FORMATS)
    return _twisted(task, random.choice(form.wordings), form.apply)


def relabelled(task: Task, names: dict[str, str]) -> Task:
    """The task with `names[label]` for every label among its answers."""
    if is_japanese(task.instruction):
        told = "、".join(f"{old}は{new}" for old, new in names.items())
        return _twisted(task, f"ただし、{told}と書いてください。", names.__getitem__)
    parts = [f"{new} for {old}" for old, new in names.items()]
    return _twisted(task, f"Write {', '.join(parts[:-1])} and {parts[-1]}.", names.__getitem__)


def _twisted(task: Task, sentence: str, answer: Callable[[str], str]) -> Task:
    examples = tuple(Example(example.input, answer(example.output)) for example in task.train)
    return replace(task, instruction=f"{task.instruction} {sentence}".strip(), train=examples)


def lettered(task: Task, random: Random) -> Task | None:
    """The task as a choice among options of one letter each, in an order drawn for every example: its few labels, or
    the right answer among those of other inputs. None where it has one answer, answers too long to be options, or
    nothing but single characters, which would be letters for letters.
    """
    answers = sorted({example.output.strip() for example in task.train if example.output.strip()})
    if len(answers) < 2 or not 1 < max(map(len, answers)) <= _LONGEST_OPTION:
        return None
    few, mark = len(answers) <= len(_LETTERS), random.choice(_MARKS)
    shown = len(answers) if few else random.randint(3, len(_LETTERS))

    def options(example: Example) -> Example:
        right = example.output.strip()
        others = [answer for answer in answers if answer.casefold() != right.casefold()]
        chosen = [right, *random.sample(others, min(shown - 1, len(others)))]
        random.shuffle(chosen)
        lines = [f"{mark.format(letter)}{answer}" for letter, answer in zip(_LETTERS, chosen, strict=False)]
        return Example("\n".join([example.input, *lines]), _LETTERS[chosen.index(right)])

    sentence = random.choice(LETTERED_IN_JAPANESE if is_japanese(task.instruction) else LETTERED)
    examples = tuple(options(example) for example in task.train if example.output.strip())
    instruction = f"{task.instruction} {sentence}".strip()
    return replace(task, name=f"{task.name}_lettered", instruction=instruction, train=examples)
