"""Keys: a token opens what its role allows, and nothing else."""

import unicodedata

import pytest

from prompt2lora.console.i18n import LANGUAGES, Translator, texts
from prompt2lora.custody import access as custody_access
from prompt2lora.custody.access import GOVERN, LOOK, MAKE, RELEASE, RETURN, ROLES, SERVICE, Access
from prompt2lora.errors import Conflict, UsageError
from prompt2lora.ground.comparison import composed


@pytest.fixture
def access(registry):
    return Access(registry)


def test_a_token_finds_its_key_and_an_altered_one_finds_none(access):
    key, token = access.add("line 3", infer=True)
    assert access.find(token) == key
    for wrong in (token[:-1] + ("A" if token[-1] != "A" else "B"), token[:-1], "", "p2l_", "x" * 9999, token + "\n"):
        assert access.find(wrong) is None


def test_the_token_itself_is_kept_nowhere(access, tmp_path):
    _, token = access.add("line 3", infer=True)
    access.registry.engine.dispose()
    secret = token.rsplit("_", 1)[1].encode()
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and secret in file.read_bytes()]


def test_a_key_asks_or_manages_unless_it_is_made_for_both(access):
    asks, manages, both = (
        access.add("a", infer=True)[0],
        access.add("b", role="admin")[0],
        access.add("c", role="viewer", infer=True)[0],
    )
    assert asks.infer and not any(asks.may(verb) for verb in (LOOK, MAKE, RELEASE, RETURN, GOVERN))
    assert not manages.infer and manages.may(GOVERN)
    assert both.infer and both.may(LOOK)


def test_every_role_may_look_and_none_but_the_admin_makes_and_releases():
    assert all(LOOK in verbs for verbs in ROLES.values())
    assert [role for role, verbs in ROLES.items() if {MAKE, RELEASE} <= verbs] == ["admin"]


def test_a_revoked_key_opens_nothing_and_its_name_is_never_given_again(access):
    access.add("boss", role="admin")
    _, token = access.add("line 3", infer=True)
    access.revoke("line 3")
    assert access.find(token) is None
    with pytest.raises(Conflict, match="line 3"):
        access.add("line 3", infer=True)
    with pytest.raises(UsageError, match="no key"):
        access.revoke("line 3")


def test_the_last_admin_stays(access):
    access.add("boss", role="admin")
    with pytest.raises(UsageError, match="last admin"):
        access.revoke("boss")
    access.add("other", role="admin")
    access.revoke("boss")
    assert access.has_admin()


@pytest.mark.parametrize(
    ("name", "role", "infer"), [("", None, True), ("a/b", None, True), ("a", "king", False), ("a", None, False)]
)
def test_a_key_that_means_nothing_is_refused(access, name, role, infer):
    with pytest.raises(UsageError):
        access.add(name, role=role, infer=infer)


def test_a_name_is_the_same_however_its_letters_are_composed(access):
    """As a Mac sends it: ポ and é in two parts each."""
    whole, parts = "ポンプ係 André", unicodedata.normalize("NFD", "ポンプ係 André")
    assert access.add(parts, infer=True)[0].name == whole != parts
    with pytest.raises(Conflict):
        access.add(whole, infer=True)
    access.revoke(parts)
    assert access.all()[-1].revoked


def test_a_key_from_before_names_were_composed_is_revoked_by_its_name(access, monkeypatch):
    name = "\ufa19\u6238"  # a letter that Unicode composes into another one
    with monkeypatch.context() as before:
        before.setattr(custody_access, "composed", str)
        access.add(name, infer=True)
    access.add(composed(name), infer=True)
    access.revoke(name)
    assert [key.name for key in access.all() if key.revoked] == [name]
    access.revoke(name)
    assert all(key.revoked for key in access.all())
    access.registry.verify_audit()


def test_no_key_is_called_as_the_service_itself_is_in_the_record(access):
    with pytest.raises(UsageError, match="the service itself") as told:
        access.add(SERVICE, role="operator")
    assert all(Translator(one).explain(told.value) == texts(one)["error.key_taken"] for one in LANGUAGES)


def test_making_and_revoking_stand_in_the_record_without_the_token(access):
    _, token = access.add("line 3", infer=True)
    access.revoke("line 3")
    lines = access.registry.audit_lines()
    assert [line.action for line in lines[-2:]] == ["add key", "revoke key"]
    assert token not in str(lines)
    access.registry.verify_audit()
