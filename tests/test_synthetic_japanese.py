import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from datetime import date
from functools import cache
from pathlib import Path
from random import Random

import pytest

from prompt2lora.errors import UsageError
from prompt2lora.training import synthetic
from prompt2lora.training.recipe import Recipe, Stage, read_recipe
from prompt2lora.training.synthetic import FAMILIES as ENGLISH
from prompt2lora.training.synthetic import draw_task, synthetic_tasks
from prompt2lora.training.synthetic.japanese import FAMILIES, vocabulary
from prompt2lora.training.synthetic.japanese.dates import fiscal_year, with_weekday
from prompt2lora.training.synthetic.japanese.eras import date_in_era, short_date_in_era, year_in_era
from prompt2lora.training.synthetic.japanese.letters import (
    full_width,
    half_katakana,
    half_width,
    hiragana,
    katakana,
)
from prompt2lora.training.synthetic.japanese.lists import kana_order
from prompt2lora.training.synthetic.japanese.money import in_man
from prompt2lora.training.synthetic.japanese.politeness import VERBS
from prompt2lora.training.synthetic.japanese.quantities import kanji_number

RECIPES = Path(__file__).parent.parent / "recipes"
# SHA-256, its beginning, of what the held-out Japanese tasks are asked by, without spaces.
HELD_OUT = {
    "36bf4e28a7815951",
    "2666b9389e627a32",
    "61dd0dcb9488c1d5",
    "24885dda6051d2c5",
    "68de6f5e62acfa70",
}
JAPANESE = re.compile("[ぁ-ヺ一-龠]")


@cache
def tasks(name):
    """Two draws of a family."""
    return [draw_task(Random(f"{seed} {name}"), [name]) for seed in range(2)]


def examples(name):
    return [(task, example) for task in tasks(name) for example in (*task.train, *task.test)]


def test_there_are_more_than_forty_families_beside_the_english_ones():
    assert len(FAMILIES) > 100
    assert all(name.startswith("ja_") for name in FAMILIES)
    assert not set(FAMILIES) & set(ENGLISH)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_draws_many_distinct_inputs_and_asks_in_several_wordings(name):
    assert len(set(FAMILIES[name](Random(0)).wordings)) >= 2
    for task in tasks(name):
        inputs = [example.input for example in (*task.train, *task.test)]
        assert len(set(inputs)) == len(inputs) == 80
        assert all(example.output and example.output.strip() == example.output for example in task.train)
        assert JAPANESE.search(task.instruction) and task.instruction.strip() == task.instruction
        assert "{" not in task.instruction or '{"' in task.instruction
        assert len({example.output for example in task.train}) > 1


@pytest.mark.parametrize("name", FAMILIES)
def test_no_family_repeats_the_instruction_of_a_held_out_task(name):
    draws = [FAMILIES[name](Random(seed)) for seed in range(4)]
    said = {"".join(wording.split()) for draft in draws for wording in draft.wordings}
    assert not {hashlib.sha256(wording.encode()).hexdigest()[:16] for wording in said} & HELD_OUT
    assert not any(re.search("設備番号|名字|24時間|時刻", wording) for wording in said)
    assert not any(all(word in wording for word in ("経理", "総務")) for wording in said)


def test_no_answer_is_a_time_of_day_or_a_gregorian_date_for_a_date_of_an_era():
    for name in FAMILIES:
        for _, example in examples(name):
            assert not re.search(r"\b\d?\d:\d\d\b", example.output)
            if re.search(r"(令和|平成|昭和).*月|[RHS]\d+\.\d+\.\d+", example.input):
                assert not re.search(r"\d{4}-\d\d-\d\d", example.output)


