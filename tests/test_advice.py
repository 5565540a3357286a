"""Advice on prompts: every fault is found and its prompts are named; good prompts draw none."""

import pytest
import torch

from prompt2lora.generator.prompt_checks import Finding, advise

GOOD = [f"Write the part number.\n\nNote {i}: the {part} is worn" for i, part in enumerate("abcdefghijklmnopqr")]


def conditions(prompts, seed=0):
    """One cluster of points, a point per prompt."""
    return torch.randn(len(prompts), 24, generator=torch.Generator().manual_seed(seed)) * 0.3 + 1


def kinds(findings):
    return {finding.kind: finding for finding in findings}


def test_good_prompts_draw_no_advice():
    assert advise(GOOD, conditions(GOOD)) == []


@pytest.mark.parametrize(("count", "grave"), [(1, True), (3, True), (4, False), (15, False)])
def test_few_prompts_are_told_and_very_few_are_grave(count, grave):
    whole = [text.replace("\n\n", " ") for text in GOOD]
    finding = kinds(advise(whole[:count], conditions(whole[:count])))["few"]
    assert finding.grave == grave
    assert str(count) in finding.text


def test_of_prompts_with_one_instruction_four_are_enough_for_no_more_are_read():
    assert kinds(advise(GOOD[:3], conditions(GOOD[:3])))["few"].grave
    assert "few" not in kinds(advise(GOOD[:4], conditions(GOOD[:4])))


def test_a_repeated_prompt_is_named_whatever_its_case_and_spaces():
    prompts = [*GOOD, GOOD[3].upper(), f"  {GOOD[5]} "]
    assert kinds(advise(prompts, conditions(prompts)))["duplicate"].prompts == (18, 19)


def test_prompts_that_hardly_differ_are_told():
    alike = torch.ones(18, 24) + 0.001 * conditions(GOOD)
    assert "alike" in kinds(advise(GOOD, alike))


def test_of_very_many_prompts_a_part_is_compared_and_all_repeated_ones_are_named():
    many = [f"{GOOD[0]} {number}" for number in range(1500)] + [f"{GOOD[0]} 7"]
    found = kinds(advise(many, torch.ones(len(many), 4)))
    assert found["duplicate"].prompts == (1500,)
    assert max(found["alike"].prompts) == 1023


def test_an_outlier_is_named():
    points = conditions(GOOD)
    points[7] += 3
    assert kinds(advise(GOOD, points))["outlier"].prompts == (7,)


def test_two_jobs_in_one_file_are_told_apart():
    prompts = [*GOOD[:12], *(f"Translate into French.\n\n{i}" for i in range(5))]
    points = conditions(prompts)
    points[12:, :12] += 3
    finding = kinds(advise(prompts, points))["mixed"]
    assert finding.grave
    assert finding.prompts == (12, 13, 14, 15, 16)
    same = [prompt.replace("Translate into French.", "Write the part number.") for prompt in prompts]
    assert "mixed" not in kinds(advise(same, points)), "one instruction is one job, however its inputs differ"


def test_of_many_prompts_the_first_are_named_and_the_others_counted():
    named = "prompts 1, 2, 3, 4, 5, 6, 7, 8"
    assert str(Finding("a", False, tuple(range(8)), "odd", "look")) == f" - {named}: odd; look"
    assert str(Finding("a", False, tuple(range(15)), "odd", "look")) == f" - {named} and 7 more: odd; look"


def test_a_prompt_that_is_too_long_to_be_read_is_named():
    prompts = [*GOOD, "Write it.\n\n" + "word " * 300]
    found = advise(prompts, conditions(prompts), count=lambda text: len(text.split()))
    assert kinds(found)["long"].prompts == (18,)


@pytest.mark.parametrize("text", ["部品番号を書いてください", "Напишите номер детали", "اكتب الرقم"])
def test_prompts_of_another_script_are_told(text):
    prompts = [*GOOD, text]
    finding = kinds(advise(prompts, conditions(prompts)))["language"]
    assert (finding.prompts, finding.grave) == ((18,), False)
    assert kinds(advise([text] * 3, conditions([text] * 3)))["language"].grave


def test_a_script_that_the_base_has_words_for_is_the_encoders_trouble_alone():
    """And then nothing is grave: examples with right answers go past the encoder."""
    prompts = [*GOOD, "部品番号を書いてください", "Γράψτε τον αριθμό"]

    def pieces(text):  # a word a piece of Japanese, a piece a letter of Greek
        return len(text) if "Γ" in text else len(text) // 2

    found = kinds(advise(prompts, conditions(prompts), base_count=pieces))
    assert found["language"].prompts == (19,) and found["encoder language"].prompts == (18,)
    assert "try it" in found["language"].remedy and "try it" in found["encoder language"].remedy
    assert not kinds(advise(prompts[-2:-1], conditions(prompts[-2:-1]), base_count=pieces))["encoder language"].grave


@pytest.mark.parametrize(
    ("text", "personal"),
    [
        ("mail to jo.doe@example.com please", True),
        ("call 03-1234-5678 today", True),
        ("call +49 (30) 123 4567", True),
        ("pay to DE89 3704 0044 0532 0130 00", True),
        ("card 4111 1111 1111 1111", True),
        ("card 4111 1111 1111 1112", False),
        ("part PX-1234-5678", False),
        ("on 2026-11-23 at 12:30 the price was 1,234.50", False),
        ("order 12345", False),
    ],
)
def test_personal_data_is_noticed_and_other_numbers_are_not(text, personal):
    prompts = [*GOOD, text]
    found = kinds(advise(prompts, conditions(prompts)))
    assert ("personal" in found) == personal
    if personal:
        assert found["personal"].prompts == (18,)
        assert found["personal"].grave
