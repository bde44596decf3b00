"""The queue before the model: what waits together is answered together, and what cannot be in time is refused."""

import asyncio
import threading

import pytest

from sasrec.serving.batching import TOGETHER, WAITING, Batcher
from sasrec.serving.metrics import Metrics
from sasrec.serving.operations import Desk
from sasrec.serving.problems import BUSY, LATE, Problem
from sasrec.serving.refusing import Refusals


class Model:
    """Answers each request with itself, once it is let go on; keeps the batches that it got."""

    def __init__(self):
        self.batches, self.begun, self.go_on = [], threading.Semaphore(0), threading.Semaphore(0)

    def answer(self, requests):
        self.batches.append(list(requests))
        self.begun.release()
        self.go_on.acquire()
        if "bug" in requests:
            raise ZeroDivisionError
        return list(requests)


@pytest.fixture
def run():
    """Runs a test's coroutine with a batcher and its model."""

    def start(work):
        async def whole():
            model = Model()
            batcher = Batcher(model.answer)
            try:
                return await work(batcher, model)
            finally:
                model.go_on.release(10_000)
                await asyncio.to_thread(batcher.close)

        return asyncio.run(whole())

    return start


async def begun(model):
    await asyncio.to_thread(model.begun.acquire)


async def waiting(batcher, count):
    while batcher.waiting != count:
        await asyncio.sleep(0)


def test_what_comes_while_the_model_is_at_work_is_answered_together(run):
    async def work(batcher, model):
        asked = [asyncio.create_task(batcher.ask(["first"], seconds=60))]
        await begun(model)
        asked += [asyncio.create_task(batcher.ask([name, name.upper()], seconds=60)) for name in "abc"]
        await waiting(batcher, 6)
        model.go_on.release(2)
        return await asyncio.gather(*asked), model.batches

    answers, batches = run(work)

    assert answers == [["first"], ["a", "A"], ["b", "B"], ["c", "C"]]
    assert batches == [["first"], ["a", "A", "b", "B", "c", "C"]]


def test_a_batch_is_bounded_but_what_was_asked_together_stays_together(run):
    async def work(batcher, model):
        asked = [asyncio.create_task(batcher.ask(["first"], seconds=60))]
        await begun(model)
        many = [str(number) for number in range(TOGETHER + 9)]
        asked += [asyncio.create_task(batcher.ask(many[:40], seconds=60)) for _ in range(2)]
        asked += [asyncio.create_task(batcher.ask(many, seconds=60))]
        await waiting(batcher, 80 + len(many))
        model.go_on.release(9)
        await asyncio.gather(*asked)
        return [len(one) for one in model.batches]

    assert run(work) == [1, 40, 40, TOGETHER + 9]


def test_a_full_queue_refuses(run):
    async def work(batcher, model):
        first = asyncio.create_task(batcher.ask(["first"], seconds=60))
        await begun(model)
        others = asyncio.create_task(batcher.ask(["x"] * WAITING, seconds=60))
        await waiting(batcher, WAITING)
        with pytest.raises(Problem) as refused:
            await batcher.ask(["one more"], seconds=60)
        model.go_on.release(2)
        await asyncio.gather(first, others)
        return refused.value.kind

    assert run(work) == BUSY


def test_a_request_whose_deadline_passed_in_the_queue_never_reaches_the_model(run):
    async def work(batcher, model):
        first = asyncio.create_task(batcher.ask(["first"], seconds=60))
        await begun(model)
        late = asyncio.create_task(batcher.ask(["late"], seconds=0))
        timely = asyncio.create_task(batcher.ask(["timely"], seconds=60))
        await waiting(batcher, 2)
        model.go_on.release(2)
        with pytest.raises(Problem) as refused:
            await late
        return await asyncio.gather(first, timely), refused.value.kind, model.batches

    answers, kind, batches = run(work)

    assert answers == [["first"], ["timely"]]
    assert kind == LATE
    assert batches == [["first"], ["timely"]]


