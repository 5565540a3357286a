"""Families over the style of sentences of one closed pattern: polite and plain, past, negative, request, short note.

A sentence is [time、]thing を verb。 Every form of every verb is computed from the stems in vocabulary.py.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from prompt2lora.training.synthetic.drafts import Draft
from prompt2lora.training.synthetic.japanese import vocabulary
from prompt2lora.training.synthetic.japanese.drafts import family, whether


class Verb(NamedTuple):
    """The forms that the others are made of: 運ぶ, 運び, 運んだ, 運んで, 運ば."""

    plain: str
    stem: str
    past: str
    te: str
    nai: str

    @property
    def forms(self) -> dict[str, str]:
        return {
            "plain": self.plain,
            "polite": f"{self.stem}ます",
            "plain past": self.past,
            "polite past": f"{self.stem}ました",
            "plain negative": f"{self.nai}ない",
            "polite negative": f"{self.stem}ません",
            "request": f"{self.te}ください",
            "wish": f"{self.stem}たい",
            "polite wish": f"{self.stem}たいです",
            "going on": f"{self.te}いる",
            "polite going on": f"{self.te}います",
            "proposal": f"{self.stem}ましょう",
        }


VERBS = (
    *(Verb(f"{deed}する", f"{deed}し", f"{deed}した", f"{deed}して", f"{deed}し") for deed in vocabulary.DEEDS),
    *(Verb(*stems) for stems in vocabulary.VERBS),
)
_PLAIN = ("plain", "plain past", "plain negative", "wish", "going on")
_POLITE = ("polite", "polite past", "polite negative", "polite wish", "polite going on")


def _before_verb(random: Random) -> str:
    when = f"{random.choice(vocabulary.WHEN)}、" if random.random() < 0.5 else ""
    return f"{when}{random.choice(vocabulary.PRODUCTS)}を"


def _rewritten(before: tuple[str, ...], after: tuple[str, ...], *wordings: str) -> Draft:
    """One of the forms `before` becomes the form at the same place of `after`."""

    def example(random: Random) -> tuple[str, str]:
        start, forms, at = _before_verb(random), random.choice(VERBS).forms, random.randrange(len(before))
        return f"{start}{forms[before[at]]}。", f"{start}{forms[after[at]]}。"

    return Draft(wordings, example)


@family
def plain_into_polite(random: Random) -> Draft:
    return _rewritten(
        _PLAIN,
        _POLITE,
        "文を敬体（です・ます）に直してください。",
        "常体を敬体に書き換えてください。",
        "丁寧な言い方（です・ます調）にして。",
        "「です・ます」で終わる文にしてください。",
    )


@family
def polite_into_plain(random: Random) -> Draft:
    return _rewritten(
        _POLITE,
        _PLAIN,
        "文を常体に直してください。",
        "敬体を常体に書き換えてください。",
        "です・ます調をやめて、普通体で書いてください。",
        "日誌用に常体へ変えて。",
    )


@family
def into_past(random: Random) -> Draft:
    return _rewritten(
        ("plain", "polite"),
        ("plain past", "polite past"),
        "文を過去形にしてください。",
        "終わったこととして書き直してください。",
        "「〜した」「〜しました」の形に変えて。",
    )


@family
def into_negative(random: Random) -> Draft:
    return _rewritten(
        ("plain", "polite"),
        ("plain negative", "polite negative"),
        "文を否定文にしてください。",
        "打ち消しの文に書き換えてください。",
        "「〜ない」「〜ません」の文に直して。",
    )


@family
def into_request(random: Random) -> Draft:
    return _rewritten(
        ("plain", "polite"),
        ("request", "request"),
        "「〜てください」という依頼の文に直してください。",
        "作業の指示として「〜ください。」の形で書いてください。",
        "お願いする文（〜てください）にして。",
    )


@family
def out_of_request(random: Random) -> Draft:
    form = random.choice(["plain", "polite", "polite past", "plain past"])
    shown = Verb(*vocabulary.VERBS[2]).forms[form]
    return _rewritten(
        ("request",),
        (form,),
        f"「運んでください。」を「{shown}。」とするように書き換えてください。",
        f"依頼の文を、「{shown}」と同じ形で終わる文にしてください。",
        f"「〜てください」をやめて、「{shown}。」のように書いて。",
    )


@family
def into_proposal(random: Random) -> Draft:
    return _rewritten(
        ("plain", "polite"),
        ("proposal", "proposal"),
        "「〜ましょう」と呼びかける文にしてください。",
        "標語のように「〜ましょう。」で終えてください。",
        "呼びかけの文（〜ましょう）に直して。",
    )


@family
def into_going_on(random: Random) -> Draft:
    return _rewritten(
        ("plain", "polite"),
        ("going on", "polite going on"),
        "今している最中の文（〜ている、〜ています）に直してください。",
        "進行中の言い方に書き換えてください。",
        "「〜ている」「〜ています」を使って書いて。",
    )


@family
def style_of_sentence(random: Random) -> Draft:
    polite, plain = random.choice([("敬体", "常体"), ("敬", "常"), ("A", "B"), ("1", "2"), ("丁寧", "普通")])

    def example(random: Random) -> tuple[str, str]:
        is_polite = random.random() < 0.5
        form = random.choice(_POLITE if is_polite else _PLAIN)
        return f"{_before_verb(random)}{random.choice(VERBS).forms[form]}。", polite if is_polite else plain

    return Draft(
        (
            f"です・ます調の文なら{polite}、そうでなければ{plain}と書いてください。",
            f"敬体なら「{polite}」、常体なら「{plain}」と答えてください。",
            f"文体の判定：敬体は{polite}、常体は{plain}。",
        ),
        example,
    )


@family
def is_in_past(random: Random) -> Draft:
    def draw(random: Random, wanted: bool) -> str:
        tense = " past" if wanted else ""
        form = random.choice(["plain", "polite"])
        return f"{_before_verb(random)}{random.choice(VERBS).forms[form + tense]}。"

    return whether(random, "もう済んだことを述べた文", draw)


@family
def short_note(random: Random) -> Draft:
    """As in a diary of work: the thing, and the noun of what is done with it."""
    form, said = random.choice(
        [
            ("polite", "ポンプの点検"),
            ("polite past", "ポンプは点検済み"),
            ("polite", "ポンプは点検予定"),
            ("polite going on", "ポンプは点検中"),
        ]
    )

    def example(random: Random) -> tuple[str, str]:
        thing, at = random.choice(vocabulary.PRODUCTS), random.randrange(len(vocabulary.DEEDS))
        note = said.replace("ポンプ", thing).replace("点検", vocabulary.DEEDS[at])
        return f"{thing}を{VERBS[at].forms[form]}。", note

    return Draft(
        (
            f"「{said}」のような体言止めにしてください。",
            f"文を名詞で終わる短いメモにしてください。例：{said}",
            f"日誌に「{said}」と同じ形で書いてください。",
        ),
        example,
    )


@family
def object_or_deed(random: Random) -> Draft:
    name = random.choice(["何を", "どうする"])

    def example(random: Random) -> tuple[str, str]:
        thing, verb = random.choice(vocabulary.PRODUCTS), random.choice(VERBS)
        text = f"{random.choice(vocabulary.WHEN)}、{thing}を{verb.forms['request']}。"
        return text, thing if name == "何を" else verb.plain

    if name == "何を":
        return Draft(
            ("対象の品物だけを書いてください。", "「何を」に当たる語を答えてください。", "作業の対象は何ですか。"),
            example,
        )
    return Draft(
        ("どうするのかを「運ぶ」のような辞書の形で書いてください。", "動詞を終止形で抜き出してください（例：運ぶ）。"),
        example,
    )
