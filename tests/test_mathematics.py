"""Answers of mathematics by their value: the real library, in the forms that answers come in."""

import threading

import pytest

from prompt2lora.evaluation.published.mathematics import result, same_value

SAME = [
    (r"\frac{1}{2}", r"The answer is \boxed{0.5}."),
    (r"\frac{1}{2}", "1/2"),
    (r"6\frac15", "31/5"),
    (r"\frac 9{20}", "9/20"),
    (r"\frac{12}{5,\!525}", "12/5525"),
    (r"-\tfrac{5}{2}", "-2.5"),
    (r"18\text{ ways.}", "18"),
    ("12", "12 cm"),
    (r"\$1.25", "$1.25"),
    (r"\$1.25", r"So the answer is \boxed{1.25}"),
    (r"65\%", "65%"),
    (r"65\%", "65"),
    ("0.5", "50%"),
    (r"16,\!471", "16471"),
    ("61,328", "61328"),
    ("72000", "72,000 jellyfish"),
    ("18", "Janet sells 16 - 3 - 4 = 9 eggs a day.\nShe makes 9 * 2 = $18 a day.\n#### 18"),
    ("18", "She makes $18 every day."),
    ("18", "**18**"),
    ("18", "9 * 2 = 18"),
    ("4", "Step 1: 2\nStep 2: 4"),
    (r"[3,\infty)", r"$[3,\infty)$"),
    ("(7,49)", r"Thus \boxed{(7, 49)}."),
    ("(7,49)", "(7, 49)"),
    (r"\pi-2", r"\pi - 2"),
    ("x^2+2x+1", "(x+1)^2"),
    (r"\text{Friday}", "Friday"),
    ("18", "答えは18です。"),
    ("18", "答え：１８個"),
    ("18", "合計は 9 × 2 で、答案是18。"),
    ("18", "The answer is:18"),
    (r"-\frac{5}{2}", "The answer is −2.5."),
    (r"\frac{1}{2}", "割合は50％です"),
    ("1234", "１，２３４円"),
    ("2", "答えは$\\frac{4}{2}$です"),
]
OTHER = [
    ("18", "19"),
    ("18", "#### 19"),
    ("18", "18 and then 3 more\n#### 21"),
    ("18", ""),
    ("18", "none"),
    ("18", "####"),
    (r"\frac{1}{2}", "2"),
    (r"[3,\infty)", r"$(3,\infty)$"),
    ("(7,49)", r"\boxed{(49, 7)}"),
    ("5", "5 apples and 3 pears, so 8"),
    (r"\text{Friday}", "Monday"),
    ("18", "答えは19です。"),
    ("3", "12個のうち3個を除いて、答えは9個です"),
]


@pytest.mark.parametrize(("right", "answer"), SAME)
def test_the_right_value_counts_however_it_is_written(right, answer):
    assert same_value(answer, right)


@pytest.mark.parametrize(("right", "answer"), OTHER)
def test_another_value_does_not_count(right, answer):
    assert not same_value(answer, right)


def test_the_result_stands_after_the_last_mark_or_anywhere():
    assert result("1 + 1 = 2\n#### 2\n") == "2"
    assert result("#### 3\nno, wait\n#### 2 and more") == "2 and more"
    assert result("It is 2.") == "It is 2."


def test_answers_are_compared_in_any_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(same_value("0.5", r"\frac{1}{2}")))
    thread.start()
    thread.join()
    assert found == [True]
