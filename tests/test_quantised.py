"""A second adapter beside the shared one, kept as a change in four bits a number."""

import pytest
import torch

from prompt2lora.generator.generator import EXAMPLES, ExamplesStart, Generator
from prompt2lora.generator.quantised import CODES, SCALES, quantised, restored


@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 1, 5), (3, 5, 7)])
def test_a_change_comes_back_within_a_fourteenth_of_the_largest_number_of_its_row(shape):
    change = (
        torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 10.0 ** torch.arange(-4, shape[1] - 4)[:, None]
    )
    change[0, 0] = 0
    kept = quantised(change)
    found = restored(kept, shape)
    assert ((found - change).abs() <= change.abs().amax(-1, keepdim=True) / 14 * 1.01).all()
    assert kept[CODES].nbytes + kept[SCALES].nbytes <= change.numel() / 2 + 2 * shape[0] * shape[1] + 1
    again = quantised(found)
    assert all(torch.equal(again[name], kept[name]) for name in kept), "writing what was read changes nothing"


def test_a_generator_that_is_read_and_written_again_keeps_its_start_for_examples(generator, tmp_path):
    own = Generator(generator.config)
    own.load_state_dict(generator.state_dict())
    own.examples = ExamplesStart(own.start.detach() + torch.randn(own.start.shape) * 1e-3)
    own.save_pretrained(tmp_path / "one")
    found = Generator.from_pretrained(tmp_path / "one")
    assert 0 < (found.examples_start - own.examples_start).abs().max() < 1e-3
    found.save_pretrained(tmp_path / "two")
    assert torch.equal(Generator.from_pretrained(tmp_path / "two").examples_start, found.examples_start)
    assert (tmp_path / "one" / EXAMPLES).read_bytes() == (tmp_path / "two" / EXAMPLES).read_bytes()
