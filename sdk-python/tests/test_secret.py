"""A secret shows itself to nobody but `reveal`."""

from __future__ import annotations

import copy
import json
import logging
import pickle

import pytest

from fractal_lba.secret import Secret, reveal

HIDDEN = "correct-horse-battery"
SECRET = Secret(HIDDEN)


@pytest.mark.parametrize(
    "shown",
    [
        f"str: {SECRET!s}",
        f"repr: {SECRET!r}",
        f"format: {SECRET}",
        f"width: {SECRET:>40}",
        f"repr with width: {SECRET!r:>40}",
        f"in a list: {[SECRET]}",
        "percent: %s" % SECRET,  # noqa: UP031 - the old way must hide too
        "method: {}".format(SECRET),  # noqa: UP032 - the old way must hide too
    ],
)
def test_no_text_shows_it(shown: str) -> None:
    assert "***" in shown
    assert HIDDEN not in shown


def test_a_log_line_hides_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("x").debug("key %s %r", SECRET, SECRET)
    assert HIDDEN not in caplog.text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_refuses_pickling(protocol: int) -> None:
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(SECRET, protocol)


def test_it_is_not_json() -> None:
    with pytest.raises(TypeError) as caught:
        json.dumps({"key": SECRET})
    assert HIDDEN not in str(caught.value)


def test_it_has_no_attributes_to_dump() -> None:
    assert not hasattr(SECRET, "__dict__")
    with pytest.raises(TypeError):
        hash(SECRET)


def test_copies_are_the_same_object() -> None:
    assert copy.copy(SECRET) is SECRET
    assert copy.deepcopy([SECRET])[0] is SECRET


def test_equality_is_of_the_bytes() -> None:
    assert Secret(b"k") == Secret("k")
    assert Secret(b"k") != Secret(b"l")
    assert Secret(b"k") != b"k"


def test_text_is_utf8_and_bytes_stay() -> None:
    assert Secret("\u00e9").reveal() == b"\xc3\xa9"
    assert Secret(b"\x00\xff").reveal() == b"\x00\xff"


def test_reveal_takes_both() -> None:
    assert reveal(b"k") == reveal(Secret(b"k")) == b"k"
