"""Answering all rows of a file: answer. Thin, like all of the command line."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prompt2lora.cli.app import MAKE, AdapterBase, Json, Working, app, print_json, tell_reading
from prompt2lora.errors import UsageError
from prompt2lora.ground.files import check_new, hidden_beside, write_bytes
from prompt2lora.ground.profile import MAX_NEW_TOKENS

if TYPE_CHECKING:
    from prompt2lora.ground.answer_sheet import AnswerSheet


@app.command(rich_help_panel=MAKE)
def answer(
    file: Annotated[Path, typer.Option("--in", help="Rows to answer: CSV or Excel, or a text (one a line).")],
    out: Annotated[Path, typer.Option(help="Where to write the same file with the answers; must not exist.")],
    job: Annotated[str | None, typer.Option("--job", help="The job whose release answers.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="An adapter folder that answers instead.")] = None,
    column: Annotated[
        str, typer.Option(help="Column of the texts, by name or number; default: found automatically.")
    ] = "",
    instruction: Annotated[
        str, typer.Option("--instruction", help="With --adapter: put this instruction before every text.")
    ] = "",
    bound: Annotated[
        float, typer.Option(min=0, max=1, help="An answer that is less likely to be right than this becomes `unsure`.")
    ] = 0.0,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, max=4096, help="At most so many tokens in an answer.")
    ] = MAX_NEW_TOKENS,
    max_batch_size: Annotated[int, typer.Option(min=1, max=256, help="Rows answered at once.")] = 64,
    language: Annotated[str, typer.Option(help="Language of the three new columns: en or ja.")] = "en",
    base: AdapterBase = None,
    as_json: Json = False,
) -> None:
    """Answer every row of a file, many at once; if interrupted, run it again and it continues."""
    from prompt2lora.ground.answer_sheet import HEADS, read_answer_sheet

    if (job is None) == (adapter is None):
        raise UsageError("name what answers: either a job with --job or an adapter folder with --adapter")
    if instruction and job:
        raise UsageError("the instruction of a job is kept with its version; leave --instruction out")
    if language not in HEADS:
        raise UsageError(f"the new columns can be in {' or '.join(HEADS)}, not in {language!r}; name one of these")
    sheet = read_answer_sheet(file, column)
    _check_out(sheet, out)
    tell_reading(sheet.reading)
    with Working("answering", resumable=True) as show:
        from prompt2lora.evaluation.score_cache import ScoreCache
        from prompt2lora.serving import offline

        asked = (
            offline.by_job(job, base) if job else offline.by_folder(Path(adapter or ""), base, instruction=instruction)
        )
        request = replace(
            asked.request, bound=bound, max_new_tokens=max_new_tokens, at_once=max_batch_size, language=language
        )
        rows = offline.answer(replace(asked, request=request), sheet.texts, ScoreCache(_kept(out)), show)
    write_bytes(out, sheet.filled(rows, language))
    _kept(out).unlink(missing_ok=True)
    unsure = sum(bool(request.is_unsure(row)) for row in rows.values())
    failed = {line: row.note for line, row in rows.items() if row.failed}
    told: dict[str, Any] = {
        "out": str(out),
        "rows": len(sheet.texts),
        "unsure": unsure,
        "wrong_rows": {**sheet.wrong, **failed},
        "calibrated_on": request.calibration.examples,
    }
    if as_json:
        print_json({**told, "read": [sheet.reading.to_dict()]})
        return
    print(f"{out}: {len(sheet.texts)} rows answered, {unsure} of them unsure")
    for line, why in sorted({**sheet.wrong, **failed}.items()):
        print(f"row {line}: {why}", file=sys.stderr)
    if not request.calibration.examples:
        print("The confidence is the model's own; it was not calibrated on inspected examples", file=sys.stderr)


def _check_out(sheet: AnswerSheet, out: Path) -> None:
    """Raises UsageError before anything is loaded."""
    check_new(out, "output file")
    if out.suffix.lower().removeprefix(".") != sheet.ending:
        raise UsageError(
            f"the answers go into the kind of file that was read; let the name after --out end in .{sheet.ending}"
        )


def _kept(out: Path) -> Path:
    """Where answers are kept until all are there."""
    return hidden_beside(out, "answers")
