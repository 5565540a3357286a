"""The pilot's order and its page: nothing is released unjudged, and nothing of the user's becomes HTML."""

import html
import json
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from inspect import signature
from pathlib import Path

import pytest
from tiny import GOOD, adapter_folder, promoted

from prompt2lora.cli.pilot import _print_checks
from prompt2lora.cli.pilot import pilot as command
from prompt2lora.console.i18n import Translator
from prompt2lora.custody import decisions, gate, pilot, reports
from prompt2lora.custody.costs import RECORDED, Prices, Tuning, read_prices
from prompt2lora.custody.evaluations import Evaluation, Inspected, Metrics
from prompt2lora.custody.evaluator import MadeAdapter
from prompt2lora.custody.explanations import (
    AnsweredText,
    Explanation,
    NearTask,
    PromptInfluence,
    Spectrum,
    WeightHealth,
)
from prompt2lora.custody.gate import Policy, judge
from prompt2lora.custody.pilot import PilotRequest
from prompt2lora.custody.versions import Origin
from prompt2lora.errors import UsageError
from prompt2lora.generator import prompt_checks
from prompt2lora.ground.comparison import Comparison
from prompt2lora.plant import measurement as mathematics

PROMPTS = [f"Do it.\n\n{i}" for i in range(16)]
ROUND = Prices()
INSPECTION = [(str(i), str(i)) for i in range(40)]
SCORES = {
    "base": {"score": 0.05, "low": 0.0, "high": 0.1},
    "generated": {"score": 0.5, "low": 0.4, "high": 0.6},
    "wrong": {"score": 0.1, "low": 0.05, "high": 0.2},
    "gain": {"score": 0.45, "low": 0.3, "high": 0.6},
}


class KnownEvaluator:
    """An evaluator whose measurements are given."""

    def __init__(self, numbers=GOOD, scores=SCORES, text="an input"):
        self.numbers, self.scores, self.text, self.calls = numbers, scores, text, []

    def advise(self, prompts):
        self.calls.append("advise")
        return [{"kind": "few", "grave": False, "prompts": [2], "text": "one is odd", "remedy": "look at it"}]

    def make(self, prompts, folder, examples=(), form=None):
        self.calls.append("make")
        adapter_folder(folder, "made")
        origin = Origin(prompts, "9" * 64, "g", "base", "8" * 64)
        return MadeAdapter(folder, origin, {"encode": 0.05, "decode": 0.02, "write": 0.03})

    def measure(self, folder, origin, inspection):
        self.calls.append("measure")
        self.compared = origin.comparison
        assert (folder / "adapter_model.safetensors").exists()
        numbers = {key: value for key, value in self.numbers.items() if key != "signature"}
        inspected = [Inspected(self.text, "right", "base says", "adapter says")] * len(inspection)
        return Evaluation(Metrics.read(numbers), self.scores if inspection else {}, inspected, {"check": 36.0})

    def tune(self, instruction, inspection):
        self.calls.append("tune")
        return Tuning(80.0, 48, len(inspection), True, "measured by this pilot")


@pytest.fixture
def run_pilot(registry, tmp_path):
    def run(evaluator, inspection=INSPECTION, prices=ROUND, **asked):
        return pilot.run(
            PilotRequest("mail", PROMPTS, inspection, **asked),
            evaluator=evaluator,
            registry=registry,
            policy=Policy(),
            place=tmp_path / f"place{len(registry.versions('mail'))}",
            prices=prices,
        )

    return run


def test_a_pilot_that_passes_and_is_approved_releases_its_version(run_pilot, registry):
    evaluator = KnownEvaluator()
    found = run_pilot(evaluator, approve=True)
    assert evaluator.calls == ["advise", "make", "measure"]
    assert found.verdict.result == "pass"
    assert registry.current("mail").version.name == found.release == found.version
    assert registry.verdict(registry.versions("mail")[0]) == "pass"
    assert registry.verify_audit() == 5, "job, version, evaluation, verdict, release"


def test_a_release_that_came_meanwhile_holds_an_approved_version_back_and_the_report_is_there(run_pilot, registry, add):
    other = add("other")

    class Interrupted(KnownEvaluator):
        def measure(self, *asked):
            promoted(registry, other)
            return super().measure(*asked)

    found = run_pilot(Interrupted(), approve=True)
    assert (found.verdict.result, found.release) == ("pass", None)
    assert "meanwhile" in found.held
    assert registry.current("mail").version == other


def test_without_approval_nothing_is_released(run_pilot, registry):
    found = run_pilot(KnownEvaluator())
    assert (found.release, found.recommendation) == (None, "promote")
    assert registry.current("mail") is None