def test_who_cannot_be_answered_in_time_is_refused_at_once(run):
    async def work(batcher, model):
        model.go_on.release()
        await batcher.ask(["first"], seconds=60)
        batcher._cost = 0.5  # seconds that a batch takes, as if measured
        second = asyncio.create_task(batcher.ask(["second"], seconds=60))
        model.begun.acquire()
        await begun(model)
        third = asyncio.create_task(batcher.ask(["x"] * 3, seconds=60))
        await waiting(batcher, 3)
        with pytest.raises(Problem) as refused:
            await batcher.ask(["hurried"], seconds=0.4)
        patient = asyncio.create_task(batcher.ask(["patient"], seconds=0.6))
        await waiting(batcher, 4)
        model.go_on.release(3)
        return await asyncio.gather(second, third, patient), refused.value.kind

    answers, kind = run(work)

    assert answers == [["second"], ["x"] * 3, ["patient"]]
    assert kind == BUSY


@pytest.mark.parametrize(
    ("cost", "wait", "room"),
    [
        (0.0, WAITING - 1, True),
        (0.0, WAITING, False),
        (0.2, 3 * TOGETHER - 1, True),  # 0.4 s of whole batches wait
        (0.2, 3 * TOGETHER, False),  # 0.6 s of them
        (5.0, TOGETHER - 1, True),  # however long a batch takes, one may wait
        (5.0, TOGETHER, False),
        (5.0, 0, True),
    ],
)
def test_no_more_wait_than_are_answered_in_half_a_second(run, cost, wait, room):
    async def work(batcher, model):
        first = asyncio.create_task(batcher.ask(["first"], seconds=60))
        await begun(model)
        others = asyncio.create_task(batcher.ask(["x"] * wait, seconds=60)) if wait else first
        await waiting(batcher, wait)
        batcher._cost = cost  # seconds that a batch takes, as if measured
        found = batcher.has_room()
        model.go_on.release(2)
        await asyncio.gather(first, others)
        return found

    assert run(work) is room


def test_of_the_heads_that_come_in_one_turn_as_many_are_let_in_as_there_is_room_for(run):
    async def work(batcher, model):
        first = asyncio.create_task(batcher.ask(["first"], seconds=60))
        await begun(model)
        others = asyncio.create_task(batcher.ask(["x"] * (WAITING - 2), seconds=60))
        await waiting(batcher, WAITING - 2)
        refusals = Refusals(Desk(None, batcher, Metrics()))
        turns = []
        for _ in range(2):
            turns.append([refusals.route(b"POST", b"/v1/recommend") for _ in range(4)])
            turns[-1].append(refusals.route(b"GET", b"/livez"))  # waits for nothing
            await asyncio.sleep(0)
        model.go_on.release(10)
        await asyncio.gather(first, others)
        return turns

    refused = "POST /v1/recommend"
    assert run(work) == [[None, None, refused, refused, None]] * 2


def test_a_fault_of_the_model_ends_its_batch_alone(run):
    async def work(batcher, model):
        model.go_on.release(2)
        with pytest.raises(ZeroDivisionError):
            await batcher.ask(["bug"], seconds=60)
        return await batcher.ask(["next"], seconds=60)

    assert run(work) == ["next"]


def test_who_asks_and_goes_does_not_stop_the_others(run):
    async def work(batcher, model):
        gone = asyncio.create_task(batcher.ask(["gone"], seconds=60))
        await begun(model)
        stays = asyncio.create_task(batcher.ask(["stays"], seconds=60))
        await waiting(batcher, 1)
        gone.cancel()
        model.go_on.release(2)
        return await stays

    assert run(work) == ["stays"]


def test_closing_answers_what_waits(run):
    async def work(batcher, model):
        first = asyncio.create_task(batcher.ask(["first"], seconds=60))
        await begun(model)
        second = asyncio.create_task(batcher.ask(["second"], seconds=60))
        await waiting(batcher, 1)
        model.go_on.release(2)
        await asyncio.to_thread(batcher.close)
        return await asyncio.gather(first, second)

    assert run(work) == [["first"], ["second"]]
