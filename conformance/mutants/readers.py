"""Family P: other readers of JSON text (spec/canonical.md 3.9).

Most are the right reader behind something that lets more through, as stock parsers do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from json.decoder import JSONDecodeError, JSONDecoder
from typing import Any, Final

from fractal_lba import canonical
from fractal_lba.canonical import MAX_RECORD_BYTES, SIGNED_FLOATS
from fractal_lba.errors import ValidationError

from .patching import Patch, mutation

Pairs = list[tuple[str, Any]]

SIGNED_NUMBERS: Final = (*SIGNED_FLOATS, "epoch")
ZERO: Final = {
    **dict.fromkeys(SIGNED_FLOATS, 0.0), "epoch": 0, "shard_id": "", "pcs_id": "",
    "merkle_root": "",
}  # fmt: skip
"""What a struct of Go holds before a text is read into it."""


def texts(id: str, change: Callable[[bytes], bytes]) -> None:
    """Register a mutant that changes the bytes before it reads them."""

    @mutation(id)
    def apply(patch: Patch) -> None:
        right = canonical.parse_value

        def parse_value(data: bytes, *, max_bytes: int = MAX_RECORD_BYTES) -> Any:
            return right(change(data), max_bytes=max_bytes)

        patch.swap(right, parse_value)


def values(id: str, change: Callable[[Any], Any]) -> None:
    """Register a mutant that changes what it read."""

    @mutation(id)
    def apply(patch: Patch) -> None:
        rereads(patch, change)


def rereads(patch: Patch, change: Callable[[Any], Any]) -> None:
    """Change what the reader gives."""
    right = canonical.parse_value

    def parse_value(data: bytes, *, max_bytes: int = MAX_RECORD_BYTES) -> Any:
        return change(right(data, max_bytes=max_bytes))

    patch.swap(right, parse_value)


def decodes(patch: Patch, **options: Any) -> None:
    """Replace an option of both decoders."""
    settings: dict[str, Any] = {
        "object_pairs_hook": canonical._members,
        "parse_constant": canonical._refuse_constant,
    }
    patch.set(canonical, "_fast", JSONDecoder(**{**settings, **options}))
    patch.set(
        canonical, "_exact", JSONDecoder(**{**settings, "parse_int": canonical._integer, **options})
    )


# --- duplicates, constants, numbers ---------------------------------------------------------


@mutation("P01")
def last_wins(patch: Patch) -> None:
    decodes(patch, object_pairs_hook=dict)


@mutation("P02")
def first_wins(patch: Patch) -> None:
    decodes(patch, object_pairs_hook=lambda pairs: dict(reversed(pairs)))


@mutation("P03")
def constants(patch: Patch) -> None:
    decodes(patch, parse_constant=lambda token: 0.0)


@mutation("P09")
def minus_zero(patch: Patch) -> None:
    right = canonical._integer
    decodes(patch, parse_int=lambda token: 0 if token == "-0" else right(token))


@mutation("P16")
def digit_limit(patch: Patch) -> None:
    def decode(decoder: JSONDecoder, text: str) -> Any:
        try:
            return decoder.decode(text)
        except canonical._DuplicateNameError:
            raise ValidationError("member_duplicate", "refused by a mutant") from None
        except ValueError:
            raise ValidationError("json_malformed", "refused by a mutant") from None

    patch.swap(canonical._decode, decode)
    decodes(patch, parse_int=lambda token: -0.0 if token == "-0" else int(token))


# --- bytes ----------------------------------------------------------------------------------


def any_utf(data: bytes) -> bytes:
    """Guess the encoding as `json.loads` does; its guess takes a BOM for what it is."""
    try:
        return data.decode(json.detect_encoding(data)).encode()
    except UnicodeError:
        return data


def trimmed(data: bytes) -> bytes:
    try:
        return data.decode().strip().encode()
    except UnicodeDecodeError:
        return data


texts("P04", lambda data: data.removeprefix(b"\xef\xbb\xbf"))
texts("P05", any_utf)
texts("P06", lambda data: data.decode("utf-8", "replace").encode())
texts("P19", trimmed)


@mutation("P07")
def replacement_characters(patch: Patch) -> None:
    patch.swap(canonical._check_surrogates, lambda value: None)
    rereads(patch, whole)


def whole(value: Any) -> Any:
    """Put U+FFFD in the place of unpaired surrogates, everywhere."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [whole(item) for item in value]
    if isinstance(value, dict):
        return {whole(name): whole(item) for name, item in value.items()}
    return value


# --- members --------------------------------------------------------------------------------


def members(change: Callable[[dict[str, Any]], None]) -> Callable[[Any], Any]:
    """Apply a change to a record, and to nothing else that is read."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict) and not value.keys().isdisjoint(ZERO):
            change(value)
        return value

    return changed


def numbers(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Apply a change to the signed numbers that are there."""

    def each(record: dict[str, Any]) -> None:
        for name in SIGNED_NUMBERS:
            if name in record:
                record[name] = change(record[name])

    return members(each)


def integral(record: dict[str, Any]) -> None:
    epoch = record.get("epoch")
    if type(epoch) is float and epoch.is_integer() and str(epoch) != "-0.0":
        record["epoch"] = int(epoch)


_NUMBER: Final = re.compile(r"\s*-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?\s*\Z")


def of_text(value: Any) -> Any:
    if not isinstance(value, str) or not _NUMBER.match(value):
        return value
    return int(value) if value.strip().lstrip("-").isdigit() else float(value)


def any_case(record: dict[str, Any]) -> None:
    """Let a name that differs by case alone fill, or overwrite, the member."""
    for wanted in ZERO:
        for name in list(record):
            if name.lower() == wanted.lower():
                record[wanted] = record[name]


def filled(record: dict[str, Any]) -> None:
    for name, value in ZERO.items():
        record.setdefault(name, value)


values("P08", members(integral))
values("P10", numbers(lambda value: int(value) if isinstance(value, bool) else value))
values("P11", numbers(of_text))
values("P12", numbers(lambda value: 0 if value is None else value))
values("P13", members(filled))
values("P14", members(any_case))


# --- limits ---------------------------------------------------------------------------------


@mutation("P15")
def trailing_data(patch: Patch) -> None:
    right = canonical._decode

    def decode(decoder: JSONDecoder, text: str) -> Any:
        try:
            return right(decoder, text)
        except ValidationError as error:
            if not error.message.startswith("Extra data"):
                raise
        start = len(text) - len(text.lstrip(" \t\r\n"))
        try:
            return decoder.raw_decode(text, start)[0]
        except JSONDecodeError:
            raise ValidationError("json_malformed", "refused by a mutant") from None

    patch.swap(right, decode)


@mutation("P17")
def any_depth(patch: Patch) -> None:
    patch.swap(canonical._check_depth, lambda text: None)


@mutation("P18")
def any_size(patch: Patch) -> None:
    right = canonical.parse_value

    def parse_value(data: bytes, *, max_bytes: int = MAX_RECORD_BYTES) -> Any:
        return right(data, max_bytes=max(max_bytes, len(data)))

    patch.swap(right, parse_value)
