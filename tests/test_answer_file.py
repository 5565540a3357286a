"""All rows of a file are answered: the same file comes back, work goes on after a cut, and nothing is half written."""

import asyncio
import csv
import io
import json
import threading
import time
from dataclasses import replace

import openpyxl
import pytest
from serving import GivesItselfAway, running, service_of
from test_doors import excel, saved, separated
from test_engine import adapters, engine, frozen, version  # noqa: F401
from tiny import command, new_registry, promoted

import prompt2lora as p2l
from prompt2lora.base.weights import weights_digest
from prompt2lora.custody.catalogue import Catalogue
from prompt2lora.custody.versions import Origin
from prompt2lora.errors import Busy, Conflict, InputError, Unavailable
from prompt2lora.evaluation.score_cache import ScoreCache
from prompt2lora.ground import answer_form as forms
from prompt2lora.ground.answer_sheet import (
    CUT,
    ERROR_VALUE,
    HALF_TEXT,
    LONG_TEXT,
    NO_TEXT,
    WIDE_ROW,
    RowAnswer,
    note_in,
    read_answer_sheet,
    refusal_in,
)
from prompt2lora.ground.progress import Cancelled
from prompt2lora.ground.tables import File
from prompt2lora.plant.calibration import ENOUGH, calibrate
from prompt2lora.serving import answer_file, offline
from prompt2lora.serving.answer_file import RowsRequest, answer_rows
from prompt2lora.serving.answered_files import AnsweredFile
from prompt2lora.web import create_app

LABELS = forms.choices(["billing", "shipping", "returns"])
ROWS = [("番号", "報告", "日付"), ("1", "ポンプ 3", "x"), ("2", "", "y"), ("3", "バルブ", "z")]
ANSWERS = {2: RowAnswer("=1+1", 0.91), 4: RowAnswer("要確認", 0.3, "returns?")}


def test_an_excel_file_comes_back_with_three_columns_and_all_else_as_it_was():
    sheet = read_answer_sheet(File("in.xlsx", excel(*ROWS, sheets=("other",))), "報告")
    assert sheet.texts == {2: "ポンプ 3", 4: "バルブ"} and sheet.wrong == {3: NO_TEXT}
    book = openpyxl.load_workbook(io.BytesIO(sheet.filled(ANSWERS, "ja")))
    rows = list(book.active.iter_rows(values_only=True))
    assert [row[:3] for row in rows] == [tuple(cell or None for cell in row) for row in ROWS]
    assert [row[3:] for row in rows] == [
        ("回答", "確信度", "備考"),
        ("=1+1", 0.91, None),
        (None, None, "テキストなし"),
        ("要確認", 0.3, "returns?"),
    ]
    assert book.active.cell(2, 4).data_type == "s"  # no formula
    assert book.sheetnames == ["Sheet", "other"]


def test_every_note_of_a_row_is_in_the_language_of_the_columns():
    for note in (NO_TEXT, LONG_TEXT, HALF_TEXT, WIDE_ROW, ERROR_VALUE, CUT):
        assert note_in("ja", note) != note == note_in("en", note)
    assert note_in("ja", "returns?") == "returns?"


def test_what_an_engine_says_of_a_row_is_told_in_the_language_of_the_columns():
    long = "prompt and answer may have 2048 tokens together and this request needs 9000 + 1; shorten the prompt"
    assert refusal_in("en", long) == long
    assert refusal_in("ja", long) == "元のモデルが一度に読める長さ（2048 トークン）を超えています"
    short = "the base reads 512 tokens, prompt and answer together, and a prompt has 600; shorten it"
    assert refusal_in("ja", short) == "元のモデルが一度に読める長さ（512 トークン）を超えています"
    assert refusal_in("ja", "a prompt must have at least one token; write something") == note_in("ja", NO_TEXT)
    assert refusal_in("ja", "anything else") == "回答できません（anything else）"


