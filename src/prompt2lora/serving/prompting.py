"""A request as the base reads it: token ids, and how many tokens its answer may have.

In: a request, the base's chat format, how much the engine reads. Out: ids, and the request with its limit. Texts of
users are texts: what looks like a control token in them is letters.
"""

from __future__ import annotations

from dataclasses import replace

from prompt2lora.base.chat import ChatFormat
from prompt2lora.errors import UsageError
from prompt2lora.ground.pictures import pictures_of, text_of
from prompt2lora.ground.profile import MAX_NEW_TOKENS
from prompt2lora.serving.protocol import GenerationRequest


def prompt_ids(chat: ChatFormat, request: GenerationRequest) -> list[int]:
    """Raises UsageError for a prompt without a token, and for messages that the base's template does not take."""
    ids = chat.conversation_ids(request.messages) if request.messages else chat.text_ids(request.text)
    if not ids:
        raise UsageError("a prompt must have at least one token; write something")
    return ids


def readable_ids(chat: ChatFormat, request: GenerationRequest) -> list[int] | None:
    """The same for an engine elsewhere that reads messages with pictures itself: None for these.

    Raises UsageError for such a message that holds a control token, which that engine would not take for letters.
    """
    said = [message.content for message in request.messages]
    if not any(pictures_of(one) for one in said):
        return prompt_ids(chat, request)
    for one in said:
        if mark := chat.mark_in(text_of(one)):
            raise UsageError(
                f"beside pictures this engine would read {mark} as a control token; leave it out of the text"
            )
    return None


def with_room(request: GenerationRequest, prompt: int, context_length: int) -> GenerationRequest:
    """The same request after a prompt of so many tokens, for as many as there is room for if it does not say how many.

    Raises UsageError if there is no room for those that it asks for, or for any.
    """
    wanted, room = request.sampling.max_new_tokens, context_length - prompt
    if room < (wanted or 1):
        raise UsageError(
            f"prompt and answer may have {context_length} tokens together and this request needs "
            f"{prompt} + {wanted or 1}; shorten the prompt or ask for fewer new tokens"
        )
    limit = wanted or min(MAX_NEW_TOKENS, room)
    return replace(request, sampling=replace(request.sampling, max_new_tokens=limit))
