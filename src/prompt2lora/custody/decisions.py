"""Decisions on a version: release it, refuse it, take a refusal back. Every door (command line, HTTP, console, pilot)
decides through here.

In: a registry used in somebody's name, a version, the policy in force. Out: a release, or a line of the record. A
version is released if it passed its gate by the policy in force, nobody refused it, and somebody else than its maker
says so. An admin may override a refusal, a missing verdict and another policy, with a reason that stands in the
record; nobody overrides a verdict that is not *pass*, or the second person.

A refusal holds for the adapter, under whatever number it is made again, until whoever refused it or an admin withdraws
it. Going back is no decision on a version: `Registry.rollback` and a release of the base ask nothing of all this, but a
rollback passes over what was refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from prompt2lora.custody.access import RELEASE, Access
from prompt2lora.custody.gate import PASS, Policy
from prompt2lora.custody.judgements import REFUSE, WITHDRAW, Refusal
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.releases import Release, check_reason
from prompt2lora.custody.versions import Version
from prompt2lora.errors import Conflict, NotAllowed, UsageError

REFUSED, NOT_JUDGED, NOT_PASSED, OTHER_POLICY = "refused", "not judged", "not passed", "another policy"


class Objection(NamedTuple):
    """What stands against releasing a version; `text` is the rule, the value and the next step."""

    kind: str
    text: str

    @property
    def overridable(self) -> bool:
        return self.kind != NOT_PASSED


def objections(registry: Registry, version: Version, policy: Policy) -> list[Objection]:
    """What stands against releasing a version by the policy in force, what cannot be overridden first."""
    found, judged = [], registry.judgement(version)
    judge = f"judge it by the policy in force (`prompt2lora gate --job {version.job} --version {version.name}`)"
    if judged and judged.verdict.result != PASS:
        verdict = judged.verdict.result
        text = f"{version.name} did not pass its gate ({verdict}); improve it, or measure it on inspection examples"
        found.append(Objection(NOT_PASSED, text))
    refusal = registry.refusal(version)
    if refusal:
        found.append(Objection(REFUSED, _was_refused(version, refusal)))
    if judged is None:
        found.append(
            Objection(NOT_JUDGED, f"{version.name} did not pass its gate (not judged since it was measured); {judge}")
        )
    elif judged.policy != policy.digest:
        policies = f"{judged.policy[:12]}, not {policy.digest[:12]}"
        found.append(Objection(OTHER_POLICY, f"{version.name} was judged by another policy ({policies}); {judge}"))
    return found


def _was_refused(version: Version, refusal: Refusal) -> str:
    return f"{version.name} was refused by {refusal.actor} ({refusal.reason}); they or an admin can withdraw that"


def approve(
    registry: Registry,
    version: Version,
    reason: str,
    *,
    policy: Policy,
    expected: int | None,
    second: bool | None = None,
    override: str | None = None,
    admin: bool = False,
) -> Release:
    """Release a version: it answers its job from now on.

    `policy` is the one in force. `expected` is the id of the release that the decider saw (None: none). `second` asks
    for another person than the maker; None: if more than one key may release. `override` is an `admin`'s reason to
    release despite what stands against it. Raises UsageError, NotAllowed, Conflict, DamagedFile.
    """

    def rule(connection: Connection) -> dict[str, Any]:
        _ask_second(registry, version, second)
        against = objections(registry, version, policy)
        told: dict[str, Any] = {"policy": policy.digest}
        if override is not None:
            _check_override(version, against, override, admin)
            told |= {"override": override, "despite": [one.kind for one in against]}
        elif against:
            raise UsageError(against[0].text)
        registry.tell_policy(connection, policy)
        if any(one.kind == REFUSED for one in against):
            registry.tell(connection, WITHDRAW, version.name, {"reason": override})
        return told

    check_reason(reason)
    return registry.promote(version.job, version, reason, expected=expected, rule=rule)


def refuse(registry: Registry, version: Version, reason: str, *, second: bool | None = None) -> None:
    """Say no to a version: it is not released until that is withdrawn. It changes no release.

    Raises UsageError if it answers now: that has to be taken back first. Conflict if it is refused already: the first
    refusal holds, and whoever repeats it does not make it theirs to withdraw.
    """
    check_reason(reason)
    with registry.writing() as connection:
        _ask_second(registry, version, second)
        answering = registry.current(version.job)
        if answering and answering.version and answering.version.adapter == version.adapter:
            name = answering.version.name
            raise UsageError(
                f"{name} answers {version.job} now; take it back first (`registry rollback`), then refuse it"
            )
        refusal = registry.refusal(version)
        if refusal:
            raise Conflict(_was_refused(version, refusal))
        registry.tell(connection, REFUSE, version.name, {"reason": reason})


def withdraw(
    registry: Registry, version: Version, reason: str, *, admin: bool = False, second: bool | None = None
) -> None:
    """Take a refusal back: by whoever refused, or by an admin. Raises UsageError, NotAllowed."""
    check_reason(reason)
    with registry.writing() as connection:
        _ask_second(registry, version, second)
        refusal = registry.refusal(version)
        if refusal is None:
            raise UsageError(f"{version.name} is not refused, so nothing can be withdrawn; see `registry show`")
        if refusal.actor != registry.actor and not admin:
            raise NotAllowed(f"{refusal.actor} refused {version.name}; ask them or an admin to withdraw that")
        registry.tell(connection, WITHDRAW, version.name, {"reason": reason})


def check_unattended(registry: Registry, policy: Policy, in_force: Policy) -> None:
    """That a pilot may release what it makes itself; told before the work and not after it. Raises UsageError."""
    if policy.digest != in_force.digest:
        raise UsageError(
            f"a version is released by the policy in force ({in_force.digest[:12]}) and this pilot judges by another "
            f"({policy.digest[:12]}); leave out --approve, or put the policy into force (policy.toml below the home)"
        )
    if _has_second(registry):
        raise UsageError(
            f"a second person has to release what {registry.actor} makes, and others have keys that may; "
            "leave out --approve and let one of them decide"
        )


def _has_second(registry: Registry) -> bool:
    return sum(key.may(RELEASE) and key.revoked is None for key in Access(registry).all()) > 1


def _ask_second(registry: Registry, version: Version, second: bool | None) -> None:
    if version.actor == registry.actor and (_has_second(registry) if second is None else second):
        raise UsageError(f"{version.name} was made by {version.actor}; it takes a second person to decide on it")


def _check_override(version: Version, against: Sequence[Objection], override: str, admin: bool) -> None:
    if not admin:
        raise NotAllowed(f"only an admin may make an exception for {version.name}; ask one")
    check_reason(override)
    if not against:
        raise UsageError(f"there is no objection to {version.name}; release it without an override")
    if not against[0].overridable:
        raise UsageError(against[0].text)
