"""Families over dates and weekdays. Times of day are held out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from random import Random

from prompt2lora.training.synthetic.drafts import Draft, over
from prompt2lora.training.synthetic.japanese import vocabulary
from prompt2lora.training.synthetic.japanese.drafts import asked, draw_labels, family, whether
from prompt2lora.training.synthetic.japanese.eras import draw_date

_FORMS: dict[str, Callable[[date], str]] = {
    "2024年4月1日": lambda day: f"{day.year}年{day.month}月{day.day}日",
    "2024/04/01": lambda day: f"{day:%Y/%m/%d}",
    "2024-04-01": lambda day: f"{day:%Y-%m-%d}",
    "20240401": lambda day: f"{day:%Y%m%d}",
    "2024.4.1": lambda day: f"{day.year}.{day.month}.{day.day}",
    "4月1日": lambda day: f"{day.month}月{day.day}日",
    "4/1": lambda day: f"{day.month}/{day.day}",
    "24/4/1": lambda day: f"{day:%y}/{day.month}/{day.day}",
    "2024年4月": lambda day: f"{day.year}年{day.month}月",
}
_WHOLE = tuple(_FORMS)[:5]  # of which a date can be read


def _recent(random: Random) -> date:
    return draw_date(random, 2005)


def in_kanji(day: date) -> str:
    return _FORMS["2024年4月1日"](day)


def fiscal_year(day: date) -> int:
    """The year in whose April the fiscal year begins."""
    return day.year if day.month >= 4 else day.year - 1


@family
def form_of_date(random: Random) -> Draft:
    before = random.choice(_WHOLE)
    after = random.choice([form for form in _FORMS if form != before])

    return over(
        _recent,
        _FORMS[before],
        _FORMS[after],
        f"日付を「{after}」の形に直してください。",
        f"日付の書き方を「{after}」の形式にそろえてください。",
        f"「{before}」形式の日付を「{after}」形式に変換。",
        f"{before}なら{after}のように書き換えて。",
    )


@family
def part_of_date(random: Random) -> Draft:
    name, form = random.choice(
        [("年", "{0.year}年"), ("月", "{0.month}月"), ("日", "{0.day}日"), ("月日", "{0.month}月{0.day}日")]
    )

    def example(random: Random) -> tuple[str, str]:
        day = _recent(random)
        return random.choice([in_kanji(day), f"{day:%Y/%m/%d}"]), form.format(day)

    shown = form.format(date(2024, 4, 1))
    return Draft(
        (
            f"日付から{name}だけを「{shown}」のように書いてください。",
            f"{name}のみを「{shown}」の形で答えて。",
            f"日付の{name}を抜き出してください（例：{shown}）。",
        ),
        example,
    )


@family
def fiscal_year_of_date(random: Random) -> Draft:
    def example(random: Random) -> tuple[str, str]:
        day = _recent(random)
        return in_kanji(day), f"{fiscal_year(day)}年度"

    return Draft(
        (
            "何年度の日付ですか。年度は4月から翌年3月までです。",
            "年度（4月始まり）を「2024年度」のように書いてください。",
            "4月始まりの年度を答えて。例：2024年度",
        ),
        example,
    )


@family
def half_of_year(random: Random) -> Draft:
    labels = random.choice([("上期", "下期"), ("前期", "後期"), ("H1", "H2"), ("1", "2"), ("A", "B")])

    def example(random: Random) -> tuple[str, str]:
        day = _recent(random)
        return random.choice([in_kanji(day), f"{day.month}月{day.day}日"]), labels[not 4 <= day.month <= 9]

    one, two = labels
    return Draft(
        (
            f"4月から9月までは{one}、10月から3月までは{two}と書いてください。",
            f"{one}(4〜9月)か{two}(10〜3月)かを答えてください。",
        ),
        example,
    )


def with_weekday(day: date) -> str:
    return f"{day.month}月{day.day}日({vocabulary.WEEKDAYS[day.weekday()][0]})"


@family
def weekday_of_date(random: Random) -> Draft:
    form, shown = random.choice([("{}曜日", "木曜日"), ("{}曜", "木曜"), ("{}", "木"), ("({})", "(木)")])

    def example(random: Random) -> tuple[str, str]:
        day = _recent(random)
        name = vocabulary.WEEKDAYS[day.weekday()][0]
        return random.choice(["{}", "納期は{}です。", "{}に納品", "次回は{}です。"]).format(
            with_weekday(day)
        ), form.format(name)

    return Draft(
        (
            f"曜日を「{shown}」のように書いてください。",
            f"何曜日ですか。「{shown}」の形で答えてください。",
            f"曜日だけを抜き出す（例：{shown}）",
        ),
        example,
    )


@family
def weekday_after(random: Random) -> Draft:
    days, name = random.choice([(1, "翌日"), (-1, "前日"), (2, "2日後"), (3, "3日後")])

    def example(random: Random) -> tuple[str, str]:
        day = _recent(random)
        return with_weekday(day), vocabulary.WEEKDAYS[(day.weekday() + days) % 7]

    return Draft(
        (
            f"{name}の曜日を書いてください。",
            f"この日の{name}は何曜日ですか。",
            f"{name}は何曜日か、「木曜日」の形で答えて。",
        ),
        example,
    )


@family
def weekday_in_other_language(random: Random) -> Draft:
    into_english, short = random.random() < 0.5, random.random() < 0.5

    def example(random: Random) -> tuple[str, str]:
        day = _recent(random)
        english = vocabulary.WEEKDAYS_IN_ENGLISH[day.weekday()][: 3 if short else None]
        if into_english:
            return with_weekday(day), english
        return f"{english}, {day.month}/{day.day}", vocabulary.WEEKDAYS[day.weekday()]

    if into_english:
        shown = "Thu" if short else "Thursday"
        return Draft((f"曜日を英語（{shown}など）で書いてください。", f"曜日は英語で何ですか。例：{shown}"), example)
    return Draft(("曜日を日本語で書いてください。", "英語の曜日を「木曜日」のように直してください。"), example)


@family
def day_after(random: Random) -> Draft:
    days, name = random.choice([(1, "翌日"), (-1, "前日"), (7, "1週間後"), (2, "2日後"), (10, "10日後")])

    def example(random: Random) -> tuple[str, str]:
        day = _recent(random)
        then = day + timedelta(days)
        return in_kanji(day), in_kanji(then)

    return Draft(
        (f"{name}の日付を書いてください。", f"この日の{name}はいつですか。", f"{name}の年月日を同じ形で答えて。"),
        example,
    )


@family
def is_late(random: Random) -> Draft:
    labels = random.choice([("遅れ", "間に合う"), draw_labels(random), draw_labels(random)])
    due, came = random.choice([("納期", "納品日"), ("期限", "提出日"), ("予定日", "完了日")])

    def draw(random: Random, late: bool) -> str:
        last, days = _recent(random), random.randint(1, 20)
        then = last + timedelta(days) if late else last - timedelta(days - 1)
        return f"{due}:{in_kanji(last)}、{came}:{in_kanji(then)}"

    return whether(random, f"{came}が{due}より後", draw, labels)


@family
def date_of_note(random: Random) -> Draft:
    thing = random.choice(["納期", "点検日", "発注日", "検査日", "交換日"])

    def example(random: Random) -> tuple[str, str]:
        wanted, other = (f"{random.randint(1, 12)}月{random.randint(1, 28)}日" for _ in range(2))
        name = random.choice([name for name in ("受付日", "作成日", "更新日") if name != thing])
        parts = [f"{thing}は{wanted}", f"{name}は{other}"]
        random.shuffle(parts)
        return f"{random.choice(vocabulary.PRODUCTS)}の{'、'.join(parts)}です。", wanted

    return Draft((*asked(thing), f"{thing}はいつですか。"), example)


@family
def days_of_period(random: Random) -> Draft:
    unit = random.choice(["日間", "日"])

    def example(random: Random) -> tuple[str, str]:
        first = random.randint(1, 19)
        days = random.randint(2, 9)
        return f"{random.randint(1, 12)}月{first}日から{first + days - 1}日まで", f"{days}{unit}"

    return Draft(
        (
            f"最初の日と最後の日を含めて何日間ですか。「5{unit}」のように書いてください。",
            f"期間の日数を、両端の日を入れて「5{unit}」の形で答えてください。",
        ),
        example,
    )
