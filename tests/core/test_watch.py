"""Who is silent, and whose clock is wrong."""

from __future__ import annotations

from ambient_policy.watch import Watch


def test_silence_is_noticed_after_the_timeout_and_not_before() -> None:
    watch = Watch(("policy", "servo"), timeout_s=3.0, max_clock_error_s=0.2)
    assert watch.trouble(0.0) == "nothing has been heard of policy yet"
    watch.hear("policy", 10.0, 0.0)
    watch.hear("stranger", 10.0, 99.0)
    assert watch.trouble(10.0) == "nothing has been heard of servo yet"
    watch.hear("servo", 11.0, 0.0)
    assert watch.trouble(13.0) == ""
    assert watch.trouble(13.1) == "policy has been silent for 3.1 s"
    watch.hear("policy", 13.2, 0.0)
    assert watch.trouble(13.2) == ""
    assert watch.trouble(14.1) == "servo has been silent for 3.1 s"


def test_a_wrong_clock_shows_in_every_report_a_busy_machine_in_one() -> None:
    watch = Watch(("policy",), timeout_s=3.0, max_clock_error_s=0.2)
    for i, error_s in enumerate((0.001, 0.9, 0.002, 0.8)):
        watch.hear("policy", float(i), error_s)
        assert watch.trouble(float(i)) == ""
    watch.hear("policy", 4.0, 0.7)
    watch.hear("policy", 5.0, 0.9)
    assert watch.trouble(5.0) == "the clock of policy is 0.70 s behind the watchdog's; synchronise them"
    for i in range(3):
        watch.hear("policy", 6.0 + i, -0.5)
    assert watch.trouble(8.0) == "the clock of policy is 0.50 s ahead of the watchdog's; synchronise them"