def test_draws_are_the_same_for_the_same_seed_and_in_another_process():
    def digest(seed):
        drawn = synthetic_tasks(40, seed, ("ja",))
        return hashlib.sha256("".join(task.digest for task in drawn).encode()).hexdigest()

    assert digest(5) == digest(5) != digest(6)
    told = (
        "import hashlib; from prompt2lora.training.synthetic import synthetic_tasks; "
        "drawn = synthetic_tasks(40, 5, ('ja',)); "
        "print(hashlib.sha256(''.join(task.digest for task in drawn).encode()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == digest(5)


def test_the_tasks_of_a_language_are_asked_for_in_that_language():
    assert all(JAPANESE.search(task.instruction) for task in synthetic_tasks(len(FAMILIES), 1, ("ja",)))
    assert not any(JAPANESE.search(task.instruction) for task in synthetic_tasks(len(ENGLISH), 1))


def test_what_is_drawn_without_a_language_is_what_was_drawn_before_there_was_one():
    drawn = synthetic_tasks(2 * len(ENGLISH), 7)
    random = Random("2 17")
    drawn += [draw_task(random, synthetic.families()) for _ in range(40)]
    seen = hashlib.sha256("".join(task.digest for task in drawn).encode()).hexdigest()
    assert seen == "d5b7e416a62383e3ea66d8bbdcb4516904d75e94b1036ae0e8ee2e4438e23cfa"


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.toml")), ids=lambda file: file.stem)
def test_the_recipes_of_the_small_base_draw_from_the_english_families_alone(file):
    if file.stem == "release":
        return  # a list of recipes
    recipe = read_recipe(file)
    if "SmolLM2" in recipe.base:
        assert synthetic.families(recipe.languages) == sorted(ENGLISH)


def test_a_recipe_names_the_languages_of_its_synthetic_tasks():
    stages = (Stage(steps=1),)
    assert Recipe(stages=stages).languages == ("en",)
    assert synthetic.families(Recipe(stages=stages, languages=["ja"]).languages) == sorted(FAMILIES)
    assert synthetic.families(("en", "ja")) == sorted({**ENGLISH, **FAMILIES})
    known = "'en', 'ja', 'en-mathematics' or 'ja-mathematics'"
    with pytest.raises(UsageError, match=rf"languages\.0 must be {known}, not 'de'"):
        Recipe(stages=stages, languages=["de"])
    with pytest.raises(UsageError, match="languages must"):
        Recipe(stages=stages, languages=[])


@pytest.mark.parametrize(
    ("day", "long", "short"),
    [
        (date(2019, 4, 30), "平成31年4月30日", "H31.4.30"),
        (date(2019, 5, 1), "令和元年5月1日", "R1.5.1"),
        (date(2024, 2, 29), "令和6年2月29日", "R6.2.29"),
        (date(1989, 1, 7), "昭和64年1月7日", "S64.1.7"),
        (date(1989, 1, 8), "平成元年1月8日", "H1.1.8"),
        (date(1926, 12, 25), "昭和元年12月25日", "S1.12.25"),
        (date(1964, 10, 10), "昭和39年10月10日", "S39.10.10"),
    ],
)
def test_the_eras_change_on_their_days(day, long, short):
    assert date_in_era(day) == long and short_date_in_era(day) == short
    assert long.startswith(year_in_era(day))


def test_a_fiscal_year_begins_in_april_and_weekdays_are_those_of_the_calendar():
    assert [fiscal_year(date(2024, month, 1)) for month in (1, 3, 4, 12)] == [2023, 2023, 2024, 2024]
    assert with_weekday(date(2024, 4, 1)) == "4月1日(月)" and with_weekday(date(2000, 1, 1)) == "1月1日(土)"


def test_numbers_are_written_as_one_writes_them():
    said = {1: "一", 10: "十", 11: "十一", 20: "二十", 105: "百五", 325: "三百二十五", 1000: "千", 2040: "二千四十"}
    assert {number: kanji_number(number) for number in said} == said
    assert [in_man(n) for n in (350_000, 35_000, 120_000_000, 100_000_000)] == ["35万", "3万5000", "1億2000万", "1億"]


def test_letters_change_their_width_and_script_and_nothing_else():
    assert full_width("AB-1 x.") == "\uff21\uff22\uff0d\uff11\u3000\uff58\uff0e"
    assert half_width("\uff21\uff22\uff0d\uff11\u3000\uff58\uff0e ねじ") == "AB-1 x. ねじ"
    assert half_katakana("バルブ、センサー") == "\uff8a\uff9e\uff99\uff8c\uff9e、\uff7e\uff9d\uff7b\uff70"
    assert katakana("ねじ、とって") == "ネジ、トッテ" and hiragana("ローラー ギア") == "ろーらー ぎあ"
    assert sorted(["ポンプ", "ノズル", "アンテナ", "ギア", "ダンパー"], key=kana_order) == [
        "アンテナ", "ギア", "ダンパー", "ノズル", "ポンプ",
    ]  # fmt: skip


def test_verbs_have_the_forms_of_the_grammar():
    forms = {verb.plain: verb.forms for verb in VERBS}
    wanted = {
        "交換する": ("交換します", "交換した", "交換しました", "交換しない", "交換しません", "交換してください"),
        "運ぶ": ("運びます", "運んだ", "運びました", "運ばない", "運びません", "運んでください"),
        "洗う": ("洗います", "洗った", "洗いました", "洗わない", "洗いません", "洗ってください"),
        "磨く": ("磨きます", "磨いた", "磨きました", "磨かない", "磨きません", "磨いてください"),
        "直す": ("直します", "直した", "直しました", "直さない", "直しません", "直してください"),
        "測る": ("測ります", "測った", "測りました", "測らない", "測りません", "測ってください"),
        "数える": ("数えます", "数えた", "数えました", "数えない", "数えません", "数えてください"),
    }
    names = ("polite", "plain past", "polite past", "plain negative", "polite negative", "request")
    assert {plain: tuple(forms[plain][name] for name in names) for plain in wanted} == wanted


def numbers(text):
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", text)]


def test_sums_prices_and_taxes_are_right():
    for task, example in examples("ja_price_with_tax"):
        (rate,), (net,), (gross,) = map(numbers, (task.instruction, example.input, example.output))
        assert gross * 100 == net * (100 + rate)
    for task, example in examples("ja_price_without_tax"):
        (rate,), (gross,), (net,) = map(numbers, (task.instruction, example.input, example.output))
        assert gross * 100 == net * (100 + rate)
    for task, example in examples("ja_tax_of_price"):
        (rate,), (net,), (tax,) = map(numbers, (task.instruction, example.input, example.output))
        assert tax * 100 == net * rate
    for _, example in examples("ja_sum_of_order"):
        *factors, total = numbers(example.input.removeprefix("1個") + example.output.rjust(12))
        assert factors[0] * factors[1] == total
    for _, example in examples("ja_total_of_quantities"):
        assert sum(numbers(example.input)) == numbers(example.output)[0]
    for _, example in examples("ja_figures_into_man"):
        assert numbers(example.input)[0] == 10_000 * numbers(example.output)[0]


def test_dates_and_years_are_right():
    first = {"令和": 2019, "平成": 1989, "昭和": 1926}
    for _, example in examples("ja_year_of_era"):
        number = example.input[2:-1].replace("元", "1")
        assert numbers(example.output)[0] == first[example.input[:2]] + int(number) - 1
    for _, example in examples("ja_weekday_after"):
        assert example.output in vocabulary.WEEKDAYS
    for task, example in examples("ja_day_after"):
        days = next(n for name, n in (("翌日", 1), ("前日", -1), ("1週間", 7), ("10日", 10), ("2日", 2))
                    if name in task.instruction)  # fmt: skip
        assert (date(*numbers(example.output)) - date(*numbers(example.input))).days == days
    for _, example in examples("ja_days_of_period"):
        _, start, end = numbers(example.input)
        assert numbers(example.output) == [end - start + 1] and end <= 28


def test_units_are_converted_exactly():
    factors = {"mm": 1, "cm": 10, "m": 1000, "km": 1_000_000}
    for _, example in examples("ja_length_in_other_unit"):
        (before, one), (after, other) = (re.fullmatch(r"([\d.]+)(\w+)", text).groups()
                                         for text in (example.input, example.output))  # fmt: skip
        assert float(before) * factors[one] == pytest.approx(float(after) * factors[other])


def test_extracted_values_stand_in_their_notes():
    for name in ("ja_field_of_note", "ja_value_out_of_list", "ja_column_of_row", "ja_value_in_json", "ja_nth_column",
                 "ja_product_of_message", "ja_code_and_name", "ja_date_of_note", "ja_repeated_item"):  # fmt: skip
        assert all(example.output in example.input for _, example in examples(name))
    for name in ("ja_fields_as_json", "ja_row_into_json"):
        assert all(
            value in example.input for _, example in examples(name) for value in json.loads(example.output).values()
        )
    for _, example in examples("ja_repeated_item"):
        assert example.input.count(example.output) == 2
    for _, example in examples("ja_sorted_numbers"):
        assert Counter(numbers(example.input.replace(",", " "))) == Counter(numbers(example.output.replace(",", " ")))


def test_questions_have_both_answers_often_and_name_them():
    for name in ("ja_names_field", "ja_field_at_least", "ja_is_topic", "ja_within_limits", "ja_is_late", "ja_sums_up",
                 "ja_code_begins_with", "ja_states_tax", "ja_list_contains", "ja_is_half_width"):  # fmt: skip
        for task in tasks(name):
            counts = Counter(example.output for example in task.train)
            assert len(counts) == 2 and min(counts.values()) > 0.2 * len(task.train)
            assert all(label in task.instruction for label in counts)


def test_rules_are_checked_right():
    for _, example in examples("ja_sums_up"):
        good, bad, total = numbers(example.input)
        assert (good + bad == total) == (
            example.output in ("一致", "はい", "○", "OK", "1", "A", "該当", "YES", "甲", "真")
        )
    for task, example in examples("ja_within_limits"):
        low, high, *_ = numbers(task.instruction)
        label = re.search(r"以下なら「?(\w+?|○)(、|」|と)", task.instruction)
        if label:
            assert (low <= numbers(example.input)[0] <= high) == (example.output == label[1])
