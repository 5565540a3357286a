"""Pictures through the doors of a service: management over HTTP, and the console's pages."""

import re

import pytest
from picture_bases import picture, picture_bytes, write_picture_base
from serving import keys_of, service_of
from test_console import app, job, service, visit  # noqa: F401
from test_gateway import FROM, kept  # noqa: F401
from test_management import call, send
from tiny import adapter_folder

from prompt2lora.console.i18n import LANGUAGES, Translator
from prompt2lora.custody.evaluations import Evaluation, Inspected
from prompt2lora.custody.versions import Origin
from prompt2lora.errors import UsageError
from prompt2lora.ground.pictures import Pictured
from prompt2lora.serving import service as serving_service
from prompt2lora.serving.job_queue import QueuedJob

TABLE = b"image,input\n1.png,Which?\n2.png,Which?\n"
EXAMPLES = b"image,input,output\n3.png,Which?,three\n"
ASKED = [Pictured("Name it.\n\nWhich?", (picture(seed),)) for seed in (1, 2)]


def file(seed):
    return (f"{seed}.png", picture_bytes(seed), "image/png")


def sent(*seeds, name="pictures"):
    return [(name, file(seed)) for seed in seeds]


@pytest.fixture(scope="module")
def picture_base(tmp_path_factory):
    return write_picture_base(tmp_path_factory.mktemp("models") / "llava", "llava")


@pytest.fixture
def tokens(kept):  # noqa: F811
    return keys_of(kept)


def recording(made):
    """The same service, and what its long work was given instead of beginning."""
    given = []
    made.queue.start = lambda kind, work, actor, run, asked: QueuedJob("1", kind, work, actor, "")
    for verb in ("generate", "inspect", "refine"):
        real = getattr(made, verb)
        setattr(made, verb, lambda *words, real=real, **more: given.append(words[2:]) or real(*words, **more))
    return given


@pytest.fixture
def seeing(kept, picture_base):  # noqa: F811
    """A service of a base that reads pictures, and what its work was given."""
    made = service_of(kept)
    made.engine.base = picture_base
    return made, recording(made)


def test_files_that_name_pictures_come_with_them_and_json_holds_them(seeing, tokens):
    made, given = seeing
    path, token = "/admin/jobs/mail/generate", tokens["operator"]
    files = [("prompts", ("p.csv", TABLE)), ("inspection", ("i.csv", EXAMPLES)), *sent(1, 2, 3)]
    answer = send(made, path, token, files, {"instruction": "Name it."})
    assert answer.status_code == 202, answer.text
    body = {
        "instruction": "Name it.",
        "prompts": [{"prompt": "Which?", "image": picture(seed).data_url} for seed in (1, 2)],
        "inspection": [{"input": "Which?", "output": "three", "image": picture(3).data_url}],
    }
    answer = call(made, "POST", path, token, body)
    assert answer.status_code == 202, answer.text
    assert given == [(ASKED, [(Pictured("Which?", (picture(3),)), "three")], [], None)] * 2


def test_examples_with_pictures_refine_and_inspect_over_http(seeing, tokens, kept, tmp_path):  # noqa: F811
    made, given = seeing
    version = kept.add_version("mail", adapter_folder(tmp_path / "a", "a"), FROM).name
    table = b"image,input,output\n" + b"3.png,Which?,three\n" * 8
    expected = [(Pictured("Which?", (picture(3),)), "three")] * 8
    for verb, name in (("refine", "examples"), ("evaluate", "inspection")):
        files = [(name, ("e.csv", table)), *sent(3)]
        answer = send(made, f"/admin/jobs/mail/versions/{version}/{verb}", tokens["operator"], files)
        assert answer.status_code == 202, answer.text
    assert [words[1] for words in given] == [expected] * 2


@pytest.mark.parametrize(
    ("pictures", "told"),
    [
        (sent(1), r"p.csv:3: the image 2.png was not sent \(these came along: 1.png\)"),
        ([], r"p.csv:2: the image 1.png was not sent \(no pictures came along\)"),
        (sent(1, 2, 3), "the picture 3.png was sent, and no prompt or example names"),
        (sent(1, 1, 2), "pictures: every picture is a file with a name of its own"),
        ([*sent(2), ("pictures", ("1.png", b"GIF89a"))], "p.csv:2: 1.png: a picture must be PNG"),
    ],
)
def test_pictures_that_do_not_fit_their_files_are_refused_in_one_line(seeing, tokens, pictures, told):
    made, given = seeing
    files = [("prompts", ("p.csv", TABLE)), *pictures]
    answer = send(made, "/admin/jobs/mail/generate", tokens["operator"], files)
    assert answer.status_code == 400
    assert re.search(told, answer.json()["error"]["message"]), answer.text
    assert not given


