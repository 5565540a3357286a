"""The digest of a base's weights: of what transformers would load, in a folder or in the hub's cache; never empty."""

import json
import shutil
from hashlib import sha256

import pytest
import torch
from transformers import AutoModelForCausalLM

from prompt2lora.base.weights import weight_files, weights_digest
from prompt2lora.errors import DamagedFile, ModelNotFound
from prompt2lora.generator.text_encoder import Encoder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub; a function puts a model folder into it under an id, as the hub's client does."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def add(name, folder, commit="a" * 40):
        place = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        snapshot = place / "snapshots" / commit
        (place / "blobs").mkdir(parents=True, exist_ok=True)
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / "main").write_text(commit)
        snapshot.mkdir(parents=True)
        for file in folder.iterdir():
            blob = place / "blobs" / sha256(file.read_bytes()).hexdigest()
            shutil.copy(file, blob)
            (snapshot / file.name).symlink_to(blob)

    return add


@pytest.fixture
def sharded(base, tmp_path):
    folder = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(folder, max_shard_size="100KB")
    return folder


def test_a_hub_id_has_the_digest_of_its_snapshot(base, hub, tmp_path):
    shutil.copytree(base, tmp_path / "copy")
    hub("owner/model", tmp_path / "copy")
    assert weights_digest("owner/model") == weights_digest(base)


def test_another_snapshot_has_another_digest_and_other_keys_of_an_encoder(encoder_folder, base, hub, tmp_path):
    shutil.copytree(encoder_folder, tmp_path / "encoder")
    hub("owner/encoder", tmp_path / "encoder")
    before = weights_digest("owner/encoder"), Encoder("owner/encoder")._key("text")
    shutil.copy(f"{base}/model.safetensors", tmp_path / "encoder")
    hub("owner/encoder", tmp_path / "encoder", "b" * 40)
    after = weights_digest("owner/encoder"), Encoder("owner/encoder")._key("text")
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_the_digest_is_of_all_shards(sharded):
    shards = sorted(sharded.glob("model-*.safetensors"))
    assert weight_files(str(sharded)) == shards
    assert len(shards) > 1
    before = weights_digest(str(sharded))
    shards[-1].write_bytes(shards[0].read_bytes())
    assert weights_digest(str(sharded)) != before


def test_a_file_beside_the_shards_that_no_library_loads_changes_nothing(sharded):
    before = weights_digest(str(sharded))
    (sharded / "consolidated.safetensors").write_bytes(b"all in one")
    assert weights_digest(str(sharded)) == before


@pytest.mark.parametrize("place", ["folder", "hub"])
def test_a_missing_shard_is_no_digest_of_the_others(sharded, hub, place):
    sorted(sharded.glob("model-*.safetensors"))[0].unlink()
    hub("owner/model", sharded)
    with pytest.raises(ModelNotFound):
        weights_digest(str(sharded) if place == "folder" else "owner/model")


def test_weights_that_are_no_safetensors_have_a_digest_too(base, hub, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(base, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"weight": torch.ones(2)}, folder / "pytorch_model.bin")
    hub("owner/old", folder)
    assert weights_digest("owner/old") == sha256((folder / "pytorch_model.bin").read_bytes()).hexdigest()


def test_a_model_without_weights_and_one_that_is_nowhere_are_refused_in_one_line(base, hub, tmp_path):
    shutil.copytree(base, tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").unlink()
    hub("owner/bare", tmp_path / "bare")
    for name, told in (
        (str(tmp_path / "bare"), "needs model.safetensors"),
        ("owner/bare", "owner/bare"),
        ("owner/unknown", "connect to the hub once"),
    ):
        with pytest.raises(ModelNotFound, match=told) as error:
            weights_digest(name)
        assert "\n" not in str(error.value)


def test_an_index_that_is_none_is_damage(sharded):
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": []}))
    with pytest.raises(DamagedFile, match="index of shards"):
        weights_digest(str(sharded))
