"""The bar of bytes: drawn on a terminal once there is something to tell, silent elsewhere."""

import pytest

from quant.cli.progress import bytes_bar, measurements_bar


def test_a_terminal_gets_bytes_speed_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    with bytes_bar("nf4") as watch:
        watch(1_000_000, 4_000_000)
        watch(4_000_000, 4_000_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert "nf4" in err
    assert "4.0/4.0 MB" in err
    assert "0:00:00" in err


def test_a_terminal_gets_nothing_before_the_work_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad input is one line there as well."""
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    with bytes_bar("nf4"):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_pipe_gets_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", False)
    with bytes_bar("nf4") as watch:
        watch(1, 2)
    assert capsys.readouterr() == ("", "")


def test_measurements_are_counted_with_their_names_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for terminal in (True, False):
        monkeypatch.setattr("rich.console.Console.is_terminal", terminal)
        with measurements_bar() as watch:
            watch("nf4: lm_head", 3, 25)
        out, err = capsys.readouterr()
        assert out == ""
        assert ("nf4: lm_head" in err, "3/25" in err) == (terminal, terminal)
