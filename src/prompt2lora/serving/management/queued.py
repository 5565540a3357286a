"""Long work: what is started by one request and looked up by later ones, and the check of prompts before it.

Prompts and examples come as JSON or as files; JSON holds pictures as data URLs, beside files they come as files.
`inspection` holds the examples that an adapter is judged on, `examples` those that it learns from.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import AfterValidator, Field, InstanceOf
from pydantic.json_schema import SkipJsonSchema

from prompt2lora.custody.access import LOOK, MAKE, RETURN, Key
from prompt2lora.errors import InputError, UsageError
from prompt2lora.ground.comparison import Comparison
from prompt2lora.ground.declared_form import declared
from prompt2lora.ground.pictures import Picture, Pictured, Prompt, of_data_url
from prompt2lora.ground.prompts import MAX_CHARACTERS, asked_in_full, check_prompts, full_examples, plain_lines
from prompt2lora.serving.bodies import PictureUrl, Taken, described, taking
from prompt2lora.serving.guard import Authenticator, Refused
from prompt2lora.serving.management.names import (
    Body,
    DisplayName,
    Job,
    Language,
    VersionName,
    known_job,
    known_version,
)
from prompt2lora.serving.service import MOST_EXAMPLES, MOST_PROMPTS, Service, queued_record

Text = Annotated[str, Field(max_length=MAX_CHARACTERS), AfterValidator(plain_lines)]
Instruction = Text
# What came as a file beside a form is a picture already, and no JSON.
Image = PictureUrl | SkipJsonSchema[InstanceOf[Picture]]


class PicturedPrompt(Body):
    prompt: Text
    image: Image


class ExampleBody(Body):
    input: Text
    output: Text
    image: Image | None = None


# As the option --answers of the command line, without files; or the form itself.
Answers = Annotated[str, Field(max_length=20_000)] | dict[str, Any]
Prompts = Annotated[tuple[Text | PicturedPrompt, ...], Field(max_length=MOST_PROMPTS)]
Examples = Annotated[tuple[ExampleBody, ...], Field(max_length=MOST_EXAMPLES)]


class GenerateRequest(Body):
    prompts: Prompts = ()
    instruction: Instruction = ""
    examples: Examples = ()
    inspection: Examples = ()
    answers: Answers = "free"
    comparison: Comparison | None = None
    display_name: DisplayName = ""


class EvaluateRequest(Body):
    inspection: Examples = ()


class RefineRequest(Body):
    examples: Annotated[Examples, Field(min_length=8)]
    steps: Annotated[int, Field(ge=1, le=1000)] = 48


class ExplainRequest(Body):
    language: Language = "en"


class RegenerateRequest(Body):
    jobs: Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=1000)] = ()


class CheckRequest(Body):
    prompts: Annotated[Prompts, Field(min_length=1)]
    instruction: Instruction = ""


def add_routes(made: APIRouter, service: Service, gate: Authenticator) -> None:
    registry, queue = service.plant.registry, service.queue
    looking, maker, returner = (Depends(gate.managing(verb)) for verb in (LOOK, MAKE, RETURN))

    # Bodies as JSON or as forms with files, read after the key was looked at.
    making, inspecting, refining, checking = (
        Depends(taking(kind, service.limits.body))
        for kind in (GenerateRequest, EvaluateRequest, RefineRequest, CheckRequest)
    )

    @made.post("/jobs/{job}/generate", status_code=202, openapi_extra=described(GenerateRequest))
    def generate(job: Job, key: Key = maker, taken: Taken = making) -> dict[str, Any]:
        """A pilot: an adapter from prompts and `examples` (one of them may be missing), measured on `inspection` and
        judged; an unknown job is added. `comparison` says how answers are compared with the right ones."""
        body, instruction = taken.body, taken.body.instruction.strip()
        examples = full_examples(instruction, _pairs(body.examples, "examples"))
        form = declared(body.answers, [right for _, right in examples])
        queued = service.generate(
            key.name,
            job,
            _full_prompts(body),
            _pairs(body.inspection, "inspection"),
            examples,
            form,
            comparison=body.comparison,
            display_name=body.display_name,
        )
        return {**queued_record(queued), **taken.as_json()}

    @made.post("/jobs/{job}/versions/{version}/evaluate", status_code=202, openapi_extra=described(EvaluateRequest))
    def evaluate(job: Job, version: VersionName, key: Key = maker, taken: Taken = inspecting) -> dict[str, Any]:
        """Evaluate and judge a version, on new examples or (without any) by what was measured of it."""
        known_version(registry, job, version)
        queued = service.inspect(key.name, job, version, _pairs(taken.body.inspection, "inspection"))
        return {**queued_record(queued), **taken.as_json()}

    @made.post("/jobs/{job}/versions/{version}/refine", status_code=202, openapi_extra=described(RefineRequest))
    def refine(job: Job, version: VersionName, key: Key = maker, taken: Taken = refining) -> dict[str, Any]:
        """The second stage, from a version, with labelled examples."""
        known_version(registry, job, version)
        queued = service.refine(key.name, job, version, _pairs(taken.body.examples, "examples"), taken.body.steps)
        return {**queued_record(queued), **taken.as_json()}

    @made.post("/jobs/{job}/versions/{version}/explain", status_code=202)
    def explain(job: Job, version: VersionName, body: ExplainRequest, key: Key = maker) -> dict[str, Any]:
        """Why a version is what it is."""
        known_version(registry, job, version)
        return queued_record(service.explain(key.name, job, version, body.language))

    @made.post("/jobs/{job}/replay", status_code=202)
    def replay(job: Job, key: Key = returner) -> dict[str, Any]:
        """Ask the current release the job's inspection examples again."""
        known_job(registry, job)
        return queued_record(service.replay(key.name, job))

    @made.post("/regenerate", status_code=202)
    def regenerate(body: RegenerateRequest, key: Key = maker) -> dict[str, Any]:
        """Candidates by the present generator for all jobs, or those named; releases stay."""
        return queued_record(service.regenerate(key.name, body.jobs))

    @made.get("/queue", dependencies=[looking])
    def queued_jobs() -> dict[str, Any]:
        """Queued jobs, newest first, without their results."""
        return {"queue": [{**queued_record(one), "result": None} for one in queue.recent()]}

    @made.get("/queue/{id}", dependencies=[looking])
    def queued_job(id: Annotated[str, Path(max_length=40)]) -> dict[str, Any]:
        """The progress of a queued job, and its result."""
        try:
            return queued_record(queue.get(id))
        except UsageError as error:
            raise Refused(404, str(error), "not_found") from error

    @made.post("/queue/{id}/cancel")
    def cancel(id: Annotated[str, Path(max_length=40)], key: Key = maker) -> dict[str, Any]:
        """Cancel a queued job: one that waits never begins, one that runs stops soon and leaves nothing half done."""
        try:
            return queued_record(service.cancel(key.name, id))
        except UsageError as error:
            raise Refused(404, str(error), "not_found") from error

    @made.post("/prompts/check", dependencies=[looking], openapi_extra=described(CheckRequest))
    def check(taken: Taken = checking) -> dict[str, Any]:
        """Advice on prompts before an adapter is made of them."""
        given = check_prompts(_full_prompts(taken.body))
        service.check_pictures(given)
        return {"prompts": len(given), "findings": service.plant.check_prompts(given), **taken.as_json()}


