"""An adapter in the files of other engines: they compute from them what PEFT computes from the adapter."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from prompt2lora.adapter.formats import FORMATS, export
from prompt2lora.adapter.grid import decode
from prompt2lora.adapter.peft import Adapter
from prompt2lora.errors import DamagedFile, UsageError
from prompt2lora.evaluation import engines


@pytest.fixture
def adapter(layout):
    torch.manual_seed(3)
    return Adapter(layout, 0.1 * torch.randn(layout.shape))


@pytest.fixture
def config(base):
    return AutoConfig.from_pretrained(base)


def updates(adapter):
    """What PEFT adds to every matrix: alpha / rank * B A, by module path."""
    layout, state = adapter.layout, {}
    found = decode(adapter.grid, layout)
    for _, _, path in layout.module_paths():
        a, b = (found[f"base_model.model.{path}.lora_{side}.weight"].half().float() for side in "AB")
        state[path] = layout.scale * b @ a
    return state


def test_openvino_reads_no_alpha_and_gets_the_strength_in_the_weights(adapter, config, base, tmp_path):
    """What OpenVINO adds, B A, is what PEFT adds of the original; PEFT itself loads the export as the same adapter."""
    export(adapter, config, "openvino", tmp_path / "out")
    written = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    for path, update in updates(adapter).items():
        a, b = (written[f"base_model.model.{path}.lora_{side}.weight"].float() for side in "AB")
        assert torch.allclose(b @ a, update, atol=2e-3)
    adapter.save(tmp_path / "original")
    ids = torch.arange(40)[None]
    logits = [
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)(input_ids=ids).logits
        for folder in (tmp_path / "original", tmp_path / "out" / "adapter")
    ]
    assert torch.allclose(*logits, atol=1e-3)


def test_whoever_changes_adapters_in_one_process_is_told_how_none_answers_from_what_another_has_read(
    adapter, config, tmp_path
):
    """Two engines know what they have read by its tokens alone (findings/openvino-prefix-cache.sh, and llama.cpp's)."""
    notes = {to: export(adapter, config, to, tmp_path / to) for to in ("gguf", "openvino")}
    assert "`--lora-init-without-apply --cache-ram 0`" in notes["gguf"]
    assert "`scheduler_config` whose `enable_prefix_caching` is False" in notes["openvino"]


def test_mlx_multiplies_the_turned_factors_by_the_scale_of_its_configuration(adapter, config, tmp_path):
    export(adapter, config, "mlx", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    written = load_file(tmp_path / "out" / "adapters.safetensors")
    scale, layers = told["lora_parameters"]["scale"], told["num_layers"]
    assert (scale, layers) == (adapter.layout.scale, adapter.layout.layers)
    assert "self_attn.q_proj" in told["lora_parameters"]["keys"]
    for path, update in updates(adapter).items():
        a, b = (written[f"{path}.lora_{side}"].float() for side in "ab")
        assert torch.allclose(scale * (a @ b).T, update, atol=1e-3)


def test_llama_cpp_gets_alpha_and_the_rows_of_q_and_k_in_its_own_order(adapter, config, tmp_path):
    export(adapter, config, "gguf", tmp_path / "out")
    reader = GGUFReader(tmp_path / "out" / "adapter.gguf")
    fields = {
        name: reader.get_field(name).contents() for name in ("general.architecture", "general.type", "adapter.type")
    }
    assert fields == {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    assert reader.get_field("adapter.lora.alpha").contents() == adapter.layout.alpha
    written = {tensor.name: torch.tensor(np.array(tensor.data)).float() for tensor in reader.tensors}
    assert len(written) == 2 * 7 * adapter.layout.layers
    known = updates(adapter)
    names = {"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.down_proj": "ffn_down"}
    for path, name in names.items():
        a, b = (written[f"blk.1.{name}.weight.lora_{side}"] for side in "ab")
        assert torch.allclose(adapter.layout.scale * b @ a, known[f"model.layers.1.{path}"], atol=1e-3)
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    order = [head * size + half * size // 2 + at for head in range(heads) for at in range(size // 2) for half in (0, 1)]
    a, b = (written[f"blk.0.attn_q.weight.lora_{side}"] for side in "ab")
    assert torch.allclose(adapter.layout.scale * b @ a, known["model.layers.0.self_attn.q_proj"][order], atol=1e-3)


def test_a_base_whose_names_llama_cpp_has_otherwise_is_refused_and_nothing_is_written(adapter, config, tmp_path):
    config.model_type = "gpt_neox"
    with pytest.raises(UsageError, match="of the kind gpt_neox cannot be exported to gguf, only gemma3_text, llama"):
        export(adapter, config, "gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", sorted(FORMATS.keys() - {"onnxruntime", "peft"}))
def test_numbers_that_a_format_cannot_hold_are_refused_and_nothing_is_written(to, adapter, config, tmp_path):
    adapter.grid[0, 0, 0] = 1e5
    with pytest.raises(UsageError, match=f"{to} takes numbers in float16, and some of this adapter's are larger"):
        export(adapter, config, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", sorted(FORMATS))
def test_every_export_says_how_it_is_loaded_and_for_which_base(to, adapter, config, tmp_path):
    if to == "onnxruntime" and find_spec("onnxruntime") is None:
        with pytest.raises(UsageError, match="pip install onnxruntime"):
            export(adapter, config, to, tmp_path / "out")
        return
    note = export(adapter, config, to, tmp_path / "out")
    assert note == (tmp_path / "out" / "README.md").read_text()
    assert adapter.layout.base_model in note


def test_an_export_to_peft_holds_every_number_as_it_is(adapter, config, tmp_path):
    for number, strength in enumerate((1e-7, 1e6)):
        other = Adapter(adapter.layout, (adapter.grid * strength).bfloat16().float())
        export(other, config, "peft", tmp_path / f"out{number}")
        assert torch.equal(Adapter.load(tmp_path / f"out{number}" / "adapter", config).grid, other.grid)
    with pytest.raises(DamagedFile, match="this one is not in float16"):
        other.save(tmp_path / "half")


def test_export_is_a_command_for_a_folder(adapter, run, tmp_path):
    adapter.save(tmp_path / "adapter")
    words = ("export", "--adapter", tmp_path / "adapter", "--to", "mlx", "--out", tmp_path / "out")
    code, out, error = run(*words, "--json")
    assert code == 0, error
    assert json.loads(out)["check"] is None
    assert (run(*words)[0], run("export", "--to", "mlx", "--out", tmp_path / "two")[0]) == (2, 2)
    other = ("export", "--adapter", tmp_path / "adapter", "--to", "tgi", "--out", tmp_path / "three")
    code, _, told = run(*other)
    assert (code, "gguf, mlx, onnxruntime, openvino, peft, not to 'tgi'" in told) == (2, True)
    assert not (tmp_path / "three").exists()


def test_a_version_is_refused_beside_a_folder_and_nothing_is_written(adapter, run, tmp_path):
    adapter.save(tmp_path / "adapter")
    words = ("export", "--adapter", tmp_path / "adapter", "--version", "v1", "--to", "mlx", "--out", tmp_path / "out")
    code, _, told = run(*words)
    assert (code, "--version names a version of a job" in told) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_check_without_its_engine_or_of_an_engine_that_it_does_not_know_is_refused(adapter, frozen, tmp_path):
    with pytest.raises(
        UsageError, match="an export to peft cannot be checked here, only to gguf, mlx, onnxruntime, openv"
    ):
        engines.check(adapter, frozen, tmp_path, "peft")
    if find_spec("xllamacpp") is None:
        with pytest.raises(UsageError, match="pip install xllamacpp"):
            engines.check(adapter, frozen, tmp_path, "gguf")


ENGINES = {"mlx": "mlx_lm", "onnxruntime": "onnxruntime_genai", "openvino": "openvino_genai"}


@pytest.mark.parametrize("to", ENGINES)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_the_engine_itself_moves_the_answers_as_peft_does_and_half_the_strength_is_noticed(
    to, strength, adapter, config, frozen, tmp_path
):
    if find_spec(ENGINES[to]) is None:
        pytest.skip(f"{ENGINES[to]} is not installed")
    export(Adapter(adapter.layout, adapter.grid * strength**0.5), config, to, tmp_path / "out")
    found = engines.check(adapter, frozen, tmp_path / "out", to)
    assert found.agrees == (strength == 1.0)
    assert found.error < 0.01 or strength != 1.0
