"""One slot, newest wins: nothing older comes out after something newer, and every item is accounted for."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.mailbox import Closed, Latest


@given(st.lists(st.sampled_from(["put", "poll"])))
def test_it_holds_the_newest_and_counts_the_rest(actions: list[str]) -> None:
    mailbox: Latest[int] = Latest()
    put = taken = 0
    waiting: int | None = None
    for action in actions:
        if action == "put":
            put += 1
            waiting = put
            mailbox.put(put)
        else:
            assert mailbox.poll() == waiting
            taken += waiting is not None
            waiting = None
        assert mailbox.received == put == taken + mailbox.dropped + (waiting is not None)
    mailbox.close()
    assert mailbox.received == taken + mailbox.dropped


def test_after_the_end_nothing_comes_out_and_nothing_is_kept() -> None:
    mailbox: Latest[str] = Latest()
    mailbox.put("left behind")
    mailbox.close()
    mailbox.close()
    mailbox.put("too late")
    assert (mailbox.received, mailbox.dropped, mailbox.closed) == (2, 2, True)
    with pytest.raises(Closed):
        mailbox.poll()
    with pytest.raises(Closed):
        mailbox.take(1.0)


def test_nothing_can_be_told_from_an_item_that_is_none() -> None:
    notified: list[int] = []
    mailbox: Latest[int | None] = Latest(lambda: notified.append(1))
    mailbox.put(None)
    mailbox.put(None)
    assert mailbox.dropped == 1
    mailbox.close()
    assert len(notified) == 3


def test_take_waits_for_an_item_and_no_longer() -> None:
    mailbox: Latest[int] = Latest()
    since_s = time.monotonic()
    assert mailbox.take(0.05) is None
    assert 0.04 < time.monotonic() - since_s < 1.0
    threading.Timer(0.05, mailbox.put, [7]).start()
    assert mailbox.take(5.0) == 7


def test_closing_wakes_a_thread_that_waits() -> None:
    mailbox: Latest[int] = Latest()
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(Closed):
            mailbox.take(30.0)
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    mailbox.close()
    assert ended.wait(5.0)
    thread.join()


def test_from_a_fast_writer_a_slow_reader_gets_rising_numbers_and_the_last_one() -> None:
    mailbox: Latest[int] = Latest()
    count = 20_000
    got: list[int] = []

    def read() -> None:
        while not got or got[-1] != count - 1:
            item = mailbox.take(1.0)
            if item is not None:
                got.append(item)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(count):
        mailbox.put(number)
    reader.join(20.0)
    assert got == sorted(set(got))
    assert got[-1] == count - 1
    assert mailbox.received == count == len(got) + mailbox.dropped


async def test_it_hands_over_to_an_event_loop() -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    mailbox: Latest[int] = Latest(lambda: loop.call_soon_threadsafe(ready.set))
    thread = threading.Thread(target=mailbox.put, args=[5])
    thread.start()
    async with asyncio.timeout(5.0):
        await ready.wait()
    assert mailbox.poll() == 5
    thread.join()
