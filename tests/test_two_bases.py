"""Two released generators, each for a base of its own, side by side in one home, one registry and one service."""

import asyncio
import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from serving import client_of, keys_of
from tiny import SIZES, command, tiny_generator, write_base, write_encoder, write_plant_generator

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.packaged import PACKAGED, Package
from prompt2lora.base.weights import weights_digest
from prompt2lora.console.i18n import Translator
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Origin
from prompt2lora.errors import Misconfigured, UsageError
from prompt2lora.generator import released
from prompt2lora.generator.config import GeneratorConfig
from prompt2lora.generator.generator import Generator
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.embedded import EmbeddedEngine
from prompt2lora.serving.job_queue import JobQueue
from prompt2lora.serving.service import Limits, Service
from prompt2lora.serving.setup import elsewhere, needed

LARGE = {"hidden_size": 128, "intermediate_size": 256}


@dataclass(frozen=True)
class World:
    """Two released generators, `large` and `small`, their bases, and a registry."""

    place: Path
    bases: dict[str, str]
    registry: Registry

    def layout(self, name):
        return LoraLayout.from_config(models.load_config(self.bases[name]), base_model=self.bases[name])

    def release(self, job, name):
        """A version of a job for the base of a generator; it answers from now on."""
        layout = self.layout(name)
        torch.manual_seed(len(job))
        folder = self.place / f"{job}-{name}"
        Adapter(layout, torch.randn(layout.shape) * 0.3).save(folder)
        self.registry.add_job(job)
        digest = Generator.from_pretrained(name).provenance["sha256"]
        made = Origin(("one", "two"), digest, name, self.bases[name], weights_digest(self.bases[name]))
        version = self.registry.add_version(job, folder, made)
        current = self.registry.current(job)
        self.registry.promote(job, version, "good", expected=current.id if current else None)
        return version


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    place = tmp_path_factory.mktemp("two")
    encoder, bases = write_encoder(place / "encoder"), {}
    for name, sizes in (("small", {}), ("large", LARGE)):
        bases[name] = write_base(place / f"{name}-base", **sizes)
        layout = LoraLayout.from_config(models.load_config(bases[name]), base_model=bases[name])
        shapes = {**SIZES, "grid": (2, 2, 16), "trunk": ((2, 112, 16),)}
        made = tiny_generator(GeneratorConfig.sized(layout, encoder=encoder, **shapes))
        made.provenance = {"base_weights_sha256": weights_digest(bases[name])}
        write_plant_generator(made, place / "generators" / name)
    return place, bases


@pytest.fixture
def world(written, tmp_path, monkeypatch):
    place, bases = written
    monkeypatch.setattr(released, "places", lambda: [place / "generators"])
    monkeypatch.setattr(released, "BEST_FIRST", ("large", "small"))
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    registry = Registry.open(tmp_path / "home", actor="maker")
    yield World(tmp_path, bases, registry)
    registry.engine.dispose()


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("note a\nnote b\nnote c\n")
    return file


def test_a_generator_is_named_by_its_release_or_by_its_folder(world, prompts, written):
    made = {}
    for name in ("small", "large", str(written[0] / "generators" / "small")):
        code, out, _ = command(
            "generate", "--prompts", prompts, "--out", world.place / f"a{len(made)}", "--generator", name, "--json"
        )
        assert code == 0
        made[name] = json.loads(out)
        assert read_base(made[name]["adapter"]) == world.bases[Path(name).name]
    assert len({one["digest"] for one in made.values()}) == 2
    assert Generator.from_pretrained("large").name == "large"


