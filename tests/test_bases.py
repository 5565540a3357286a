"""Names of models: a folder, a package that ships one, or the hub; and what is told if there is none."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import word_vectors

from prompt2lora.base import models
from prompt2lora.base.weights import weights_digest
from prompt2lora.errors import ModelNotFound
from prompt2lora.generator.text_encoder import Encoder

MINILM = importlib.util.find_spec(models.PACKAGED[models.DEFAULT_ENCODER].module)


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
    package = models.Package("no_such_package", "pip install no-such-package", "model")
    monkeypatch.setitem(models.PACKAGED, "owner/shipped", package)
    with pytest.raises(ModelNotFound, match="pip install no-such-package"):
        models.load_config("owner/shipped")


def test_a_packaged_model_is_found_inside_its_package(base, tmp_path, monkeypatch):
    shutil.copytree(base, tmp_path / "shipped_model" / "inside")
    (tmp_path / "shipped_model" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(models.PACKAGED, "owner/shipped", models.Package("shipped_model", "pip", "inside"))
    assert models.locate("owner/shipped") == str(tmp_path / "shipped_model" / "inside")
    assert models.load_config("owner/shipped").hidden_size == 64
    sys.modules.pop("shipped_model", None)


def test_a_folder_without_a_model_or_with_a_broken_configuration_is_refused(base, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFound, match=r"must hold config\.json"):
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
        scored = {row.input for row in task.test}
        assert not scored & {row.input for row in task.train}
        for line in file.read_text(encoding="utf-8").splitlines():
            json.loads(line)
