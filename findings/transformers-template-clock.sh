#!/usr/bin/env bash
# Expected: values given to apply_chat_template reach the template and hide what it knows under that name, so that a template
#   which writes today's date (strftime_now, as those of Granite 3, SmolLM3 and Llama 3.1 do) can be given one date for good.
# Seen, transformers 5.23.0: a value that is a function reaches the template as the text "<function>", under whatever name, and
#   the template fails where it calls it. Nothing is said where the value is handed over. A macro of that name, put before the
#   template, does what the value was meant to do.
# It matters to whoever trains or measures adapters on such a base: the same prompt has other tokens tomorrow than today, so a
#   run, a kept score or a digest of what was made cannot be repeated, unless the date is held.
# Sources: documentation of transformers, "Writing a chat template", callable functions; utils/chat_template_utils.py.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6

cd "$work"
HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PYTHON'
import sys
from datetime import date
from importlib.metadata import version

from jinja2 import TemplateError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

TEMPLATE = "Today: {{ strftime_now('%Y-%m-%d') }}. {{ messages[0].content }}"
MACRO = "{%- macro strftime_now(format) -%}2024-07-26{%- endmacro -%}"
words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")), unk_token="a")


def that_day(form):
    return date(2024, 7, 26).strftime(form)


def written(template, **values):
    try:
        said = [{"role": "user", "content": "Hello."}]
        return words.apply_chat_template(said, chat_template=template, tokenize=False, **values)
    except (TypeError, TemplateError) as error:
        return f"{type(error).__name__}: {error}"


print(f"transformers {version('transformers')}, jinja2 {version('jinja2')}")
found = {
    "no value": written(TEMPLATE),
    "a function as value": written(TEMPLATE, strftime_now=that_day),
    "what the template sees": written("{{ clock }}", clock=that_day),
    "a text as value": written("{{ clock }}", clock="2024-07-26"),
    "a macro": written(MACRO + TEMPLATE),
}
print("seen: " + "; ".join(f"{what}: {text}" for what, text in found.items()))
if "2024-07-26" in found["a function as value"] or "function" not in found["what the template sees"]:
    sys.exit("CHANGED: a function reaches the template as such")
if "2024-07-26" in found["no value"] or found["a text as value"] != "2024-07-26":
    sys.exit("CHANGED: today's date, or a text, is not what it was")
if found["a macro"] != "Today: 2024-07-26. Hello.":
    sys.exit("CHANGED: a macro does not hide the function")
print("as in the header")
PYTHON
