"""Families that check a rule of the plant: limits, tolerances, reorder points, grades by number."""

from __future__ import annotations

from random import Random

from prompt2lora.training.synthetic.drafts import Draft
from prompt2lora.training.synthetic.japanese import vocabulary
from prompt2lora.training.synthetic.japanese.drafts import draw_labels, family, until, whether

_MEASURED = (
    ("温度", "℃", 200),
    ("湿度", "%", 100),
    ("長さ", "mm", 500),
    ("重さ", "g", 900),
    ("電圧", "V", 400),
    ("回転数", "rpm", 3000),
)


@family
def within_limits(random: Random) -> Draft:
    name, unit, most = random.choice(_MEASURED)
    low = random.randint(most // 5, most // 2)
    high = low + random.randint(most // 10, most // 4)
    labels = random.choice([("合格", "不合格"), ("正常", "異常"), draw_labels(random)])

    def draw(random: Random, inside: bool) -> str:
        if inside:
            number = random.randint(low, high)
        else:
            number = random.choice([random.randint(1, low - 1), random.randint(high + 1, most)])
        return random.choice(["{}:{}{}", "{} {}{}", "{}は{}{}でした。"]).format(name, number, unit)

    return whether(random, f"{name}が{low}{unit}以上{high}{unit}以下", draw, labels)


@family
def beyond_limit(random: Random) -> Draft:
    name, unit, most = random.choice(_MEASURED)
    limit = random.randint(most // 4, 3 * most // 4)
    above = random.random() < 0.5
    labels = random.choice([("警報", "正常"), ("停止", "運転"), draw_labels(random)])

    def draw(random: Random, wanted: bool) -> str:
        number = random.randint(limit + 1, most) if wanted == above else random.randint(1, limit - 1)
        return random.choice(["{}:{}{}", "{} {}{}", "{}が{}{}になりました。"]).format(name, number, unit)

    said = f"{limit}{unit}を超えている" if above else f"{limit}{unit}より低い"
    return whether(random, f"{name}の値が{said}", draw, labels)


@family
def within_tolerance(random: Random) -> Draft:
    labels = random.choice([("合格", "不合格"), draw_labels(random)])

    def draw(random: Random, good: bool) -> str:
        nominal, tolerance = random.randint(5, 90) * 10, random.randint(1, 5)
        off = random.randint(0, tolerance) if good else random.randint(tolerance + 1, tolerance + 5)
        actual = nominal + off * random.choice([1, -1])
        return f"寸法{nominal / 10:.1f}±{tolerance / 10:.1f}、実測{actual / 10:.1f}"

    return whether(random, "実測値が公差内", draw, labels)


@family
def to_be_ordered(random: Random) -> Draft:
    labels = random.choice([("発注", "不要"), ("要", "不要"), draw_labels(random)])

    def draw(random: Random, short: bool) -> str:
        least = random.randint(10, 80)
        stock = random.randint(0, least - 1) if short else random.randint(least, 150)
        return f"{random.choice(vocabulary.PRODUCTS)} 在庫{stock}個、発注点{least}個"

    return whether(random, "在庫が発注点より少ない", draw, labels)


@family
def grade_by_number(random: Random) -> Draft:
    name, unit, most = random.choice([("点数", "点", 100), ("不良数", "個", 50), ("経過日数", "日", 60)])
    low, high = most * random.randint(2, 4) // 10, most * random.randint(6, 8) // 10
    grades = random.choice(
        [("C", "B", "A"), ("3", "2", "1"), ("小", "中", "大"), ("青", "黄", "赤"), ("下", "中", "上")]
    )

    def example(random: Random) -> tuple[str, str]:
        at = random.randrange(3)
        number = random.randint(*[(0, low - 1), (low, high - 1), (high, most)][at])
        return f"{random.choice(vocabulary.PRODUCTS)} {name}{number}{unit}", grades[at]

    small, middle, large = grades
    return Draft(
        (
            f"{name}が{low}{unit}未満は{small}、{high}{unit}以上は{large}、その間は{middle}と書いてください。",
            f"区分を答えてください。{low}{unit}未満{small}、{low}{unit}以上{high}{unit}未満{middle}、{high}{unit}以上{large}。",
        ),
        example,
    )


@family
def sums_up(random: Random) -> Draft:
    labels = random.choice([("一致", "不一致"), draw_labels(random)])

    def draw(random: Random, right: bool) -> str:
        good, bad = random.randint(10, 90), random.randint(1, 9)
        total = good + bad + (0 if right else random.choice([-2, -1, 1, 2, 10]))
        return f"良品{good}個、不良品{bad}個、合計{total}個"

    return whether(random, "良品と不良品の和が合計と同じ", draw, labels)


@family
def contains_word(random: Random) -> Draft:
    words = random.sample(vocabulary.DEFECTS, 3)

    def texts(random: Random) -> str:
        found = random.choice(["{}に{}がありました。", "{}に{}を見つけました。", "{}の{}を直しました。"])
        return found.format(random.choice(vocabulary.PRODUCTS), random.choice(words))

    return whether(random, f"文に「{words[0]}」という語がある", until(lambda text: words[0] in text, texts))


@family
def all_filled_in(random: Random) -> Draft:
    fields = random.sample(["品番", "数量", "検査者印", "日付", "場所", "結果"], 3)

    def draw(random: Random, complete: bool) -> str:
        empty = "" if complete else random.choice(fields)
        values = {
            "品番": f"B-{random.randint(100, 999)}",
            "数量": str(random.randint(1, 99)),
            "検査者印": "済",
            "日付": f"{random.randint(1, 12)}/{random.randint(1, 28)}",
            "場所": random.choice(vocabulary.PLACES),
            "結果": random.choice(["良", "否"]),
        }
        return "\n".join(f"{field}:{'' if field == empty else values[field]}" for field in fields)

    return whether(random, "空欄がない", draw)


@family
def meaning_of_mark(random: Random) -> Draft:
    """A legend: colours of a lamp and what they mean in this plant."""
    colours = random.sample(vocabulary.COLOURS, random.randint(2, 4))
    meanings = dict(
        zip(
            colours,
            random.sample("運転中 停止 異常 段取り 材料切れ 点検中 待機 休止".split(), len(colours)),
            strict=True,
        )
    )
    told = "、".join(f"{colour}は{meaning}" for colour, meaning in meanings.items())

    def example(random: Random) -> tuple[str, str]:
        colour = random.choice(colours)
        text = random.choice(["{}の表示灯は{}です。", "{}のランプが{}になりました。", "{}:{}"])
        return text.format(random.choice(vocabulary.PRODUCTS), colour), meanings[colour]

    return Draft(
        (f"表示灯の意味を答えてください。{told}です。", f"色を見て状態を書いてください。{told}。", f"凡例：{told}"),
        example,
    )
