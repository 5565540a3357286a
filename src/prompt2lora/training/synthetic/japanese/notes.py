"""Families over notes of a workplace: one record in many styles, and what one may ask of it."""

from __future__ import annotations

import json
from random import Random

from prompt2lora.training.synthetic.drafts import Draft
from prompt2lora.training.synthetic.japanese import vocabulary
from prompt2lora.training.synthetic.japanese.drafts import (
    Texts,
    asked,
    draw_order_number,
    draw_part_number,
    family,
    whether,
)
from prompt2lora.training.synthetic.records import Notes

_FIELDS: dict[str, Texts] = {
    "品番": draw_part_number,
    "注文番号": draw_order_number,
    "品名": lambda random: random.choice(vocabulary.PRODUCTS),
    "数量": lambda random: f"{random.randint(2, 300)}個",
    "金額": lambda random: f"{random.randint(10, 990) * 100:,}円",
    "部署": lambda random: random.choice(vocabulary.DEPARTMENTS),
    "取引先": lambda random: random.choice(vocabulary.SUPPLIERS),
    "材質": lambda random: random.choice(vocabulary.MATERIALS),
    "場所": lambda random: random.choice(vocabulary.PLACES),
    "状況": lambda random: random.choice(vocabulary.STATUSES),
    "曜日": lambda random: random.choice(vocabulary.WEEKDAYS),
    "表示灯の色": lambda random: random.choice(vocabulary.COLOURS),
    "納期": lambda random: f"{random.randint(1, 12)}月{random.randint(1, 28)}日",
    "温度": lambda random: f"{random.randint(10, 180)}℃",
    "長さ": lambda random: f"{random.randint(5, 900)}mm",
    "内線": lambda random: str(random.randint(1000, 9999)),
    "不具合": lambda random: random.choice(vocabulary.DEFECTS),
}
_NUMBERS = {"数量": ("個", 300), "金額": ("円", 99000), "温度": ("℃", 180), "長さ": ("mm", 900)}
_VALUES = {
    "材質": vocabulary.MATERIALS,
    "状況": vocabulary.STATUSES,
    "表示灯の色": vocabulary.COLOURS,
    "場所": vocabulary.PLACES,
    "品名": vocabulary.PRODUCTS,
    "取引先": vocabulary.SUPPLIERS,
}


def _note(record: dict[str, str], style: str, random: Random) -> str:
    if style in ("lines", "wide lines"):
        colon = ":" if style == "lines" else "："
        return "\n".join(f"{field}{colon}{value}" for field, value in record.items())
    if style == "pairs":
        return " / ".join(f"{field}={value}" for field, value in record.items())
    if style == "fields":
        return json.dumps(record, ensure_ascii=False)
    text = "".join(random.choice(vocabulary.SENTENCES[field]).format(value) for field, value in record.items())
    return f"{random.choice(vocabulary.GREETINGS)}{text}{random.choice(vocabulary.CLOSINGS)}"


_NOTES = Notes(_FIELDS, ("sentences", "lines", "wide lines", "pairs", "fields"), _note)
note_text = _NOTES.text


@family
def field_of_note(random: Random) -> Draft:
    field = random.choice(list(_FIELDS))
    return _NOTES.over(
        _NOTES.style(random), [field], lambda record: record[field], *asked(field), f"連絡文にある{field}を抜き出す"
    )


@family
def field_with_name(random: Random) -> Draft:
    field = random.choice(list(_FIELDS))
    form = random.choice(
        [f"{field}:{{}}", f"{field}={{}}", f"【{field}】{{}}", f"「{field}は{{}}」", f"<{{}}>({field})"]
    )
    shown = form.format("…")
    return _NOTES.over(
        _NOTES.style(random),
        [field],
        lambda record: form.format(record[field]),
        f"{field}を {shown} の形で書いてください。",
        f"{field}を抜き出し、{shown} と答えてください。",
        f"出力形式：{shown}",
    )


@family
def two_fields_of_note(random: Random) -> Draft:
    one, two = random.sample(list(_FIELDS), 2)
    mark, name = random.choice([("、", "読点"), ("/", "スラッシュ"), (" ", "空白"), ("|", "縦棒"), (";", "セミコロン")])
    return _NOTES.over(
        _NOTES.style(random),
        [one, two],
        lambda record: f"{record[one]}{mark}{record[two]}",
        f"{one}と{two}を{name}で区切って書いてください。",
        f"{one}、{two}の順に、{name}区切りで答えて。",
        f"{one}と{two}を抜き出し、間に{name}を入れてください。",
    )


