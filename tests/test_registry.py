"""Custody: what is stored stays as it was, what answers is changed in one step, and every step is on record."""

import resource
import sqlite3
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path

import pytest
import workers
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from tiny import AT, adapter_folder, damage, new_registry, promoted

from prompt2lora.console.i18n import LANGUAGES, Translator, texts
from prompt2lora.custody import database as databases
from prompt2lora.custody import schema
from prompt2lora.custody.access import Access
from prompt2lora.custody.database import migrate, writing
from prompt2lora.custody.evaluations import Evaluation, Health, Metrics
from prompt2lora.custody.gate import Policy, Verdict
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.store import Store
from prompt2lora.errors import Conflict, DamagedFile, OutputError, Unavailable, UsageError


def test_a_job_is_answered_by_the_base_until_something_is_promoted(registry, add):
    version = add("a")
    assert registry.current("mail") is None
    release = promoted(registry, version)
    assert registry.current("mail") == release
    assert release.version == version
    assert (release.actor, release.at) == ("tests", "2026-01-02T03:04:05+00:00")


def test_a_version_s_name_says_job_number_and_contents(add):
    one, two = add("a"), add("b")
    assert one.name == f"mail@v1-{one.adapter[:8]}"
    assert two.name == f"mail@v2-{two.adapter[:8]}"
    assert one.adapter != two.adapter


def test_rollback_goes_back_step_by_step_and_ends_at_the_base(registry, add):
    for mark in "abc":
        promoted(registry, add(mark))
    seen = [registry.rollback("mail", "worse").version for _ in range(3)]
    assert [version and version.number for version in seen] == [2, 1, None]
    with pytest.raises(UsageError, match="already answered by the base"):
        registry.rollback("mail", "worse")
    assert [release.action for release in registry.history("mail")] == ["promote"] * 3 + ["rollback"] * 3


def test_what_was_rolled_back_from_does_not_come_back_by_another_rollback(registry, add):
    a, b, c = add("a"), add("b"), add("c")
    promoted(registry, a)
    promoted(registry, b)
    assert registry.rollback("mail", "b is bad").version == a
    promoted(registry, c)
    assert registry.rollback("mail", "c is bad").version == a
    assert registry.rollback("mail", "a is bad").version is None


def test_what_answers_already_is_not_released_again(registry, add):
    a, b = add("a"), add("b")
    promoted(registry, a)
    first = promoted(registry, b)
    assert promoted(registry, b) == registry.promote("mail", b, "sent twice", expected=first.previous) == first
    assert registry.rollback("mail", "b is bad").version == a
    assert promoted(registry, None) == promoted(registry, None)


def test_an_adapter_that_is_taken_back_does_not_come_back_under_another_number(registry, add, tmp_path):
    a, b = add("a"), add("b")
    again = registry.add_version("mail", adapter_folder(tmp_path / "again", "b"), registry.origin(b))
    for version in (a, b, again):
        promoted(registry, version)
    assert registry.rollback("mail", "bad weights").version == a


def test_what_was_taken_back_once_comes_back_by_a_promotion_alone(registry, add):
    a, b, c = add("a"), add("b"), add("c")
    for version in (a, b, a):
        promoted(registry, version)
    assert registry.rollback("mail", "a is bad").version == b
    assert registry.rollback("mail", "b is bad").version is None, "a was taken back, too"
    for version in (a, c):
        promoted(registry, version)
    assert registry.rollback("mail", "c is bad").version == a, "somebody promoted it again"


def test_rollback_passes_over_a_version_whose_files_were_altered(registry, add):
    a, b = add("a"), add("b")
    promoted(registry, a)
    promoted(registry, b)
    damage(registry.store.path(a.adapter) / "adapter_model.safetensors")
    assert registry.rollback("mail", "b is bad").version is None


def test_a_release_may_be_the_base_itself(registry, add):
    version = add("a")
    promoted(registry, version)
    assert promoted(registry, None).version is None
    assert registry.current("mail").version is None


def test_who_saw_an_older_release_cannot_promote(registry, add):
    one, two = add("a"), add("b")
    first = promoted(registry, one)
    registry.promote("mail", two, "mine", expected=first.id)
    with pytest.raises(Conflict, match="meanwhile"):
        registry.promote("mail", one, "theirs", expected=first.id)
    assert registry.current("mail").version == two
    assert len(registry.history("mail")) == 2, "the refused one left nothing behind"


