import errno
import os

import pytest
import torch

from prompt2lora.errors import DamagedFile, InputError, OutputError, UsageError
from prompt2lora.ground import files
from prompt2lora.ground.examples import read_prompts
from prompt2lora.ground.prompts import MAX_CHARACTERS


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    with files.new_folder(tmp_path / "good") as aside:
        (aside / "a").write_text("x")
        assert not (tmp_path / "good").exists()
    assert (tmp_path / "good" / "a").read_text() == "x"
    with pytest.raises(KeyboardInterrupt), files.new_folder(tmp_path / "cut") as aside:
        (aside / "a").write_text("x")
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["good"]


@pytest.mark.parametrize("name", ["a" * 251 + ".csv", "あ" * 83 + ".csv"])
def test_the_longest_name_that_the_disk_takes_can_be_written(tmp_path, name):
    files.write_text(tmp_path / name, "x")
    with files.new_folder(tmp_path / "below" / name) as aside:
        (aside / "a").write_text("x")
    assert (tmp_path / name).read_text() == (tmp_path / "below" / name / "a").read_text() == "x"
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([name, "below"])
    kept = files.hidden_beside(tmp_path / name, "answers")
    kept.touch()
    assert kept != files.hidden_beside(tmp_path / name, "other") and kept.name.startswith(f".{name[:80]}")


def test_a_full_disk_is_told_in_one_line_and_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "old.json").write_text("old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OutputError, match="No space left on device; free space"):
        files.write_text(tmp_path / "old.json", "new")
    with pytest.raises(OutputError, match="No space left"), files.new_folder(tmp_path / "new") as aside:
        (aside / "a").write_text("x")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("old.json", "old")]


def test_who_reads_a_file_while_it_is_replaced_reads_the_old_one_to_its_end(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("old")
    with file.open() as reader:
        files.write_text(file, "new and longer")
        assert reader.read() == "old"
    assert file.read_text() == "new and longer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_place_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"), files.new_folder(tmp_path / "file" / "below"):
        pass
    with pytest.raises(UsageError, match="is not a folder; name another place"):
        files.check_new(tmp_path / "file" / "below" / "deep", "report")


def test_tensors_come_back_and_their_file_has_one_form(tmp_path):
    state = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1], dtype=torch.int8)}
    digests = {
        files.write_safetensors(
            tmp_path / str(i), dict(reversed(state.items())) if i % 2 else state, {"x": "1", "y": "2"}
        )
        for i in range(8)
    }
    assert len(digests) == 1
    found, digest = files.read_safetensors(tmp_path / "0")
    assert {digest} == digests
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert files.read_metadata(tmp_path / "0") == {"x": "1", "y": "2"}
    with pytest.raises(DamagedFile):
        files.read_safetensors(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "prompts"),
    [
        ("p.txt", "one\n\n  two  \n", ["one", "two"]),
        ("p.txt", "\ufeffone\r\ntwo\r\n", ["one", "two"]),
        ("p.txt", "部品番号を書く\n", ["部品番号を書く"]),
        ("p.jsonl", '"one"\n{"prompt": "two"}\n', ["one", "two"]),
        ("p.jsonl", '{"instruction": "Do.", "input": "x"}\n{"input": "y"}\n', ["Do.\n\nx", "y"]),
        (
            "p.jsonl",
            '{"task": "t", "instruction": "Do."}\n{"input": "x", "output": "1", "part": "train"}\n'
            '{"input": "y", "output": "2", "part": "test"}\n',
            ["Do.\n\nx"],
        ),
        ("p.json", '{"prompts": ["one", "two"]}', ["one", "two"]),
        ("p.json", '{\n "data": [\n {"input": "one"},\n {"input": "two"}\n ]\n}', ["one", "two"]),
        ("p.json", '{\n "input": "one",\n "output": "1"\n}', ["one"]),
        ("p.json", '{"input": "one"}\n{"input": "two"}\n', ["one", "two"]),
        ("p.jsonl", '{"input": "one", "notes": ["two"]}', ["one"]),
        ("p.txt", '{"order": 5, "parts": ["KX-1"]}\n', ['{"order": 5, "parts": ["KX-1"]}']),
        ("p.csv", "id,prompt\n1,one\n2,two\n", ["one", "two"]),
        ("p.csv", 'one\n"two, with comma"\n', ["one", "two, with comma"]),
        ("p.csv", 'input\n"two\nlines"\n', ["two\nlines"]),
    ],
)
def test_prompts_are_read_from_text_jsonl_and_csv(tmp_path, name, content, prompts):
    (tmp_path / name).write_bytes(content.encode())
    assert read_prompts(tmp_path / name)[0] == prompts


def test_an_instruction_goes_before_every_prompt(tmp_path):
    (tmp_path / "p.txt").write_text("one\ntwo")
    assert read_prompts(tmp_path / "p.txt", "Do.")[0] == ["Do.\n\none", "Do.\n\ntwo"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("p.txt", b"", "at least one prompt"),
        ("p.txt", b"\n \n", "at least one prompt"),
        ("p.csv", b"", "at least one prompt"),
        ("p.jsonl", b"", "at least one prompt"),
        ("p.txt", b"a\x00b", "binary"),
        ("p.txt", b"\x89PNG\xff\xfe", "UTF-8"),
        ("p.txt", b"x" * 100_000, f"{MAX_CHARACTERS:,} characters, prompt 1 has 100,000"),
        ("p.jsonl", b'"a"\n{"b"\n', r"p\.jsonl:2: "),
        ("p.jsonl", b'{"colour": "a"}\n', r"p\.jsonl:1: "),
        ("p.jsonl", b'{"prompts": ["a", "b"]}\n', r"p\.jsonl:1: "),
        ("p.json", b'{"a": ["b"], "c": ["d"]}', "one list of texts or objects"),
        ("p.txt", b'{\n"instruction": "Do.",\n"inputs": ["a"]\n}', "no instruction beside it"),
        ("p.json", b"[1, 2]", "one list of texts or objects"),
        ("p.json", b'{"prompts": ["a",]}', r"p\.json:1: "),
    ],
)
def test_what_is_no_prompt_file_is_refused_in_one_line(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told) as error:
        read_prompts(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_prompt_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="check the path"):
        read_prompts(tmp_path / "nowhere.txt")
