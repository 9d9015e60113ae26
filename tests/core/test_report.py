"""The report: its statistics against known values, its page against the run it was made from."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ambient_policy.errors import AmbientPolicyError, TrialError
from ambient_policy.report import PICTURED_TRIALS, main, write_report
from ambient_policy.statistics import success_rate, tail
from ambient_policy.trials import Trial, append_trial

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects what a page links and says, and refuses a tag that is not closed."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "svg"} & set(self.open):
            self.words.append(data)


def a_trial(seed: int, success: bool = True, **changes: Any) -> Trial:
    fields = {
        "policy": "small",
        "bundle_commit": "abc1234",
        "scenario": "pushing",
        "seed": seed,
        "runner": "ros-lockstep",
        "outcome": "success" if success else "timeout",
        "success": success,
        "held": success,
        "time_to_success_s": 20.0 + seed if success else None,
        "time_to_held_s": 21.0 + seed if success else None,
        "duration_s": 22.0 if success else 76.0,
        "final_position_error_m": 0.0123,
        "final_yaw_error_rad": np.deg2rad(-1.5),
        "commit": "def5678",
        "wall_s": 10.0,
    }
    return Trial(**(fields | changes))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Make the folder of a whole run: four trials, one of them failed."""
    folder = tmp_path / "run"
    (folder / "stills").mkdir(parents=True)
    for seed in range(4):
        append_trial(folder / "trials.jsonl", a_trial(seed, success=seed != 2))
        for when in ("start", "end"):
            Image.new("RGB", (640, 480), (seed, 90, 60)).save(folder / "stills" / f"seed_{seed}_{when}.png")
    # 1 to 101 ms: median 51, 99th percentile 100, longest 101.
    lines = [
        {"trial": 0, "encode_ms": 1.0, "denoise_ms": None, "image_to_command_ms": ms, "command_age_ms": 50.0}
        for ms in range(1, 102)
    ]
    (folder / "latency.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "run.json").write_text(
        json.dumps({"bundle": {"sha256": "feed" * 16}, "command": ["a", "b:=1"]})
    )
    (folder / "trials of seed 0.mp4").write_bytes(b"")
    return folder


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (9, 10), (1, 1), (169, 200)])
def test_wilson_interval_solves_its_equation(successes: int, trials: int) -> None:
    """Its ends are the rates p whose own standard error puts the seen rate at 1.96 of them: closed form."""
    k, n, z = successes, trials, 1.959964
    middle, half = (k + z**2 / 2) / (n + z**2), z * np.sqrt(k * (n - k) / n + z**2 / 4) / (n + z**2)
    rate = success_rate(k, n)
    assert (rate.low, rate.high) == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert 0 <= rate.low <= rate.fraction <= rate.high <= 1


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 5)])
def test_counts_that_make_no_rate_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(AmbientPolicyError, match="make no rate"):
        success_rate(successes, trials)


def test_tail_names_values_that_occurred() -> None:
    """Between 20 ms and a rare 200 ms nothing was measured, so no percentile may lie there."""
    times = tail([20.0] * 60 + [200.0])
    assert (times.count, times.p50, times.p99, times.max) == (61, 20.0, 200.0, 200.0)


def test_tail_refuses_nothing_and_not_a_number() -> None:
    with pytest.raises(AmbientPolicyError, match="0 values"):
        tail([])
    with pytest.raises(AmbientPolicyError, match="1 not finite"):
        tail([1.0, float("nan")])


def test_page_says_what_the_run_did(run: Path) -> None:
    page = Page(write_report(run))
    for said in (
        "3 of 4",
        "30 to 95 %",
        "out of time",
        "none in 76 s",
        "12.3 mm",
        "1.5°",
        "51 ms median",
        "99 of 100 within 100 ms, longest 101 ms",
        "0 to 3",
        "a b:=1",
        "feed" * 16,
        "median of the 3 trials",
        "in lock-step",
    ):
        assert said in page.text, said


def test_page_is_whole_in_itself(run: Path) -> None:
    """Mailed alone it must still show everything but the video."""
    page = Page(write_report(run))
    outside = [link for link in page.links if not link.startswith(("data:", "#"))]
    assert set(outside) == {"trials%20of%20seed%200.mp4"}
    assert sum(link.startswith("data:image/jpeg") for link in page.links) == 8
    assert "<svg" in (run / "report.html").read_text(encoding="utf-8")


