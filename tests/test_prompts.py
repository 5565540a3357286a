"""Where an instruction begins and ends, whatever door a prompt comes through."""

import json

import pytest

from prompt2lora.ground.examples import read_examples, read_prompts
from prompt2lora.ground.prompts import asked_in_full, full_examples, input_of, instruction_of, plain_lines, split
from prompt2lora.ground.tables import File

SAY = "List the parts."


def test_an_instruction_stands_before_an_input_once_however_often_it_is_put_there():
    once = asked_in_full("KX-1 and KX-2", SAY)
    assert once == "List the parts.\n\nKX-1 and KX-2" == asked_in_full(once, SAY)
    assert full_examples(SAY, [(once, "KX-1")]) == full_examples(SAY, [("KX-1 and KX-2", "KX-1")])
    assert asked_in_full(SAY, SAY) == SAY
    assert asked_in_full("KX-1", "") == "KX-1"


@pytest.mark.parametrize("text", ["Listing 3 is wrong", "List it", "List, please\n\nsecond paragraph"])
def test_a_word_that_the_input_begins_with_is_no_instruction(text):
    assert input_of(text, "List") == text
    assert asked_in_full(text, "List") == f"List\n\n{text}"


@pytest.mark.parametrize("instruction", ["Find the part.\n\nWrite it alone.", "Find the part.\n \n\nWrite it alone."])
def test_an_instruction_of_several_paragraphs_is_one_of_several_lines(instruction):
    prompts = [asked_in_full(text, instruction) for text in ("one", "two")]
    assert instruction_of(prompts) == "Find the part.\nWrite it alone."
    assert split(prompts[0])[1] == "one"
    joined = instruction_of(prompts)
    for written in (instruction, joined, f" {joined} "):
        assert asked_in_full(f"{instruction}\n\none", written) == prompts[0] == asked_in_full(prompts[0], written)
        assert input_of(f"{instruction}\n\none", written) == "one", "and so it is known as the input that was learned"


def test_the_first_paragraph_of_one_letter_among_questions_is_no_instruction():
    assert (
        instruction_of(["Where is order 12?", "Please cancel it.", "Dear Sir,\n\nmy order is late.", "Refund."]) == ""
    )
    assert instruction_of([f"{SAY}\n\n{n}" for n in range(15)] + ["KX-3 alone"]) == SAY, "most prompts have it"


def test_a_line_of_spaces_is_a_blank_line():
    assert instruction_of([f"{SAY}\n \t\nKX-1", f"{SAY}\n\nKX-2"]) == SAY
    assert split(f"{SAY}\n \nKX-1") == (SAY, "KX-1")


def test_a_file_is_read_alike_with_the_line_ends_of_any_system():
    record = {"prompt": f"{SAY}\r\n\r\nKX-1\rKX-2"}
    assert read_prompts(File("p.jsonl", json.dumps(record).encode()))[0] == [f"{SAY}\n\nKX-1\nKX-2"]
    assert plain_lines("a\r\nb\rc\n") == "a\nb\nc\n"


def test_inputs_to_learn_from_stand_under_the_instruction_of_their_file_as_prompts_do():
    lines = [{"task": "t", "instruction": SAY}, *({"input": f"KX-{n}", "output": f"{n}"} for n in range(2))]
    file = File("t.jsonl", "\n".join(map(json.dumps, lines)).encode())
    pairs, _ = read_examples(file, "train")
    assert [prompt for prompt, _ in pairs] == read_prompts(file)[0] == read_prompts(file, SAY)[0]
    assert full_examples(SAY, pairs) == pairs
    assert [prompt for prompt, _ in read_examples(file)[0]] == ["KX-0", "KX-1"], "what judges is asked as the job asks"