def test_json_that_holds_no_picture_is_refused_with_its_place(seeing, tokens):
    made, _ = seeing
    body = {"prompts": ["one", {"prompt": "Which?", "image": "data:image/png;base64,AAAA"}]}
    answer = call(made, "POST", "/admin/jobs/mail/generate", tokens["operator"], body)
    assert (answer.status_code, "prompts.1.image: a picture must be" in answer.text) == (400, True), answer.text


def test_all_pictures_of_a_request_are_bounded_together_at_every_door(seeing, tokens, kept, tmp_path, monkeypatch):  # noqa: F811
    """One that several rows name counts once."""
    made, _ = seeing
    pixels = picture(1).pixels
    monkeypatch.setattr(serving_service, "MOST_OF_A_JOB", 2 * pixels)
    token = tokens["operator"]
    version = kept.add_version("mail", adapter_folder(tmp_path / "a", "a"), FROM).name
    table = b"image,input,output\n" + b"".join(b"%d.png,Which?,three\n" % (1 + row % 3) for row in range(8))
    few = table.replace(b"3.png", b"1.png")
    for name, path in (
        ("prompts", "/admin/jobs/mail/generate"),
        ("examples", "/admin/jobs/mail/generate"),
        ("prompts", "/admin/prompts/check"),
        ("inspection", f"/admin/jobs/mail/versions/{version}/evaluate"),
        ("examples", f"/admin/jobs/mail/versions/{version}/refine"),
    ):
        answer = send(made, path, token, [(name, ("t.csv", table)), *sent(1, 2, 3)])
        told = (
            f"all pictures of a request may have {2 * pixels} pixels together and these have {3 * pixels}; send fewer"
        )
        assert answer.status_code == 400 and told in answer.json()["error"]["message"], (path, answer.text)
        if path.startswith("/admin/jobs"):
            assert send(made, path, token, [(name, ("t.csv", few)), *sent(1, 2)]).status_code == 202, path
    prompts = [{"prompt": "Which?", "image": picture(seed).data_url} for seed in (1, 2, 3)]
    answer = call(made, "POST", "/admin/jobs/mail/generate", token, {"prompts": prompts})
    assert (answer.status_code, "pixels together" in answer.text) == (400, True)


def test_a_photograph_is_taken_where_a_request_may_be_so_large(kept, tokens, picture_base):  # noqa: F811
    photograph = ("pictures", ("1.png", picture_bytes(1, 1000, 900), "image/png"))
    said = []
    for limits in ({}, {"body": 4 * 2**20}):
        made = service_of(kept, **limits)
        made.engine.base = picture_base
        recording(made)
        files = [("prompts", ("p.csv", b"image,input\n1.png,Which?\n")), photograph]
        said.append(send(made, "/admin/jobs/mail/generate", tokens["operator"], files).status_code)
    assert said == [413, 202]


def test_a_service_of_a_base_that_reads_text_alone_takes_no_pictures(kept, tokens, base):  # noqa: F811
    for name in (base, "a base that is not here"):
        made = service_of(kept)
        made.engine.base = name
        files = [("prompts", ("p.csv", TABLE)), *sent(1, 2)]
        for path in ("/admin/jobs/new/generate", "/admin/prompts/check"):
            answer = send(made, path, tokens["operator"], files)
            assert answer.status_code == 400
            assert "reads only text, and a prompt holds a picture" in answer.json()["error"]["message"]
    assert "new" not in kept.jobs()


# The console


@pytest.fixture
def pages(visit, service, picture_base):  # noqa: F811
    """An operator's browser before a service of a base that reads pictures, and what its work was given."""
    service.engine.base = picture_base
    given = recording(service)
    return visit("operator"), given


def test_a_new_job_takes_pictures_where_the_base_reads_them_and_says_why_not_elsewhere(visit, service, picture_base):  # noqa: F811
    for language in LANGUAGES:
        page = visit("operator", name=language, language=language).get("/console/new").text
        assert 'name="pictures_file"' not in page
        assert Translator(language).say("pictures.none") in page


