"""Families over tables: CSV with a heading, rows to look up, rows to count. The last column is never asked for."""

from __future__ import annotations

import json
from random import Random

from prompt2lora.training.synthetic.drafts import Draft
from prompt2lora.training.synthetic.japanese import vocabulary
from prompt2lora.training.synthetic.japanese.drafts import Texts, draw_part_number, family

_COLUMNS: dict[str, Texts] = {
    "品番": draw_part_number,
    "品名": lambda random: random.choice(vocabulary.PRODUCTS),
    "数量": lambda random: str(random.randint(1, 300)),
    "単価": lambda random: str(random.randint(1, 90) * 50),
    "材質": lambda random: random.choice(vocabulary.MATERIALS),
    "置き場": lambda random: random.choice(vocabulary.PLACES),
    "状態": lambda random: random.choice(vocabulary.STATUSES),
    "取引先": lambda random: random.choice(vocabulary.SUPPLIERS),
    "担当部署": lambda random: random.choice(vocabulary.DEPARTMENTS),
}
_SEPARATORS = (",", "\t", "|", ";")


def _row(columns: list[str], random: Random) -> dict[str, str]:
    return {column: _COLUMNS[column](random) for column in columns}


def _columns(random: Random, low: int = 3, high: int = 4) -> list[str]:
    return random.sample(list(_COLUMNS), random.randint(low, high))


@family
def column_of_row(random: Random) -> Draft:
    separator, wanted = random.choice(_SEPARATORS), random.choice(list(_COLUMNS))

    def example(random: Random) -> tuple[str, str]:
        columns = [column for column in _columns(random) if column != wanted]
        columns.insert(random.randrange(len(columns)), wanted)
        row = _row(columns, random)
        return f"{separator.join(row)}\n{separator.join(row.values())}", row[wanted]

    return Draft(
        (
            f"表の{wanted}の値を書いてください。",
            f"見出しを見て、{wanted}の値だけ答えてください。",
            f"{wanted}の列には何が書いてありますか。",
            f"CSVから{wanted}を取り出して。",
        ),
        example,
    )


@family
def nth_column(random: Random) -> Draft:
    separator, columns = random.choice(_SEPARATORS), _columns(random, 4, 5)
    at = random.randrange(len(columns) - 1)

    def example(random: Random) -> tuple[str, str]:
        values = list(_row(columns, random).values())
        return separator.join(values), values[at]

    return Draft(
        (f"{at + 1}列目の値を書いてください。", f"左から{at + 1}番目の項目は何ですか。", f"{at + 1}列目だけ。"), example
    )


@family
def row_into_lines(random: Random) -> Draft:
    columns, separator = _columns(random, 2, 3), random.choice([",", "\t", "|"])
    form = random.choice(["{}:{}", "{}={}", "・{}:{}"])

    def example(random: Random) -> tuple[str, str]:
        row = _row(columns, random)
        return separator.join(row.values()), "\n".join(form.format(*pair) for pair in row.items())

    shown = form.format(columns[0], "…")
    return Draft(
        (
            f"列は{'、'.join(columns)}の順です。「{shown}」のように1行ずつ書いてください。",
            f"{'・'.join(columns)}の順に並んでいます。「{shown}」の形の箇条書きにして。",
        ),
        example,
    )


@family
def row_into_json(random: Random) -> Draft:
    columns, separator = _columns(random, 2, 3), random.choice([",", "\t", "|"])

    def example(random: Random) -> tuple[str, str]:
        row = _row(columns, random)
        return separator.join(row.values()), json.dumps(row, ensure_ascii=False)

    keys = "、".join(columns)
    return Draft(
        (
            f"{keys}をキーとするJSONにしてください。",
            f"列は{keys}の順です。JSONで書いてください。",
            f"JSONへ変換（キー：{keys}）",
        ),
        example,
    )


@family
def lines_into_row(random: Random) -> Draft:
    columns = _columns(random, 3, 4)
    separator, name = random.choice([(",", "カンマ"), ("|", "縦棒"), (";", "セミコロン"), ("/", "スラッシュ")])

    def example(random: Random) -> tuple[str, str]:
        row = _row(columns, random)
        lines = [f"{key}:{value}" for key, value in row.items()]
        random.shuffle(lines)
        return "\n".join(lines), separator.join(row.values())

    keys = "、".join(columns)
    return Draft(
        (
            f"{keys}の順に、値を{name}区切りで1行に書いてください。",
            f"{name}区切りの1行にしてください。順番は{keys}です。",
        ),
        example,
    )


@family
def value_in_json(random: Random) -> Draft:
    wanted = random.choice(list(_COLUMNS))

    def example(random: Random) -> tuple[str, str]:
        columns = [wanted, *(column for column in _columns(random) if column != wanted)]
        random.shuffle(columns)
        row = _row(columns, random)
        return json.dumps(row, ensure_ascii=False), row[wanted]

    return Draft(
        (
            f"JSONの「{wanted}」の値を書いてください。",
            f"キー「{wanted}」の値は何ですか。",
            f"JSONから{wanted}の値だけを取り出して。",
        ),
        example,
    )


def _stock(random: Random) -> dict[str, int]:
    return {thing: random.randint(1, 99) for thing in random.sample(vocabulary.PRODUCTS, random.randint(3, 4))}


@family
def looked_up(random: Random) -> Draft:
    form, unit = random.choice(["{} {}", "{},{}", "{}:{}"]), random.choice(["", "個"])

    def example(random: Random) -> tuple[str, str]:
        stock = _stock(random)
        thing = random.choice(list(stock))
        lines = "\n".join(form.format(name, number) for name, number in stock.items())
        return f"{lines}\n問い：{thing}", f"{stock[thing]}{unit}"

    return Draft(
        (
            f"在庫表から、問いの品物の数を「5{unit}」のように書いてください。",
            f"最後の行の品物は何個ありますか。「5{unit}」の形で答えてください。",
        ),
        example,
    )


@family
def most_in_stock(random: Random) -> Draft:
    form = random.choice(["{} {}", "{},{}", "{}:{}個"])

    def example(random: Random) -> tuple[str, str]:
        names = random.sample(vocabulary.PRODUCTS, 3)
        stock = dict(zip(names, random.sample(range(1, 100), 3), strict=True))
        return "\n".join(form.format(*pair) for pair in stock.items()), max(names, key=stock.__getitem__)

    return Draft(
        (
            "在庫がいちばん多い品物を書いてください。",
            "数が最も多いのはどれですか。品名で答えてください。",
            "最も多い品名は？",
        ),
        example,
    )


@family
def rows_in_state(random: Random) -> Draft:
    state, unit = random.choice(vocabulary.STATUSES), random.choice(["件", ""])
    others = [other for other in vocabulary.STATUSES if other != state]

    def example(random: Random) -> tuple[str, str]:
        states = [state if random.random() < 0.5 else random.choice(others) for _ in range(random.randint(3, 5))]
        things = random.sample(vocabulary.PRODUCTS, len(states))
        lines = [f"{thing},{now}" for thing, now in zip(things, states, strict=True)]
        return "\n".join(lines), f"{states.count(state)}{unit}"

    return Draft(
        (
            f"「{state}」の行は何行ありますか。「2{unit}」のように答えてください。",
            f"状態が{state}のものを数えて「2{unit}」の形で書いてください。",
        ),
        example,
    )
