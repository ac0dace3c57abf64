"""Turns: tasks that run side by side and finish one after the other."""

from __future__ import annotations

import asyncio

import pytest

from service.in_turn import InTurn


def run(order: list[int], *, fails: int | None = None, leaves: int | None = None) -> list[int]:
    """Which tasks came to their turn, and when, if they are ready in another order than they came in."""
    came: list[int] = []

    async def work(row: InTurn, number: int, ready: asyncio.Event) -> None:
        with row.turn() as turn:
            await ready.wait()
            if number == leaves:
                return
            await turn.comes()
            if number == fails:
                raise ValueError(number)
            came.append(number)

    async def all_of_them() -> None:
        row = InTurn()
        ready = [asyncio.Event() for _ in order]
        tasks = [asyncio.create_task(work(row, number, event)) for number, event in enumerate(ready)]
        for number in order:
            ready[number].set()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(asyncio.wait_for(all_of_them(), 5))
    return came


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_turns_come_in_the_order_of_asking(order: list[int]):
    assert run(order) == [0, 1, 2, 3]


def test_a_turn_that_fails_is_over():
    assert run([2, 1, 0], fails=1) == [0, 2]


def test_who_leaves_before_its_turn_lets_nobody_pass_those_before_it():
    assert run([1, 2, 0], leaves=1) == [0, 2]


def test_who_is_cancelled_in_its_turn_or_before_lets_the_next_come():
    async def talk() -> None:
        row = InTurn()
        first, second, third = row.turn(), row.turn(), row.turn()

        async def wait(turn) -> None:
            with turn:
                await turn.comes()

        waits = asyncio.create_task(wait(second))
        last = asyncio.create_task(wait(third))
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.sleep(0.01)
        assert not last.done()  # the first still has its turn
        with first:
            pass
        await asyncio.wait_for(last, 5)

    asyncio.run(talk())
