"""After an alarm nobody is answered by the bad version; the benchmark does the same more often."""

from takeback import AFTER, CLIENTS, take_back


def test_after_an_alarm_the_good_version_answers_everybody(tmp_path, monkeypatch, home):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(home))
    counts = take_back(2, tmp_path / "home")
    assert counts["asked after: good"] == 2 * AFTER * CLIENTS
    assert counts["asked after: bad"] == counts["not back at the good one"] == 0
    assert counts["before: bad"] > 0, "the bad version did answer before"
