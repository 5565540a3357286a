"""Arithmetic and word problems in Japanese, with worked steps and without.

In: a random generator. Out: drafts, in a registry of their own, from which a recipe draws only if its `languages` name
"ja-mathematics".
"""

from __future__ import annotations

from random import Random

from prompt2lora.training.synthetic.problems import Problem, Wordings, draw_with_mean, registry

_GOODS = (
    ("ボルト", "本"),
    ("箱", "個"),
    ("ラベル", "枚"),
    ("鉛筆", "本"),
    ("伝票", "枚"),
    ("フィルター", "個"),
    ("電球", "個"),
)
_MACHINES = ("プレス機", "旋盤", "印刷機", "包装機", "切断機", "ラベル貼り機")
_SHOPS = ("売店", "購買部", "事務用品店", "工具店")
_WORDINGS = Wordings(
    (
        "問題を解いて、答えの数だけを書いてください。",
        "答えはいくつですか。数字だけ答えて。",
        "計算して、最後の数のみ出力すること。",
        "途中の式は書かず、答えの数だけ書いてください。",
    ),
    (
        "途中の式を1行ずつ書き、最後の行に「{}」の形で答えを書いてください。",
        "順を追って解き、最後は {} としてください。",
        "計算の過程を示し、最後に {} と書くこと。",
    ),
    "数",
)
FAMILIES, family = registry("ja_mathematics", _WORDINGS)


@family
def shopping(random: Random) -> Problem:
    (one, counter), (other, second_counter) = random.sample(_GOODS, 2)
    count, more = random.randint(2, 12), random.randint(2, 12)
    price, dearer = random.randint(3, 30) * 10, random.randint(3, 30) * 10
    first, second = count * price, more * dearer
    return Problem(
        f"{random.choice(_SHOPS)}で1{counter}{price}円の{one}を{count}{counter}、1{second_counter}{dearer}円の{other}を"
        f"{more}{second_counter}買いました。全部で何円ですか。",
        (
            f"{one}：{price}×{count}={first}",
            f"{other}：{dearer}×{more}={second}",
            f"合計：{first}+{second}={first + second}",
        ),
        str(first + second),
    )


@family
def change_of_a_note(random: Random) -> Problem:
    goods, counter = random.choice(_GOODS)
    count, price = random.randint(2, 9), random.randint(3, 11) * 10
    total, paid = count * price, 1000
    return Problem(
        f"1{counter}{price}円の{goods}を{count}{counter}買い、{paid}円札で払いました。おつりは何円ですか。",
        (f"代金：{price}×{count}={total}", f"おつり：{paid}-{total}={paid - total}"),
        str(paid - total),
    )


@family
def stock_left(random: Random) -> Problem:
    goods, counter = random.choice(_GOODS[:1] + _GOODS[2:])
    boxes, each = random.randint(3, 15), random.randint(4, 20)
    gone = random.randint(1, boxes * each - 1)
    return Problem(
        f"倉庫に{goods}が{each}{counter}入りの箱で{boxes}箱あります。{gone}{counter}使うと、残りは何{counter}ですか。",
        (f"初め：{each}×{boxes}={each * boxes}", f"残り：{each * boxes}-{gone}={each * boxes - gone}"),
        str(each * boxes - gone),
    )


@family
def shared_equally(random: Random) -> Problem:
    goods, counter = random.choice(_GOODS[2:])
    people, each, extra = random.randint(2, 9), random.randint(2, 15), random.randint(1, 20)
    total = people * each + extra
    return Problem(
        f"{goods}が{total}{counter}あります。{extra}{counter}を予備に取り、残りを{people}人で同じ数ずつ分けると、1人分は何{counter}ですか。",
        (f"分ける数：{total}-{extra}={total - extra}", f"1人分：{total - extra}÷{people}={each}"),
        str(each),
    )


@family
def two_rates(random: Random) -> Problem:
    slow, fast = random.sample(_MACHINES, 2)
    rate, more, hours = random.randint(3, 30), random.randint(3, 30), random.randint(2, 9)
    both = 2 * rate + more
    return Problem(
        f"{slow}は1時間に{rate}個、{fast}はそれより{more}個多く作ります。2台を{hours}時間動かすと、合わせて何個できますか。",
        (
            f"{fast}：{rate}+{more}={rate + more}",
            f"1時間：{rate}+{rate + more}={both}",
            f"{hours}時間：{both}×{hours}={both * hours}",
        ),
        str(both * hours),
    )


@family
def reduced_price(random: Random) -> Problem:
    percent, price = random.choice([5, 10, 20, 25, 30, 40]), random.randint(2, 30) * 100
    less = price * percent // 100
    return Problem(
        f"定価{price}円の工具が{percent}%引きです。売値は何円ですか。",
        (f"値引き：{price}×{percent}÷100={less}", f"売値：{price}-{less}={price - less}"),
        str(price - less),
    )


@family
def average_of_days(random: Random) -> Problem:
    values, mean = draw_with_mean(random)
    days = len(values)
    return Problem(
        f"{days}日間の受注件数は{'、'.join(f'{value}件' for value in values)}でした。1日平均は何件ですか。",
        (f"合計：{'+'.join(map(str, values))}={sum(values)}", f"平均：{sum(values)}÷{days}={mean}"),
        str(mean),
    )


@family
def term_with_brackets(random: Random) -> Problem:
    a, b, c, d = (random.randint(2, 20) for _ in range(4))
    return Problem(
        f"({a}+{b})×{c}-{d}",
        (f"{a}+{b}={a + b}", f"{a + b}×{c}={(a + b) * c}", f"{(a + b) * c}-{d}={(a + b) * c - d}"),
        str((a + b) * c - d),
    )