@pytest.mark.parametrize("far", [60, 16384])
def test_answers_stand_beside_what_is_written_and_not_beside_cells_with_a_colour_alone(far):
    book = openpyxl.load_workbook(io.BytesIO(excel(*ROWS)))
    book.active.cell(1, far).fill = openpyxl.styles.PatternFill("solid", fgColor="FFFF00")
    book.active.cell(6, 5, "=1+1")
    book.active.merge_cells("C4:F4")
    sheet = read_answer_sheet(File("in.xlsx", saved(book)), "報告")
    given = openpyxl.load_workbook(io.BytesIO(sheet.filled(ANSWERS))).active
    assert [given.cell(row, 7).value for row in (1, 2, 4)] == ["answer", "=1+1", "要確認"]


def test_a_row_whose_text_is_an_error_of_excel_is_not_asked():
    sheet = read_answer_sheet(File("in.xlsx", excel(("text",), ("#N/A",), ("a",))))
    assert sheet.texts == {3: "a"} and sheet.wrong == {2: ERROR_VALUE}


def test_a_row_without_a_text_is_not_said_to_lack_an_answer():
    sheet = read_answer_sheet(File("in.csv", separated(ROWS, ",").encode()), "報告")
    assert sheet.reading.left_out == "1 that cannot be asked"


def test_an_answer_with_letters_that_excel_forbids_loses_them_and_not_the_file():
    sheet = read_answer_sheet(File("in.xlsx", excel(*ROWS)), "報告")
    book = openpyxl.load_workbook(io.BytesIO(sheet.filled({2: RowAnswer("a\x00b\x0bc", 0.5)})))
    assert book.active.cell(2, 4).value == "abc"


@pytest.mark.parametrize(("codec", "delimiter"), [("utf-8-sig", ";"), ("cp932", ","), ("utf-16", "\t")])
def test_a_csv_file_comes_back_in_its_encoding_with_its_delimiter(codec, delimiter):
    data = separated(ROWS, delimiter).encode(codec)
    sheet = read_answer_sheet(File("in.csv", data), "報告")
    given = sheet.filled({2: RowAnswer("billing", 0.5), 4: RowAnswer("returns", 1.0)}).decode(codec)
    rows = list(csv.reader(io.StringIO(given, newline=""), delimiter=delimiter))
    assert [tuple(row[:3]) for row in rows] == ROWS
    assert [row[3:] for row in rows] == [
        ["answer", "confidence", "note"],
        ["billing", "0.50", ""],
        ["", "", NO_TEXT],
        ["returns", "1.00", ""],
    ]


def test_a_csv_file_comes_back_with_the_line_that_tells_its_delimiter_and_with_its_blank_rows():
    data = b'sep=;\r\nno;text\r\n\r\n1;"two\r\nlines"\r\n\r\n\r\n2;b\r\n'
    sheet = read_answer_sheet(File("in.csv", data), "text")
    given = sheet.filled({line: RowAnswer("A", 0.5) for line in sheet.texts}).decode()
    assert given.splitlines() == [
        "sep=;", "no;text;answer;confidence;note", "", '1;"two', 'lines";A;0.50;', "", "", "2;b;A;0.50;",
    ]  # fmt: skip


def test_an_answer_that_the_encoding_lacks_makes_the_file_utf8_with_its_mark():
    sheet = read_answer_sheet(File("in.csv", separated(ROWS, ",").encode("cp932")), "報告")
    assert "😀" in sheet.filled({2: RowAnswer("😀")}).decode("utf-8-sig")


def test_rows_that_cannot_be_asked_are_kept_and_named():
    data = f"id,text\n1,a\n2,{'x' * 20001}\n3,b,c,d\n4,\n5,e\n".encode()
    sheet = read_answer_sheet(File("in.csv", data), "text")
    assert sheet.texts == {2: "a", 6: "e"}
    assert sheet.wrong == {3: LONG_TEXT, 4: WIDE_ROW, 5: NO_TEXT}
    lines = sheet.filled({2: RowAnswer("A"), 6: RowAnswer("E")}).decode().splitlines()
    assert len(lines) == 6 and lines[3].endswith(WIDE_ROW)