def read_base(adapter):
    card = (Path(adapter) / "README.md").read_text()
    base = json.loads((Path(adapter) / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert f"| base | `{base}` |" in card
    return base


def test_an_unknown_generator_is_told_the_released_names_in_one_line(world, prompts):
    for words in (("generate", "--out", world.place / "x"), ("pilot", "--job", "mail"), ("prompts", "check")):
        code, _, told = command(*words, "--prompts", prompts, "--generator", "larg")
        assert code == 2
        assert told.strip().splitlines()[-1] == (
            "error: a generator is a released one (large, small), a local folder or a hub id owner/name; 'larg' is "
            "none of these: name one that is"
        )


def test_the_default_is_the_best_that_this_machine_has_the_memory_and_the_base_for(world, monkeypatch):
    assert released.default_generator().name == "large"
    need = released.needed_memory(world.bases["large"])
    monkeypatch.setattr(released, "machine_memory", lambda: need - 1)
    assert released.default_generator().name == "small"
    monkeypatch.setattr(released, "machine_memory", lambda: None)
    assert released.default_generator().name == "small", "where the system does not tell"
    monkeypatch.setattr(released, "machine_memory", lambda: need)
    monkeypatch.setattr(released, "is_at_hand", lambda base: base != world.bases["large"])
    assert released.default_generator().name == "small"


def test_a_base_that_is_named_brings_its_own_generator_whatever_it_is_called(world, tmp_path):
    shutil.copytree(world.bases["small"], tmp_path / "moved")
    for base in (world.bases["small"], str(tmp_path / "moved")):
        assert released.default_generator(base).name == "small"
    assert released.default_generator("some/other").name == "large"


def test_without_an_adapter_the_base_answers_that_adapters_are_made_for(world, monkeypatch):
    def asked(*words):
        return command("ask", "note a", "--max-new-tokens", "8", *words)[1]

    large, small = (asked("--base", world.bases[name]) for name in ("large", "small"))
    assert asked() == large != small
    monkeypatch.setattr(released, "is_at_hand", lambda base: base != world.bases["large"])
    assert asked() == small


def test_doctor_tells_of_every_released_generator_what_it_needs(world):
    code, out, _ = command("doctor", "--json")
    lines = [check["found"] for check in json.loads(out)["checks"] if check["check"] == "released generator"]
    assert code == 0
    assert [line.split(",")[0] for line in lines] == ["large", "small"]
    for name, line in zip(("large", "small"), lines, strict=True):
        assert f"for {world.bases[name]}: ready; takes 1.0 GB of memory" in line
        assert line.endswith("chosen where none is named") == (name == "large")


def test_doctor_names_the_base_of_a_released_generator_with_it_and_not_again_among_the_other_bases(world, monkeypatch):
    package = Package(("no_such_module",), "pip install it", "*", parameters=1_000_000, languages="English")
    monkeypatch.setitem(PACKAGED, world.bases["small"], package)
    monkeypatch.setitem(PACKAGED, "some/base", package)
    code, out, _ = command("doctor", "--json")
    lines = [check["found"] for check in json.loads(out)["checks"] if check["check"] == "other base"]
    assert code == 0
    assert "some/base, 1 million parameters, English: pip install it" in lines
    assert not any(line.startswith(world.bases["small"]) for line in lines)


def start(world, name):
    return needed(world.registry, world.layout(name), weights_digest(world.bases[name]))


@contextmanager
def service_for(world, name):
    setup = start(world, name)
    engine = EmbeddedEngine.load(setup, lambda one: world.registry.store.path(one.adapter), exact=True).start()
    plant = Plant(world.registry, base=world.bases[name])
    try:
        yield Service(plant, engine, JobQueue(world.registry.clock), Limits(), setup=setup)
    finally:
        asyncio.run(engine.close(0))


def call(service, token, method, path, **options):
    async def called():
        async with client_of(service, token) as client:
            return await client.request(method, path, **options)

    return asyncio.run(called())


def ask(service, token, job):
    body = {"model": job, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    return call(service, token, "POST", "/v1/chat/completions", json=body)


def test_a_service_answers_the_jobs_of_its_base_and_says_of_the_others_where_they_belong(world):
    world.release("mail", "small")
    world.release("notes", "large")
    assert [one.job for one in elsewhere(world.registry, start(world, "small"))] == ["notes"]
    token = keys_of(world.registry)["asks"]
    for name, mine, other in (("small", "mail", "notes"), ("large", "notes", "mail")):
        with service_for(world, name) as service:
            listed = call(service, token, "GET", "/v1/models").json()["data"]
            assert [(one["id"], one["base"]) for one in listed] == [(mine, world.bases[name])]
            assert ask(service, token, mine).status_code == 200
            for reply in (ask(service, token, other), call(service, token, "GET", f"/v1/models/{other}")):
                assert (reply.status_code, reply.json()["error"]["code"]) == (503, "misconfigured")
                assert f"the job {other} belongs to the base" in reply.json()["error"]["message"]
            service.check_releases()
            theirs = world.bases["large" if name == "small" else "small"]
            with pytest.raises(Misconfigured) as refused:
                service.release(other)
            assert Translator("en").explain(refused.value) == (
                f"The job {other} belongs to another base model ({theirs}) than this service has. "
                "Use the service for that base model, or ask an engineer."
            )
            assert [one.job for one in service.released()] == [mine]
    assert len(world.registry.history("mail")) == len(world.registry.history("notes")) == 1


def test_the_base_of_a_service_never_answers_a_job_of_another_base(world):
    world.release("mail", "small")
    world.release("notes", "large")
    world.registry.rollback("notes", "not good enough")
    with service_for(world, "small") as service:
        token = keys_of(world.registry)["asks"]
        assert ask(service, token, "notes").json()["error"]["code"] == "misconfigured"
        assert ask(service, token, "mail").status_code == 200


def test_a_service_for_a_base_that_answers_no_job_is_not_started_beside_others(world):
    version = world.release("notes", "large")
    with pytest.raises(UsageError, match=f"{version.name} answers the job notes and was made for the base"):
        start(world, "small")


def test_an_installation_goes_on_with_the_base_of_what_answers_and_a_version_is_measured_on_its_own(world):
    assert Plant(world.registry).usual_base == world.bases["large"]
    small = world.release("mail", "small")
    plant = Plant(world.registry).settled()
    assert plant.base == world.bases["small"]
    large = world.release("notes", "large")
    assert plant.usual_base == world.bases["small"], "it stays with what it chose"
    plant = Plant(world.registry)
    assert plant.usual_base == world.bases["large"], "the best of those that answer"
    for version, name in ((small, "small"), (large, "large")):
        for evaluator in (plant.evaluator_of(version), plant.evaluator_for(version.job)):
            assert (evaluator.layout.base_model, evaluator.generator.name) == (world.bases[name], name)
    assert plant.evaluator_for("new").generator.name == "large"


def test_a_pilot_for_a_job_of_another_base_is_refused_before_anything_is_made(world, prompts):
    world.release("mail", "small")
    for words in (("--generator", "large"), ("--base", world.bases["large"])):
        code, _, told = command("pilot", "--job", "mail", "--prompts", prompts, *words)
        assert code == 2
        assert "the job mail belongs to the base" in told
    assert len(world.registry.versions("mail")) == 1
    code, out, _ = command("pilot", "--job", "mail", "--prompts", prompts, "--json")
    assert code == 0
    assert json.loads(out)["version"].startswith("mail@v2-")
    assert world.registry.versions("mail")[1].base == world.bases["small"]


def test_a_job_comes_to_another_base_by_a_candidate_that_is_promoted_and_by_nothing_else(world):
    world.release("mail", "small")
    world.release("notes", "large")
    code, out, _ = command("registry", "regenerate", "--generator", "large", "--json")
    status = {change["job"]: change["status"] for change in json.loads(out)["jobs"]}
    assert code == 0 and status == {"mail": "another base", "notes": "new"}
    code, out, _ = command("registry", "regenerate", "--generator", "large", "--job", "mail", "--json")
    assert json.loads(out)["jobs"][0]["status"] == "new"
    candidate = world.registry.versions("mail")[-1]
    assert candidate.base == world.bases["large"]
    assert Plant(world.registry).evaluator_for("mail").generator.name == "small", "nobody has promoted it yet"
    world.registry.promote("mail", candidate, "moved", expected=world.registry.current("mail").id)
    assert Plant(world.registry).evaluator_for("mail").generator.name == "large"


def test_the_registry_names_base_and_generator_of_every_job_and_version(world):
    world.release("mail", "small")
    world.release("notes", "large")
    listed = json.loads(command("registry", "list", "--json")[1])
    assert {one["job"]: one["base"] for one in listed["jobs"]} == {
        "mail": world.bases["small"], "notes": world.bases["large"],
    }  # fmt: skip
    assert {one["name"] for one in listed["generators"]} == {"small", "large"}
    assert world.bases["small"] in command("registry", "list")[1]
    shown = command("registry", "show", "mail")[1]
    assert f"generator small ({Generator.from_pretrained('small').provenance['sha256'][:12]})" in shown
    assert f"base {world.bases['small']} ({weights_digest(world.bases['small'])[:12]})" in shown
