"""What an engine is started for follows from the registry and the generator; its settings never cost a good release."""

import asyncio
import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from serving import ask, client_of, keys_of, service_of
from tiny import SIZES, command, promoted, tiny_generator, write_base, write_encoder, write_plant_generator
from transformers import AutoModelForCausalLM, PhiConfig

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.weights import weights_digest
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Origin
from prompt2lora.errors import DamagedFile, Misconfigured, UsageError
from prompt2lora.generator.config import GeneratorConfig
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.embedded import EmbeddedEngine
from prompt2lora.serving.job_queue import JobQueue
from prompt2lora.serving.service import Limits, Service
from prompt2lora.serving.setup import Setup, needed
from prompt2lora.serving.starting import EngineOptions
from prompt2lora.serving.starting import start as start_engine


@pytest.fixture
def base(tmp_path):
    return write_base(tmp_path / "base")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    registry = Registry.open(tmp_path / "home", actor="maker")
    registry.add_job("mail")
    yield registry
    registry.engine.dispose()


def layout_of(base, **settings):
    return LoraLayout.from_config(models.load_config(base), base_model=base, **settings)


@pytest.fixture
def release(kept, base, tmp_path):
    """Another version of the job, which answers from now on."""
    count = iter(range(100))

    def released(**settings):
        layout, number = layout_of(base, **settings), next(count)
        torch.manual_seed(number)
        Adapter(layout, torch.randn(layout.shape) * 0.3).save(tmp_path / f"adapter-{number}")
        origin = Origin(("one", "two"), "9" * 64, "g", base, weights_digest(base))
        version = kept.add_version("mail", tmp_path / f"adapter-{number}", origin)
        current = kept.current("mail")
        kept.promote("mail", version, "better", expected=current.id if current else None)
        return version

    return released


@contextmanager
def service_for(registry, setup):
    """The service with a real engine, started as `serve` starts it."""
    engine = EmbeddedEngine.load(setup, lambda one: registry.store.path(one.adapter), exact=True).start()
    try:
        yield Service(Plant(registry), engine, JobQueue(registry.clock), Limits())
    finally:
        asyncio.run(engine.close(0))


def start(registry, base, **settings):
    return needed(registry, layout_of(base, **settings), weights_digest(base))


@pytest.mark.parametrize("rank", [8, 16, 64])
def test_an_engine_holds_the_rank_of_the_generator_and_of_every_version(kept, base, release, rank):
    release(rank=rank)
    second = release(rank=8, targets=["q_proj"])
    assert start(kept, base, rank=32).rank == max(rank, 32)
    with service_for(kept, start(kept, base)) as service:
        token = keys_of(kept)["asks"]
        replies = [ask(service, token) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 200]
    assert {reply.headers["x-prompt2lora-release"] for reply in replies} == {f"2:{second.name}"}
    assert len(kept.history("mail")) == 2


def test_an_engine_holds_no_module_that_nothing_adapts(kept, base, release):
    release(targets=["q_proj", "o_proj"])
    assert start(kept, base, targets=["v_proj"]).targets == ("q_proj", "v_proj", "o_proj")


@pytest.mark.parametrize("settings", [{"rank": 16}, {"targets": ["down_proj"]}])
def test_a_version_that_the_engine_was_not_started_for_is_told_so_and_keeps_its_release(kept, base, release, settings):
    token = keys_of(kept)["asks"]
    release(targets=["q_proj"])
    with service_for(kept, start(kept, base, targets=["q_proj"])) as service:
        later = release(**settings)
        refused = ask(service, token)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "misconfigured"
    assert "start the service again" in refused.json()["error"]["message"]
    assert kept.current("mail").version == later
    with service_for(kept, start(kept, base)) as service:
        assert ask(service, token).headers["x-prompt2lora-release"] == f"2:{later.name}"


def test_a_base_is_known_by_its_weights_whatever_it_is_called(kept, base, release, tmp_path):
    version = release()
    shutil.copytree(base, tmp_path / "moved")
    (tmp_path / "link").symlink_to(base)
    token = keys_of(kept)["asks"]
    for name in (f"{base}/", str(tmp_path / "moved"), str(tmp_path / "link")):
        with service_for(kept, start(kept, name)) as service:
            reply = ask(service, token)
        assert (reply.status_code, reply.headers["x-prompt2lora-release"]) == (200, f"1:{version.name}")
    assert len(kept.history("mail")) == 1


def other_weights(base):
    """Weights of the same shapes in the same folder."""
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(models.load_config(base))
    model.save_pretrained(base)


def test_another_base_under_the_old_name_is_told_at_the_start_and_takes_nothing_back(kept, base, release):
    version = release()
    assert start(kept, base).base_digest == weights_digest(base)
    other_weights(base)
    with pytest.raises(UsageError, match=f"{version.name} answers the job mail and was made for the base"):
        start(kept, base)
    assert kept.current("mail").version == version
    kept.promote("mail", None, "until it is back", expected=1)
    with service_for(kept, start(kept, base)) as service:
        kept.promote("mail", version, "again", expected=2)
        assert ask(service, keys_of(kept)["asks"]).json()["error"]["code"] == "misconfigured"
    assert kept.current("mail").version == version


