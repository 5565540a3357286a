"""The command line as a user meets it: results on stdout, one clear line on stderr, nothing half written."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny import SIZES
from transformers import LlamaConfig, LlamaForCausalLM

from prompt2lora.adapter.folder import check
from prompt2lora.adapter.peft import adapter_digest
from prompt2lora.cli.app import Working


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("first letter of: ab\nfirst letter of: cd\n")
    return file


def one_line(told: str) -> bool:
    lines = told.strip().splitlines()
    return len(lines) == 1 and lines[0].startswith("error: ")


def test_the_module_is_the_command_line_whose_help_loads_no_torch_and_answers_at_once():
    code = (
        "import runpy, sys; sys.argv = ['prompt2lora', '--help']\n"
        "try: runpy.run_module('prompt2lora', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "generate" in done.stdout


@pytest.mark.parametrize("verb", ["generate", "benchmark", "collect", "compare", "train", "ask", "report", "doctor"])
def test_every_verb_has_help_and_json(run, verb):
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert "--json" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("generate", "--prompt", "a.txt"), "--prompt"),
        (("generate",), "--out"),
        (("generate", "--out", "a"), "--prompts or --examples"),
        (("produce",), "produce"),
        (("ask", "hello", "--max-new-tokens", "0"), "--max-new-tokens"),
        (("benchmark", "--tasks", "t", "--out", "o", "--seeds", "many"), "--seeds"),
        (("pilot", "--job", "a", "--comparison", "fuzzy"), "'--comparison': 'fuzzy' is not one of"),
    ],
)
def test_a_wrong_word_on_the_command_line_is_told_in_one_line(run, words, told):
    code, out, error = run(*words)
    assert (code, out) == (2, "")
    assert one_line(error)
    assert told in error


MAKE = ("generate", "--prompts", "FILE", "--out", "out")
PILOT = ("pilot", "--job", "pump", "--prompts", "FILE")
ROWS = ("--in", "TABLE", "--out", "answered.csv")
VALUES = {
    "--generator": ("WRONG", "./nowhere", "owner/unknown", "EMPTY"),
    "--base": ("WRONG", "./nowhere", "owner/unknown", "EMPTY"),
    "--adapter": ("nowhere", "EMPTY"),
    "--job": ("nobody", "No Name!"),
    "--column": ("nobody", "9"),
    "--engine": ("WRONG",),
    "--engine-url": ("localhost:8000", "http://", "ftp://host"),
    "--policy": ("nowhere.toml",),
    "--examples": ("nowhere.csv",),
    "--language": ("xx",),
}
TAKEN = {
    "--generator": (
        MAKE,
        PILOT,
        ("explain", "--prompts", "FILE"),
        ("prompts", "check", "--prompts", "FILE"),
        ("serve",),
    ),
    "--base": (MAKE, PILOT, ("ask", "hello"), ("serve",)),
    "--adapter": (("ask", "hello"), ("answer", *ROWS), ("export", "--to", "gguf", "--out", "out")),
    "--job": (
        ("answer", *ROWS),
        ("export", "--to", "gguf", "--out", "out"),
        ("registry", "show"),
        ("registry", "rollback", "--reason", "r"),
        ("gate", "--version", "v"),
        ("refine", "--examples", "TABLE"),
        ("monitor", "status"),
    ),
    "--column": (
        (*MAKE[:2], "TABLE", *MAKE[3:]),
        ("answer", "--job", "pump", *ROWS),
        ("generate", "--examples", "TABLE"),
    ),
    "--engine": (("serve",),),
    "--engine-url": (("serve",),),
    "--policy": (PILOT, ("registry", "regenerate")),
    "--examples": (MAKE, PILOT),
    "--language": (PILOT,),
}


@pytest.mark.parametrize("option", VALUES)
def test_a_value_that_names_nothing_is_a_wrong_request_wherever_the_option_is_taken(run, tmp_path, monkeypatch, option):
    """Exit code 2, one line, nothing on stdout, nothing written."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("prompts.txt", "ab\ncd\n"), ("table.csv", "input,output\nab,a\ncd,c\nef,e\n")):
        Path(name).write_text(text)
    Path("empty").mkdir()
    places = {"FILE": "prompts.txt", "TABLE": "table.csv", "EMPTY": "empty"}
    for words in TAKEN[option]:
        for value in VALUES[option]:
            given = [places.get(word, word) for word in (*words, option, value)]
            more = ["--out", "out"] if words[:2] == ("generate", "--examples") else []
            code, out, told = run(*given, *more, "--json") if words != ("serve",) else run(*given)
            assert (code, out) == (2, ""), (given, told)
            assert told.strip().splitlines()[-1].startswith("error: ")
    assert not {"out", "answered.csv"} & {place.name for place in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("registry", "promote", "--job", "a", "--version", "b"),
            "'--reason'; see prompt2lora registry promote --help",
        ),
        (("monitor", "start", "--job", "a"), "'--promised'; see prompt2lora monitor start --help"),
        (("registry", "promot"), "see prompt2lora registry --help"),
        (("ask",), "see prompt2lora ask --help"),
    ],
)
def test_a_word_that_is_missing_is_told_with_the_help_of_its_own_command(run, words, told):
    code, _, error = run(*words)
    assert code == 2
    assert one_line(error)
    assert told in error