def test_only_a_job_s_own_versions_answer_it(registry, add):
    registry.add_job("notes")
    version = add("a", job="notes")
    with pytest.raises(UsageError, match="version of the job notes"):
        promoted(registry, version, job="mail")


@pytest.mark.parametrize("name", ["", "Mail", "a b", "../up", "a/b", ".hidden", "x" * 81, "naïve"])
def test_a_job_s_name_never_is_a_path(registry, name):
    with pytest.raises(UsageError, match="job's name"):
        registry.add_job(name)


def test_people_call_a_job_what_they_like_and_programs_by_its_name(registry):
    registry.add_job("pump-parts", "  ポンプ報告の部品番号 ")
    assert registry.jobs() == ["mail", "pump-parts"]
    assert registry.display_names() == {"mail": "mail", "pump-parts": "ポンプ報告の部品番号"}
    registry.add_job("pump-parts")
    assert registry.display_names()["pump-parts"] == "ポンプ報告の部品番号", "a second pilot changes nothing"
    registry.call_job("pump-parts", unicodedata.normalize("NFD", "ポンプ報告の部品番号"))
    registry.call_job("pump-parts", "Pumpenmeldungen: Teilenummern")
    registry.call_job("pump-parts", "")
    assert registry.display_names()["pump-parts"] == "pump-parts"
    told = [(line.detail["before"], line.detail["display name"]) for line in registry.audit_lines()[2:]]
    names = ["", "ポンプ報告の部品番号", "Pumpenmeldungen: Teilenummern", ""]
    assert told == list(pairwise(names)), "what changes nothing is no line"


@pytest.mark.parametrize("name", ["two\nlines", "x" * 81, "\u202eback", "tab\there"])
def test_a_display_name_is_one_short_line(registry, name):
    with pytest.raises(UsageError, match="a display name is one line of at most 80"):
        registry.call_job("mail", name)
    with pytest.raises(UsageError, match="a display name is one line of at most 80"):
        registry.add_job("new", name)
    assert registry.jobs() == ["mail"]
    with pytest.raises(UsageError, match="there is no job 'nothing'"):
        registry.call_job("nothing", "a name")


def test_what_people_write_may_hold_the_full_width_space(registry, add):
    registry.call_job("mail", "ポンプ報告　第一工場")
    assert registry.display_name("mail") == "ポンプ報告　第一工場"
    assert registry.promote("mail", add("a"), "検査　合格", expected=None).reason == "検査　合格"
    assert Access(registry).add("山田　太郎", role="viewer")[0].name == "山田　太郎"


def test_a_line_about_more_than_fits_is_on_record_whole(registry):
    names = ", ".join(f"inspection-of-line-{number:02d}-press" for number in range(9))
    with registry.writing() as connection:
        registry.tell(connection, "begin regenerate", names, {})
    line = registry.audit_lines()[-1]
    assert len(line.subject) == 200 and names.startswith(line.subject[:-1])
    assert line.detail == {"subject": names} and registry.verify_audit()


