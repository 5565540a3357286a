"""Families over messages to a firm, by topic."""

from __future__ import annotations

from random import Random

from prompt2lora.training.synthetic import vocabulary
from prompt2lora.training.synthetic.drafts import Draft, draw_labels, family, over_kinds


def _message(topic: str, random: Random) -> str:
    template = random.choice(vocabulary.MESSAGES[topic])
    text = template.format(
        p=random.choice(vocabulary.PRODUCTS),
        c=random.choice(vocabulary.CITIES),
        n=random.randint(2, 40),
        d=random.choice(vocabulary.DAYS),
    )
    return random.choice(["", "", "Hello, ", "Dear team, ", "Hi, "]) + text


def message_text(random: Random) -> str:
    return _message(random.choice(list(vocabulary.MESSAGES)), random)


@family
def topic_of_message(random: Random) -> Draft:
    chosen = random.sample(list(vocabulary.MESSAGES), random.randint(2, 5))
    return over_kinds(
        chosen,
        _message,
        str,
        f"Classify the message: {', '.join(chosen)}.",
        f"What is it about: {' or '.join(chosen)}?",
        f"Route the message to {', '.join(chosen)}.",
    )


@family
def lettered_topic(random: Random) -> Draft:
    chosen = random.sample(list(vocabulary.MESSAGES), random.randint(2, 4))
    marks = dict(zip(chosen, random.choice(["ABCD", "1234", "PQRS", "XYZW"]), strict=False))
    parts = ", ".join(f"{mark} for {topic}" for topic, mark in marks.items())
    return over_kinds(chosen, _message, marks.__getitem__, f"Write {parts}.")


@family
def is_topic(random: Random) -> Draft:
    wanted = random.choice(list(vocabulary.MESSAGES))
    good, bad = draw_labels(random)

    def example(random: Random) -> tuple[str, str]:
        topic = (
            wanted
            if random.random() < 0.5
            else random.choice([topic for topic in vocabulary.MESSAGES if topic != wanted])
        )
        return _message(topic, random), good if topic == wanted else bad

    return Draft(
        (
            f"Is the message about {wanted}? Answer {good} or {bad}.",
            f"Write {good} for a message about {wanted}, {bad} for any other.",
        ),
        example,
    )


@family
def city_or_day_of_message(random: Random) -> Draft:
    what, values = random.choice(
        [("city", vocabulary.CITIES), ("day", vocabulary.DAYS), ("product", vocabulary.PRODUCTS)]
    )

    def example(random: Random) -> tuple[str, str]:
        text = message_text(random)
        found = [
            value for value in values if value in text.replace("?", " ").replace(".", " ").replace(",", " ").split()
        ]
        return text, found[0] if found else "none"

    return Draft(
        (
            f'Write the {what} named in the message, or "none".',
            f"Which {what} does the customer name? none if there is none.",
        ),
        example,
    )
