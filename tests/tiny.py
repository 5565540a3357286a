"""Real models at tiny sizes: a two-layer base with its own tokenizer, a two-layer encoder, a few task files."""

import csv
import io
import json
import os
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import gguf
import pytest
import torch
import typer
from anyio.from_thread import start_blocking_portal
from postgres import binaries, server
from safetensors.torch import save_file
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.schema import CreateSchema, DropSchema
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from prompt2lora.adapter.health import Reference
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base import decoding, models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.frozen import Frozen
from prompt2lora.cli.main import main
from prompt2lora.custody import database as databases
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Origin
from prompt2lora.evaluation import judge
from prompt2lora.generator.atlas import Atlas
from prompt2lora.generator.config import GeneratorConfig
from prompt2lora.generator.generator import Generator
from prompt2lora.plant import explanation, measurement, stereotypes, watches
from prompt2lora.training import curves, finish, lengths, tuning

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 512,
}


def greedy(model, ids, chat, max_new_tokens):
    """The answers' token ids, without the token that ends them; none goes beyond the base's context."""
    return [written.ids for written in decoding._decode(model, ids, chat, max_new_tokens, None)]


def as_csv(pairs):
    """Examples as text that is read as the same ones."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("input", "output"), *pairs])
    return out.getvalue()


def byte_tokenizer(specials: list[str]) -> Tokenizer:
    """Every byte is a token, so that any text has ids and comes back unchanged."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    return tokenizer


@pytest.fixture(scope="session", autouse=True)
def first_home(tmp_path_factory):
    """That of all tests which bring none of their own."""
    place = tmp_path_factory.mktemp("home")
    os.environ["PROMPT2LORA_HOME"] = str(place)
    torch.set_num_threads(1)
    return place


@pytest.fixture(scope="session")
def home(first_home):
    return first_home


@pytest.fixture(scope="module", autouse=True)
def empty_queue(first_home):
    """Work that the tests of one file leave waiting does not fill the queue of the next."""
    shutil.rmtree(first_home / "queue", ignore_errors=True)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """One folder for all processes of this run of the tests."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


MAX_NEW_TOKENS = measurement.MAX_NEW_TOKENS


@pytest.fixture(scope="session", autouse=True)
def short_answers():
    """The tiny base ends no answer by itself: eight tokens show what the product's `MAX_NEW_TOKENS` show, and one token
    more than the right answer has shows what several do."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (measurement, watches):
            patch.setattr(module, "MAX_NEW_TOKENS", 8)
        patch.setattr(explanation, "_MAX_NEW_TOKENS", 8)
        for module in (judge, tuning):
            patch.setattr(module, "_SLACK", 1)
        yield


every_question = stereotypes.questions


@pytest.fixture(scope="session", autouse=True)
def few_questions():
    """Every question of the bias check is asked in one pilot of the tests, by `every_question`; in all others a few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stereotypes, "questions", lambda: every_question()[::24])
        yield


every_request = lengths.prompt_groups


@pytest.fixture(scope="session", autouse=True)
def few_requests():
    """How jobs with long answers are told is found from every fourth of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lengths, "prompt_groups", lambda seed: tuple(groups[::4] for groups in every_request(seed)))
        yield


@pytest.fixture(scope="session", autouse=True)
def few_adapters():
    """What adapters usually look like is found from ten, the fewest that tell it, where the product takes sixteen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "_FEWEST_ADAPTERS", 10)
        yield


draw_curves = curves.draw


@pytest.fixture(scope="session", autouse=True)
def no_pictures():
    """A run's picture takes as long as several tiny steps: it is drawn where a test looks at it, by `draw_curves`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "draw", lambda folder: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def commands():
    """Typer builds all commands anew at every call, which takes it ten times as long as most of them: here, once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session", autouse=True)
def absent_accelerators():
    """Torch keeps every seed with a trace of the stack for accelerators that may be found later: none will be here."""
    with pytest.MonkeyPatch.context() as patch:
        for accelerator in (torch.cuda, torch.xpu, torch.mtia):
            if not accelerator.is_available():
                patch.setattr(accelerator, "manual_seed_all", lambda seed: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def statements():
    """SQLAlchemy compiles all statements anew for every database, a tenth of the tests of registries: here, once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DefaultDialect, "__eq__", lambda one, other: type(one) is type(other))
        patch.setattr(DefaultDialect, "__hash__", lambda one: hash(type(one)))
        patch.setattr(databases, "create_engine", partial(create_engine, execution_options={"compiled_cache": {}}))
        yield


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> str:
    return write_base(tmp_path_factory.mktemp("models") / "base")