def test_a_sheet_with_many_rows_that_are_too_wide_is_read_once():
    """Reading it anew for each of them takes a minute."""
    rows = [f"{number},a text,{'too wide' if number % 10 == 0 else ''}" for number in range(30_000)]
    began = time.process_time()
    sheet = read_answer_sheet(File("in.csv", "\n".join(["id,text", *rows]).encode()), "text")
    assert time.process_time() - began < 8
    assert sheet.reading.left_out == "3000 that cannot be asked"
    assert len(sheet.texts) == 27_000 and {*sheet.wrong.values()} == {WIDE_ROW}
    with pytest.raises(InputError, match=r"in\.csv:2: a row may have 2 cells"):
        read_answer_sheet(File("in.csv", b"id,text\n1,a,b\n"))


def test_a_plain_text_becomes_a_table_and_json_is_refused():
    sheet = read_answer_sheet(File("in.txt", b"one\ntwo\n"))
    assert sheet.filled({1: RowAnswer("1", 0.5)}).decode().splitlines() == [
        "text,answer,confidence,note",
        "one,1,0.50,",
        "two",
    ]
    with pytest.raises(InputError, match="CSV or Excel"):
        read_answer_sheet(File("in.jsonl", b'{"input": "a"}\n'))


TEXTS = {number: f"row {number % 17} {'x' * (number % 5)}" for number in range(40)}


def asked(layout, **changes):
    return RowsRequest("job", version(layout, 1), LABELS, **{"instruction": "Do.", "max_new_tokens": 20, **changes})


def test_many_rows_at_once_are_answered_as_each_is_alone(engine, layout, tmp_path):  # noqa: F811
    serving, request = engine(max_batch_size=8), asked(layout)

    async def work():
        many = await answer_rows(serving, request, TEXTS, ScoreCache(tmp_path / "kept"))
        one = {
            line: (await answer_rows(serving, request, {line: text}, ScoreCache(tmp_path / f"{line}")))[line]
            for line, text in [*TEXTS.items()][:6]
        }
        return many, one

    many, one = asyncio.run(work())
    assert many.keys() == TEXTS.keys() and {row.answer for row in many.values()} <= {*LABELS.choices}
    for line, row in one.items():
        assert many[line].answer == row.answer
        assert many[line].confidence == pytest.approx(row.confidence, abs=1e-3)


class Counting:
    """An engine that is gone after so many answers."""

    base = "b"

    def __init__(self, engine, most):  # noqa: F811
        self.engine, self.most, self.asks = engine, most, 0

    async def answer(self, version, request):
        self.asks += 1
        if self.asks > self.most:
            raise Unavailable("gone")
        async for chunk in self.engine.answer(version, request):
            yield chunk


def test_work_that_was_cut_off_at_any_row_goes_on_and_asks_nothing_twice(engine, layout, tmp_path):  # noqa: F811
    serving, request, file = engine(max_batch_size=8), asked(layout, at_once=4), tmp_path / "kept"
    distinct = len({*TEXTS.values()})

    async def work():
        first = Counting(serving, 10)
        with pytest.raises(Unavailable):
            await answer_rows(first, request, TEXTS, ScoreCache(file))
        with file.open("ab") as stream:
            stream.write(b'{"key": "torn')  # as a kill leaves it
        kept = len(ScoreCache(file)._known)
        second = Counting(serving, 10**6)
        told = []
        found = await answer_rows(second, request, TEXTS, ScoreCache(file), told.append)
        return kept, second.asks, found, told

    kept, asks, found, told = asyncio.run(work())
    assert 0 < kept <= 10 and asks == distinct - kept
    assert found.keys() == TEXTS.keys()
    assert told[0] == {"done": kept, "of": distinct}
    assert (told[-1]["done"], told[-1]["of"]) == (distinct, distinct)


