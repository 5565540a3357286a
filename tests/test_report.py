import json
import re

import pytest

from prompt2lora import verbs
from prompt2lora.errors import DamagedFile, UsageError


@pytest.fixture
def results(tasks_folder, generator_folder, tmp_path):
    folder = tmp_path / "results"
    verbs.benchmark([tasks_folder], out=folder / "small.json", generator=generator_folder, limit=2, prompts_per_task=3)
    return folder


def test_the_page_shows_what_the_file_says_and_names_it(results, tmp_path):
    written = verbs.report(results, tmp_path / "docs" / "benchmark.md")
    page = written[0].read_text(encoding="utf-8")
    result = json.loads((results / "small.json").read_text())
    assert "`small.json`" in page
    for form in ("full", "bare"):
        for arm, cell in result["mean"][form].items():
            assert f"| {arm} | {cell['score']:.3f} ({cell['low']:.3f} to {cell['high']:.3f}) |" in page
        picture = tmp_path / "docs" / "images" / f"small-{form}.png"
        assert picture in written
        assert picture.read_bytes().startswith(b"\x89PNG")
    for link in re.findall(r"\]\((.+?)\)", page):
        assert (tmp_path / "docs" / link).exists()


def test_the_same_results_give_the_same_page(results, tmp_path):
    pages = [verbs.report(results, tmp_path / name / "page.md") for name in ("a", "b")]
    for left, right in zip(*pages, strict=True):
        assert left.read_bytes() == right.read_bytes()


def test_a_folder_without_results_and_a_broken_file_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no result"):
        verbs.report(tmp_path, tmp_path / "page.md")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DamagedFile, match="broken"):
        verbs.report(tmp_path, tmp_path / "page.md")
