"""An engine that goes and comes back is told once each, with the reason, and a quiet start is quiet."""

from __future__ import annotations

from structlog.testing import capture_logs

from controller.engine.notice import Notice


def test_each_loss_and_each_return_is_one_line_in_the_log_and_one_event() -> None:
    noted: list[tuple[str, str]] = []
    notice = Notice(lambda level, text: noted.append((level, text)))
    with capture_logs() as logged:
        notice(True, "")
        for _ in range(2):
            notice(False, "no such file; start it (`systemctl start docker`)")
            notice(True, "")
    assert [line["log_level"] for line in logged] == ["warning"] * 4
    assert [level for level, _ in noted] == ["warning", "info"] * 2
    assert logged[0]["why"] in noted[0][1]
    assert "answers again after 0 s" in logged[1]["event"]


def test_an_engine_that_is_not_there_at_the_start_is_told() -> None:
    with capture_logs() as logged:
        Notice(lambda level, text: None)(False, "permission denied; run oton as a user of the group `docker`")
    assert "group `docker`" in logged[0]["why"]
