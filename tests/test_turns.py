"""Turns at a server: kinds of work one after the other, whoever comes, waits and gives up."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from prompt2lora.serving.turns import Turn, Turns


class Work:
    """What is done under turns: who is inside, and who was, in order."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.inside: list[Turn] = []
        self.begun: list[str] = []

    async def do(self, name: str, kind: Turn, ends: asyncio.Event) -> None:
        async with self.turns.of(kind):
            self.inside.append(kind)
            self.begun.append(name)
            try:
                assert {*self.inside} == {kind}
                await ends.wait()
            finally:
                self.inside.remove(kind)

    def start(self, name: str, kind: Turn, ends: asyncio.Event) -> asyncio.Task[None]:
        return asyncio.create_task(self.do(name, kind, ends))


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_kind_that_waits_is_not_overtaken_by_newcomers_of_the_one_that_runs():
    async def all_of_it():
        work, first, rest = Work(), asyncio.Event(), asyncio.Event()
        kinds = {"a": Turn.ADAPTERS, "base": Turn.BASE, "b": Turn.ADAPTERS, "probe": Turn.PROBE, "c": Turn.BASE}
        rest.set()
        tasks = [work.start(name, kind, first if name == "a" else rest) for name, kind in kinds.items()]
        await settled()
        assert work.begun == ["a"]
        first.set()
        await asyncio.gather(*tasks)
        return work.begun

    assert asyncio.run(all_of_it()) == ["a", "base", "c", "b", "probe"]


def test_those_who_waited_behind_one_that_gave_up_go_in_at_once():
    async def all_of_it():
        work, ends = Work(), asyncio.Event()
        first = work.start("first", Turn.ADAPTERS, ends)
        await settled()
        base = work.start("base", Turn.BASE, ends)
        await settled()
        second = work.start("second", Turn.ADAPTERS, ends)
        await settled()
        assert work.begun == ["first"]
        base.cancel()
        await settled()
        assert work.begun == ["first", "second"]
        ends.set()
        await asyncio.gather(first, second)

    asyncio.run(all_of_it())


def test_whoever_fails_gives_the_turn_back():
    async def all_of_it():
        turns = Turns()
        for kind in Turn:
            with pytest.raises(ZeroDivisionError):
                async with turns.of(kind):
                    raise ZeroDivisionError
        async with asyncio.timeout(1), turns.of(Turn.PROBE):
            pass

    asyncio.run(all_of_it())


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_begun_and_given_up_kinds_never_mix_and_everybody_who_stays_has_a_turn(seed):
    async def all_of_it():
        random, work, ends = Random(seed), Work(), asyncio.Event()
        ends.set()
        staying, leaving = [], []
        for number in range(60):
            task = work.start(str(number), random.choice(list(Turn)), ends)
            (leaving if random.random() < 0.3 else staying).append(task)
            for _ in range(random.randrange(3)):
                await asyncio.sleep(0)
            if leaving and random.random() < 0.5:
                leaving.pop(random.randrange(len(leaving))).cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(*staying)
            await asyncio.gather(*leaving)
        async with asyncio.timeout(1), work.turns.of(Turn.BASE):
            assert not work.inside

    asyncio.run(all_of_it())