def verified_over_http(registry):
    async def asked():
        async with client_of(service_of(registry), keys_of(registry)["viewer"]) as client:
            return (await client.post("/admin/verify")).json()

    return asyncio.run(asked())


def test_another_base_under_the_old_name_is_found_by_verify_and_over_http(kept, base, release, run):
    version = release()
    assert run("registry", "verify")[0] == 0
    other_weights(base)
    code, out, _ = run("registry", "verify")
    assert code == 1
    assert f"BAD  {version.name}: {version.name} was made for a base with the digest" in out
    told = json.loads(run("registry", "verify", "--json")[1])
    assert (told["versions"], [one["version"] for one in told["damaged"]]) == (1, [version.name])
    assert verified_over_http(kept) == told
    shutil.rmtree(base)
    code, out, _ = run("registry", "verify")
    assert code == 0 and f"not compared: the base {base} is not on this machine" in out


def test_whoever_measures_or_refines_a_version_loads_the_base_that_it_was_made_for(kept, base, release, tmp_path):
    version = release()
    shutil.copytree(base, tmp_path / "moved")
    other_weights(base)
    with pytest.raises(DamagedFile, match="put the base back"):
        Plant(kept, base=base).base_of(version)
    assert Plant(kept, base=str(tmp_path / "moved")).base_of(version) == str(tmp_path / "moved")
    shutil.rmtree(base)
    assert Plant(kept, base=str(tmp_path / "moved")).base_of(version) == str(tmp_path / "moved")


def test_a_generator_of_rank_16_serves_what_it_made(base, tmp_path, monkeypatch):
    """The whole way: pilots by a generator of rank 16, then the engine that `serve` starts."""
    from prompt2lora.cli.serve import _setup

    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    sizes = {**SIZES, "grid": (2, 2, 16), "trunk": ((2, 224, 16),)}
    layout = layout_of(base, rank=16)
    config = GeneratorConfig.sized(layout, encoder=write_encoder(tmp_path / "encoder"), **sizes)
    generator = write_plant_generator(tiny_generator(config), tmp_path / "generator")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("note a\nnote b\nnote c\n")
    for job in ("mail", "notes"):
        words = ("--job", job, "--prompts", prompts, "--generator", generator, "--base", f"{base}/")
        assert command("pilot", *words)[0] == 0
    plant = Plant.open(generator, base)
    for job in ("mail", "notes"):
        plant.registry.promote(job, plant.registry.versions(job)[0], "first", expected=None)
    engine = start_engine(
        EngineOptions(max_batch_size=4, adapter_cache_size=8, exact=True), _setup(plant), plant.registry
    )
    engine.start()
    service = Service(plant, engine, JobQueue(plant.registry.clock), Limits())
    reply = ask(service, keys_of(plant.registry)["asks"])
    asyncio.run(engine.close(0))
    assert reply.status_code == 200
    assert reply.headers["x-prompt2lora-release"].startswith("1:mail@v1-")


def test_a_base_that_has_only_some_of_the_modules_is_served_with_those(kept, tmp_path):
    folder = Path(write_base(tmp_path / "phi"))
    torch.manual_seed(0)
    config = PhiConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=300,
        max_position_embeddings=512, initializer_range=0.2,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    base = str(folder)
    layout = layout_of(base, targets=["q_proj", "k_proj", "v_proj"])
    Adapter(layout, torch.randn(layout.shape) * 0.3).save(tmp_path / "adapter")
    origin = Origin(("one",), "9" * 64, "g", base, weights_digest(base))
    version = kept.add_version("mail", tmp_path / "adapter", origin)
    kept.promote("mail", version, "first", expected=None)
    with service_for(kept, needed(kept, layout, weights_digest(base))) as service:
        assert ask(service, keys_of(kept)["asks"]).status_code == 200
    assert kept.current("mail").version == version
    with pytest.raises(Exception, match="no module named"):
        EmbeddedEngine.load(Setup(base), lambda one: folder)


def test_misconfigured_is_no_kind_of_unfit():
    from prompt2lora.errors import Unfit

    assert not issubclass(Misconfigured, Unfit)


def test_a_job_is_named_by_its_place_or_by_the_option(kept, base, release, run):
    version = release()
    for word in ("show", "history"):
        placed, named = run("registry", word, "mail"), run("registry", word, "--job", "mail")
        assert placed == named and placed[0] == 0 and version.name in placed[1]
        assert run("registry", word)[0] == run("registry", word, "mail", "--job", "notes")[0] == 2
    for named in (("mail",), ("--job", "mail")):
        promoted(kept, version)
        assert run("registry", "promote", *named, "--version", "base", "--reason", "for now")[0] == 0
    assert [one.version for one in kept.history("mail")] == [version, None, version, None]
