"""Families over the letters of a text: full and half width, hiragana and katakana, single characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from random import Random

from prompt2lora.training.synthetic.drafts import Draft
from prompt2lora.training.synthetic.japanese import vocabulary
from prompt2lora.training.synthetic.japanese.drafts import (
    draw_order_number,
    draw_part_number,
    family,
    over_texts,
    turned,
    whether,
)

_ASCII = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000}
_HIRAGANA = {code: code - 0x60 for code in range(ord("ァ"), ord("ヶ") + 1)}
_HALF_KATAKANA = {ord(unicodedata.normalize("NFKC", chr(code))): code for code in range(0xFF66, 0xFF9E)}
_MARKS = {0x3099: 0xFF9E, 0x309A: 0xFF9F}  # of voiced sounds and of p


def full_width(text: str) -> str:
    """Letters, digits and signs of ASCII, and the space."""
    return text.translate(_ASCII)


def half_width(text: str) -> str:
    return text.translate({wide: narrow for narrow, wide in _ASCII.items()})


def hiragana(text: str) -> str:
    return text.translate(_HIRAGANA)


def katakana(text: str) -> str:
    return text.translate({low: high for high, low in _HIRAGANA.items()})


def half_katakana(text: str) -> str:
    """A voiced sound becomes two characters, as it was on terminals and in bank transfers."""
    return unicodedata.normalize("NFD", text).translate(_HALF_KATAKANA | _MARKS)


def _serial_number(random: Random) -> str:
    return f"No.{random.randint(1, 999)}"


def _code(random: Random) -> str:
    return random.choice([draw_part_number, draw_order_number, _serial_number])(random)


def _labelled_code(random: Random) -> str:
    label = random.choice(["品番", "型式", "伝票", "ロット", "注文", "部品"])
    return f"{label}{_code(random)}{random.choice(['', 'です', 'の件', 'を確認'])}"


@family
def into_half_width(random: Random) -> Draft:
    texts = random.choice([_code, _labelled_code])
    wordings = turned("全角の英数字", "半角")
    return Draft((*wordings, "英数字と記号を半角にそろえてください。"), _changed(texts, before=full_width))


@family
def into_full_width(random: Random) -> Draft:
    texts = random.choice([_code, _labelled_code])
    wordings = turned("半角の英数字", "全角")
    return Draft((*wordings, "英数字と記号を全角にそろえてください。"), _changed(texts, after=full_width))


def _changed(
    texts: Callable[[Random], str], *, before: Callable[[str], str] = str, after: Callable[[str], str] = str
) -> Callable[[Random], tuple[str, str]]:
    """One text in two forms: as it is asked, and as it is answered."""

    def example(random: Random) -> tuple[str, str]:
        text = texts(random)
        return before(text), after(text)

    return example


@family
def digits_into_half_width(random: Random) -> Draft:
    def texts(random: Random) -> str:
        thing = random.choice(vocabulary.PRODUCTS)
        return f"{thing}を{random.randint(2, 300)}個{random.choice(['注文する', '検査する', '出す', '受け取る'])}"

    return Draft(
        ("文中の数字を半角にしてください。", "全角数字だけ半角に直して、文を書いてください。", "数字は半角に統一。"),
        _changed(texts, before=full_width),
    )


@family
def into_katakana(random: Random) -> Draft:
    def texts(random: Random) -> str:
        return random.choice(["、", " ", "・"]).join(random.sample(vocabulary.HIRAGANA, random.randint(1, 2)))

    return over_texts(texts, katakana, *turned("ひらがな", "カタカナ"), "カタカナで書いてください。")


@family
def into_hiragana(random: Random) -> Draft:
    return over_texts(_katakana_words, hiragana, *turned("カタカナ", "ひらがな"), "ひらがなで書いてください。")


@family
def into_half_katakana(random: Random) -> Draft:
    return over_texts(_katakana_words, half_katakana, *turned("カタカナ", "半角カナ"), "半角カタカナで書いてください。")


@family
def out_of_half_katakana(random: Random) -> Draft:
    wordings = turned("半角カナ", "全角カナ")
    return Draft((*wordings, "全角カタカナで書いてください。"), _changed(_katakana_words, before=half_katakana))


def _katakana_words(random: Random) -> str:
    return random.choice(["、", " ", "/"]).join(random.sample(vocabulary.KATAKANA, random.randint(1, 2)))


_SCRIPTS: dict[str, Callable[[Random], str]] = {
    "ひらがな": lambda random: random.choice(vocabulary.HIRAGANA),
    "カタカナ": lambda random: random.choice(vocabulary.KATAKANA),
    "漢字": lambda random: random.choice(vocabulary.KANJI),
    "英数字": _code,
}


@family
def script_of_word(random: Random) -> Draft:
    names = random.sample(list(_SCRIPTS), random.randint(2, 4))

    def example(random: Random) -> tuple[str, str]:
        name = random.choice(names)
        return _SCRIPTS[name](random), name

    return Draft(
        (
            f"文字の種類は{'、'.join(names)}のどれですか。",
            f"何で書かれていますか({'/'.join(names)})。",
            f"文字種を{'・'.join(names)}で答えてください。",
        ),
        example,
    )


@family
def is_half_width(random: Random) -> Draft:
    def draw(random: Random, wanted: bool) -> str:
        return _code(random) if wanted else full_width(_code(random))

    return whether(random, "英数字が半角", draw)


def _word(random: Random) -> str:
    return random.choice([*vocabulary.HIRAGANA, *vocabulary.KATAKANA, *vocabulary.PRODUCTS])


@family
def characters_of_word(random: Random) -> Draft:
    begin, end, name = random.choice(
        [
            (0, 1, "最初の1文字"),
            (-1, None, "最後の1文字"),
            (0, 2, "最初の2文字"),
            (-2, None, "最後の2文字"),
            (1, 2, "2文字目"),
        ]
    )
    return over_texts(
        _word,
        lambda text: text[begin:end],
        f"{name}を書いてください。",
        f"{name}だけ答えて。",
        f"ことばの{name}を抜き出してください。",
    )


@family
def number_of_characters(random: Random) -> Draft:
    unit = random.choice(["", "文字"])
    return over_texts(
        _word,
        lambda text: f"{len(text)}{unit}",
        f"文字数を「5{unit}」のように書いてください。",
        f"何文字ですか。「5{unit}」の形で答えてください。",
    )


@family
def in_brackets(random: Random) -> Draft:
    form, name = random.choice(
        [
            ("「{}」", "かぎ括弧"),
            ("『{}』", "二重かぎ括弧"),
            ("【{}】", "隅付き括弧"),
            ("（{}）", "全角の丸括弧"),
            ("[{}]", "角括弧"),
        ]
    )
    texts = random.choice([_word, _labelled_code, _katakana_words])
    return over_texts(
        texts,
        form.format,
        f"入力を{name}で囲んでください。",
        f"{name}{form.format('…')}に入れて書いてください。",
        f"そのまま{name}でくくって。",
    )