@pytest.mark.parametrize(
    ("numbers", "result", "recommendation"),
    [
        ({**GOOD, "gain": {"low": -0.1, "p_value": 0.5}}, "fail", "keep base"),
        ({key: value for key, value in GOOD.items() if key != "bias"}, "not enough evidence", "gather"),
    ],
)
def test_what_does_not_pass_is_not_released_even_if_approved(run_pilot, registry, numbers, result, recommendation):
    found = run_pilot(KnownEvaluator(numbers), approve=True)
    assert (found.verdict.result, found.recommendation) == (result, recommendation)
    assert found.release is None
    assert registry.current("mail") is None


def test_the_result_is_json_with_verdict_release_and_reasons(run_pilot):
    data = json.loads(json.dumps(run_pilot(KnownEvaluator(), approve=True).to_dict()))
    assert data["verdict"] == "pass"
    assert data["release"].startswith("mail@v1-")
    assert {check["metric"] for check in data["checks"]} >= {"gain over the base", "signature"}
    costs = {cost["step"]: cost for cost in data["costs"]}
    assert costs.keys() == {"collecting", "labelling", "generating", "checking"}
    assert costs["generating"]["money"] == pytest.approx(0.1 / 3600 * 0.06 * 0.30)
    assert costs["checking"]["kilowatt_hours"] == pytest.approx(0.01 * 0.06)
    assert costs["labelling"]["people_hours"] == pytest.approx(40 * 2 / 60)


def test_how_answers_are_compared_stays_with_the_job_s_versions_and_is_told(run_pilot, registry):
    evaluator = KnownEvaluator()
    for asked, kept in ((None, "exact"), (Comparison.NUMBER, "number"), (None, "number"), (Comparison.EXACT, "exact")):
        found = run_pilot(evaluator, comparison=asked)
        version = registry.version("mail", found.version)
        assert (version.comparison, registry.origin(version).comparison, found.comparison) == (kept,) * 3
        assert evaluator.compared == kept
        assert pilot.recorded(registry, version, {}).to_dict()["comparison"] == kept
        for language in reports.languages():
            assert reports.texts(language)[f"compared {kept}"] in reports.pilot_page(found, language)


def test_fine_tuning_is_measured_only_if_asked_for_and_else_the_recorded_figure_is_named(run_pilot):
    evaluator = KnownEvaluator()
    recorded = run_pilot(evaluator)
    assert recorded.tuning == RECORDED
    assert "tune" not in evaluator.calls
    assert RECORDED.source in reports.pilot_page(recorded, "en")
    measured = run_pilot(evaluator, measure_tuning=True)
    assert measured.tuning.seconds == 80
    for language in reports.languages():
        page = reports.pilot_page(measured, language)
        assert RECORDED.source not in page
        assert "800" in page, "80 seconds against 0.1"
    instead = measured.to_dict()["tuning"]["cost"]
    assert instead["money"] == pytest.approx(80 / 3600 * 0.06 * 0.3 + 40 * 2 / 60 * 30)


@pytest.mark.parametrize("seconds", [{}, {"decode": 0.1, "refine": 3600.0}])
def test_a_report_holds_no_fine_tune_against_an_adapter_that_took_longer_or_was_made_elsewhere(run_pilot, seconds):
    found = replace(run_pilot(KnownEvaluator()), seconds=seconds)
    for language in reports.languages():
        assert RECORDED.source not in reports.pilot_page(found, language)


def test_the_user_s_prices_are_what_is_reckoned_with(run_pilot):
    found = run_pilot(KnownEvaluator(), prices=Prices("JPY", 200.0, 31.0, 2500.0))
    found.training_hours = 10.0
    costs = {cost.step: cost for cost in found.costs}
    assert costs["collecting"].money == pytest.approx(16 * 0.5 / 60 * 2500)
    assert costs["training"].money == pytest.approx(10 / 100 * 0.2 * 31)
    page = reports.pilot_page(found, "ja")
    assert "費用（円）" in page
    assert "200 W" in page