@pytest.mark.parametrize(
    "words",
    [
        ("registry", "rollback", "--reason", "r"),
        ("registry", "refuse", "--version", "v", "--reason", "r"),
        ("registry", "withdraw", "--version", "v", "--reason", "r"),
        ("registry", "report", "--version", "v", "--out", "report.html"),
        ("monitor", "start", "--promised", "canary=0.1"),
        ("monitor", "outcome", "--source", "canary", "--bad", "1"),
        ("monitor", "status"),
    ],
)
def test_a_job_is_named_by_its_place_or_by_the_option(run, words):
    by_place, by_option = run(*words, "pump"), run(*words, "--job", "pump")
    assert by_place == by_option
    assert by_place[0] == 2 and "pump" in by_place[2]
    assert "name one job" in run(*words)[2]


def test_a_folder_that_is_no_adapter_is_told_before_torch_is_loaded(tmp_path):
    code = (
        "import sys; from prompt2lora.cli.main import main\n"
        f"sys.argv = ['prompt2lora', 'ask', '--adapter', {str(tmp_path / 'nope')!r}, 'x']\n"
        "try: main()\n"
        "except SystemExit as end: sys.exit(end.code == 0 or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "is no folder" in done.stderr) == (0, True)


def test_a_file_that_is_not_what_it_should_be_is_told_in_words(run, generator_folder, tmp_path):
    (tmp_path / "book.xlsx").write_bytes(b"PK\x03\x04\xff")
    for words, told in (
        (("ask", "x", "--adapter", tmp_path / "nope"), "nope is no folder; name an adapter's folder"),
        (("ask", "x", "--adapter", tmp_path), "holds no adapter_config.json; name an adapter's folder"),
        (("benchmark", "--tasks", tmp_path / "book.xlsx", "--out", "o"), "prompt2lora generate --prompts FILE"),
    ):
        code, _, error = run(*words)
        assert code
        assert one_line(error)
        assert told in error
        assert "Errno" not in error
        assert "codec" not in error


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("serve", "--engine", "foo"), "not 'foo'; name one of these"),
        (("keys", "add", "Kim", "--role", "boss"), "not 'boss'; name one of these"),
        (("registry", "show", "a", "--job", "b"), "not both 'a' and --job 'b'; leave one of them out"),
        (("serve", "--host", "nohost.invalid"), "--host must be an address or a name of this machine"),
        (("export", "--adapter", "nope", "--to", "foo", "--out", "out"), "not to 'foo'; name one of these"),
        (("export", "--job", "nobody", "--to", "foo", "--out", "out"), "not to 'foo'; name one of these"),
        (("ask", "x", "--base", "nope"), "a local folder or a hub id owner/name; 'nope' is neither"),
        (("compare", "--teachers", "nope", "--tasks", "t"), "no collection of teachers (No such file or directory)"),
        (("collect", "--suites", "nope", "--out", "out"), "cannot be read (No such file or directory); check the path"),
    ],
)
def test_a_wrong_value_is_told_with_the_next_step(run, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    code, _, error = run(*words)
    assert code == 2
    assert told in error.strip().splitlines()[-1]


def test_a_database_that_is_none_is_told_with_the_variable_that_names_it(run, monkeypatch):
    monkeypatch.setenv("PROMPT2LORA_DATABASE", "nonsense")
    assert "correct PROMPT2LORA_DATABASE" in run("registry", "list")[2]


def test_the_help_has_four_parts_in_the_order_of_the_work(run):
    _, out, _ = run("--help")
    found = [out.index(part) for part in ("Make ─", "generate ", "In a plant ─", "Serve ─", "Train and measure ─")]
    assert found == sorted(found)
    assert "Commands ─" not in out


@pytest.mark.parametrize("words", [("registry", "show"), ("benchmark",)])
def test_the_usage_has_no_doubled_brackets(run, words):
    assert "[[" not in run(*words, "--help")[1]


def test_without_words_the_command_shows_its_help(run):
    code, out, _ = run()
    assert code == 0
    assert "generate" in out


def test_generate_writes_an_adapter_and_prints_pure_json(run, prompts, generator_folder, tmp_path):
    code, out, _ = run(
        "generate", "--prompts", prompts, "--out", tmp_path / "a", "--generator", generator_folder, "--json"
    )
    made = json.loads(out)
    assert code == 0
    assert made["prompts"] == 2
    assert made["digest"] == adapter_digest(tmp_path / "a")
    assert made["parameters"] > 0
    assert set(made["seconds"]) == {"load", "encode", "decode", "align", "write", "total"}


def test_the_model_card_says_what_the_adapter_is_of_and_its_lines_load_it(run, prompts, generator_folder, tmp_path):
    folder = tmp_path / "a"
    words = ("--instruction", "Name the letter.", "--generator", generator_folder)
    assert run("generate", "--prompts", prompts, "--out", folder, *words)[0] == 0
    card = (folder / "README.md").read_text(encoding="utf-8")
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert yaml.safe_load(card.split("---")[1])["base_model"] == settings["base_model_name_or_path"]
    assert "from 2 prompts." in card
    names: dict[str, object] = {"FOLDER": str(folder)}
    exec(card.split("```python")[1].split("```")[0], names)
    assert names["model"].peft_config["default"].r == settings["r"]
    assert check(folder).settings == settings, "the card is no stranger in the folder"


def test_the_same_prompts_give_the_same_adapter(run, prompts, generator_folder, tmp_path):
    digests = []
    for name in ("a", "b"):
        _, out, _ = run(
            "generate", "--prompts", prompts, "--out", tmp_path / name, "--generator", generator_folder, "--json"
        )
        digests.append(json.loads(out)["digest"])
    assert digests[0] == digests[1]


def test_generate_takes_examples_with_and_without_prompts(run, prompts, generator_folder, tmp_path):
    file = tmp_path / "examples.csv"
    file.write_text("input,output\nfirst letter of: ef,e\nfirst letter of: gh,g\n")
    usual = "--examples", file, "--generator", generator_folder, "--json"
    for name, more in (("both", ("--prompts", prompts)), ("alone", ())):
        code, out, _ = run("generate", *more, "--out", tmp_path / name, *usual)
        assert code == 0
        made = json.loads(out)
        assert (made["prompts"], made["examples"]) == (2 if more else 0, 2)
        assert made["seconds"]["examples"] > 0
        assert made["digest"] == adapter_digest(tmp_path / name)
    code, out, _ = run("generate", "--prompts", prompts, "--out", tmp_path / "unlabelled", *usual[2:])
    assert (code, json.loads(out)["examples"]) == (0, 0)


def test_of_a_task_file_generate_learns_from_the_training_part_alone(run, generator_folder, tasks_folder, tmp_path):
    file = next(iter(sorted(tasks_folder.glob("*.jsonl"))))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    training = sum(line.get("part") == "train" for line in lines)
    code, out, _ = run(
        "generate", "--examples", file, "--out", tmp_path / "a", "--generator", generator_folder, "--json"
    )
    assert (code, json.loads(out)["examples"]) == (0, training)


def test_generate_says_which_instruction_went_into_the_weights(run, prompts, asking, generator_folder, tmp_path):
    asking.save_pretrained(tmp_path / "g")

    def told(generator, *words) -> str:
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        return run("generate", "--prompts", prompts, "--out", out, "--generator", generator, *words)[1]

    asked = ("--instruction", "Name the letter.")
    assert "leave it out when you ask: Name the letter." in told(tmp_path / "g", *asked)
    assert json.loads(told(tmp_path / "g", *asked, "--json"))["instruction"] == "Name the letter."
    for nothing in (told(tmp_path / "g"), told(generator_folder, *asked)):
        assert "No instruction is in the weights" in nothing


def test_generating_does_not_need_the_base_model(run, prompts, generator, base, tmp_path):
    moved = replace(generator.config.layout, base_model="owner/elsewhere")
    generator.config = replace(generator.config, layout=moved)
    generator.save_pretrained(tmp_path / "g")
    code, _, _ = run("generate", "--prompts", prompts, "--out", tmp_path / "a", "--generator", tmp_path / "g")
    assert code == 0
    assert (
        json.loads((tmp_path / "a" / "adapter_config.json").read_text())["base_model_name_or_path"] == "owner/elsewhere"
    )


def test_ask_answers_with_an_adapter_and_without(run, prompts, generator_folder, base, tmp_path):
    run("generate", "--prompts", prompts, "--out", tmp_path / "a", "--generator", generator_folder)
    answers = []
    for words in ((), ("--adapter", tmp_path / "a")):
        code, out, _ = run("ask", "hello", "--base", base, "--max-new-tokens", "5", "--json", *words)
        assert code == 0
        answers.append(json.loads(out)["answer"])
    assert answers[0] != answers[1]


def test_a_generator_that_is_missing_is_no_fault_of_the_memory(run):
    _, out, _ = run("doctor", "--generator", "./nowhere", "--json")
    assert all("generator" not in one["found"] for one in json.loads(out)["checks"] if one["check"] == "memory")


def test_doctor_finds_a_good_generator_and_a_missing_one(run, generator_folder):
    _, out, _ = run("doctor", "--generator", generator_folder, "--json")
    states = {check["check"]: check["state"] for check in json.loads(out)["checks"]}
    assert states["generator"] == states["base"] == "good"
    code, out, _ = run("doctor", "--generator", "./nowhere", "--json")
    states = {check["check"]: check["state"] for check in json.loads(out)["checks"]}
    assert code == 1
    assert states["generator"] == "bad"
    found = {check["check"]: check["found"] for check in json.loads(out)["checks"]}
    assert found["base"] == "not checked, as the generator cannot be read" != found["generator"]


def test_doctor_makes_no_base(run, tmp_path, monkeypatch):
    """It says that one is made at first use, and leaves the home as it was."""
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path))
    code, out, _ = run("doctor", "--generator", "smollm2-135m-instruct", "--json")
    checks = {check["check"]: check["found"] for check in json.loads(out)["checks"]}
    assert code == 0
    assert checks["base"].startswith("HuggingFaceTB/SmolLM2-135M-Instruct: made at first use, 0.3 GB of disk")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_blank_question_is_told_before_any_model_is_loaded(run, text):
    code, _, told = run("ask", text, "--base", "./nowhere")
    assert (code, one_line(told)) == (2, True) and "there is nothing to ask" in told