def _full_prompts(body: GenerateRequest | CheckRequest) -> list[Prompt]:
    """The prompts under their instruction. Raises InputError for a blank one, or a picture that is none."""
    found: list[Prompt] = []
    for number, one in enumerate(body.prompts):
        text, image = (one, None) if isinstance(one, str) else (one.prompt, one.image)
        found.append(asked_in_full(_prompt(text, image, f"prompts.{number}"), body.instruction.strip()))
    return found


def _pairs(examples: Examples, name: str) -> list[tuple[Prompt, str]]:
    """(input, right answer) of examples. Raises InputError for a blank one, or a picture that is none."""
    return [
        (_prompt(one.input, one.image, f"{name}.{number}"), _filled(one.output, f"{name}.{number}.output"))
        for number, one in enumerate(examples)
    ]


def _prompt(text: str, image: str | Picture | None, place: str) -> Prompt:
    text = _filled(text, place)
    if image is None:
        return text
    return Pictured(text, (of_data_url(image, f"{place}.image") if isinstance(image, str) else image,))


def _filled(text: str, place: str) -> str:
    """The text as it would come out of a file. Raises InputError if it is blank."""
    if not text.strip():
        raise InputError(
            "blank_text", f"{place}: a text is needed, and this one is blank; write one, or leave the row out"
        )
    return text.strip()
