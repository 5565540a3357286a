"""Notes of a workplace: one record of fields, written in many styles, and what one may ask of it.

In: the fields of a language and how a record is written in it. Out: drafts. It knows no language.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from prompt2lora.training.synthetic.drafts import Draft


@dataclass(frozen=True)
class Notes:
    """fields  name -> a value drawn for it
    styles  names of the styles, whole sentences first, which are drawn most
    write   (record, style, random generator) -> the note
    """

    fields: Mapping[str, Callable[[Random], str]]
    styles: tuple[str, ...]
    write: Callable[[dict[str, str], str, Random], str]

    def record(self, random: Random, needed: Sequence[str], without: Sequence[str] = ()) -> dict[str, str]:
        """The needed fields and two or three others, in any order."""
        others = [field for field in self.fields if field not in needed and field not in without]
        chosen = [*needed, *random.sample(others, random.randint(2, 3))]
        random.shuffle(chosen)
        return {field: self.fields[field](random) for field in chosen}

    def style(self, random: Random) -> str:
        return random.choice([self.styles[0], self.styles[0], *self.styles])

    def text(self, random: Random) -> str:
        """Any note."""
        return self.write(self.record(random, ()), random.choice(self.styles), random)

    def over(
        self,
        style: str,
        fields: Sequence[str],
        answer: Callable[[dict[str, str]], str],
        *wordings: str,
        values: Sequence[str] = (),
    ) -> Draft:
        """A question on notes that name `fields`; the first field's value is one of `values` if there are any."""

        def example(random: Random) -> tuple[str, str]:
            record = self.record(random, fields)
            if values:
                record[fields[0]] = random.choice(values)
            return self.write(record, style, random), answer(record)

        return Draft(wordings, example)
