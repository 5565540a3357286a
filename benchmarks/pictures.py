"""Adapters for picture tasks that neither the base's projector nor the generator was trained on.

The base is the one of benchmarks/picture_base.py, the generator one that was trained on texts alone, for the same
language model. For every held-out task and every seed it makes an adapter from unlabelled prompts with pictures, and
one from four labelled ones; test pictures are asked about in the full form (with the instruction) and in the bare one.
Arms: base; generated; wrong prompts (the adapter made from another held-out task); four examples in the weights; the
same four in the context. Exact match. What was scored is kept in --work, so that a second call goes on.

python benchmarks/pictures.py --base BASE --pictures ../shared/data/multimodal --out benchmarks/results/pictures.json
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from random import Random

import torch
from tqdm import tqdm

from prompt2lora.base.decoding import answers
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.versions import origin
from prompt2lora.evaluation.results import Estimate
from prompt2lora.evaluation.revisions import revisions
from prompt2lora.evaluation.score_cache import ScoreCache, base_key, digest
from prompt2lora.evaluation.statistics import Interval, mean_interval, paired_difference
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.pipeline import Pipeline, fitting_layout
from prompt2lora.generator.text_encoder import cached_encoder
from prompt2lora.ground.comparison import Comparison
from prompt2lora.ground.files import check_new, write_json
from prompt2lora.ground.pictures import Pictured, checked
from prompt2lora.ground.prompts import full_prompt

HELD_OUT = ("cifar10_animal", "digits_parity", "easyvqa_presence_color")
FORMS = ("full", "bare")  # in the order of a row of `read_task`
ARMS = ("base", "generated", "wrong-prompts", "examples-4", "in-context-4")


def read_task(folder: Path, name: str) -> dict[str, list[tuple[Pictured, Pictured, str]]]:
    """(prompt with the instruction, without it, right answer) of the parts train and test."""
    found: dict[str, list[tuple[Pictured, Pictured, str]]] = {"train": [], "test": []}
    for line in (folder / f"{name}.jsonl").open(encoding="utf-8"):
        one = json.loads(line)
        seen = (checked((folder / one["image"]).read_bytes(), one["image"]),)
        whole = Pictured(full_prompt(one["instruction"], one["input"]), seen)
        found[one["split"]].append((whole, Pictured(one["input"], seen), one["output"]))
    for part, some in found.items():
        Random(f"{name} {part}").shuffle(some)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--generator", default="smollm2-135m-instruct")
    parser.add_argument("--examples", type=int, default=60, help="test examples of a task")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/pictures.jsonl"))
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    check_new(asked.out, "result file")
    tasks = {name: read_task(asked.pictures, name) for name in HELD_OUT}
    generator = Generator.from_pretrained(asked.generator)
    base = Frozen.load(fitting_layout(generator, asked.base), dtype=torch.float32)
    pipeline = Pipeline(generator, cached_encoder(generator.config.encoder), base)
    cache, kept = ScoreCache(asked.work), {}
    code = revisions("answers", "conditions", "decoder", "alignment", "examples")
    settings = [base_key(base.layout), generator.provenance["sha256"], asked.prompts, asked.examples, code]

    def drawn(name: str, seed: int, count: int) -> list[tuple[Pictured, Pictured, str]]:
        return Random(f"{name} {seed}").sample(tasks[name]["train"], count)

    def grid(arm: str, name: str, seed: int) -> torch.Tensor | None:
        if arm in ("base", "in-context-4"):
            return None
        if arm == "examples-4":
            return pipeline.make([], examples=[(whole, right) for whole, _, right in drawn(name, seed, 4)]).grid
        other = HELD_OUT[(HELD_OUT.index(name) + 1) % len(HELD_OUT)] if arm == "wrong-prompts" else name
        return pipeline.make([whole for whole, _, _ in drawn(other, seed, asked.prompts)]).grid

    runs = [(arm, name, seed) for seed in range(asked.seeds) for arm in ARMS for name in HELD_OUT]
    for arm, name, seed in tqdm(runs, "arms"):
        if arm == "base" and seed:
            continue
        keys = {form: digest([*settings, arm, name, seed, form]) for form in FORMS}
        if all(map(cache.get, keys.values())):
            kept |= {(arm, name, seed, form): cache.get(key)["scores"] for form, key in keys.items()}
            continue
        made = grid(arm, name, seed)
        test = tasks[name]["test"][: asked.examples]
        for place, form in enumerate(FORMS):
            shown = [(one[place], one[2]) for one in drawn(name, seed, 4)] if arm == "in-context-4" else []
            given = answers(
                base.model,
                base.chat,
                [one[place] for one in test],
                examples=shown,
                layout=base.layout,
                grid=made,
                max_new_tokens=6,
            )
            scores = [Comparison.EXACT.score(answer, one[2]) for answer, one in zip(given, test, strict=True)]
            kept[arm, name, seed, form] = scores
            cache.add(keys[form], {"of": [arm, name, seed, form], "scores": scores, "said": given[:8]})

    def of(arm: str, name: str, form: str) -> list[float]:
        """Every example's mean over the seeds."""
        seeds = [0] if arm == "base" else range(asked.seeds)
        some = [kept[arm, name, seed, form] for seed in seeds]
        return [sum(row) / len(row) for row in zip(*some, strict=True)]

    def spread(interval: Interval) -> dict[str, float]:
        return Estimate.of(interval).to_dict()

    by_arm = {arm: {form: [of(arm, name, form) for name in HELD_OUT] for form in FORMS} for arm in ARMS}
    result = {
        "pictures": {
            name: {arm: {form: round(sum(x := of(arm, name, form)) / len(x), 4) for form in FORMS} for arm in ARMS}
            for name in HELD_OUT
        },
        "mean": {arm: {form: spread(mean_interval(by_arm[arm][form])) for form in FORMS} for arm in ARMS},
        "most_frequent": {  # what always giving the commonest right answer would score
            name: round(max(Counter(rights).values()) / len(rights), 4)
            for name in HELD_OUT
            if (rights := [right for _, _, right in tasks[name]["test"][: asked.examples]])
        },
        "generated_minus": {
            arm: {form: spread(paired_difference(by_arm["generated"][form], by_arm[arm][form])) for form in FORMS}
            for arm in ("base", "wrong-prompts")
        },
        "examples": asked.examples,
        "prompts": asked.prompts,
        "seeds": asked.seeds,
        "generator": asked.generator,
        "projector": json.loads((Path(asked.base) / "made_of.json").read_text(encoding="utf-8")),
        **origin(torch.float32),
    }
    write_json(asked.out, result)
    print(json.dumps({"mean": result["mean"], "generated_minus": result["generated_minus"]}, indent=1))


if __name__ == "__main__":
    main()