def test_only_trials_are_needed(tmp_path: Path) -> None:
    append_trial(tmp_path / "trials.jsonl", a_trial(7, success=False, holds={"no image": 3}))
    page = Page(write_report(tmp_path))
    assert "0 of 1" in page.text
    assert "no trial succeeded" in page.text
    assert "recorded no latency" in page.text
    assert "no image (3 ticks)" in page.text


def test_a_report_replaces_the_one_before_and_leaves_nothing_else(run: Path) -> None:
    write_report(run)
    append_trial(run / "trials.jsonl", a_trial(4))
    before = {p.name for p in run.iterdir()}
    assert "4 of 5" in Page(write_report(run)).text
    assert {p.name for p in run.iterdir()} == before


def test_text_of_a_run_cannot_change_the_page(tmp_path: Path) -> None:
    append_trial(tmp_path / "trials.jsonl", a_trial(0, policy="<script>alert(1)</script>"))
    assert "<script>" not in write_report(tmp_path).read_text(encoding="utf-8")


def test_a_film_of_one_trial_is_linked_in_its_row(run: Path) -> None:
    append_trial(run / "trials.jsonl", a_trial(9, video="trial_9.mp4"))
    (run / "trial_9.mp4").write_bytes(b"")
    links = Page(write_report(run)).links
    assert links.count("trial_9.mp4") == 1
    assert links.count("trials%20of%20seed%200.mp4") == 2, "played and linked"


def test_two_policies_get_a_line_each(tmp_path: Path) -> None:
    for seed in range(3):
        append_trial(tmp_path / "trials.jsonl", a_trial(seed))
        append_trial(tmp_path / "trials.jsonl", a_trial(seed, success=False, policy="other"))
    text = Page(write_report(tmp_path)).text
    assert "By policy" in text
    assert "3 of 3" in text
    assert "0 of 3" in text


def test_failures_are_pictured_first_when_there_are_too_many(tmp_path: Path) -> None:
    (tmp_path / "stills").mkdir()
    last = PICTURED_TRIALS + 5
    for seed in range(last + 1):
        append_trial(tmp_path / "trials.jsonl", a_trial(seed, success=seed != last))
        Image.new("RGB", (8, 6)).save(tmp_path / "stills" / f"seed_{seed:04d}_end.png")
    page = Page(write_report(tmp_path))
    assert sum(link.startswith("data:image") for link in page.links) == PICTURED_TRIALS
    assert f"seed {last}: out of time" in page.text
    assert "6 more trials are not pictured" in page.text


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("trials.jsonl", "", "trials.jsonl is empty"),
        ("trials.jsonl", '{"seed": 1}\n', "trials.jsonl, line 1"),
        ("latency.jsonl", '{"encode_ms": 1}\nnot json\n', "latency.jsonl, line 2 is not JSON"),
        ("latency.jsonl", "[1]\n", "line 1 holds a list, needs one JSON object"),
        (
            "latency.jsonl",
            '{"encode_ms": "fast"}\n',
            "encode_ms is 'fast', needs a finite number of milliseconds",
        ),
        ("latency.jsonl", '{"encode_ms": NaN}\n', "encode_ms is nan, needs a finite number"),
        ("run.json", "{", "run.json is not JSON"),
        ("run.json", "[]", "run.json holds a list"),
        ("stills/seed_0_end.png", "no picture", "seed_0_end.png is not a whole picture"),
    ],
)
def test_a_broken_file_is_named(run: Path, name: str, text: str, complaint: str) -> None:
    (run / name).write_text(text)
    with pytest.raises(TrialError) as error:
        write_report(run)
    assert complaint in str(error.value)
    assert not (run / "report.html").exists()


def test_a_line_cut_short_by_a_kill_is_left_out(run: Path) -> None:
    with (run / "latency.jsonl").open("a") as file:
        file.write('{"trial": 3, "enc')
    assert "101 chunks" in Page(write_report(run)).text


def test_a_folder_without_trials_says_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match="no run folder at .*make one with `make demo`"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(TrialError, match=r"has no trials\.jsonl"):
        write_report(tmp_path)


def test_command_writes_the_page_and_names_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run)]) == 0
    assert str(run / "report.html") in capsys.readouterr().out