def write_base(folder: Path, **sizes) -> str:
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**{**TINY, **sizes}, initializer_range=0.2)).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(["</s>", "<pad>", "<|user|>", "<|assistant|>"]),
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=TEMPLATE,
    )
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_gguf(model, file: Path, tokens, *, eos: int, kinds=None) -> Path:
    """A model as llama.cpp reads it: the same weights, and tokens that are bytes."""
    config, kind = model.config, gguf.MODEL_ARCH[model.config.model_type.upper()]
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[kind])
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if config.rope_parameters["rope_type"] != "default":
        writer.add_rope_scaling_type(gguf.RopeScalingType(config.rope_parameters["rope_type"]))
        writer.add_rope_scaling_factor(config.rope_parameters["factor"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    if kinds:
        writer.add_token_types(kinds)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(eos)
    known = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for path, weight in model.state_dict().items():
        count = heads.get(path.split(".")[-2], 0) if kind == gguf.MODEL_ARCH.LLAMA else 0
        if count:  # the two halves of a head's rotations stand beside each other there
            weight = weight.reshape(count, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
        writer.add_tensor(known.get_name(path, try_suffixes=(".weight", ".bias")), weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def write_base_gguf(base: str, file: Path) -> Path:
    """The tiny base with its own tokens as llama.cpp reads it."""
    model, tokenizer = models.load_base(base, dtype=torch.float32)
    ids = range(model.config.vocab_size)
    tokens = [tokenizer.convert_ids_to_tokens(id) if id < len(tokenizer) else f"<{id}>" for id in ids]
    special = {*tokenizer.all_special_ids, *ids[len(tokenizer) :]}
    kinds = [gguf.TokenType.CONTROL if id in special else gguf.TokenType.NORMAL for id in ids]
    return write_gguf(model, file, tokens, eos=tokenizer.eos_token_id, kinds=kinds)


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory) -> str:
    return write_encoder(tmp_path_factory.mktemp("models") / "encoder")


def write_encoder(folder: Path) -> str:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    tokenizer = byte_tokenizer(["[CLS]", "[SEP]", "[PAD]"])
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    ).save_pretrained(folder)
    return str(folder)


SIZES = {"width": 64, "hidden": 16, "grid": [2, 2, 16], "trunk": [[2, 112, 16]]}


@pytest.fixture(scope="session")
def layout(base) -> LoraLayout:
    return LoraLayout.from_config(LlamaConfig(**TINY), base_model=base)


@pytest.fixture(scope="session")
def generator_config(layout, encoder_folder) -> GeneratorConfig:
    return tiny_generator_config(layout, encoder_folder)


def tiny_generator_config(layout, encoder_folder, **settings) -> GeneratorConfig:
    sizes = {**SIZES, "grid": (2, 2, 16), "trunk": ((2, 112, 16),), **settings}
    return GeneratorConfig.sized(layout, encoder=encoder_folder, **sizes)


@pytest.fixture(scope="module")
def model(base):
    return models.load_base(base, dtype=torch.float32, device="cpu")[0]


@pytest.fixture(scope="module")
def chat(base):
    return ChatFormat(models.load_tokenizer(base))


@pytest.fixture
def frozen(model, chat, layout) -> Frozen:
    return Frozen(model, chat, layout)


@pytest.fixture
def asking(layout, encoder_folder) -> Generator:
    """A generator that listens to the base, with nothing in it zero."""
    return tiny_generator(tiny_generator_config(layout, encoder_folder, asks_base=True))


def command(*words, told=None):
    """Run a command in this process: (exit code, stdout, stderr); `told` is what it writes the latter to."""
    out, told = io.StringIO(), told or io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(told):
        patch.setattr(sys, "argv", ["prompt2lora", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code or 0, out.getvalue(), told.getvalue()


@pytest.fixture
def run():
    return command


@pytest.fixture(scope="session")
def portal():
    """One event loop for all that `TestClient`s ask, which otherwise begin another one for every request."""
    with start_blocking_portal() as opened:
        yield opened


@pytest.fixture
def generator(generator_config) -> Generator:
    return tiny_generator(generator_config)


def tiny_generator(generator_config) -> Generator:
    """A generator whose B is not zero, as after training."""
    made = Generator(generator_config, seed=1)
    torch.manual_seed(2)
    with torch.no_grad():
        made.head.weight.normal_()
        made.start.normal_(std=0.05)
    return made.eval().requires_grad_(False)


@pytest.fixture
def generator_folder(generator, tmp_path) -> Path:
    folder = tmp_path / "generator"
    generator.save_pretrained(folder)
    return folder


@pytest.fixture
def plant_generator(generator, tmp_path) -> Path:
    return write_plant_generator(generator, tmp_path / "plant-generator")


def write_plant_generator(generator: Generator, folder: Path) -> Path:
    """The folder of a generator that knows its training tasks, as a pilot needs it."""
    random = torch.Generator().manual_seed(5)
    layout = generator.config.layout
    grids = generator.start + torch.randn(12, *layout.shape, generator=random) * 0.01
    means = torch.randn(40, generator.config.width, generator=random)
    names = tuple(f"task{i}" for i in range(40))
    generator.atlas = Atlas(
        names, tuple(f"Do {n}." for n in names), means, Reference.of(grids, generator.start, layout)
    )
    generator.save_pretrained(folder)
    return folder


def tiny_world(place: Path) -> Path:
    """The folder of a generator whose tiny base and encoder are written below `place` too."""
    base, encoder = write_base(place / "base"), write_encoder(place / "encoder")
    layout = LoraLayout.from_config(LlamaConfig(**TINY), base_model=base)
    tiny_generator(tiny_generator_config(layout, encoder)).save_pretrained(place / "generator")
    return place / "generator"


def write_task(folder: Path, name: str, instruction: str, answer, *, split: str = "train", family: str = "") -> Path:
    """A task of 40 training and 4 test examples whose answers are `answer(input)`."""
    folder.mkdir(parents=True, exist_ok=True)
    head = {"task": name, "instruction": instruction, "family": family or name, "split": split}
    rows = [
        {"input": text, "output": answer(text), "part": "test" if number >= 40 else "train"}
        for number, text in enumerate(f"{a}{b}" for a in "abcd" for b in "mnopqrstuvw")
    ]
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in [head, *rows]), encoding="utf-8")
    return file


@pytest.fixture
def tasks_folder(tmp_path) -> Path:
    return write_tasks(tmp_path / "tasks")


def write_tasks(folder: Path) -> Path:
    """Six families; a validation share of 0.45 holds out two of them."""
    for number, (instruction, answer) in enumerate(
        [
            ("First letter.", lambda text: text[0]),
            ("Last letter.", lambda text: text[-1]),
            ("Upper case.", str.upper),
            ("Backwards.", lambda text: text[::-1]),
            ("Twice.", lambda text: text * 2),
            ("Quote it.", lambda text: f'"{text}"'),
        ]
    ):
        write_task(folder, f"task{number}", instruction, answer)
    return folder


AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def adapter_folder(place, mark):
    """The smallest adapter that every engine loads; another mark gives other weights."""
    place.mkdir(parents=True)
    settings = {"peft_type": "LORA", "base_model_name_or_path": "b", "r": 8, "lora_alpha": 16}
    (place / "adapter_config.json").write_text(json.dumps({**settings, "target_modules": ["q_proj"]}))
    stem = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    state = {
        f"{stem}A.weight": torch.ones(8, 4),
        f"{stem}B.weight": torch.tensor([*sha256(mark.encode()).digest()]).float().view(4, 8),
    }
    save_file(state, place / "adapter_model.safetensors")
    return place


@pytest.fixture(scope="session")
def postgres():
    """The URL of a real PostgreSQL server: the one named, or a throwaway one if its programs are installed."""
    named = os.environ.get("PROMPT2LORA_TEST_DATABASE")
    if named:
        yield named
        return
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL: install its server, or name one by PROMPT2LORA_TEST_DATABASE")
    with server(folder) as url:
        yield url


@pytest.fixture(scope="session")
def schemas(postgres):
    """The engine by which schemas come and go: for every connection the server begins a process, so this is one."""
    engine = create_engine(postgres)
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """A database of its own for every test: its URL. What is said of a registry is true on both kinds."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'home' / 'registry.db'}"
        return
    engine, schema = request.getfixturevalue("schemas"), f"test_{uuid4().hex}"
    with engine.begin() as connection:
        connection.execute(CreateSchema(schema))
    yield engine.url.update_query_dict({"options": f"-c search_path={schema}"}).render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(DropSchema(schema, cascade=True))


@cache
def _empty_database() -> bytes:
    """A file of SQLite that holds the schema and nothing else; making it takes longer than most tests."""
    with TemporaryDirectory() as place:
        file = Path(place) / "registry.db"
        databases.open_database(f"sqlite:///{file}").dispose()
        return file.read_bytes()


_SAID: list[str] = []  # what the migrations said to PostgreSQL to make the tables of an empty schema


def _make_tables(engine: Engine, url: str) -> None:
    """Make the tables of an empty schema of PostgreSQL: the first by the migrations, the others by what these said."""
    if _SAID:
        search_path = make_url(url).query["options"].removeprefix("-c ")
        with engine.begin() as connection:
            connection.connection.driver_connection.execute(";".join([f"SET LOCAL {search_path}", *_SAID]))
        return

    def note(connection, cursor, statement, parameters, context, executemany):
        if statement.split()[0] in {"CREATE", "ALTER", "INSERT", "UPDATE", "DROP"}:
            assert not parameters
            _SAID.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    databases.open_database(url).dispose()
    event.remove(Engine, "before_cursor_execute", note)


def new_registry(home, **settings) -> Registry:
    """A registry in a new home; its database is empty and of this version's schema, and is not migrated again."""
    home.mkdir(parents=True)
    (home / "registry.db").write_bytes(_empty_database())
    return Registry.open(home, **settings)


@pytest.fixture
def registry(request, tmp_path, database):
    home, settings = tmp_path / "home", {"actor": "tests", "clock": lambda: AT}
    if database.startswith("postgresql"):
        _make_tables(request.getfixturevalue("schemas"), database)
        opened = Registry.open(home, url=database, **settings)
    else:
        opened = new_registry(home, **settings)
    opened.add_job("mail")
    yield opened
    opened.engine.dispose()


@pytest.fixture
def add(registry, tmp_path):
    """Add a version of a job with an adapter that holds `mark`."""

    def added(mark, job="mail", **changes):
        folder = adapter_folder(tmp_path / f"adapter-{mark}", mark)
        settings = {"generator": "9" * 64, "generator_name": "g", "base": "b", "base_digest": "8" * 64, **changes}
        return registry.add_version(job, folder, Origin(prompts=("one", "two"), **settings))

    return added


def promoted(registry, version, job="mail"):
    current = registry.current(job)
    return registry.promote(job, version, "better", expected=current.id if current else None)


def damage(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


# Measurements of an adapter that keeps every bound of the gate.
GOOD = {
    "gain": {"low": 0.1, "p_value": 0.001},
    "canary": {"kl": 0.1, "perplexity_ratio": 1.05},
    "format": {"low": 0.97},
    "conditioning": {"low": 0.05},
    "bias": {"high": 0.05},
    "health": {"score": 1.0},
    "prompts": {"distance": 1.0},
    "probe": {"change": 3.0},
    "signature": {"sound": True},
}
