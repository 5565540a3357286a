"""Families over amounts of money: 万円 and figures, with tax and without, unit price and sum."""

from __future__ import annotations

from random import Random

from prompt2lora.training.synthetic.drafts import Draft
from prompt2lora.training.synthetic.japanese import vocabulary
from prompt2lora.training.synthetic.japanese.drafts import draw_labels, family, whether

_RATES = (10, 8)  # per cent


def yen(amount: int) -> str:
    return f"{amount:,}円"


def in_man(amount: int) -> str:
    """With 億 and 万, and no 円: 1億2000万, 35万, 3万5000."""
    oku, rest = divmod(amount, 10**8)
    man, rest = divmod(rest, 10**4)
    return "".join(f"{number}{unit}" for number, unit in ((oku, "億"), (man, "万"), (rest, "")) if number)


def _large_amount(random: Random) -> int:
    number = random.randint(1, 999)
    return number * random.choice([10**4, 10**4, 10**4, 10**5, 10**6]) + random.choice([0, 0, 0, 5000])


@family
def man_into_figures(random: Random) -> Draft:
    form = random.choice(["{:,}円", "{}円", "{:,}", "{}"])

    def example(random: Random) -> tuple[str, str]:
        amount = _large_amount(random)
        return f"{in_man(amount)}円", form.format(amount)

    shown = form.format(350000)
    return Draft(
        (
            f"金額を「{shown}」のように数字だけの表記にしてください（例は35万円）。",
            f"万や億を使わずに書いてください。例：35万円→{shown}",
            f"35万円なら{shown}のように、算用数字に直して。",
        ),
        example,
    )


@family
def figures_into_man(random: Random) -> Draft:
    form = random.choice(["{:,}円", "{}円"]).format

    def example(random: Random) -> tuple[str, str]:
        amount = random.randint(1, 999) * random.choice([10**4, 10**4, 10**5])
        return form(amount), f"{amount // 10**4}万円"

    return Draft(
        (
            "金額を万円単位で書いてください。",
            "何万円ですか。",
            "円を万円に換算してください。",
            f"「{form(350000)}」なら「35万円」のように書いて。",
        ),
        example,
    )


def _net(random: Random) -> int:
    """An amount of which either rate of tax is a whole number."""
    return random.randint(1, 400) * random.choice([50, 100, 100, 1000])


@family
def price_with_tax(random: Random) -> Draft:
    rate = random.choice(_RATES)
    label = random.choice(["税抜", "税別 ", "本体価格 ", ""])

    def example(random: Random) -> tuple[str, str]:
        net = _net(random)
        return f"{label}{yen(net)}", yen(net * (100 + rate) // 100)

    return Draft(
        (
            f"消費税{rate}%を加えた税込金額を書いてください。",
            f"税込ではいくらですか。税率は{rate}%です。",
            f"税抜→税込（税率{rate}%）",
        ),
        example,
    )


@family
def price_without_tax(random: Random) -> Draft:
    rate = random.choice(_RATES)
    label = random.choice(["税込", "税込価格 ", "総額 ", ""])

    def example(random: Random) -> tuple[str, str]:
        net = _net(random)
        return f"{label}{yen(net * (100 + rate) // 100)}", yen(net)

    return Draft(
        (
            f"税率{rate}%の税込金額を税抜金額に直してください。",
            f"消費税{rate}%を除いた金額を書いてください。",
            f"税込→税抜（税率{rate}%）",
        ),
        example,
    )


@family
def tax_of_price(random: Random) -> Draft:
    rate = random.choice(_RATES)

    def example(random: Random) -> tuple[str, str]:
        net = _net(random)
        return f"{random.choice(['税抜', '本体'])}{yen(net)}", yen(net * rate // 100)

    return Draft(
        (f"消費税額はいくらですか。税率は{rate}%です。", f"{rate}%の消費税の額だけを書いてください。"),
        example,
    )


@family
def states_tax(random: Random) -> Draft:
    labels = random.choice([("税込", "税抜"), ("込", "抜"), draw_labels(random)])

    def draw(random: Random, included: bool) -> str:
        forms = ("{}(税込)", "税込{}", "{}、消費税を含みます") if included else ("{}(税抜)", "税別{}", "{}+消費税")
        return f"{random.choice(vocabulary.PRODUCTS)} {random.choice(forms).format(yen(_net(random)))}"

    return whether(random, "消費税を含む金額", draw, labels)


@family
def sum_of_order(random: Random) -> Draft:
    written = random.choice(["単価{price}、{count}個", "{price}×{count}個", "1個{price}を{count}個"])

    def example(random: Random) -> tuple[str, str]:
        price, count = random.randint(1, 60) * random.choice([10, 100]), random.choice([2, 3, 4, 5, 6, 8, 10, 20, 50])
        return written.format(price=yen(price), count=count), yen(price * count)

    return Draft(
        (
            "合計金額を書いてください。",
            "全部でいくらですか。",
            "単価と個数から金額を計算してください。",
            "合計はいくら？",
        ),
        example,
    )


@family
def amount_of_order(random: Random) -> Draft:
    what = random.choice(["単価", "送料", "手数料", "合計"])

    def example(random: Random) -> tuple[str, str]:
        price, fee = random.randint(2, 90) * 100, random.randint(1, 20) * 50
        count, charge = random.randint(2, 9), random.randint(1, 9) * 110
        values = {"単価": price, "送料": fee, "手数料": charge, "合計": price * count + fee + charge}
        said = [f"{name}{yen(value)}" for name, value in values.items()]
        return f"{random.choice(vocabulary.PRODUCTS)}{count}個、" + "、".join(said), yen(values[what])

    return Draft(
        (f"{what}はいくらですか。", f"{what}の金額を書いてください。", f"{what}だけ抜き出して。"),
        example,
    )


@family
def within_budget(random: Random) -> Draft:
    limit = random.randint(2, 60) * 5000
    written = random.choice([yen(limit), f"{in_man(limit)}円"])

    def draw(random: Random, within: bool) -> str:
        amount = random.randint(1, limit // 100) * 100 if within else limit + random.randint(1, limit // 100) * 100
        return f"{random.choice(vocabulary.PRODUCTS)}の購入 {yen(amount)}"

    return whether(random, f"金額が{written}以内", draw)


@family
def thousand_yen(random: Random) -> Draft:
    def example(random: Random) -> tuple[str, str]:
        amount = random.randint(1, 999)
        return yen(amount * 1000), f"{amount}千円"

    return Draft(
        (
            "金額を千円単位で書いてください。",
            "「350千円」のように、千円を単位にして答えてください。",
            f"{yen(350000)}なら350千円と書きます。同じように直してください。",
        ),
        example,
    )
