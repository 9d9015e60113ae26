"""The latency book gives one line a chunk, whatever the order in which the news comes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

pytest.importorskip("ambient_policy_ros")
from ambient_policy_ros.latency import LatencyBook, stage_times

STAMP = 2_000_000_000


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_every_order_gives_the_same_line(tmp_path: Path, order: tuple[int, ...]) -> None:
    book = LatencyBook(tmp_path / "latency.jsonl")
    book.begin_trial(3)
    book.frame(STAMP, began_s=10.0, sent_s=10.005)
    news = [
        lambda: book.planned(STAMP, {"encode_ms": 1.5}),
        lambda: book.acknowledged(STAMP, 10.03),
        lambda: book.taken_over(STAMP, STAMP + 50_000_000),
        lambda: book.applied(STAMP + 50_000_000, 10.06),
    ]
    for index in order:
        news[index]()
        if index == 3:
            book.applied(STAMP + 60_000_000, 10.07)
    book.applied(STAMP + 70_000_000, 10.08)
    book.close()
    (line,) = map(json.loads, (tmp_path / "latency.jsonl").read_text().splitlines())
    stages = line.pop("encode_ms", None)
    assert stages == 1.5
    assert line == {
        "trial": 3,
        "chunk_stamp_s": 2.0,
        "render_ms": 5.0,
        "image_to_chunk_ms": 30.0,
        "image_to_command_ms": 60.0,
        "command_age_ms": 50.0,
    }


def test_a_chunk_that_never_took_over_leaves_no_line(tmp_path: Path) -> None:
    book = LatencyBook(tmp_path / "latency.jsonl")
    book.frame(STAMP, 0.0, 0.0)
    book.acknowledged(STAMP, 0.1)
    book.applied(STAMP + 1, 0.2)
    book.taken_over(7, 8)
    book.close()
    assert (tmp_path / "latency.jsonl").read_text() == ""


def test_stage_times_are_the_numbers_in_milliseconds() -> None:
    assert stage_times({"encode_ms": "1.5", "denoise_ms": "", "hold": "", "x_ms": "nan"}) == {
        "encode_ms": 1.5
    }
