"""Families over codes of parts, orders and lots. The digits of a code are held out, and so is a machine's number."""

from __future__ import annotations

from random import Random

from prompt2lora.training.synthetic.drafts import Draft
from prompt2lora.training.synthetic.japanese import vocabulary
from prompt2lora.training.synthetic.japanese.drafts import (
    asked,
    draw_order_number,
    draw_part_number,
    family,
    over_texts,
    until,
    whether,
)


@family
def letters_of_code(random: Random) -> Draft:
    return over_texts(
        draw_part_number,
        lambda text: text.split("-")[0],
        *asked("品番の先頭の英字"),
        "ハイフンの前の記号を書いてください。",
    )


@family
def code_without_hyphen(random: Random) -> Draft:
    mark, name = random.choice(
        [("", "取って"), ("_", "下線（_）に変えて"), (" ", "空白に変えて"), ("/", "スラッシュに変えて")]
    )
    return over_texts(
        draw_part_number,
        lambda text: text.replace("-", mark),
        f"品番のハイフンを{name}ください。",
        f"ハイフンを{name}書いてください。",
        f"品番の「-」を{name}。",
    )


@family
def code_with_front(random: Random) -> Draft:
    front = random.choice(["旧", "新", "試作", "返品", "JP-", "#", "社内", "品番：", "P/N "])
    return over_texts(
        random.choice([draw_part_number, draw_order_number]),
        lambda text: front + text,
        f"前に「{front}」を付けてください。",
        f"先頭に「{front}」を足して書いてください。",
        f"「{front}」+入力",
    )


@family
def code_and_name(random: Random) -> Draft:
    wanted, form = random.choice(["品番", "品名"]), random.choice(["{code}({name})", "{name} {code}", "{code}:{name}"])

    def example(random: Random) -> tuple[str, str]:
        code, name = draw_part_number(random), random.choice(vocabulary.PRODUCTS)
        count = random.choice(["", f" {random.randint(2, 90)}個"])
        return form.format(code=code, name=name) + count, code if wanted == "品番" else name

    return Draft(asked(wanted), example)


@family
def code_begins_with(random: Random) -> Draft:
    letters = random.sample("ABCDEFGHJKLMNPRSTUVWXYZ", 3)

    def texts(random: Random) -> str:
        return random.choice(letters) + draw_part_number(random)[1:]

    return whether(random, f"品番が{letters[0]}で始まる", until(lambda text: text[0] == letters[0], texts))


@family
def code_is_well_formed(random: Random) -> Draft:
    def draw(random: Random, good: bool) -> str:
        code = draw_part_number(random)
        return code if good else random.choice([code.replace("-", ""), code[:-1], code + "0", code[1:], code.lower()])

    return whether(random, "品番が「大文字2字、ハイフン、数字4桁」の形", draw)


@family
def place_by_code(random: Random) -> Draft:
    letters = sorted(random.sample("ABCDEFGH", random.randint(2, 3)))
    places = dict(zip(letters, random.sample(vocabulary.PLACES, len(letters)), strict=True))
    told = "、".join(f"{letter}で始まる品番は{place}" for letter, place in places.items())

    def texts(random: Random) -> str:
        return random.choice(letters) + draw_part_number(random)[1:]

    return over_texts(
        texts,
        lambda text: places[text[0]],
        f"置き場を答えてください。{told}です。",
        f"{told}に置きます。品番を見て置き場を書いてください。",
    )


@family
def lot_number(random: Random) -> Draft:
    """L, two digits of the year, two of the month, and a serial number."""
    form, part = random.choice([("{0}年{1}月", "製造年月"), ("{0}-{1:02}", "製造年月"), ("{1}月", "製造月")])

    def example(random: Random) -> tuple[str, str]:
        year, month = random.randint(2015, 2030), random.randint(1, 12)
        return f"L{year % 100:02}{month:02}-{random.randint(1, 999):03}", form.format(year, month)

    shown = form.format(2024, 5)
    return Draft(
        (
            f"ロット番号から{part}を書いてください。L2405-001なら{shown}です。",
            f"ロット番号の{part}を「{shown}」の形で答えてください（例：L2405-001→{shown}）。",
        ),
        example,
    )


@family
def next_number(random: Random) -> Draft:
    step = random.choice([1, 1, 10, 100])

    def example(random: Random) -> tuple[str, str]:
        code = draw_order_number(random)
        return code, f"PO{int(code[2:]) + step}"

    if step == 1:
        return Draft(("次の注文番号を書いてください。", "番号を1つ進めてください。", "次の番号は？"), example)
    return Draft((f"番号を{step}進めてください。", f"{step}番先の注文番号を書いてください。"), example)
