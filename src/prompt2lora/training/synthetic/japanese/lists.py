"""Families over lists of words and numbers: sorting, counting, picking."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from random import Random

from prompt2lora.training.synthetic.drafts import Draft, over
from prompt2lora.training.synthetic.japanese import vocabulary
from prompt2lora.training.synthetic.japanese.drafts import draw_part_number, family, over_texts, whether

_SEPARATORS = ("、", ",", " ", "・", "/", "\n")


def kana_order(word: str) -> str:
    """Sorts katakana by the fifty sounds, as long as the words' first letters differ apart from their voicing."""
    return unicodedata.normalize("NFD", word)


def _words(random: Random, low: int = 3, high: int = 5) -> list[str]:
    """Katakana words whose first letters differ, so that their order is never in doubt."""
    words: dict[str, str] = {}
    count = random.randint(low, high)
    while len(words) < count:
        word = random.choice(vocabulary.KATAKANA)
        words[kana_order(word)[0]] = word
    return list(words.values())


def _over_words(random: Random, change: Callable[[list[str]], str], *wordings: str) -> Draft:
    separator = random.choice(_SEPARATORS)
    return over(_words, separator.join, change, *wordings)


def _over_numbers(random: Random, change: Callable[[list[int]], list[int]], *wordings: str) -> Draft:
    separator, most = random.choice(_SEPARATORS), random.choice([30, 99, 500])

    def texts(random: Random) -> str:
        return separator.join(map(str, random.sample(range(1, most + 1), random.randint(3, 5))))

    return over_texts(
        texts, lambda text: separator.join(map(str, change([int(item) for item in text.split(separator)]))), *wordings
    )


@family
def sorted_numbers(random: Random) -> Draft:
    down = random.random() < 0.5
    order, other = ("大きい順", "降順") if down else ("小さい順", "昇順")
    return _over_numbers(
        random,
        lambda items: sorted(items, reverse=down),
        f"数字を{order}に並べてください。",
        f"{order}に並べ替えて。",
        f"{other}に並べ替え、同じ区切りで書いてください。",
    )


@family
def sorted_words(random: Random) -> Draft:
    separator = random.choice(_SEPARATORS)
    return over_texts(
        lambda random: separator.join(_words(random, 3, 4)),
        lambda text: separator.join(sorted(text.split(separator), key=kana_order)),
        "五十音順に並べてください。",
        "あいうえお順に並べ替えて。",
        "部品名を五十音順にして、同じ区切りで書いてください。",
    )


@family
def first_in_order(random: Random) -> Draft:
    return _over_words(
        random,
        lambda items: min(items, key=kana_order),
        "五十音順でいちばん先に来るものを書いてください。",
        "あいうえお順に並べたとき、最初になるものはどれですか。",
        "五十音順の先頭だけ答えて。",
    )


@family
def number_of_items(random: Random) -> Draft:
    unit, separator = random.choice(["個", "つ", "種類", "件", "点"]), random.choice(_SEPARATORS)
    units = {"つ": ("", "", "二つ", "三つ", "四つ", "五つ", "六つ", "七つ")}
    shown = "三つ" if unit == "つ" else f"3{unit}"

    def answer(text: str) -> str:
        count = len(text.split(separator))
        return units[unit][count] if unit in units else f"{count}{unit}"

    return over_texts(
        lambda random: separator.join(_words(random, 2, 7)),
        answer,
        f"いくつありますか。「{shown}」のように答えてください。",
        f"並んでいる品物の数を「{shown}」の形で書いてください。",
        f"数を数えて「{shown}」のように書く",
    )


@family
def nth_item(random: Random) -> Draft:
    at, name = random.choice([(0, "最初"), (1, "2番目"), (2, "3番目"), (-2, "最後から2番目")])
    return _over_words(
        random, lambda items: items[at], f"{name}のものを書いてください。", f"{name}は何ですか。", f"{name}だけ答えて。"
    )


@family
def items_apart(random: Random) -> Draft:
    before, after = random.sample(
        [("、", "読点"), ("/", "スラッシュ"), ("・", "中点"), (" ", "空白"), ("\n", "改行")], 2
    )
    return over_texts(
        lambda random: before[0].join(_words(random)),
        lambda text: text.replace(before[0], after[0]),
        f"{before[1]}区切りを{after[1]}区切りに直してください。",
        f"{after[1]}で区切って書き直してください。",
        f"区切りを{before[1]}から{after[1]}に変えて。",
    )


@family
def numbered_items(random: Random) -> Draft:
    form, separator = random.choice(["{}. {}", "({}) {}", "{}:{}", "No.{} {}"]), random.choice(_SEPARATORS[:5])
    shown = form.format(1, "ボルト")
    return over_texts(
        lambda random: separator.join(_words(random, 2, 4)),
        lambda text: "\n".join(form.format(at, item) for at, item in enumerate(text.split(separator), 1)),
        f"「{shown}」のように番号を付け、1行に一つずつ書いてください。",
        f"番号付きの箇条書きにしてください。例：{shown}",
    )


@family
def items_in_reverse(random: Random) -> Draft:
    separator = random.choice(_SEPARATORS)
    return over_texts(
        lambda random: separator.join(_words(random)),
        lambda text: separator.join(reversed(text.split(separator))),
        "並びを逆にしてください。",
        "後ろから順に書いてください。",
        "逆順に並べて。",
    )


@family
def number_of_marks(random: Random) -> Draft:
    mark = random.choice("○×△")
    unit = random.choice(["個", ""])

    def texts(random: Random) -> str:
        return "".join(random.choices("○○○×△", k=random.randint(5, 10)))

    return over_texts(
        texts,
        lambda text: f"{text.count(mark)}{unit}",
        f"{mark}の数を「3{unit}」のように書いてください。",
        f"検査結果の{mark}はいくつですか。「3{unit}」の形で答えてください。",
        f"{mark}を数えて「3{unit}」のように答えて。",
    )


@family
def list_contains(random: Random) -> Draft:
    word = random.choice(vocabulary.KATAKANA)
    separator = random.choice(_SEPARATORS)

    def draw(random: Random, wanted: bool) -> str:
        words = [other for other in _words(random) if other != word]
        if wanted:
            words.insert(random.randint(0, len(words)), word)
        return separator.join(words)

    return whether(random, f"一覧に{word}がある", draw)


@family
def repeated_item(random: Random) -> Draft:
    separator = random.choice(_SEPARATORS[:5])

    def example(random: Random) -> tuple[str, str]:
        items = list(dict.fromkeys(draw_part_number(random) for _ in range(3)))
        twice = random.choice(items)
        items.insert(random.randint(0, len(items)), twice)
        return separator.join(items), twice

    return Draft(
        ("二度出てくる品番を書いてください。", "重複している品番はどれですか。", "重複する品番を一つ答えて。"), example
    )