def test_generate_says_what_looks_wrong_about_the_prompts(run, generator_folder, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("部品番号は KX-4825\nポンプ３を交換\n軸受から異音\n", encoding="utf-8")
    words = ("--prompts", file, "--generator", generator_folder)
    printed = run("generate", *words, "--out", tmp_path / "a")[1].splitlines()
    assert [line for line in printed if "prompts 1, 2, 3: in a script" in line and "try it" in line]
    told = json.loads(run("generate", *words, "--out", tmp_path / "b", "--json")[1])["advice"]
    assert {"few"} < {finding["kind"] for finding in told}


BAD_PROMPTS = {
    "missing": None,
    "empty": b"",
    "binary": b"\x00\x01\x02",
    "not UTF-8": b"\xff\xfe\xfa",
    "100,000 characters": b"x" * 100_000,
}


@pytest.mark.parametrize("kind", BAD_PROMPTS)
def test_bad_prompts_end_in_one_line_and_code_2(run, generator_folder, tmp_path, kind):
    file = tmp_path / "bad.txt"
    if BAD_PROMPTS[kind] is not None:
        file.write_bytes(BAD_PROMPTS[kind])
    code, out, told = run("generate", "--prompts", file, "--out", tmp_path / "a", "--generator", generator_folder)
    assert (code, out) == (2, "")
    assert one_line(told)
    assert not (tmp_path / "a").exists()


def test_an_output_folder_that_exists_is_left_alone(run, prompts, generator_folder, tmp_path):
    (tmp_path / "a").mkdir()
    code, _, told = run("generate", "--prompts", prompts, "--out", tmp_path / "a", "--generator", generator_folder)
    assert code == 2
    assert one_line(told)
    assert not list((tmp_path / "a").iterdir())


def test_a_place_that_cannot_be_written_is_told_before_any_work(run, prompts):
    code, _, told = run("generate", "--prompts", prompts, "--out", prompts / "a", "--generator", "./nowhere")
    assert code == 2
    assert one_line(told)
    assert f"{prompts} is not a folder; name another place" in told


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("audit", "export"), "output file"),
        (("registry", "report", "--job", "a", "--version", "b"), "report"),
        (("explain", "--prompts", "PROMPTS"), "page"),
    ],
)
def test_a_file_that_exists_is_called_what_it_is(run, prompts, words, what):
    given = [str(prompts) if word == "PROMPTS" else word for word in words]
    code, _, told = run(*given, "--out", prompts)
    assert code == 2
    assert f"error: the {what} must not exist yet" in told


