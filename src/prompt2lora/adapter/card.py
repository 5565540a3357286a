"""What an adapter folder says of itself to people: a model card, README.md, as hubs show it.

In: settings and counts. Out: Markdown with the front matter that hubs read. It reads no file and judges nothing.
"""

from __future__ import annotations

import json

CARD = "README.md"
_CARD = """\
---
base_model: {base_quoted}
library_name: peft
pipeline_tag: text-generation
license: other
license_name: as-the-base-model
tags:
- lora
- prompt2lora
---

# A LoRA adapter for {base}

Made by prompt2lora from {source}.

| | |
|---|---|
| base | `{base}` |
| rank, alpha | {rank}, {alpha} |
| modules | {targets} |
| generator (SHA-256) | `{generator}` |

{instruction}
{answers}
It has not been measured. `prompt2lora pilot` makes an adapter and inspects it on examples with right answers.

## Use

In PEFT; `FOLDER` is the folder of this file:

```python
from peft import PeftModel
from transformers import {model_class}, {reader_class}

base = {base_quoted}
{reader} = {reader_class}.from_pretrained(base)
model = PeftModel.from_pretrained({model_class}.from_pretrained(base), FOLDER)
```

On the command line: `prompt2lora ask --adapter FOLDER "your text"`. In vLLM:
`vllm serve {base} --enable-lora --max-lora-rank {rank} --lora-modules NAME=FOLDER`.

## Licence

An adapter works only with its base, so the licence of the base applies to its use.
"""


def card(
    base: str,
    rank: int,
    alpha: int,
    targets: list[str],
    generator: str,
    prompts: int,
    examples: int,
    instruction: str,
    answers: str = "",
    *,
    pictures: bool = False,
    from_base: bool = False,
    whole: bool = True,
) -> str:
    """The text of a model card; `generator` is a digest, `instruction` the one in the weights, `answers` their form,
    `pictures` whether the base reads them, `from_base` whether the instruction is all that is in the weights, `whole`
    whether all of it is."""
    counts = [f"{count} {what}{'s' * (count != 1)}" for count, what in ((prompts, "prompt"), (examples, "example"))]
    quoted = "> " + "\n> ".join(instruction.splitlines())
    told = (
        f"This instruction is in the weights, so requests can leave it out:\n\n{quoted}"
        if instruction and whole
        else f"The beginning of this instruction is in the weights; it is too long for all of it:\n\n{quoted}"
        if instruction
        else "No instruction is in the weights: ask with whole prompts, in the form of those it was made from."
    )
    if from_base:
        told += (
            "\n\nNothing else is in the weights: answers to such prompts are long, so the base writes them. If "
            "requests carry the instruction, the base alone does as well."
        )
    return _CARD.format(
        base=base,
        model_class="AutoModelForImageTextToText" if pictures else "AutoModelForCausalLM",
        reader_class="AutoProcessor" if pictures else "AutoTokenizer",
        reader="processor" if pictures else "tokenizer",
        base_quoted=json.dumps(base, ensure_ascii=False),
        source=" and ".join(one for one in counts if not one.startswith("0 ")),
        rank=rank,
        alpha=alpha,
        targets=", ".join(f"`{name}`" for name in targets),
        generator=generator or "unknown",
        instruction=told,
        answers=f"\nAnswers have the form `{answers}`; prompt2lora holds them to it; other engines have to be told.\n"
        if answers
        else "",
    )
