"""Families that sort words and sentences into given choices by what they mean: kinds of things, seasons, feelings, ...

Where other families can be solved by a look at the letters, these ask for what a model knows of the world. What is
sorted stands in `kinds.toml`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random

from prompt2lora.training.synthetic.drafts import Draft, over_kinds
from prompt2lora.training.synthetic.japanese.drafts import (
    FAMILIES,
    asked,
    family,
    in_a_message,
    over_texts,
    turned,
    whether,
)

_READ = tomllib.loads(Path(__file__).with_name("kinds.toml").read_text("utf-8"))
_KINDS = {
    name: (one["what"], {kind: texts.split() for kind, texts in one["texts"].items()}, one["words"])
    for name, one in _READ["kinds"].items()
}
_THINGS = _KINDS["kind_of_thing"][1]
_OPPOSITES, _ENGLISH = (
    dict(pair.split(":") for pair in _READ["pairs"][name].split()) for name in ("opposites", "english")
)
_MARKS = ("ABCDE", "12345", "アイウエオ", "甲乙丙丁戊", "①②③④⑤", "abcde")
_BETWEEN = ("、", "・", "/", "，", " か ", "｜")


def _in_a_frame(word: str, random: Random) -> str:
    return random.choice(("{}", "{}", "「{}」", "{}について", "{}です。", "語：{}", "{}の件")).format(word)


def _sorted(what: str, kinds: Mapping[str, Sequence[str]], words: bool, random: Random) -> Draft:
    """A text of one of the kinds -> the kind, a mark that stands for it, or whether it is a certain one."""

    def text(kind: str, random: Random) -> str:
        found = random.choice(kinds[kind])
        return _in_a_frame(found, random) if words else in_a_message(found, random)

    way, names = random.random(), list(kinds)
    if way < 0.2:
        wanted = random.choice(names)
        others = [name for name in names if name != wanted]
        return whether(
            random, f"{what}が{wanted}", lambda random, holds: text(wanted if holds else random.choice(others), random)
        )
    chosen = random.sample(names, random.randint(2, min(5, len(names))))
    if way < 0.4:
        marks = dict(zip(chosen, random.choice(_MARKS), strict=False))
        told = "、".join(f"{name}は{mark}" for name, mark in marks.items())
        return over_kinds(
            chosen,
            text,
            marks.__getitem__,
            f"{what}を記号で答えてください。{told}。",
            f"{told}。{what}に当たる記号だけを書くこと。",
            f"{what}（{'、'.join(f'{mark}：{name}' for name, mark in marks.items())}）",
        )
    listed = random.choice(_BETWEEN).join(chosen)
    return over_kinds(
        chosen,
        text,
        str,
        f"{what}を次から一つ選んでください：{listed}",
        f"{what}はどれですか。{listed}で答えてください。",
        f"次の文や語を{what}で分けてください（{listed}）。",
        f"{what}を{listed}の中から選び、それだけを書いてください。",
        f"{what}は？ {listed}",
        f"{listed}のうち、{what}に当てはまるものを答えて。",
    )


for _name, (_what, _kinds, _words) in _KINDS.items():
    FAMILIES[f"ja_{_name}"] = partial(_sorted, _what, _kinds, _words)


@family
def odd_one_out(random: Random) -> Draft:
    mark = random.choice(("、", " ", "・", "/"))

    def example(random: Random) -> tuple[str, str]:
        usual, odd = random.sample(list(_THINGS), 2)
        words = [*random.sample(_THINGS[usual], random.randint(2, 4)), random.choice(_THINGS[odd])]
        answer = words[-1]
        random.shuffle(words)
        return mark.join(words), answer

    return Draft(
        (
            "種類の違うものを一つ書いてください。",
            "仲間外れはどれですか。",
            "ほかと種類が違う語だけを答えてください。",
            "一つだけ別の仲間のものがあります。それを書き出してください。",
        ),
        example,
    )


@family
def things_of_kind(random: Random) -> Draft:
    wanted, mark = random.choice(list(_THINGS)), random.choice(("、", "・", "/"))

    def example(random: Random) -> tuple[str, str]:
        found = random.sample(_THINGS[wanted], random.randint(1, 2))
        others = [
            word for kind in random.sample([kind for kind in _THINGS if kind != wanted], 3) for word in _THINGS[kind]
        ]
        words = [*found, *random.sample(others, random.randint(1, 3))]
        random.shuffle(words)
        return mark.join(words), mark.join(word for word in words if word in found)

    return Draft((*asked(wanted), f"{wanted}に当たるものを順に「{mark}」でつないで書いてください。"), example)


@family
def opposite(_: Random) -> Draft:
    both_ways = {**_OPPOSITES, **{other: one for one, other in _OPPOSITES.items()}}
    return over_texts(
        lambda random: random.choice(list(both_ways)),
        both_ways.__getitem__,
        "反対の意味の語を書いてください。",
        "反対語だけを答えてください。",
        "対になる言葉は何ですか。",
        "逆の意味の言葉を一語で。",
    )


@family
def word_in_english(_: Random) -> Draft:
    return over_texts(
        lambda random: random.choice(list(_ENGLISH)),
        _ENGLISH.__getitem__,
        *turned("日本語の単語", "英語（小文字）"),
    )


@family
def word_out_of_english(_: Random) -> Draft:
    out_of = {english: word for word, english in _ENGLISH.items()}
    return over_texts(
        lambda random: random.choice(list(out_of)),
        out_of.__getitem__,
        *turned("英語の単語", "日本語"),
        "和訳してください。",
    )
