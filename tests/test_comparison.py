"""How answers are compared: laws that hold for every text, and what each comparison passes over."""

import unicodedata
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tiny import write_task

from prompt2lora.errors import TaskFileError
from prompt2lora.evaluation.metrics import token_f1
from prompt2lora.ground.comparison import Comparison
from prompt2lora.plant.inspection import answer_format
from prompt2lora.training.tasks import read_task

EXACT, COMPATIBLE, NUMBER = Comparison
ODD = "ポンプゞがＡａﾎﾟＰß İıſKÅéZüΑΐ𝟏½²㎏㈱①ﬁー－−‐〜～~ 　   \t\n0123456789０.,'’+-▲〇一二十百千万億kg円"
texts = st.one_of(st.text(max_size=20), st.text(alphabet=ODD, max_size=20))
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other work may share the machine
every = pytest.mark.parametrize("comparison", Comparison)


@every
@patient
@given(text=texts)
def test_every_text_is_the_same_as_itself(comparison, text):
    assert comparison.same(text, text)


@every
@patient
@given(one=texts, other=texts)
def test_it_does_not_matter_which_of_two_is_the_right_answer(comparison, one, other):
    assert comparison.same(one, other) == comparison.same(other, one)


@every
@patient
@given(text=texts, form=st.sampled_from(["NFC", "NFD"]))
def test_canonical_equivalence_never_decides(comparison, text, form):
    assert comparison.same(text, unicodedata.normalize(form, text))
    assert token_f1(text, unicodedata.normalize(form, text)) == 1


@every
@patient
@given(text=texts, before=st.text(" \n　", max_size=2), after=st.text(" \n　", max_size=2))
def test_space_around_a_text_never_decides(comparison, text, before, after):
    assert comparison.same(text, before + text + after)


@every
@patient
@given(text=st.text(alphabet="abcxyzäöüéÅÇ 12,.", max_size=20))
def test_case_never_decides(comparison, text):
    assert comparison.same(text, text.upper())


@patient
@given(one=texts, other=texts)
def test_what_one_comparison_passes_over_the_next_one_does_too(one, other):
    assert EXACT.same(one, other) <= COMPATIBLE.same(one, other) <= NUMBER.same(one, other)


@pytest.mark.parametrize("word", ["ポンプ", "Zürich", "がぎぐ", "Ångström", "Việt Nam"])
@every
def test_a_word_as_files_from_a_mac_have_it_is_the_same_word(comparison, word):
    assert comparison.score(unicodedata.normalize("NFD", word), word) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ＰＸ－２０４", "PX-204"),
        ("PXー204", "px‐204"),
        ("PX–204", "PX−204"),
        ("ﾎﾟﾝﾌﾟ", "ポンプ"),
        ("第 4　ライン", "第 4 ライン"),
        ("10 kg", "10　kg"),
        ("㎏", "kg"),
        ("10〜20", "10～20"),
    ],
)
def test_width_spaces_and_hyphens_decide_exactly_but_not_compatibly(one, other):
    assert not EXACT.same(one, other)
    assert COMPATIBLE.same(one, other) and NUMBER.same(one, other)


@pytest.mark.parametrize(("one", "other"), [("10²", "102"), ("5½", "51/2"), ("ビル", "ビール"), ("a b", "ab")])
@every
def test_what_means_something_else_always_decides(comparison, one, other):
    assert not comparison.same(one, other)


def english(whole, decimals):
    return f"{whole:,}" + (f".{decimals}" if decimals else "")


def german(whole, decimals):
    return f"{whole:,}".replace(",", ".") + f",{decimals}"


def swiss(whole, decimals):
    return f"{whole:,}".replace(",", "'") + (f".{decimals}" if decimals else "")


def spaced(whole, decimals):
    return f"{whole:,}".replace(",", " ") + (f",{decimals}" if decimals else "")


def wide(whole, decimals):
    return english(whole, decimals).translate({ord(c): ord(c) + 0xFEE0 for c in "0123456789,."})