def test_chosen_pictures_are_shown_small_before_anything_is_sent(pages):
    browser, _ = pages
    assert 'name="pictures_file" multiple' in browser.get("/console/new").text
    part = browser.post("/console/new/pictures", files=sent(1, 2, name="pictures_file")).text
    assert part.count('<img src="data:image/jpeg;base64,') == 2
    assert "1.png" in part and "Pictures: 2." in part
    part = browser.post("/console/new/pictures", files=[("pictures_file", ("x.png", b"no picture"))]).text
    assert "“x.png” cannot be read as a picture" in part


def test_a_new_job_is_made_of_typed_rows_that_name_pictures_and_a_refused_form_keeps_them(pages):
    browser, given = pages
    typed = {"instruction": "Name it.", "prompts": TABLE.decode(), "inspection": EXAMPLES.decode()}
    refused = browser.post("/console/new", data=typed, files=sent(1, 2, 3, name="pictures_file"))
    assert refused.status_code == 400
    assert "1.png, 2.png, 3.png" in refused.text
    token = re.search(r'name="pictures_kept" value="([^"]+)"', refused.text)[1]
    assert browser.post("/console/new/pictures", data={"pictures_kept": token}).text.count("<img") == 3
    answer = browser.post("/console/new", data={**typed, "job": "digits", "pictures_kept": token})
    assert answer.status_code == 303, answer.text
    assert given == [(ASKED, [(Pictured("Which?", (picture(3),)), "three")], [], None)]


@pytest.mark.parametrize(
    ("seeds", "told"),
    [((1, 2, 4), "No input or example names the picture “4.png”"), ((1,), "The picture “2.png” is named but was not")],
)
def test_pictures_that_do_not_fit_the_rows_are_told(pages, seeds, told):
    browser, given = pages
    typed = {"job": "digits", "prompts": TABLE.decode()}
    answer = browser.post("/console/new", data=typed, files=sent(*seeds, name="pictures_file"))
    assert (answer.status_code, told in answer.text, given) == (400, True, []), answer.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_why_pictures_are_not_taken_is_told_in_both_languages(language):
    told = Translator(language)
    for line, name in (
        ("b reads only text, and a prompt holds a picture; leave pictures out", "text_alone"),
        ("this generator reads only texts and a prompt holds a picture; name another", "texts_of_pictures"),
    ):
        assert told.explain(UsageError(line)) == told.say(f"error.{name}")


def test_inspected_pictures_are_shown_small_to_those_who_may_look(visit, service, job):  # noqa: F811
    registry = service.plant.registry
    measured = registry.measured(job)
    seen = Inspected("Which?", "A-1", "no", "A-1", pictures=(picture(1),))
    registry.add_evaluation(job, Evaluation(measured.metrics, measured.scores, [seen]))
    browser = visit("viewer")
    place = f"/console/pictures/{picture(1).digest}"
    assert f'src="{place}"' in browser.get("/console/jobs/parts/inspection").text
    answer = browser.get(place)
    assert (answer.status_code, answer.headers["content-type"], answer.content[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert "immutable" in answer.headers["cache-control"]
    for wrong in (picture(2).digest, "..%2F..%2Fregistry.db", "x"):
        assert browser.get(f"/console/pictures/{wrong}").status_code == 404
    assert visit().get(place).status_code == 401


def test_a_version_made_of_pictures_has_every_page(visit, service, job, tmp_path):  # noqa: F811
    made = Origin(ASKED, "9" * 64, "g", "b", "8" * 64, examples=[(ASKED[0], "one")])
    service.plant.registry.add_version("parts", adapter_folder(tmp_path / "pictured", "two"), made)
    browser = visit("viewer")
    for page in ("try", "inspection", "why", "engineer"):
        assert browser.get(f"/console/jobs/parts/{page}").status_code == 200
    assert browser.get("/console/jobs/parts/engineer").text.count(picture(1).digest) == 2


def test_a_version_is_tried_on_a_picture(pages, job):  # noqa: F811
    browser, _ = pages
    answer = browser.post("/console/jobs/parts/try", data={"text": "Which?"}, files=sent(5, name="pictures_file"))
    assert answer.status_code == 200
    assert answer.text.count(picture(5).digest) == 2, "the base and the version saw it"