@family
def fields_as_json(random: Random) -> Draft:
    keys = random.sample(list(_FIELDS), 2)
    return _NOTES.over(
        random.choice(["sentences", "lines", "wide lines", "pairs"]),
        keys,
        lambda record: json.dumps({key: record[key] for key in keys}, ensure_ascii=False),
        f"{keys[0]}と{keys[1]}をJSONで出力してください。",
        f"キーが「{keys[0]}」と「{keys[1]}」のJSONにしてください。",
        f"{keys[0]}と{keys[1]}を取り出してJSON形式にまとめて。",
    )


@family
def fields_as_lines(random: Random) -> Draft:
    keys = random.sample(list(_FIELDS), 2)
    return _NOTES.over(
        random.choice(["sentences", "pairs", "fields"]),
        keys,
        lambda record: "\n".join(f"{key}:{record[key]}" for key in keys),
        f"{keys[0]}と{keys[1]}を「項目:値」の形で1行ずつ書いてください。",
        f"{keys[0]}、{keys[1]}の順に「項目:値」で改行して答えてください。",
    )


@family
def field_or_nothing(random: Random) -> Draft:
    field, none = random.choice(list(_FIELDS)), random.choice(["なし", "記載なし", "不明", "-"])
    style = _NOTES.style(random)

    def example(random: Random) -> tuple[str, str]:
        record = _NOTES.record(random, [field]) if random.random() < 0.6 else _NOTES.record(random, (), [field])
        return _note(record, style, random), record.get(field, none)

    return Draft(
        (
            f"{field}を書いてください。なければ「{none}」と書いてください。",
            f"{field}を抜き出す。書かれていないときは{none}。",
            f"{field}は何ですか。記載がなければ「{none}」と答えてください。",
        ),
        example,
    )


@family
def names_field(random: Random) -> Draft:
    field, style = random.choice(list(_FIELDS)), _NOTES.style(random)

    def draw(random: Random, wanted: bool) -> str:
        return _note(_NOTES.record(random, [field]) if wanted else _NOTES.record(random, (), [field]), style, random)

    return whether(random, f"{field}が書かれている", draw)


@family
def field_at_least(random: Random) -> Draft:
    field = random.choice(list(_NUMBERS))
    unit, most = _NUMBERS[field]
    limit, style = random.randrange(most // 4, 3 * most // 4, 5), _NOTES.style(random)
    more, said = random.choice([(True, "以上"), (False, "未満")])

    def draw(random: Random, wanted: bool) -> str:
        record = _NOTES.record(random, [field])
        number = random.randint(limit, most) if wanted == more else random.randint(2, limit - 1)
        record[field] = f"{number:,}{unit}"
        return _note(record, style, random)

    return whether(random, f"{field}が{limit:,}{unit}{said}", draw)


@family
def route_by_field(random: Random) -> Draft:
    field = random.choice(list(_VALUES))
    chosen = random.sample(_VALUES[field], random.randint(2, 3))
    route = dict(zip(chosen, random.sample(vocabulary.TARGETS, len(chosen)), strict=True))
    parts = "、".join(f"{value}なら{target}" for value, target in route.items())
    arrows = "、".join(f"{value}→{target}" for value, target in route.items())
    return _NOTES.over(
        _NOTES.style(random),
        [field],
        lambda record: route[record[field]],
        f"{field}で振り分けてください。{parts}。",
        f"{field}を見て行き先を答えてください。{parts}です。",
        f"{field}による振り分け：{arrows}",
        values=chosen,
    )


@family
def value_out_of_list(random: Random) -> Draft:
    field = random.choice(list(_VALUES))
    chosen = random.sample(_VALUES[field], random.randint(3, 4))
    return _NOTES.over(
        _NOTES.style(random),
        [field],
        lambda record: record[field],
        f"{field}は{'、'.join(chosen)}のどれですか。",
        f"{field}を次から選んでください：{'、'.join(chosen)}",
        f"{field}で分類してください({'/'.join(chosen)})。",
        values=chosen,
    )