def myriads(whole, decimals):
    parts = [(whole // 10**8, "億"), (whole // 10**4 % 10**4, "万"), (whole % 10**4, "")]
    said = "".join(f"{count:,}{unit}" for count, unit in parts if count) or "0"
    return said if not decimals or said[-1] in "億万" else f"{said}.{decimals}"


def chinese(whole, decimals):
    figures = str.maketrans("0123456789", "〇一二三四五六七八九")
    return str(whole).translate(figures)


@pytest.mark.parametrize("notation", [english, german, swiss, spaced, wide, myriads, chinese])
@patient
@given(
    whole=st.integers(0, 10**12 - 1), decimals=st.text("0123456789", max_size=4), unit=st.sampled_from(["", "kg", "円"])
)
def test_a_number_counts_by_its_value_in_every_notation(notation, whole, decimals, unit):
    if notation is german:
        assume(decimals and (whole >= 1000 or len(decimals) != 3))
    if notation in (spaced,) and whole < 1000:
        assume(len(decimals) != 3)
    if notation is chinese or (notation is myriads and whole % 10**4 == 0):
        decimals = ""
    plain = f"{whole}.{decimals}" if decimals else str(whole)
    assert NUMBER.same(f"{notation(whole, decimals)} {unit}", f"{plain}{unit}")
    assert NUMBER.key(plain) == ("", Decimal(plain), "")


@patient
@given(one=st.decimals(-(10**9), 10**9, places=3), other=st.decimals(-(10**9), 10**9, places=3))
def test_numbers_are_the_same_if_their_values_are(one, other):
    assert NUMBER.same(f"{one:f}", f"{other:f}") == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("▲5", "-5"),
        ("△1,000円", "−1000円"),
        ("+7", "007"),
        ("三百二十", "320"),
        ("1億2,000万円", "120,000,000円"),
        ("12.5万", "125000"),
        ("３千５百", "3500"),
        ("一〇五号室", "105 号室"),
        ("0,125", "0.125"),
        ("$-.50 each", "$-0.5 each"),
        ("No.05", "No.5"),
        ("2026/01/05", "2026/1/5"),
        ("10-20", "10–20"),
        ("¥1,000", "￥1000"),
        ("約５分", "約 5 分"),
    ],
)
def test_numbers_are_read_as_people_here_write_them(one, other):
    assert NUMBER.same(one, other)
    assert not COMPATIBLE.same(one, other) or one in ("10-20", "約５分")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5 kg", "5"),
        ("5 kg", "5000 g"),
        ("1.234", "1234"),
        ("1,234", "1.234"),
        (".05", ".5"),
        (".5", "5"),
        ("-12345678901234567890123456789", "-12345678901234567890123456788"),
        ("5", "-5"),
        ("10-20", "10"),
        ("28.11.2026", "28.112026"),
        ("1,2,3", "123"),
        ("v1.2", "v1.20"),
        ("5 %", "0.05"),
    ],
)
def test_other_units_values_and_marks_that_are_no_number_decide(one, other):
    assert not NUMBER.same(one, other)


@pytest.mark.parametrize("text", ["十十", "万億", "二千千三", "百千"])
def test_figures_in_no_order_of_numbers_are_letters(text):
    assert NUMBER.same(text, text)
    assert not NUMBER.same(text, "20")


def test_a_number_of_any_length_is_read_exactly():
    long = "9" * 6000
    assert NUMBER.same(f"{long}.0", long) and not NUMBER.same(long, long[:-1] + "8")
    assert NUMBER.same(f"{long}万", f"{long}0000")


def test_the_form_of_answers_is_compared_as_the_answers_are():
    labels = answer_format(["ポンプ", "モーター"] * 4, EXACT)
    assert labels(unicodedata.normalize("NFD", "ポンプ")) and not labels("ﾎﾟﾝﾌﾟ")
    assert answer_format(["ポンプ", "モーター"] * 4, COMPATIBLE)("ﾎﾟﾝﾌﾟ")
    numbers = answer_format([f"{n}.5 kg" for n in range(20)], NUMBER)
    assert numbers("1,234 kg") and numbers("７ｋｇ") and not numbers("kg") and not numbers("7 kg or so")


def test_a_task_file_says_how_its_answers_are_compared(tmp_path):
    file = write_task(tmp_path, "count", "Count.", str.upper)
    plain = read_task(file)
    assert plain.comparison is EXACT
    text = file.read_text()
    file.write_text(text.replace('"task"', '"comparison": "exact", "task"', 1))
    assert read_task(file).digest == plain.digest
    file.write_text(text.replace('"task"', '"comparison": "number", "task"', 1))
    assert read_task(file).comparison is NUMBER and read_task(file).digest != plain.digest
    file.write_text(text.replace('"task"', '"comparison": "fuzzy", "task"', 1))
    with pytest.raises(TaskFileError, match="a comparison is exact, compatible, number, not 'fuzzy'"):
        read_task(file)
