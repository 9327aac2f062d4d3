"""What one process wishes, and when."""

import os
import signal

import pytest
import torch

from mfm.processes.lifetime import STOP_SIGNALS, StopRequest
from mfm.processes.ranks import Process
from mfm.training.agreement import Agreement


def agreement(stop, *, minutes=None, rank=0):
    return Agreement(
        stop=stop,
        checkpoint_minutes=minutes,
        timeout_minutes=1.0,
        process=Process(rank=rank, world=1, device=torch.device("cpu")),
    )


def decide(subject):
    subject.begin()
    return subject.end()


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_is_a_wish_to_stop(handlers, number):
    stop = StopRequest()
    stop.catch_signals()
    subject = agreement(stop)
    assert not decide(subject).stop
    os.kill(os.getpid(), number)
    decision = decide(subject)
    assert decision.stop == number
    assert not decision.save
    assert stop.received == number


def test_a_signal_within_a_step_counts_from_the_next():
    stop = StopRequest()
    subject = agreement(stop)
    subject.begin()
    stop.received = signal.SIGTERM
    assert not subject.end().stop
    assert decide(subject).stop


def test_a_checkpoint_is_due_by_the_clock_until_it_is_saved(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("mfm.training.agreement.time.monotonic", lambda: now[0])
    subject = agreement(StopRequest(), minutes=2.0)
    now[0] += 119
    assert not decide(subject).save
    now[0] += 2
    assert decide(subject).save
    assert decide(subject).save
    subject.saved()
    assert not decide(subject).save
    assert not decide(agreement(StopRequest(), minutes=None)).save
