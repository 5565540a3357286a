"""Families over single words and their letters."""

from __future__ import annotations

from random import Random

from prompt2lora.training.synthetic.drafts import NUMBER_WORDS, ORDINALS, Draft, draw_word, family, over_words, whether


@family
def nth_letter(random: Random) -> Draft:
    n = random.randrange(1, 4)
    place = ORDINALS[n]
    return over_words(
        lambda word: word[n],
        f"Write the {place} letter.",
        f"What is the {place} letter of the word?",
        f"Letter {n + 1} of it.",
    )


@family
def letters_at_start(random: Random) -> Draft:
    n = random.randrange(2, 5)
    count = NUMBER_WORDS[n - 1]
    return over_words(
        lambda word: word[:n],
        f"Write the first {count} letters.",
        f"Give the {count} letters at the start of the word.",
    )


@family
def letters_at_end(random: Random) -> Draft:
    n = random.randrange(2, 5)
    count = NUMBER_WORDS[n - 1]
    return over_words(
        lambda word: word[-n:], f"Write the last {count} letters.", f"Give the {count} letters at the end of the word."
    )


@family
def without_start(random: Random) -> Draft:
    n = random.randrange(1, 3)
    what = ("first letter", "first two letters")[n - 1]
    return over_words(lambda word: word[n:], f"Write the word without its {what}.", f"Remove the {what}.")


@family
def without_end(random: Random) -> Draft:
    n = random.randrange(1, 3)
    what = ("last letter", "last two letters")[n - 1]
    return over_words(lambda word: word[:-n], f"Write the word without its {what}.", f"Cut off the {what}.")


@family
def remove_letter(random: Random) -> Draft:
    letter = random.choice("aeiortnl")
    return over_words(
        lambda word: word.replace(letter, ""), f"Remove every letter {letter}.", f"Write the word without any {letter}."
    )


@family
def replace_letter(random: Random) -> Draft:
    old, new = random.sample("aeioutnrl", 2)
    return over_words(
        lambda word: word.replace(old, new), f"Replace every {old} by {new}.", f"Change each letter {old} into {new}."
    )


@family
def put_before(random: Random) -> Draft:
    mark = random.choice(
        ["pre", "re", "un", "super", "X", "No. ", "the ", "my ", "old ", "new ", "@", "$", "~", "=", "my-"]
    )
    return over_words(
        lambda word: mark + word, f'Put "{mark.strip()}" before the word.', f'Begin with "{mark}", then the word.'
    )


@family
def put_after(random: Random) -> Draft:
    mark = random.choice(
        ["s", "ness", "ful", "-x", "...", " please", " today", ".txt", ".csv", ":", "%", "-2", " shop"]
    )
    return over_words(
        lambda word: word + mark, f'Put "{mark.strip()}" after the word.', f'Write the word, then "{mark}".'
    )


@family
def put_around(random: Random) -> Draft:
    left, right = random.choice(
        [("<", ">"), ("{", "}"), ("__", "__"), ("|", "|"), ("~", "~"), ("(", ")"), ("`", "`"), ("**", "**")]
    )
    return over_words(
        lambda word: f"{left}{word}{right}",
        f"Write the word between {left} and {right}.",
        f"Wrap it in {left} {right}.",
    )


@family
def repeat_word(random: Random) -> Draft:
    times = random.randrange(2, 5)
    mark, name = random.choice(
        [("+", "plus signs"), ("_", "underscores"), ("/", "slashes"), (".", "dots"), ("*", "stars"), ("", "nothing")]
    )
    count = ("two", "three", "four")[times - 2]
    return over_words(
        lambda word: mark.join([word] * times),
        f"Write the word {count} times with {name} between.",
        f"Repeat it {count} times, joined by {name}.",
    )


@family
def letter_case(random: Random) -> Draft:
    change, name = random.choice(
        [
            (str.upper, "in capital letters"),
            (str.capitalize, "with a capital first letter"),
            (lambda w: w[:-1] + w[-1].upper(), "with a capital last letter"),
        ]
    )
    return over_words(change, f"Write the word {name}.", f"Copy it {name}.")


@family
def spell(random: Random) -> Draft:
    mark, name = random.choice([("-", "hyphens"), (" ", "spaces"), (".", "dots"), (",", "commas")])
    return over_words(
        lambda word: mark.join(word[:8]),
        f"Spell the word with {name} between the letters.",
        f"Put {name} between all letters.",
    )


@family
def word_length(random: Random) -> Draft:
    extra = random.randrange(0, 3)
    what = ("", " plus one", " plus two")[extra]
    return over_words(
        lambda word: str(len(word) + extra),
        f"Write the number of letters of the word{what}.",
        f"How long is the word{what}?",
    )


@family
def contains_letter(random: Random) -> Draft:
    letter = random.choice("aeiotnrls")
    return whether(random, f"does the word contain the letter {letter}", draw_word, lambda word: letter in word)


@family
def starts_with(random: Random) -> Draft:
    letters = "".join(sorted(random.sample("abcdefghijklmnoprstvw", 6)))
    return whether(
        random,
        f"does the word begin with one of the letters {', '.join(letters)}",
        draw_word,
        lambda word: word[0] in letters,
    )


@family
def is_longer(random: Random) -> Draft:
    n = random.randrange(5, 7)
    return whether(random, f"is the word longer than {n} letters", draw_word, lambda word: len(word) > n)