class Crowded(Counting):
    """An engine that is too busy for every second request."""

    async def answer(self, version, request):
        self.asks += 1
        if self.asks % 2:
            raise Busy("others are waiting")
        async for chunk in self.engine.answer(version, request):
            yield chunk


def test_a_busy_engine_is_asked_again_until_it_is_not_or_the_work_is_cancelled(engine, layout, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(answer_file, "_PAUSE", 0.0)
    serving, texts = engine(), {1: "a", 2: "b"}

    def cancelled(record):
        seen.append(record)
        if len(seen) > 1:
            raise Cancelled

    async def work():
        found = await answer_rows(Crowded(serving, 0), asked(layout, at_once=1), texts, ScoreCache(tmp_path / "kept"))
        with pytest.raises(Cancelled):
            await answer_rows(Crowded(serving, 0), asked(layout), texts, ScoreCache(tmp_path / "other"), cancelled)
        return found

    seen = []
    found = asyncio.run(work())
    assert all(row.answer in LABELS.choices for row in found.values())
    assert not (tmp_path / "other").exists()


def test_below_the_bound_an_answer_is_unsure_and_a_row_too_long_is_named(engine, layout, tmp_path):  # noqa: F811
    serving = engine()

    async def rows(request, texts):
        return await answer_rows(serving, request, texts, ScoreCache(tmp_path / "kept"))

    sure = asyncio.run(rows(asked(layout), {1: "a"}))[1]
    unsure = asyncio.run(rows(asked(layout, bound=1.0), {1: "a", 2: "x" * 3000}))
    assert unsure[1] == ("unsure", sure.confidence, f"{sure.answer}?")
    assert unsure[2].answer == "" and "tokens together" in unsure[2].note


def test_an_answer_that_was_cut_off_is_not_of_its_form_and_so_unsure(engine, layout, tmp_path):  # noqa: F811
    request = asked(layout, max_new_tokens=2)
    row = asyncio.run(answer_rows(engine(), request, {1: "a"}, ScoreCache(tmp_path / "kept")))[1]
    assert row.answer == "unsure" and "cut off" in row.note


def test_confidences_become_shares_that_rank_answers_as_before():
    confidences = [n / 100 for n in range(100)]
    right = [n % 10 < n / 10 * 0.6 for n in range(100)]  # too sure of itself: 0.9 is right in 6 of 10
    rule = calibrate(confidences, right)
    shares = [rule.share(one) for one in confidences]
    assert rule.examples == 100 and shares == sorted(shares)
    assert sum(shares) == pytest.approx(sum(right), abs=2)
    assert rule.share(0.9) == pytest.approx(0.6, abs=0.12)


def test_few_examples_change_no_confidence_and_examples_that_say_the_contrary_flatten_it():
    assert calibrate([0.5] * (ENOUGH - 1), [True] * (ENOUGH - 1)).share(0.3) == 0.3
    all_right = calibrate([n / 50 for n in range(50)], [True] * 50)
    assert 0.9 < all_right.share(0.5) < 1
    contrary = calibrate([n / 50 for n in range(50)], [n < 25 for n in range(50)])
    assert contrary.share(0.1) == contrary.share(0.9) == pytest.approx(0.5, abs=0.05)


def test_the_command_answers_a_file_by_an_adapter_and_leaves_one_file(generator_folder, base, tmp_path):
    p2l.generate(["a", "b c"], tmp_path / "made", form=LABELS, generator=generator_folder, base=base)
    source, out = tmp_path / "in.xlsx", tmp_path / "sub" / "out.xlsx"
    source.write_bytes(excel(*ROWS))
    words = ("answer", "--adapter", tmp_path / "made", "--in", source, "--column", "報告", "--out", out)
    code, told, errors = command(*words, "--bound", 0.9, "--json")
    assert code == 0, errors
    found = json.loads(told)
    assert found["rows"] == 2 and found["wrong_rows"] == {"3": NO_TEXT}
    assert [file.name for file in out.parent.iterdir()] == ["out.xlsx"]
    given = [row[3] for row in openpyxl.load_workbook(out).active.iter_rows(min_row=2, values_only=True)]
    assert given[1] is None and {given[0], given[2]} <= {*LABELS.choices, "unsure"}
    assert command(*words)[0] == 2  # it is there already


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--adapter", "a", "--job", "b"), "either"),
        ((), "either"),
        (("--job", "b", "--instruction", "x"), "--instruction"),
        (("--adapter", "a", "--language", "fr"), "'fr'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(tmp_path, words, told):
    (tmp_path / "in.csv").write_text("text\na\n")
    code, _, errors = command("answer", "--in", tmp_path / "in.csv", "--out", tmp_path / "out.csv", *words)
    assert code == 2 and told in errors
    code, _, errors = command("answer", "--in", tmp_path / "in.csv", "--out", tmp_path / "out.xlsx", "--adapter", "a")
    assert code == 2 and ".csv" in errors


def rows_of(count):
    return "\n".join(["text", *(f"row {number}" for number in range(count))])


def test_the_same_file_for_two_jobs_with_the_same_adapter_is_answered_twice(registry):
    sheet = read_answer_sheet(File("rows.csv", rows_of(2).encode()))
    names = {
        AnsweredFile(sheet, RowsRequest(job, None), GivesItselfAway(), "me", registry.clock).name
        for job in ("mail", "notes")
    }
    assert len(names) == 2, "each stays with its job"


def test_a_file_under_way_is_not_finished_by_a_release_that_was_taken_back(registry, add):
    promoted(registry, add("a"))
    promoted(registry, add("b"))
    service = service_of(registry)
    service.engine.wait = 0.3
    with running(create_app(service)):
        queued = service.answer_file("me", "mail", File("rows.csv", rows_of(200).encode()))
        while not queued.progress.get("done"):
            time.sleep(0.01)
        registry.rollback("mail", "worse")
        while not queued.over:
            time.sleep(0.01)
    assert queued.state == "failed" and "another release has answered mail since" in queued.error
    assert queued.progress["done"] < 200 and service.engine.left > 0, "nothing is asked for it any more"


def test_requests_are_answered_while_a_file_under_way_waits_for_the_database(registry, add, monkeypatch):
    promoted(registry, add("a"))
    service, asked_by = service_of(registry), set()
    service.engine.wait = 0.3
    current = Catalogue.current

    def noted(catalogue, job):
        asked_by.add(threading.current_thread().name)
        return current(catalogue, job)

    with running(create_app(service)):
        monkeypatch.setattr(Catalogue, "current", noted)
        queued = service.answer_file("me", "mail", File("rows.csv", rows_of(40).encode()))
        while not queued.over:
            time.sleep(0.01)
    assert queued.state == "done"
    assert {name.partition("_")[0] for name in asked_by} == {"MainThread", "queue"}, "and never the event loop's"


def test_the_command_leaves_no_file_of_a_release_that_was_taken_back(generator_folder, base, tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    registry = new_registry(tmp_path / "home", actor="tests")
    registry.add_job("mail")
    p2l.generate(["a", "b c"], tmp_path / "made", generator=generator_folder, base=base)
    origin = Origin(("a", "b c"), "9" * 64, "g", base, weights_digest(base))
    promoted(registry, registry.add_version("mail", tmp_path / "made", origin))
    asked = replace(offline.by_job("mail").request, at_once=2, max_new_tokens=4)
    kept, seen = ScoreCache(tmp_path / "kept"), []

    def told(record):
        if record.get("done") == 2 and not seen:
            seen.append(registry.rollback("mail", "worse"))

    with pytest.raises(Conflict, match="another release has answered mail since"):
        offline.answer(replace(offline.by_job("mail"), request=asked), {n: f"row {n}" for n in range(9)}, kept, told)
    assert len(kept._known) == 4
    registry.engine.dispose()
