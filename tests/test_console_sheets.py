"""A whole spreadsheet is answered in the console, and taken away with its answers."""

import io
import time

import openpyxl
from test_console import app, approve, job, service, visit  # noqa: F401
from test_doors import excel

from prompt2lora.console.i18n import texts
from prompt2lora.serving.job_queue import DONE, FAILED

ROWS = [("id", "note"), ("1", "pump 3"), ("2", ""), ("3", "valve")]


def sent(browser, data, **fields):
    files = {"sheet_file": ("in.xlsx", data)} if data else {}
    return browser.post("/console/jobs/parts/sheet", data={"column": "note", "bound": "0", **fields}, files=files)


def ended(service, id):  # noqa: F811
    for _ in range(600):
        queued = service.queue.get(id)
        if queued.state in (DONE, FAILED):
            return queued
        time.sleep(0.05)
    raise AssertionError("it never ended")


def test_a_spreadsheet_is_answered_row_by_row_and_can_be_taken_away(visit, service, job):  # noqa: F811
    approve(service, job)
    with visit("operator") as browser:
        answer = sent(browser, excel(*ROWS))
        assert answer.status_code == 303 and "/console/queue/" in answer.headers["location"], answer.text
        queued = ended(service, answer.headers["location"].rpartition("/")[2])
        assert queued.state == DONE, queued.error
        assert [queued.result[which] for which in ("rows", "unsure", "wrong")] == [2, 0, 1]
        onward = browser.get(answer.headers["location"]).headers["location"]
        page = browser.get(onward).text
        place = f"/console/jobs/parts/sheet/{queued.result['file']}"
        assert f'class="button" href="{place}"' in page
        given = browser.get(place)
        assert given.headers["content-disposition"] == 'attachment; filename="parts-answered.xlsx"'
        rows = list(openpyxl.load_workbook(io.BytesIO(given.content)).active.iter_rows(values_only=True))
        assert rows[0] == ("id", "note", "answer", "confidence", "note")
        assert rows[1][2] == f"{job.name}: Say the number.\n\npump 3"
        assert rows[2][2:] == (None, None, "no text")
        again = sent(browser, excel(*ROWS))
        assert ended(service, again.headers["location"].rpartition("/")[2]).state == DONE


def test_an_answered_file_is_found_again_when_the_service_has_started_anew(visit, service, job):  # noqa: F811
    approve(service, job)
    page = "/console/jobs/parts/sheet"
    with visit("operator") as browser:
        assert texts("en")["sheet.files"] not in browser.get(page).text
        queued = ended(service, sent(browser, excel(*ROWS)).headers["location"].rpartition("/")[2])
        service.queue._jobs.clear()
        again = browser.get(page).text
        place = f"{page}/{queued.result['file']}"
        assert f'href="{place}"' in again and "in.xlsx" in again and "operator" in again
        assert browser.get(place).status_code == 200
        assert browser.get(f"/console/jobs/another/sheet/{queued.result['file']}").status_code == 404
        assert browser.get(f"{page}/{queued.result['file']}.note.json").status_code == 404


def test_the_column_and_its_first_rows_are_seen_before_anything_is_answered(visit, service, job):  # noqa: F811
    approve(service, job)
    browser, place = visit("operator"), "/console/jobs/parts/sheet/read"
    file = {"sheet_file": ("r.csv", "番号,担当,報告\n1,山,軸の音\n2,川,\n".encode(), "text/csv")}
    page = browser.post(place, files=file).text
    assert '<option value="2" selected>担当</option>' in page and "<li>山</li>" in page
    page = browser.post(place, data={"column": "3"}, files=file).text
    assert '<option value="3" selected>報告</option>' in page and "<li>軸の音</li>" in page
    assert 'name="column"' in page and "cannot be answered: 1" in page, "what cannot be asked is counted"
    assert texts("en")["read.texts"].format(count=1) in page and "Inputs" not in page, "they are no inputs of the job"
    other = {"sheet_file": ("o.csv", b"note,b\nx,y\n", "text/csv")}
    assert "<li>x</li>" in browser.post(place, data={"column": "報告"}, files=other).text, "chosen for another file"
    refused = browser.post(place, files={"sheet_file": ("a.pdf", b"%PDF-1.4")}).text
    assert texts("en")["error.file_type"].split("{")[0] in refused and "<select" not in refused
    assert service.queue.recent() == []


def test_what_cannot_be_answered_is_refused_before_anything_starts(visit, service, job):  # noqa: F811
    approve(service, job)
    with visit("operator") as browser:
        for data, fields, told in (
            (None, {}, "no_sheet"),
            (excel(*ROWS), {"bound": "200"}, "number"),
            (b"%PDF-1.4", {}, "file_type"),
            (excel(*ROWS), {"column": "price"}, "no_column"),
            (excel(("id", "note"), (1, None)), {}, "no_texts"),
        ):
            refused = sent(browser, data, **fields)
            assert refused.status_code == 400
            assert texts("en")[f"error.{told}"].split("{")[0].strip() in refused.text
            reading = refused.text.partition('id="sheet-read"')[2].partition(">")[0]
            assert ('hx-trigger="load, ' in reading) == bool(data), "how a kept file was read is told again"
    assert not service.queue.recent()


def test_a_job_that_was_never_released_answers_no_spreadsheet(visit, service, job):  # noqa: F811
    with visit("operator") as browser:
        page = browser.get("/console/jobs/parts/sheet")
        assert page.status_code == 200 and texts("en")["sheet.never"] in page.text
        assert sent(browser, excel(*ROWS)).status_code == 400


def test_a_viewer_may_look_and_not_start(visit, service, job):  # noqa: F811
    approve(service, job)
    with visit("viewer") as browser:
        assert texts("en")["word.ask_operator"] in browser.get("/console/jobs/parts/sheet").text
        assert sent(browser, excel(*ROWS)).status_code == 403


def test_the_page_is_there_in_both_languages(visit, service, job):  # noqa: F811
    approve(service, job)
    for language in ("en", "ja"):
        page = visit("operator", f"reader {language}", language).get("/console/jobs/parts/sheet").text
        assert texts(language)["sheet.title"] in page and texts(language)["tab.sheet"] in page
