"""Answers that are programs: what is run of them, in which cage, and how pass@k counts them."""

import os
import time
from itertools import combinations
from pathlib import Path

import pytest

from prompt2lora.evaluation.published import runner
from prompt2lora.evaluation.published.code import pass_at, program
from prompt2lora.evaluation.published.runner import NAMESPACES, ProgramLimits, run, shut_off_by

QUICK = ProgramLimits(seconds=1, memory=1 << 28, file=1 << 16, processes=6)
FORKS = "import os, time\nfor _ in range(4):\n  if not os.fork(): time.sleep(60)\n"
POSIX = pytest.mark.skipif(os.name != "posix", reason="programs are run on POSIX systems alone")
pytestmark = POSIX


@pytest.fixture(params=["both walls", "namespaces alone", "refusals alone"])
def walls(request):
    namespaces, refusals = request.param != "refusals alone", request.param != "namespaces alone"
    if namespaces and shut_off_by() != NAMESPACES:
        pytest.skip("no namespaces: this kernel does not lend them to its users")
    return {"namespaces": namespaces, "refusals": refusals}


def verdict(code, walls, limits=QUICK):
    return runner._run(code, limits, **walls)


def test_a_program_passes_if_it_comes_to_its_end(walls):
    assert verdict("assert sum([1, 2]) == 3", walls).passed
    assert verdict("import math, re, json, collections\nopen('own', 'w').write('text')", walls).passed
    failed = verdict("assert sum([1, 2]) == 4", walls)
    assert (failed.passed, failed.reason) == (False, "AssertionError")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("while True: pass", "out of time"),
        ("import time; time.sleep(60)", "out of time"),
        ("bytearray(1 << 30)", "MemoryError"),
        ("while True: print('much' * 1000)", "OSError"),
        ("open('large', 'w').write('x' * (1 << 20))", "OSError"),
        ("input()", "EOFError"),
        ("def f(): f()\nf()", "RecursionError"),
        ("def", "SyntaxError"),
    ],
)
@pytest.mark.slow
@pytest.mark.parametrize("namespaces", [True, False])
def test_what_takes_too_much_fails_and_is_ended(namespaces, code, reason):
    if namespaces and shut_off_by() != NAMESPACES:
        pytest.skip("no namespaces: this kernel does not lend them to its users")
    began = time.monotonic()
    assert verdict(code, {"namespaces": namespaces, "refusals": True}) == (False, reason)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "leave", ["import os; os._exit(0)", "import sys; sys.exit(0)", "exit_ = SystemExit(0); raise exit_"]
)
def test_a_program_that_leaves_before_its_tests_are_run_has_not_passed(walls, leave):
    assert not verdict(f"{leave}\nassert False, 'never reached'", walls).passed


def test_what_a_program_prints_is_no_verdict(walls):
    assert not verdict("print('passed'); import os; os.write(1, b'passed'); os._exit(0)", walls).passed


def test_no_file_elsewhere_is_written_and_the_folder_is_gone_afterwards(walls, tmp_path):
    outside = tmp_path / "outside"
    tmp_path.chmod(0o777)
    assert not verdict(f"open({str(outside)!r}, 'w').write('text')", walls).passed
    assert not outside.exists()
    seen = verdict("import os\nraise type(os.getcwd().replace('/', '_'), (Exception,), {})", walls).reason
    assert seen.endswith("_work")
    assert not Path(seen.replace("_", "/")).exists()


def test_no_connection_is_made_even_to_this_machine(walls):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)"
        assert not verdict(code, walls).passed
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_what_a_program_starts_ends_with_it(walls):
    verdict(f"{FORKS}marker = 'left behind'", walls)
    time.sleep(0.2)
    assert [place for place in Path("/proc").glob("[0-9]*") if _is_left_behind(place)] == []


def _is_left_behind(place: Path) -> bool:
    """Whether a harness runs there that belongs to nobody but the first process, or to this one."""
    try:
        command = (place / "cmdline").read_text(errors="replace")
        parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return False  # it ended meanwhile
    return str(runner._HARNESS) in command and parent in (0, 1, os.getpid())


def test_the_environment_is_clean_and_stdin_is_empty(walls, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "value")
    code = (
        "import os, sys\nassert 'SECRET_TOKEN' not in os.environ\nassert sys.stdin.read() == ''\n"
        "assert __name__ != '__main__'\nassert len(sys.argv) == 1"
    )
    assert verdict(code, walls).passed


def test_the_walls_are_up_by_default():
    assert not run("import socket; socket.socket().connect(('127.0.0.1', 9))", QUICK).passed
    assert run("assert True", QUICK).passed


PROMPT = (
    "import math\n\ndef helper(x):\n    return x * 2\n\n\ndef twice(x: int) -> int:\n"
    '    """ Twice the number.\n    >>> twice(2)\n    4\n    """'
)
TESTS = "def check(f):\n    assert f(2) == 4 and f(5) == 10\n\ncheck(twice)"


@pytest.mark.parametrize(
    "answer",
    [
        "return helper(x)",
        "    return helper(x)",
        "y = x + x\n    return y",
        "y = x + x\nreturn y",
        "return x + x\n\nprint('and then' + 1)",
        "```python\ndef twice(x):\n    return helper(x)\n```\nThis function doubles.",
        "Sure:\n```py\nimport math\ndef twice(x):\n    return int(math.fsum([x, x]))\n```",
        "def twice(x: int) -> int:\n    return x << 1",
        "```python\n    if x:\n        return 2 * x\n    return 0\n```",
    ],
)
def test_a_function_is_finished_whatever_way_the_answer_is_written(answer):
    exec(program(PROMPT, answer, TESTS, goes_on=True), {"__name__": "answer"})


@pytest.mark.parametrize("answer", ["return x", "", "I cannot.", "def other(x):\n    return 2 * x", "```python\n"])
def test_a_wrong_answer_does_not_pass(answer):
    code = program(PROMPT, answer, TESTS, goes_on=True)
    with pytest.raises((AssertionError, SyntaxError)):
        exec(code, {"__name__": "answer"})


def test_a_whole_answer_stands_before_its_tests():
    assert program("Add one.", "```python\ndef f(x):\n    return x + 1\n```", "assert f(1) == 2", goes_on=False) == (
        "def f(x):\n    return x + 1\n\nassert f(1) == 2\n"
    )


@pytest.mark.parametrize(("samples", "right", "k"), [(5, 0, 1), (5, 2, 1), (5, 2, 3), (10, 1, 5), (6, 6, 5)])
def test_pass_at_k_is_the_share_of_all_choices_of_k_that_hold_a_right_one(samples, right, k):
    choices = list(combinations([True] * right + [False] * (samples - right), k))
    assert pass_at(k, samples, right) == pytest.approx(sum(map(any, choices)) / len(choices))
