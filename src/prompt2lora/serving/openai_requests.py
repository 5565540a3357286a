"""The bodies of requests for answers, as OpenAI documents them: which fields there are and what is refused.

In: JSON. Out: a `GenerationRequest`. A field that cannot be honoured is refused by name; a picture comes in the request
itself (a data URL), for nothing is fetched. It knows neither HTTP nor an engine.
Source of the fields: https://platform.openai.com/docs/api-reference.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from prompt2lora.base.constraints import check
from prompt2lora.ground.answer_form import AnswerForm, schema
from prompt2lora.ground.pictures import MOST_TOGETHER, Picture, Pictured, check_together, of_data_url, pictures_of
from prompt2lora.serving.bodies import PictureUrl
from prompt2lora.serving.protocol import GenerationRequest, Message, SamplingParams

MOST_CHOICES = 8
_TEXT = 200_000  # most characters of one text
Text = Annotated[str, Field(max_length=_TEXT)]
JobName = Annotated[str, Field(min_length=1, max_length=200)]


# Fields that may be there as long as they ask for nothing.
Nothing = Annotated[list[Any], Field(max_length=0)] | None
NoEntries = Annotated[dict[str, Any], Field(max_length=0)] | None
Label = Annotated[str, Field(max_length=500)] | None


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: Text


class ImageUrl(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: PictureUrl
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["image_url"]
    image_url: ImageUrl

    def picture(self, place: str) -> Picture:
        """Raises InputError for anything but a data URL of a picture that is whole and not too large."""
        return of_data_url(self.image_url.url, place)


ContentPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[ContentPart], Field(min_length=1, max_length=100)]
    name: Annotated[str, Field(max_length=200)] | None = None
    # What OpenAI's client has beside in an answer, which is appended to a conversation as it came.
    refusal: None = None
    annotations: Nothing = None
    audio: None = None
    function_call: None = None
    tool_calls: Nothing = None

    def plain(self, place: str) -> Message:
        """The pictures of a message stand together, where the base's chat format has them. Raises InputError."""
        parts = [TextPart(type="text", text=self.content)] if isinstance(self.content, str) else self.content
        text = "".join(part.text for part in parts if isinstance(part, TextPart))
        seen = [
            part.picture(f"{place}.content.{number}")
            for number, part in enumerate(parts)
            if isinstance(part, ImagePart)
        ]
        role = "system" if self.role == "developer" else self.role
        return Message(role, Pictured(text, tuple(seen)) if seen else text)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False
    include_obfuscation: bool = False


class JsonSchema(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=200)]
    description: Annotated[str, Field(max_length=2000)] | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextFormat(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]

    def form(self) -> AnswerForm | None:
        return None


class JsonFormat(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["json_object"]

    def form(self) -> AnswerForm | None:
        return schema({"type": "object"})


class SchemaFormat(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["json_schema"]
    json_schema: JsonSchema

    def form(self) -> AnswerForm | None:
        return check(schema(self.json_schema.schema_ or {"type": "object"}))


class CompletionFields(BaseModel):
    """What both kinds of request have in common; every other field is refused."""

    model_config = ConfigDict(extra="forbid")
    model: JobName
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    stop: (
        Annotated[str, Field(min_length=1, max_length=200)]
        | Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=4)]
        | None
    ) = None
    seed: Annotated[int, Field(ge=-(2**53), le=2**53)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    logit_bias: NoEntries = None
    user: Label = None

    def sampling(self, max_new_tokens: int | None) -> SamplingParams:
        """Without a temperature the likeliest tokens are chosen: what a pilot measured is then what answers."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return SamplingParams(
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            max_new_tokens=max_new_tokens,
            stop=tuple(stops),
        )


class ChatRequest(CompletionFields):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=200)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    response_format: Annotated[TextFormat | JsonFormat | SchemaFormat, Field(discriminator="type")] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Nothing = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    functions: Nothing = None
    function_call: Literal["none", "auto"] | None = None
    store: Literal[False] | None = None
    metadata: NoEntries = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    service_tier: Literal["auto", "default"] | None = None
    audio: None = None
    prediction: None = None
    reasoning_effort: None = None
    verbosity: None = None
    web_search_options: None = None
    safety_identifier: Label = None
    prompt_cache_key: Label = None

    def generation(self, seconds: float) -> GenerationRequest:
        messages = tuple(message.plain(f"messages.{number}") for number, message in enumerate(self.messages))
        check_together([one for message in messages for one in pictures_of(message.content)], MOST_TOGETHER)
        return GenerationRequest(
            self.model,
            messages,
            sampling=self.sampling(self.max_completion_tokens or self.max_tokens),
            seconds=seconds,
            stream=bool(self.stream),
            form=self.response_format.form() if self.response_format else None,
            logprobs=self.top_logprobs or (0 if self.logprobs else None),
        )


def _alone(prompt: Any) -> Any:
    """The text itself of a list that holds one."""
    if isinstance(prompt, list) and len(prompt) != 1:
        raise ValueError(f"one text is taken at a time, not {len(prompt)}; send a request for each")
    return prompt[0] if isinstance(prompt, list) else prompt


OpenText = Annotated[str, Field(min_length=1, max_length=_TEXT)]
OneText = Annotated[list[OpenText], Field(min_length=1, max_length=1)]


class TextRequest(CompletionFields):
    prompt: Annotated[OpenText, BeforeValidator(_alone, json_schema_input_type=OpenText | OneText)]
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: Literal[""] | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    def generation(self, seconds: float) -> GenerationRequest:
        return GenerationRequest(
            self.model,
            text=self.prompt,
            sampling=self.sampling(self.max_tokens),
            seconds=seconds,
            stream=bool(self.stream),
            logprobs=self.logprobs,
        )