@contextmanager
def no_more_files():
    """As in a process that has as many files open as the system lets it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_files_that_cannot_be_read_just_now_are_not_called_altered(registry, add):
    version = add("a")
    with no_more_files(), pytest.raises(Unavailable, match="cannot be checked now"):
        registry.store.verify(version.adapter)
    assert registry.store.is_sound(version.adapter)


def test_a_manifest_that_is_a_link_is_altered_wherever_it_leads(registry, add):
    place = registry.store.path(add("a").adapter) / "manifest.json"
    place.unlink()
    place.symlink_to(place)
    assert not registry.store.is_sound(place.parent.name)


def test_what_cannot_be_read_just_now_hides_no_damage_behind_it(registry, add, monkeypatch):
    first, second = add("a"), add("b")
    damage(registry.store.path(second.adapter) / "adapter_model.safetensors")
    verify = Store.verify

    def unreadable(store, digest):
        with no_more_files() if digest == first.adapter else nullcontext():
            verify(store, digest)

    monkeypatch.setattr(Store, "verify", unreadable)
    found = registry.damaged(registry.every_version())
    assert next(found)[0] == second
    with pytest.raises(Unavailable):
        next(found)


def test_an_altered_seal_hides_no_change_from_whoever_made_it(registry, add):
    promoted(registry, add("a"))
    damage(registry.seal.file)
    assert registry.rollback("mail", "worse").version is None
    with pytest.raises(DamagedFile):
        registry.verify_audit()


def test_a_rollback_passes_over_what_cannot_be_read_just_now(registry, add, monkeypatch):
    for mark in "abc":
        promoted(registry, add(mark))
    second, verify = registry.versions("mail")[1].adapter, Store.verify

    def unreadable(store, digest):
        with no_more_files() if digest == second else nullcontext():
            verify(store, digest)

    monkeypatch.setattr(Store, "verify", unreadable)
    assert registry.rollback("mail", "worse").version.number == 1


def test_of_changes_made_at_once_none_is_told_to_have_failed(registry):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(registry.add_job, [f"job-{n}" for n in range(24)]))
    assert registry.verify_audit() == 25
    assert registry.seal.read()[0] == 25


def test_a_seal_that_cannot_be_written_undoes_nothing(registry, add, monkeypatch, caplog):
    def full(*_):
        raise OutputError("cannot write the seal: no space left; free space")

    version = add("a")
    with monkeypatch.context() as patch:
        patch.setattr("prompt2lora.custody.audit.write_text", full)
        release = promoted(registry, version)
    assert registry.current("mail") == release
    assert "not sealed" in caplog.text
    registry.add_job("next")
    assert registry.seal.read()[0] == registry.verify_audit()


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "manifest.json", "manifest.sig"])
def test_one_flipped_byte_in_any_stored_file_is_noticed(registry, add, name):
    version = add("a")
    assert registry.verify() == 1
    damage(registry.store.path(version.adapter) / name)
    with pytest.raises(DamagedFile, match=version.adapter[:12]):
        registry.verify()
    with pytest.raises(DamagedFile):
        promoted(registry, version)
    assert registry.current("mail") is None


@pytest.mark.parametrize("change", ["extra", "lost", "link"])
def test_a_folder_of_other_files_is_not_kept(registry, tmp_path, change):
    folder = adapter_folder(tmp_path / "a", "a")
    if change == "extra":
        (folder / "code.py").write_text("x")
    elif change == "lost":
        (folder / "adapter_config.json").unlink()
    else:
        (folder / "adapter_config.json").unlink()
        (folder / "adapter_config.json").symlink_to("/etc/hostname")
    with pytest.raises(DamagedFile):
        registry.store.put(folder)
    assert registry.store.digests() == []


def test_the_same_contents_are_kept_once(registry, tmp_path):
    digests = {registry.store.put(adapter_folder(tmp_path / name, "same")) for name in "ab"}
    assert registry.store.digests() == list(digests)


@pytest.mark.parametrize("fault", [damage, Path.unlink], ids=["flipped", "lost"])
def test_a_damaged_entry_is_whole_again_when_its_contents_come_again(registry, add, tmp_path, fault):
    version = add("a")
    fault(registry.store.path(version.adapter) / "adapter_model.safetensors")
    assert not registry.store.is_sound(version.adapter)
    assert registry.store.put(adapter_folder(tmp_path / "again", "a")) == version.adapter
    assert registry.store.is_sound(version.adapter) and registry.store.digests() == [version.adapter]


def test_an_id_that_is_no_digest_finds_nothing(registry):
    for wrong in ("..", "a" * 63, "A" * 64, "../" + "a" * 61):
        with pytest.raises(UsageError, match="SHA-256"):
            registry.store.path(wrong)


def test_every_change_has_its_audit_line_and_reading_has_none(registry, add):
    promoted(registry, add("a"))
    registry.rollback("mail", "no")
    registry.jobs(), registry.history("mail"), registry.verify()
    with registry.engine.connect() as connection:
        actions = [row.action for row in connection.execute(text("select action from audit order by number"))]
    assert actions == ["add job", "add version", "promote", "rollback"]
    assert registry.verify_audit() == 4


def altered(registry, *statements):
    """Do what an intruder with the database would do: the triggers first, then the lines."""
    on = " on audit" if registry.engine.dialect.name == "postgresql" else ""
    with registry.engine.begin() as connection:
        for statement in (f"drop trigger audit_no_update{on}", f"drop trigger audit_no_delete{on}", *statements):
            connection.execute(text(statement))


@pytest.mark.parametrize(
    "statements",
    [
        ("update audit set detail = '{}' where number = 2",),
        ("update audit set actor = 'someone' where number = 1",),
        ("delete from audit where number = 2",),
        ("delete from audit where number = 1",),
        ("delete from audit where number = (select max(number) from audit)",),
        ("delete from audit",),
        (
            "update audit set number = 99 where number = 2",
            "update audit set number = 2 where number = 3",
            "update audit set number = 3 where number = 99",
        ),
    ],
    ids=["detail", "actor", "middle", "first", "last", "all", "order"],
)
def test_an_altered_removed_or_moved_audit_line_is_found(registry, add, statements):
    promoted(registry, add("a"))
    registry.rollback("mail", "no")
    altered(registry, *statements)
    with pytest.raises(DamagedFile, match=r"audit (line|log)"):
        registry.verify_audit()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("update jobs set release = 1", "mail is answered by release 1, and the last one on record is 3"),
        ("update jobs set release = null", "by release None"),
        (
            "insert into releases (id, job, version, previous, action, reason, actor, at) "
            "values (9, 1, 1, 3, 'promote', 'x', 'boss', '2026')",
            "release 3, and the last one on record is 9",
        ),
        (
            "insert into verdicts (id, version, evaluation, verdict, reasons, policy, policy_digest, at) "
            "values (9, 1, 1, 'pass', '[]', '{}', 'x', '2026')",
            r"does not tell of judge mail@v1-\w+ \(pass, x\)",
        ),
        (
            "insert into access_keys (id, name, hash, role, infer, actor, at) "
            "values ('9', 'ghost', 'x', 'admin', false, 'boss', '2026')",
            r"does not tell of add key ghost \(9, admin, False\)",
        ),
        ("update access_keys set role = 'admin' where name = 'line 3'", "does not tell of add key line 3"),
        ("update access_keys set revoked = '2026' where name = 'line 3'", "does not tell of revoke key line 3"),
        (
            "update access_keys set revoked = null",
            r"tells of revoke key gone \(\w+\), and the database does not hold it",
        ),
        ("delete from access_keys where name = 'line 3'", "tells of add key line 3"),
    ],
)
def test_what_is_written_into_the_database_by_hand_is_not_on_record(registry, add, statement, told):
    versions = [add(mark) for mark in "ab"]
    for version in versions:
        measured = registry.add_evaluation(version, Evaluation())
        registry.add_verdict(version, measured, Verdict("fail", ()), Policy())
        promoted(registry, version)
    registry.rollback("mail", "no")
    Access(registry).add("line 3", infer=True)
    Access(registry).add("gone", role="viewer")
    Access(registry).revoke("gone")
    assert registry.verify_audit() == len(registry.audit_lines())
    with registry.engine.begin() as connection:
        connection.execute(text(statement))
    with pytest.raises(DamagedFile, match=told) as found:
        registry.verify_audit()
    assert all(Translator(one).explain(found.value) == texts(one)["error.off_record"] for one in LANGUAGES)


def test_a_forged_seal_is_found(registry):
    seal = registry.seal.file
    seal.write_text(seal.read_text().replace('"number": 1', '"number": 0'))
    with pytest.raises(DamagedFile, match="not signed"):
        registry.verify_audit()


def test_the_audit_log_is_read_page_by_page_from_either_end(registry):
    for n in range(5):
        registry.add_job(f"job-{n}")

    def numbers(*asked, **order):
        return [line.number for line in registry.audit_page(*asked, **order)]

    last = registry.audit_count()
    assert last == len(registry.audit_lines())
    assert numbers(1, 2) == [2, 3]
    assert numbers(last - 1, 200) == [last]
    assert numbers(0, 2, newest_first=True) == [last, last - 1]
    assert numbers(2, last, newest_first=True) == list(range(last - 2, 0, -1))


@pytest.mark.parametrize("table", ["audit", "releases", "versions"])
def test_the_database_itself_refuses_to_change_history(registry, add, table):
    promoted(registry, add("a"))
    for statement in (f"delete from {table}", f"update {table} set at = 'x'"):
        with pytest.raises(DBAPIError, match="append-only"), registry.engine.begin() as connection:
            connection.execute(text(statement))


def test_a_reopened_registry_says_the_same(registry, add, tmp_path, database):
    release = promoted(registry, add("a"))
    again = Registry.open(tmp_path / "home", url=database)
    assert again.current("mail") == release
    assert again.verify_audit() == registry.verify_audit()
    assert again.store.signer.public == registry.store.signer.public
    again.engine.dispose()


def test_the_key_is_its_owner_s_alone(registry, tmp_path):
    assert (tmp_path / "home" / "keys" / "ed25519").stat().st_mode & 0o077 == 0


def test_a_database_that_is_none_is_refused_and_left_alone(tmp_path):
    file = tmp_path / "registry.db"
    file.write_bytes(b"this is not a database, " * 99)
    with pytest.raises(DamagedFile, match="cannot be opened"):
        Registry.open(tmp_path)
    assert file.read_bytes().startswith(b"this is not")
    for url in ("nonsense", "postgres:/plant:secret@db/plant", "oracel://plant:secret@db/plant"):
        with pytest.raises(UsageError, match="named by a URL") as refused:
            Registry.open(tmp_path, url=url)
        assert "secret" not in str(refused.value)


def test_a_database_with_a_damaged_page_is_told_in_one_line(tmp_path):
    registry = new_registry(tmp_path / "home")
    registry.add_job("mail")
    registry.engine.dispose()
    file = tmp_path / "home" / "registry.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as stream:
        stream.seek((page - 1) * size)
        stream.write(b"\xff" * 200)
    with pytest.raises(DamagedFile, match="put the backup back"):
        registry.jobs()
    registry.engine.dispose()


def test_a_database_that_the_system_does_not_let_be_opened_is_not_called_damaged(tmp_path):
    registry = new_registry(tmp_path / "home")
    registry.engine.dispose()
    url = registry.engine.url.render_as_string()
    with no_more_files(), pytest.raises(Unavailable, match=r"cannot be used now .*; check permissions and disk"):
        databases.open_database(url)
    databases.open_database(url).dispose()


def test_a_server_that_does_not_answer_is_told_in_one_line(tmp_path):
    with pytest.raises(Unavailable, match="does not answer") as told:
        Registry.open(tmp_path, url=f"postgresql+psycopg://plant:secret@/plant?host={tmp_path}")
    assert "\n" not in str(told.value)
    assert "secret" not in str(told.value)
    assert not (tmp_path / "keys").exists()


def test_the_revision_in_the_code_is_the_newest_step_of_the_migrations():
    steps = ScriptDirectory(str(Path(databases.__file__).parent / "migrations"))
    assert steps.get_current_head() == schema.REVISION


def test_a_database_of_a_newer_version_is_refused_and_left_alone(registry, add, tmp_path, database):
    release = promoted(registry, add("a"))
    with registry.engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(DamagedFile, match="newer"):
        Registry.open(tmp_path / "home", url=database)
    assert registry.current("mail") == release


def test_a_database_locked_for_too_long_is_told_in_one_line_and_reading_goes_on(
    registry, tmp_path, monkeypatch, database
):
    monkeypatch.setattr("prompt2lora.custody.database._PATIENCE", 1)
    with writing(registry.engine):
        waiting = Registry.open(tmp_path / "home", url=database)
        assert waiting.jobs() == ["mail"]
        with pytest.raises(Unavailable, match="lock"):
            waiting.add_job("other")
    waiting.add_job("other")
    assert registry.jobs() == ["mail", "other"]
    waiting.engine.dispose()


@pytest.mark.slow
def test_two_processes_that_open_a_new_home_at_once_share_one_key_and_one_schema(tmp_path, database):
    found = workers.race(workers.open_home, *[(tmp_path, database)] * 3)
    assert len(found) == 3
    assert len(set(found)) == 1


@pytest.mark.parametrize("signed", ["adapter", "record"])
def test_a_lost_key_is_told_and_never_replaced(registry, add, tmp_path, database, signed):
    if signed == "adapter":
        add("a")
        registry.seal.file.unlink()
    registry.store.signer.file.unlink()
    with pytest.raises(DamagedFile, match=r"ed25519 that signed this registry is lost"):
        Registry.open(tmp_path / "home", url=database)
    with pytest.raises((DamagedFile, Unavailable), match="signing key"):
        registry.verify_audit() if signed == "record" else registry.verify()
    assert not registry.store.signer.file.exists()


@pytest.mark.parametrize("instead", ["nothing", "an older one", "another one"])
def test_a_database_that_is_not_the_sealed_one_is_told_and_never_taken_for_it(tmp_path, instead):
    home = tmp_path / "home"
    registry, file = new_registry(home), home / "registry.db"
    older = file.read_bytes()
    registry.add_job("mail")
    registry.engine.dispose()
    sound = file.read_bytes()
    for database in home.glob("registry.db*"):
        database.unlink()
    if instead == "an older one":
        file.write_bytes(older)
    elif instead == "another one":
        other = new_registry(tmp_path / "other")
        other.add_job("notes")
        other.engine.dispose()
        (tmp_path / "other" / "registry.db").rename(file)
    for _ in range(2):
        with pytest.raises(DamagedFile, match=r"not the one that .*audit.seal sealed: .* or set PROMPT2LORA_DATABASE"):
            Registry.open(home)
    assert not list(home.glob("registry.db-*")), "nothing that would change the backup when it is put back"
    file.write_bytes(sound)
    assert Registry.open(home).jobs() == ["mail"]


def test_a_damaged_seal_keeps_no_registry_from_being_opened(registry, tmp_path, database):
    damage(registry.seal.file)
    again = Registry.open(tmp_path / "home", url=database)
    with pytest.raises(DamagedFile, match="seal"):
        again.verify_audit()
    again.engine.dispose()


@pytest.mark.parametrize("reason", ["x" * 501, "two\nlines", "a\0b"])
def test_a_reason_that_is_no_short_line_is_refused(registry, add, reason):
    version = add("a")
    with pytest.raises(UsageError, match="reason"):
        registry.promote("mail", version, reason, expected=None)
    assert registry.current("mail") is None


def test_what_was_measured_as_not_finite_is_kept_as_not_measured(registry, add):
    version = add("a")
    scores = {"base": {"score": 1.5, "low": float("nan")}}
    registry.add_evaluation(version, Evaluation(Metrics(health=Health(float("inf"))), scores))
    measured = registry.measured(version)
    assert measured == Evaluation(Metrics(health=Health(None)), {"base": {"score": 1.5, "low": None}})


@pytest.mark.slow
def test_of_two_processes_that_promote_at_once_one_wins(registry, add, tmp_path, database):
    add("a"), add("b")
    answers = workers.race(workers.promote, *((tmp_path / "home", database, number) for number in range(2)))
    assert len(answers) == 2
    assert answers.count(None) == 1
    (winner,) = (number for number in answers if number is not None)
    assert registry.current("mail").version == registry.versions("mail")[winner]
    assert len(registry.history("mail")) == 1
    assert registry.verify_audit() == 4


def test_a_clock_that_jumps_back_disturbs_nothing(registry, add):
    promoted(registry, add("a"))
    registry.clock = lambda: AT.replace(year=2020)
    release = promoted(registry, add("b"))
    assert release.at.startswith("2020")
    assert registry.current("mail") == release
    assert registry.rollback("mail", "worse").version.number == 1
    assert registry.verify_audit() == 6


def test_a_database_of_the_first_schema_is_brought_forward_with_all_that_it_holds(tmp_path, database):
    (tmp_path / "home").mkdir()
    engine = create_engine(database)
    migrate(engine, "0001")
    rows = (
        "INSERT INTO jobs (id, name, at) VALUES (1, 'old', 'then')",
        "INSERT INTO generators VALUES ('g', 'g', 'then')",
        "INSERT INTO prompt_sets VALUES ('p', '[]', 'then')",
        "INSERT INTO versions (id, job, number, adapter, prompts, generator, base, base_digest, seed, kind, at) "
        "VALUES (1, 1, 1, 'a', 'p', 'g', 'b', 'b', 0, 'generated', 'then')",
    )
    with engine.begin() as connection:
        for row in rows:
            connection.execute(text(row))
    engine.dispose()
    opened = Registry.open(tmp_path / "home", url=database, actor="tests", clock=lambda: AT)
    (version,) = opened.versions("old")
    assert (version.adapter, version.actor, version.comparison) == ("a", None, "exact")
    assert opened.display_names() == {"old": "old"}
    assert Access(opened).all() == []
    opened.engine.dispose()
