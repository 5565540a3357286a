"""Synthetic training tasks in Japanese: office and factory work, instructions and inputs as one would type them there.

In: a random generator. Out: drafts (see drafts.py beside the English families), in a registry of their own: a recipe
draws from it only if its `languages` name "ja".

Left out on purpose are the jobs that the held-out Japanese tasks ask for: a time of day put into 24 hours, an inquiry
sent to one of the departments for accounts, general affairs, quality and shipping, a date of an era turned into a
Gregorian year-month-day, the number of a machine found in a report, and the family name of a person in a sentence.
(What comes near is other work: only the year of an era, or the date the other way round; the topic of a message;
numbers of parts and orders; names of firms.) Left out are also the parts of an input that English dev tasks ask for
(see materials.py): the last field of a line, the digits of a code, the longest of several words, the smaller number.
"""

from prompt2lora.training.synthetic.japanese import (
    choices,
    codes,
    dates,
    eras,
    letters,
    lists,
    mathematics,
    messages,
    money,
    notes,
    politeness,
    quantities,
    rules,
    tables,
)
from prompt2lora.training.synthetic.japanese.drafts import FAMILIES

__all__ = [
    "FAMILIES",
    "choices",
    "codes",
    "dates",
    "eras",
    "letters",
    "lists",
    "mathematics",
    "messages",
    "money",
    "notes",
    "politeness",
    "quantities",
    "rules",
    "tables",
]