def test_a_price_stays_as_it_was_written_and_a_wrong_one_is_named_with_its_value(tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text("person_hour = 4500\nwatts = 45.5\nsharing_jobs = 7\n")
    read = read_prices(file)
    assert (str(read.person_hour), str(read.watts)) == ("4500", "45.5")
    assert read == Prices(person_hour=4500, watts=45.5, sharing_jobs=7)
    for wrong in (
        "person_hour = true",
        "watts = -1",
        "watts = nan",
        "currency = ''",
        "currency = '123456789'",
        "sharing_jobs = 0",
    ):
        file.write_text(wrong)
        with pytest.raises(UsageError, match=f"{wrong.split()[0]} must be a .*, not "):
            read_prices(file)


def test_prices_are_called_as_the_options_are_and_those_of_a_stored_pilot_are_read_under_former_names():
    assert {item.name for item in fields(Prices)} <= set(signature(command).parameters)
    assert Prices.read({"per_hour": 7, "jobs": 3, "watts": 5}) == Prices(person_hour=7, sharing_jobs=3, watts=5)


def test_every_check_and_every_advice_has_its_words_in_every_language():
    source = "".join(Path(module.__file__).read_text(encoding="utf-8") for module in (prompt_checks, mathematics))
    kinds = re.findall(r'Finding\(\s*"([\w ]+)"', source)
    assert len(set(kinds)) > 5
    for language in reports.languages():
        said = reports.texts(language)
        assert {
            f"metric {check.metric}" for check in judge(Metrics(), Policy(most_intruders=0.0)).checks
        } <= said.keys()
        assert {f"advice {kind}" for kind in (*kinds, pilot.LONG_ANSWERS["kind"])} <= said.keys()


EXPLAINED = Explanation(
    generator="9" * 64,
    from_base=False,
    neighbours=[NearTask("t<1>", "Do it.", 0.8)],
    distance=1.2,
    influences=[PromptInfluence(1, 0.4, 0.5), PromptInfluence(0, 0.1)],
    modules=["q_proj", "k_proj"],
    changes=[[0.3, 0.1], [0.5, 0.1]],
    health=WeightHealth(
        score=0.9,
        worst=("m.0.q_proj", "gain 1", 3.0),
        share=("m.0.q_proj", 0.05),
        intruders=1,
        looked_at=12,
        spectra=[Spectrum("m.0.q_proj", [0.5, 0.1], [0.4, 0.2], [0.1, 0.1])],
    ),
    texts=[AnsweredText("a", "x", "y"), AnsweredText("b", "z", "z")],
)


@pytest.mark.parametrize("language", reports.languages())
@pytest.mark.parametrize("changes", [{}, {"texts": []}, {"distance": 3.0}])
def test_the_explanation_is_a_well_formed_page_of_its_own(language, changes):
    page = reports.explanation_page(replace(EXPLAINED, **changes), ["first", "<b>second</b>"], language)
    reader = Balanced()
    reader.feed(page)
    assert reader.open == []
    assert "&lt;b&gt;second" in page
    assert "t&lt;1&gt;" in page
    assert "http" not in page, "nothing is fetched from elsewhere"
    assert ("polyline" in page) and page.count("<td title=") == 4


def test_an_explanation_as_json_has_the_mean_change_of_every_module_and_layer():
    found = json.loads(json.dumps(EXPLAINED.to_dict()))
    assert found["modules"] == {"q_proj": pytest.approx(0.4), "k_proj": pytest.approx(0.1)}
    assert found["layers"] == pytest.approx([0.2, 0.3])
    assert "page" not in found


def test_both_languages_say_the_same_things():
    english, japanese = (reports.texts(language) for language in ("en", "ja"))
    assert english.keys() == japanese.keys()
    for key in english:
        fields = [sorted(re.findall(r"\{(\w+)", text[key])) for text in (english, japanese)]
        assert fields[0] == fields[1], key
        assert english[key] != japanese[key]
    with pytest.raises(UsageError, match="not in 'fr'"):
        reports.texts("fr")


class Balanced(HTMLParser):
    """Every opened element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.texts = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("language", reports.languages())
@pytest.mark.parametrize("inspection", [INSPECTION, []])
def test_the_page_is_well_formed_and_says_what_was_found(run_pilot, language, inspection):
    evaluator = KnownEvaluator(GOOD if inspection else {key: GOOD[key] for key in ("health", "probe")})
    found = run_pilot(evaluator, inspection=inspection)
    page = reports.pilot_page(found, language)
    reader = Balanced()
    reader.feed(page)
    assert reader.open == []
    shown = " ".join(reader.texts)
    assert found.version in shown
    said = reports.texts(language)
    assert said[f"verdict {found.verdict.result}"] in shown
    assert (said["no labels"] in shown) == (not inspection)
    if inspection:
        assert "20" in shown, "half of the forty examples"


def test_what_users_write_stays_text(run_pilot):
    evil = '<script>alert("x")</script>'
    page = reports.pilot_page(run_pilot(KnownEvaluator(text=evil)), "en")
    assert evil not in page
    assert "&lt;script&gt;" in page


def test_a_fine_tune_that_was_stored_with_rows_is_read_as_one_with_examples():
    stored = {"seconds": 80.0, "steps": 48, "rows": 12, "measured": True, "source": "measured by this pilot"}
    assert Tuning.read({**stored, "cost": {}}) == Tuning(80.0, 48, 12, True, "measured by this pilot")
    assert Tuning.read(RECORDED._asdict()) == RECORDED


def test_a_report_of_a_refused_version_says_so_and_recommends_no_release(run_pilot, registry):
    first = run_pilot(KnownEvaluator())
    assert first.recommendation == "promote"
    version = registry.version("mail", first.version)
    decisions.refuse(registry, version, "no")
    found = pilot.recorded(registry, version, {})
    assert found.recommendation == run_pilot(KnownEvaluator()).recommendation == "refused"
    for language in reports.languages():
        page = reports.pilot_page(found, language)
        assert (
            reports.texts(language)["recommend refused"] in page
            and reports.texts(language)["recommend promote"] not in page
        )
    decisions.withdraw(registry, version, "yes")
    assert pilot.recorded(registry, version, {}).recommendation == "promote"


@pytest.mark.parametrize("language", reports.languages())
def test_the_numbers_of_a_report_stand_under_their_headings_in_the_words_of_its_language(run_pilot, language):
    page = reports.pilot_page(run_pilot(KnownEvaluator(GOOD | {"gain": GOOD["gain"] | {"p_value": 5.96e-8}})), language)
    assert '<td class="number">&lt; 0.001</td>' in page and "e-08" not in page
    for name in ("value", "bound", "machine", "people", "energy"):
        assert f'<th class="number">{reports.texts(language)[name]}</th>' in page
    assert {"en": "Cost (euros)", "ja": "費用（ユーロ）"}[language] in page and "EUR" not in page


def test_a_value_that_is_nearly_nothing_is_not_told_as_nothing_and_a_bound_keeps_its_digits():
    assert [reports.value_text(value) for value in (0.0, 5e-8, 0.001, 0.0625, -0.0003, 1234.5)] == [
        "0",
        "< 0.001",
        "0.001",
        "0.0625",
        "-0.0003",
        "1,234.5",
    ]
    limits = [{"metric": "bias", "bound": bound} for bound in (0.0, 0.05, 0.00001, 3.0)]
    told = [reports.limit_text(check, "en") for check in limits]
    assert told == ["at most 0", "at most 0.05", "at most 0.00001", "at most 3"]
    share = {"metric": "answers in format", "value": 0.4836, "bound": 0.8}
    assert (reports.measured_text(share, "en"), reports.limit_text(share, "en")) == ("48.36 %", "at least 80 %")
    nothing = [
        reports.measured_text({**share, "metric": "gain over the base", "value": value}, "en")
        for value in (4e-5, 0.0, -4e-5)
    ]
    assert nothing == ["< 0.1 points", "0 points", "0 points"], "what passes a limit of 0 is not told as 0"


def test_every_limit_is_told_with_its_direction():
    """Held just above every bound, a measurement passes where more is better, and the text says so."""
    policy = Policy(most_intruders=1)
    numbers: dict = {}
    for place, bound, _ in gate._CHECKS.values():
        first, _, second = place.partition(".")
        numbers.setdefault(first, {})[second] = float(getattr(policy, bound)) + 1e-6
    for check in gate.judge(Metrics.read(numbers), policy).reasons:
        english, japanese = (reports.limit_text(check, language) for language in ("en", "ja"))
        passes = check["result"] == gate.PASS
        if check["metric"] == "signature":
            assert (english, japanese) == ("yes", "はい")
            continue
        assert english.startswith(("above", "at least")) == japanese.endswith(("より上", "以上")) == passes


@pytest.mark.parametrize("language", reports.languages())
def test_report_console_and_command_line_tell_a_check_in_the_same_words(run_pilot, language, capsys):
    found = run_pilot(KnownEvaluator(GOOD | {"gain": GOOD["gain"] | {"p_value": 5.96e-8}}))
    checks = found.to_dict()["checks"]
    page, console = reports.pilot_page(found, language), Translator(language)
    for check in checks:
        told = console.measured(check), console.limit(check)
        assert '<td class="number">{}</td><td class="number">{}</td>'.format(*map(html.escape, told)) in page
    _print_checks(checks)
    for check, line in zip(checks, capsys.readouterr().out.splitlines(), strict=True):
        assert line.endswith(f"{reports.measured_text(check, 'en')}   {reports.limit_text(check, 'en')}")
        assert check["metric"] in line and check["result"] in line