def test_a_full_disk_leaves_no_adapter(run, prompts, generator_folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, told = run("generate", "--prompts", prompts, "--out", tmp_path / "a", "--generator", generator_folder)
    assert code == 1, "the request is not wrong"
    assert one_line(told)
    assert "No space left" in told
    assert {file.name for file in tmp_path.iterdir()} == {"prompts.txt", "generator"}


@pytest.mark.parametrize("name", ["owner/unknown", "./nowhere"])
def test_an_unknown_base_is_told(run, prompts, generator_folder, tmp_path, name):
    words = ("--prompts", prompts, "--out", tmp_path / "a", "--generator", generator_folder, "--base", name)
    code, _, told = run("generate", *words)
    assert code == 2
    assert one_line(told)
    assert name in told
    assert not (tmp_path / "a").exists()


def test_a_hub_that_cannot_be_reached_is_asked_once_and_without_a_log(tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    del environment["HF_HUB_OFFLINE"]
    words = (sys.executable, "-m", "prompt2lora", "ask", "x", "--base", "owner/unknown")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert one_line(done.stderr)
    assert "connect to the hub once" in done.stderr


def test_a_base_of_other_shapes_is_refused(run, prompts, generator_folder, tmp_path):
    other = LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=9)
    LlamaForCausalLM(other).save_pretrained(tmp_path / "other")
    words = (
        "--prompts",
        prompts,
        "--out",
        tmp_path / "a",
        "--generator",
        generator_folder,
        "--base",
        tmp_path / "other",
    )
    code, _, told = run("generate", *words)
    assert code == 2
    assert one_line(told)
    assert not (tmp_path / "a").exists()


def test_a_truncated_generator_is_refused(run, prompts, generator_folder, tmp_path):
    file = generator_folder / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    code, _, told = run("generate", "--prompts", prompts, "--out", tmp_path / "a", "--generator", generator_folder)
    assert code == 1
    assert one_line(told)


@pytest.mark.parametrize("verb", ["benchmark", "collect"])
def test_a_broken_task_line_is_told_by_file_and_number(run, tasks_folder, tmp_path, verb):
    with (tasks_folder / "task3.jsonl").open("a") as stream:
        stream.write("{oops\n")
    code, _, told = run(verb, "--tasks", tasks_folder, "--out", tmp_path / "out")
    assert code == 2
    assert one_line(told)
    assert "task3.jsonl:46" in told
    assert not (tmp_path / "out").exists()


def test_more_task_files_can_follow_without_the_option(run, tasks_folder, generator_folder, tmp_path):
    files = sorted(tasks_folder.glob("*.jsonl"))[:3]
    words = ("--tasks", *files, "--arms", "base", "--forms", "full", "--limit", "1", "--generator", generator_folder)
    code, out, _ = run("benchmark", *words, "--out", tmp_path / "r.json", "--json")
    assert code == 0
    assert len(json.loads(out)["tasks"]) == 3


@pytest.mark.parametrize("option", ["suite arc_e", "metrics letter", "samples 3"])
def test_task_files_are_not_measured_by_options_of_published_tasks(run, tasks_folder, tmp_path, option):
    name, value = option.split()
    code, _, told = run("benchmark", "--tasks", tasks_folder, "--out", tmp_path / "r.json", f"--{name}", value)
    assert code == 2 and one_line(told), told
    assert f"--{option} is for --suites DIR; leave --{name} out" in told


def test_a_wrong_option_is_a_usage_error(run):
    assert run("generate", "--nonsense")[0] == 2
    assert run("train", "--recipe", "nowhere.toml", "--out", "x")[0] == 2


@pytest.mark.parametrize(
    ("verb", "inside"),
    [
        ("generate", "prompt2lora.generator.generator.Generator.generate"),
        ("generate", "prompt2lora.adapter.peft.write_json"),
        ("benchmark", "prompt2lora.evaluation.benchmark.run"),
        ("collect", "prompt2lora.ground.files.write_json"),
        ("ask", "prompt2lora.api.answers"),
    ],
)
def test_an_interrupt_in_the_middle_leaves_nothing_half_written(
    run, prompts, generator_folder, tasks_folder, base, tmp_path, monkeypatch, verb, inside
):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    out = tmp_path / "out"
    words = {
        "generate": ("--prompts", prompts, "--out", out, "--generator", generator_folder),
        "benchmark": ("--tasks", tasks_folder, "--out", out, "--generator", generator_folder),
        "collect": ("--tasks", tasks_folder, "--out", out, "--base", base, "--steps", "1"),
        "ask": ("hello", "--base", base),
    }[verb]
    before = set(tmp_path.rglob("*"))
    monkeypatch.setattr(inside, interrupted)
    code, printed, told = run(verb, *words)
    assert (code, printed) == (1, "")
    assert one_line(told)
    assert ("continue with: prompt2lora " in told) == (verb in ("benchmark", "collect")), "what is kept on the way"
    assert set(tmp_path.rglob("*")) == before


def test_what_goes_on_with_the_work_is_told_with_the_options_that_were_given():
    working = Working("pilot")
    working.go_on_by("gate", job="mail", inspection=Path("right answers.jsonl"), policy=None, generator=None)
    assert working.resume == "prompt2lora gate --job mail --inspection 'right answers.jsonl'"


def test_where_there_is_no_terminal_long_steps_are_plain_lines_with_share_and_time_left(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Working("pilot") as show:
        for now[0], record in (
            (0.0, {"step": "load", "share": 0.0}),
            (1.0, {"step": "load", "share": 0.01}),
            (6.0, {"step": "measure", "share": 0.25}),
            (7.0, {"step": "measure", "share": 0.3}),
            (20.0, {"step": "measure", "share": 0.5}),
            (20.5, {"step": "measure", "share": 0.5, "version": "mail@v1-0"}),
        ):
            show(record)
    assert capsys.readouterr().err.splitlines() == [
        "measure: 25 %",
        "measure: 50 %  about 30 s left",
        "measure: version mail@v1-0  50 %  about 30 s left",
    ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a signal that was lost
def test_training_that_is_interrupted_ends_with_code_1_and_goes_on_later(
    run, base, encoder_folder, tasks_folder, tmp_path
):
    lines = [f'tasks = "{tasks_folder}"', f'base = "{base}"', f'encoder = "{encoder_folder}"', "validation = 0.05"]
    lines += ["log_every = 1", "save_every = 1", "validate_every = 1000", "known = 5", "[generator]"]
    lines += [f"{key} = {value}" for key, value in SIZES.items()]
    recipe = tmp_path / "r.toml"
    recipe.write_text("\n".join([*lines, "[[stage]]", "steps = 100_000", "tasks = 2", "budget = 80"]))
    words = ["train", "--recipe", recipe, "--out", tmp_path / "run"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run may itself ignore it

    def interrupted(sign, first_line):
        """Start the run, or go on with it; from this line of its report on it is interrupted before long."""
        stream = Interrupting(sign, first_line)
        try:
            code, printed, told = run(*words, told=stream)
        finally:
            stream.ended.set()
        assert stream.reached, f"no line begins with {first_line}"
        assert (code, printed) == (1, "")
        assert told.splitlines()[-1].startswith("error: interrupted")
        assert not (tmp_path / "run" / "generator").exists()

    try:
        interrupted(signal.SIGINT, "done 2")  # step 1 is saved by then
        interrupted(signal.SIGTERM, "resumed_at")
    finally:
        signal.signal(signal.SIGINT, before)


class Interrupting(io.StringIO):
    """What a command tells; a moment after a line that begins so, the command gets a signal, wherever it is then.

    Python loses one that comes while it clears something away; whoever sees no end sends another.
    """

    def __init__(self, sign, first_line):
        super().__init__()
        self.first_line, self.reached = first_line, False
        self.sign, self.ended = sign, threading.Event()

    def interrupt(self):
        wait = 0.05
        while not self.ended.wait(wait):
            os.kill(os.getpid(), self.sign)
            wait = 5.0

    def write(self, text):
        written = super().write(text)
        if not self.reached and any(line.startswith(self.first_line) for line in self.getvalue().splitlines()):
            self.reached = True
            threading.Thread(target=self.interrupt, daemon=True).start()
        return written
