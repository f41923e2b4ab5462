"""Nothing reaches the terminal, and afterwards everything is as before."""

import logging
import warnings

import pytest

from gffnet.inference.model_io import quiet


def test_quiet_while_it_lasts(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet():
            print("chatter")
            logging.getLogger("chatter").warning("chatter")
            warnings.warn("chatter", stacklevel=1)
            logging.getLogger("serious").error("it fails")
        assert caught == []
        assert [each.message for each in caplog.records] == ["it fails"]
        print("result")
        logging.getLogger("ours").warning("notice")
        warnings.warn("notice", stacklevel=1)
    assert len(caught) == 1
    assert capsys.readouterr().out == "result\n"
    assert caplog.records[-1].message == "notice"


def test_also_after_an_error() -> None:
    with pytest.raises(ValueError, match="broken"), quiet():
        raise ValueError("broken")
    assert logging.getLogger("ours").isEnabledFor(logging.WARNING)
