"""What is given to whoever runs the service: the unit and the container start what the command line knows."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from prompt2lora.cli.main import app

DEPLOY = Path(__file__).parents[1] / "deploy"


def unit_words():
    text = (DEPLOY / "prompt2lora.service").read_text()
    return shlex.split(re.search(r"^ExecStart=\S+ (.*)$", text, re.M)[1])


def container_words():
    text = (DEPLOY / "Containerfile").read_text()
    return re.findall(r'"([^"]*)"', re.search(r"^CMD (.*)$", text.split("ENTRYPOINT")[1], re.M)[1])


@pytest.mark.parametrize("words", [unit_words, container_words])
def test_the_command_that_is_started_is_one_of_ours(words):
    verb, *options = words()
    command = typer.main.get_command(app).commands[verb]
    context = command.make_context(verb, options)
    assert context.params["port"] == 8000


def test_the_unit_waits_longer_than_the_service_takes_to_end():
    from prompt2lora.web import GRACE

    patience = int(re.search(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "prompt2lora.service").read_text(), re.M)[1])
    assert patience >= GRACE


def test_both_start_without_asking_an_address_outside():
    for file in DEPLOY.iterdir():
        assert "HF_HUB_OFFLINE=1" in file.read_text()


def test_the_container_installs_what_the_makefile_installs():
    packs = re.compile(r"--no-deps (\S+==\S+) (\S+==\S+)")
    made = packs.search((DEPLOY.parent / "Makefile").read_text()).groups()
    assert packs.search((DEPLOY / "Containerfile").read_text()).groups() == made
