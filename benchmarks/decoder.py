"""Our decoder against the published Drag-and-Drop shape, for the same weight layout, in one run.

    python benchmarks/decoder.py --out benchmarks/results/decoder.json

Both are the same code (`prompt2lora.generator.decoder`) with other numbers. The published shape is that of the
0.5B commonsense configuration (nine stages, kernel 9, weight tokens of 10 x 130), its last stage as long as
this layout needs; its conditions are 128 prompts of 384 word pieces. Weights are random: only size and time count.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base import models
from prompt2lora.base.versions import origin
from prompt2lora.evaluation.statistics import spread
from prompt2lora.generator.config import GeneratorConfig
from prompt2lora.generator.decoder import HyperConvDecoder, published
from prompt2lora.generator.generator import Generator
from prompt2lora.ground.files import write_json


@torch.inference_mode()
def seconds(run, repeats: int) -> list[float]:
    run()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return found


def entry(parameters: int, times: list[float]) -> dict:
    return {
        "parameters": parameters,
        "seconds": {**spread(times, digits=6)._asdict(), "runs": len(times)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default=models.DEFAULT_BASE)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--reference-repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    layout = LoraLayout.from_config(models.load_config(options.base), base_model=options.base)

    ours = Generator(GeneratorConfig.sized(layout)).eval()
    conditions, mask = torch.randn(1, 16, ours.config.width), torch.ones(1, 16, dtype=torch.bool)
    ours_entry = entry(ours.trained_parameters, seconds(lambda: ours(conditions, mask), options.repeats))

    reference = HyperConvDecoder(published(layout.parameters)).eval()
    count = sum(parameter.numel() for parameter in reference.parameters())
    grid = torch.randn(1, *reference.config.stages[0])
    results = {"ours, float32": ours_entry}
    for dtype in (torch.float32, torch.bfloat16):
        reference.to(dtype)
        times = seconds(lambda dtype=dtype: reference(grid.to(dtype)), options.reference_repeats)
        results[f"published shape, {str(dtype).removeprefix('torch.')}"] = entry(count, times)
    fastest = min(item["seconds"]["median"] for name, item in results.items() if name.startswith("published"))
    report = {
        "layout": {
            "base": layout.base_model,
            "rank": layout.rank,
            "grid": layout.shape,
            "parameters": layout.parameters,
        },
        "decoders": results,
        "times_fewer_parameters": count / ours.trained_parameters,
        "times_faster_than_the_faster_reference": fastest / ours_entry["seconds"]["median"],
        "seed": 0,
        "threads": torch.get_num_threads(),
        **origin(),
    }
    write_json(options.out, report)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
