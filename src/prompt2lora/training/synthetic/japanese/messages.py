"""Families over messages inside a firm and to it: topic, urgency, and what is named in them."""

from __future__ import annotations

from random import Random

from prompt2lora.training.synthetic.drafts import Draft, over_kinds
from prompt2lora.training.synthetic.japanese import vocabulary
from prompt2lora.training.synthetic.japanese.drafts import asked, family, in_a_message, listed, whether

_TOPICS = list(vocabulary.MESSAGES)
_ABOUT_PRODUCTS = ("見積もり", "納期", "在庫", "修理", "図面")
_URGENT_OR_NOT = ("見積もり", "在庫", "修理", "図面")  # does not say itself how urgent it is


def _message(topic: str, random: Random, *, product: str = "") -> str:
    text = random.choice(vocabulary.MESSAGES[topic]).format(
        p=product or random.choice(vocabulary.PRODUCTS), n=random.randint(2, 30), d=random.randint(1, 28)
    )
    return in_a_message(text, random)


def message_text(random: Random) -> str:
    return _message(random.choice(_TOPICS), random)


@family
def topic_of_message(random: Random) -> Draft:
    chosen = random.sample(_TOPICS, random.randint(2, 5))
    return over_kinds(
        chosen,
        _message,
        str,
        f"何についての連絡ですか。{'、'.join(chosen)}から選んでください。",
        f"連絡の内容を{listed(chosen)}で分類してください。",
        f"用件を次の中から一つ選ぶ：{'、'.join(chosen)}",
        f"メールの用件は？{'/'.join(chosen)}",
    )


@family
def topic_as_mark(random: Random) -> Draft:
    chosen = random.sample(_TOPICS, random.randint(2, 4))
    marks = dict(zip(chosen, random.choice(["ABCD", "1234", "甲乙丙丁", "アイウエ", "①②③④"]), strict=False))
    parts = "、".join(f"{topic}の件は{mark}" for topic, mark in marks.items())
    return over_kinds(
        chosen,
        _message,
        marks.__getitem__,
        f"{parts}と書いてください。",
        f"用件を記号で答えてください。{parts}。",
        f"記号だけで分類：{'、'.join(f'{mark}={topic}' for topic, mark in marks.items())}",
    )


@family
def is_topic(random: Random) -> Draft:
    asked_for = random.choice(_TOPICS)
    others = [topic for topic in _TOPICS if topic != asked_for]
    return whether(
        random,
        f"{asked_for}についての連絡",
        lambda random, wanted: _message(asked_for if wanted else random.choice(others), random),
    )


@family
def urgency_of_message(random: Random) -> Draft:
    labels = random.choice([("急ぎ", "通常"), ("高", "低"), ("至急", "後日"), ("1", "2"), ("A", "B"), ("赤", "白")])

    def example(random: Random) -> tuple[str, str]:
        urgent = random.random() < 0.5
        ending = random.choice(vocabulary.URGENT if urgent else vocabulary.CALM)
        text = random.choice(vocabulary.MESSAGES[random.choice(_URGENT_OR_NOT)]).format(
            p=random.choice(vocabulary.PRODUCTS), n=random.randint(2, 30), d=random.randint(1, 28)
        )
        return f"{random.choice(vocabulary.GREETINGS)}{text}{ending}", labels[not urgent]

    high, low = labels
    return Draft(
        (
            f"急ぎの連絡なら{high}、急がない連絡なら{low}と書いてください。",
            f"急ぐ必要があれば「{high}」、なければ「{low}」。",
            f"優先度を判定してください。急ぐものは{high}、急がないものは{low}です。",
        ),
        example,
    )


@family
def product_of_message(random: Random) -> Draft:
    def example(random: Random) -> tuple[str, str]:
        product = random.choice(vocabulary.PRODUCTS)
        return _message(random.choice(_ABOUT_PRODUCTS), random, product=product), product

    return Draft((*asked("連絡に出てくる品名"), "どの品物についての連絡ですか。品名で答えてください。"), example)


@family
def product_and_topic(random: Random) -> Draft:
    mark = random.choice(["の", "/", ":", "、"])

    def example(random: Random) -> tuple[str, str]:
        product, topic = random.choice(vocabulary.PRODUCTS), random.choice(_ABOUT_PRODUCTS)
        return _message(topic, random, product=product), f"{product}{mark}{topic}"

    topics = listed(_ABOUT_PRODUCTS)
    return Draft(
        (
            f"件名を「品名{mark}用件」の形で付けてください。用件は{topics}のどれかです。",
            f"「品名{mark}用件」と書いてください（用件：{topics}）。",
        ),
        example,
    )


_REPORTS = ("{p}を{deed}しました。", "{p}の{deed}が終わりました。", "{p}は{deed}済みです。")
_QUESTIONS = ("{p}はもう{deed}しましたか。", "{p}の{deed}はいつですか。", "{p}を{deed}してもよいですか。")
_REQUESTS = ("{p}を{deed}してください。", "{p}の{deed}をお願いします。", "{p}を{deed}しておいてください。")


@family
def purpose_of_sentence(random: Random) -> Draft:
    names = random.choice(["報告 質問 依頼", "A B C", "1 2 3", "ア イ ウ"]).split()
    forms = dict(zip(names, (_REPORTS, _QUESTIONS, _REQUESTS), strict=True))

    def example(random: Random) -> tuple[str, str]:
        name = random.choice(names)
        text = random.choice(forms[name]).format(
            p=random.choice(vocabulary.PRODUCTS), deed=random.choice(vocabulary.DEEDS)
        )
        return f"{random.choice(vocabulary.GREETINGS)}{text}", name

    report, question, request = names
    if report == "報告":
        return Draft(("報告、質問、依頼のどれですか。", "文の種類を答えてください（報告/質問/依頼）。"), example)
    told = f"報告なら{report}、質問なら{question}、依頼なら{request}"
    return Draft((f"{told}と書いてください。", f"文の種類を記号で答えてください。{told}。"), example)
