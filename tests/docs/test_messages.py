"""Every message that is raised says what is wrong, where, and what to do; the page of messages lists them from the source."""

from __future__ import annotations

import pytest

from docs.generate import messages
from docs.generate.messages import Message
from initbench import errors

FOUND = messages.messages()


def message(text: str, error: str = "UsageError") -> Message:
    return Message("initbench/somewhere.py: function", error, 2, text)


def test_every_message_names_a_place_and_a_remedy() -> None:
    wrong = [f"{found.place} names no {messages.lacks(found)}: {found.text}" for found in FOUND if messages.lacks(found)]
    assert not wrong, "mend the messages, or say in docs/generate/messages.py why they may be as they are:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        ("inconsistent grids", "place"),
        ("case {case_id}: inconsistent grids", "remedy"),
        ("case {case_id}: {path} is damaged", "remedy"),
        ("case {case_id}: {path} is damaged; download it again", ""),
        ("unknown size {size!r}; there are tiny and paper", ""),
    ],
)
def test_what_a_message_leaves_out_is_seen(text: str, lacking: str) -> None:
    assert messages.lacks(message(text)) == lacking
    assert messages.lacks(message(text, "RecordError")) == ""


def test_all_classes_of_errors_are_found() -> None:
    """Also those that are declared elsewhere, and with the exit code of the class that they derive from."""
    codes = {found.error: found.code for found in FOUND}
    for error in (errors.InitbenchError, errors.UsageError, errors.DataError, errors.MissingDataError):
        assert codes[error.__name__] == error.exit_code
    assert codes["MisbehavedError"] == codes["RecordError"] == 1
    assert len(FOUND) > 300


def test_no_exception_is_left_that_nothing_needs() -> None:
    texts = [found.text for found in FOUND]
    assert {found.error for found in FOUND} >= set(messages.PASSED_ON)
    for beginning in messages.PLAIN:
        assert any(text.startswith(beginning) for text in texts), beginning
    for name in messages.SAID_BY:
        assert any(f"{{{name}}}" in text for text in texts), name


def test_the_page_lists_them() -> None:
    page = messages.page()
    assert "## cli" in page
    assert "retry takes --failed or --all" in page
    assert "`initbench/cli/run.py: retry`" in page
    assert page.count("\n| ") > len(FOUND)
