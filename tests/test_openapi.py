"""The OpenAPI document is true: whatever it allows or forbids, the service answers as it says."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import sampled_from
from picture_bases import picture
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from serving import bearer, keys_of, service_of
from test_gateway import FROM
from tiny import AT, adapter_folder

from prompt2lora.custody.registry import Registry
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.job_queue import DONE, JobQueue
from prompt2lora.web import create_app

# What the document says of a picture is that it is whole, which no pattern tells.
schemathesis.openapi.format("picture-data-url", sampled_from([picture(seed).data_url for seed in (1, 2)]))


class Begun(JobQueue):
    """A queue whose jobs are over as soon as they begin: what they do needs a base, and is tested elsewhere."""

    def _run(self, work, function):
        work.state, work.result = DONE, {}


class Unread(Plant):
    """A plant that reads no prompts, for the same reason."""

    def check_prompts(self, prompts):
        return []


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    place = tmp_path_factory.mktemp("openapi")
    registry = Registry.open(place / "home", actor="maker", clock=lambda: AT)
    registry.add_job("mail")
    registry.promote("mail", registry.add_version("mail", adapter_folder(place / "a", "a"), FROM), "r", expected=None)
    service = service_of(registry, per_minute=10**6)
    service.plant, service.queue = Unread(registry), Begun(registry.clock)
    yield create_app(service), keys_of(registry)
    service.queue.close()
    registry.engine.dispose()


@pytest.mark.filterwarnings("ignore")
def test_the_service_answers_as_its_document_says(world):
    app, tokens = world
    document = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"host": "localhost"})
    tried = 0
    for found in document.get_all_operations():
        operation = found.ok()
        inference = operation.path.startswith("/v1")
        token = tokens["asks" if inference else "admin"]
        # Some rules of management no schema can tell: a version has to have passed, a name may be taken.
        without = [ignored_auth] if inference else [ignored_auth, positive_data_acceptance]
        tried += _try(operation, {**bearer(token), "host": "localhost"}, without)
    assert tried > 100


def _try(operation, headers, without):
    count = 0

    @given(case=operation.as_strategy())
    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def answers(case):
        nonlocal count
        count += 1
        case.call_and_validate(headers=headers, excluded_checks=without)

    answers()
    return count
