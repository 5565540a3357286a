"""Static word vectors as a text encoder: the released encoder's word pieces without any of its layers.

python benchmarks/word_vectors.py --out runs/word-vectors
"""

import argparse
from pathlib import Path

from transformers import AutoModel, AutoTokenizer

from prompt2lora.base.models import DEFAULT_ENCODER, locate
from prompt2lora.ground.files import check_new


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default=DEFAULT_ENCODER)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    check_new(asked.out, "output folder")
    source = locate(asked.encoder)
    AutoModel.from_pretrained(source, num_hidden_layers=0).save_pretrained(asked.out)
    AutoTokenizer.from_pretrained(source).save_pretrained(asked.out)


if __name__ == "__main__":
    main()
