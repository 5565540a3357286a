"""What is malformed is refused in one line, and leaves no trace; what is sound is taken. The benchmark draws more."""

import json

import pytest
from malformed import BASE, CONFIG, SETTINGS, SOUND, WEIGHTS, run
from peft import LoraConfig

from prompt2lora.adapter.folder import read
from prompt2lora.adapter.peft import Adapter
from prompt2lora.adapter.settings import read_config
from prompt2lora.custody.signing import Signer
from prompt2lora.custody.store import Store
from prompt2lora.errors import DamagedFile, Prompt2LoraError


def test_malformed_folders_and_configurations_are_refused_in_one_line_and_leave_nothing():
    counted, wrong = run(120)
    assert wrong == []
    assert len(counted) > 20, "many kinds of faults were drawn"


@pytest.fixture
def sound(tmp_path):
    folder = tmp_path / "sound"
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(SETTINGS))
    (folder / WEIGHTS).write_bytes(SOUND)
    return folder


def test_the_folder_that_the_faults_are_put_into_is_itself_taken(sound, tmp_path):
    store = Store(tmp_path / "store", Signer(tmp_path / "key"))
    store.signer.make()
    digest = store.put(sound)
    assert store.digests() == [digest]
    assert Adapter.load(sound, BASE).layout.rank == 8
    assert read(sound).provenance == {}


def test_every_key_that_the_installed_peft_writes_is_known(sound, tmp_path):
    LoraConfig(r=8, target_modules=["q_proj"], task_type="CAUSAL_LM", base_model_name_or_path="b").save_pretrained(
        tmp_path / "theirs"
    )
    assert read_config(tmp_path / "theirs")["r"] == 8


def test_a_line_of_an_error_stays_one_line_whatever_it_quotes(sound):
    (sound / "a\nb\x1b[2J").write_text("")
    with pytest.raises(DamagedFile) as told:
        Store(sound.parent / "store", Signer(sound.parent / "key")).put(sound)
    assert str(told.value).isprintable()
    assert str(Prompt2LoraError("a\nb\u2028c\x1b")) == "a b c "
