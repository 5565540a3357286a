"""The registry of the Japanese families, and the parts that they share: labels, questions, notes' frames, codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from prompt2lora.training.synthetic.drafts import Draft, Family, over
from prompt2lora.training.synthetic.japanese import vocabulary

FAMILIES: dict[str, Family] = {}
Texts = Callable[[Random], str]


def family(make: Family) -> Family:
    FAMILIES[f"ja_{make.__name__}"] = make
    return make


def over_texts(texts: Texts, answer: Callable[[str], str], *wordings: str) -> Draft:
    """A task whose right answer follows from the text of the input."""
    return over(texts, str, answer, *wordings)


def in_a_message(text: str, random: Random) -> str:
    """The text as one would send it: perhaps with a greeting before it and a phrase after it."""
    return f"{random.choice(vocabulary.GREETINGS)}{text}{random.choice(vocabulary.CLOSINGS)}"


def draw_labels(random: Random) -> tuple[str, str]:
    """What to answer if something holds, and if not."""
    good, bad = random.choice("はい/いいえ ○/× OK/NG 1/0 A/B 該当/非該当 YES/NO 甲/乙 真/偽".split()).split("/")
    return good, bad


def whether(
    random: Random, condition: str, draw: Callable[[Random, bool], str], labels: tuple[str, str] | None = None
) -> Draft:
    """A yes-no question. `condition` stands before なら; `draw` gives a text of which it holds, or does not."""
    good, bad = labels or draw_labels(random)

    def example(random: Random) -> tuple[str, str]:
        wanted = random.random() < 0.5
        return draw(random, wanted), good if wanted else bad

    return Draft(
        (
            f"{condition}なら{good}、そうでなければ{bad}と書いてください。",
            f"{condition}かどうか、{good}か{bad}で答えてください。",
            f"判定：{condition}なら「{good}」、違えば「{bad}」。",
            f"{condition}なら{good}、それ以外は{bad}とだけ答えて。",
        ),
        example,
    )


def until(holds: Callable[[str], bool], texts: Texts) -> Callable[[Random, bool], str]:
    """Texts drawn until the condition holds of one, or does not, as wanted; both must be frequent."""

    def draw(random: Random, wanted: bool) -> str:
        while holds(text := texts(random)) != wanted:
            pass
        return text

    return draw


def asked(wanted: str) -> tuple[str, ...]:
    """Ways to ask for a part of the input."""
    return (
        f"{wanted}を書いてください。",
        f"{wanted}を抜き出してください。",
        f"{wanted}だけを答えてください。",
        f"{wanted}は何ですか。",
        f"{wanted}のみ出力すること。",
        f"{wanted}を教えて。",
    )


def turned(before: str, after: str) -> tuple[str, ...]:
    """Ways to ask for another form of the input: `before` becomes `after`."""
    return (
        f"{before}を{after}に直してください。",
        f"{before}を{after}に変換してください。",
        f"{before}を{after}で書いてください。",
        f"次の{before}を{after}に変えて。",
        f"{before}→{after}",
    )


def listed(values: Sequence[str]) -> str:
    return "・".join(values)


def draw_part_number(random: Random) -> str:
    letters = "".join(random.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=2))
    return f"{letters}-{random.randint(1000, 9999)}"


def draw_order_number(random: Random) -> str:
    return f"PO{random.randint(10000, 99999)}"
