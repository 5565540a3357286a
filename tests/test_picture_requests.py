"""Pictures in requests: OpenAI's image_url with data URLs, bounded, checked, and answered like anything else."""

import asyncio
import base64
import io

import numpy as np
import pytest
from picture_bases import picture, picture_bytes
from PIL import ExifTags, Image
from pydantic import ValidationError
from test_pictures import seeing

from prompt2lora.base.decoding import answers
from prompt2lora.errors import InputError, UsageError
from prompt2lora.ground import pictures
from prompt2lora.ground.pictures import Pictured, checked
from prompt2lora.serving import openai_requests
from prompt2lora.serving.embedded import EmbeddedEngine
from prompt2lora.serving.openai_requests import ChatRequest
from prompt2lora.serving.protocol import GenerationRequest, Message, SamplingParams
from prompt2lora.serving.replica import _body, _content


def url(seed=1, kind="png"):
    return f"data:image/{kind};base64,{base64.b64encode(picture_bytes(seed, form=kind.upper())).decode()}"


def request(*parts):
    said = [{"type": "image_url", "image_url": part} if isinstance(part, dict) else part for part in parts]
    said = [{"type": "text", "text": part} if isinstance(part, str) else part for part in said]
    return ChatRequest(model="job", messages=[{"role": "user", "content": said}])


def test_pictures_of_a_message_stand_before_its_text():
    asked = request("Which ", {"url": url(1)}, "is it?", {"url": url(2, "webp"), "detail": "low"}).generation(5.0)
    seen = asked.messages[0].content
    assert seen.text == "Which is it?"
    assert [one.image().size for one in seen.pictures] == [(12, 10), (12, 10)]
    assert seen.pictures[0] == picture(1)


@pytest.mark.parametrize(
    "image, said",
    [
        ("https://example.org/a.png", "must be a data URL of PNG, JPEG or WebP"),
        ("data:image/svg+xml;base64,AAAA", "must be a data URL of PNG, JPEG or WebP"),
        ("data:image/png;base64,A*A", "is not base64"),
        ("data:image/png;base64,", "a picture must be PNG or JPEG or WEBP, and this is not"),
        (url()[:-80], "this is not, or only part of one"),
        (url(1, "gif").replace("gif", "png"), "this is not"),
    ],
)
def test_what_is_no_picture_in_the_request_itself_is_refused_with_its_place(image, said):
    with pytest.raises(InputError, match=said) as told:
        request("Which?", {"url": image}).generation(5.0)
    assert "messages.0.content.1" in str(told.value)


def test_pictures_are_bounded_in_bytes_and_pixels_each_and_together(monkeypatch):
    with pytest.raises(ValidationError):
        request({"url": "data:image/png;base64," + "A" * 15 * 2**20})
    monkeypatch.setattr(openai_requests, "MOST_TOGETHER", 1000)
    assert len(request(*[{"url": url()}] * 8).generation(5.0).messages[0].content.pictures) == 8
    with pytest.raises(InputError, match="may have 1,000 pixels together and these have 1,080"):
        request(*[{"url": url()}] * 9).generation(5.0)
    monkeypatch.setattr(pictures, "MOST_PIXELS", 100)
    with pytest.raises(InputError, match="may have 100 pixels and this one has 120"):
        request({"url": url()}).generation(5.0)


def told(engine, *messages):
    async def said(message):
        ask = GenerationRequest("job", (message,), sampling=SamplingParams(max_new_tokens=6))
        return "".join([chunk.text async for chunk in engine.answer(None, ask)]).strip()

    async def crowd():
        return await asyncio.gather(*map(said, messages))

    return asyncio.run(crowd())


@pytest.fixture
def serving():
    begun = []

    def start(base):
        begun.append(EmbeddedEngine(base, lambda _: None, max_batch_size=3).start())
        return begun[-1]

    yield start
    for one in begun:
        asyncio.run(one.close(0))


def test_the_embedded_engine_answers_pictures_and_texts_in_one_batch_as_each_alone(serving):
    asks = [Pictured("Which?", (picture(1),)), "Which?", Pictured("Which?", (picture(2),))]
    base = seeing("idefics3")
    given = told(serving(seeing("idefics3")), *(Message("user", one) for one in asks))
    assert given == [answers(base.model, base.chat, [one], max_new_tokens=6)[0] for one in asks]
    assert given[0] != given[2]


def test_an_engine_that_cannot_read_a_picture_says_so(serving, frozen):
    asked = Message("user", Pictured("Which?", (picture(1),)))
    with pytest.raises(UsageError, match="reads only text, and a prompt holds a picture"):
        told(serving(frozen), asked)
    with pytest.raises(UsageError, match="counts a picture's places in three axes"):
        told(serving(seeing("qwen2_vl")), asked)


def test_vllm_gets_a_picture_that_it_would_read_otherwise_as_an_adapter_s_maker_saw_it():
    turned, photo, grey = Image.Exif(), io.BytesIO(), io.BytesIO()
    turned[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 20), "red").save(photo, "JPEG", exif=turned)
    Image.fromarray(np.arange(2**16, dtype=np.uint16).reshape(2**8, 2**8)).save(grey, "PNG")
    for data in (photo.getvalue(), grey.getvalue()):
        one = checked(data, "x")
        content = _content(Pictured("Which?", (one,)))
        sent = Image.open(io.BytesIO(base64.b64decode(content[0]["image_url"]["url"].partition(",")[2])))
        assert (sent.mode, sent.size) == ("RGB", one.image().size) and sent.tobytes() == one.image().tobytes()


def test_vllm_gets_pictures_as_they_came():
    body = _body("job", request({"url": url(1)}, "Which?").generation(5.0), None, 5)
    assert body["messages"] == [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": url(1)}}, {"type": "text", "text": "Which?"}],
        }
    ]
