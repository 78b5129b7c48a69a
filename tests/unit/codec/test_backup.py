"""The form of backups: what was written is read, and nothing else is."""

from __future__ import annotations

import io

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from romana.codec.backup import BackupReader, BackupWriter
from romana.model.errors import Invalid

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
RECORDS = st.dictionaries(KEYS, st.binary(max_size=20) | st.text(max_size=9).map(str.encode), max_size=8)


def written(records: dict[str, bytes]) -> bytes:
    writer = BackupWriter()
    lines = [writer.header(incarnation="1a", revision=7, made_by="romana 0")]
    lines += [writer.record(key, records[key]) for key in sorted(records)]
    lines.append(writer.end())
    return b"".join(line + b"\n" for line in lines)


def read(text: bytes) -> dict[str, bytes]:
    return dict(BackupReader().records(io.BytesIO(text)))


@given(RECORDS)
def test_what_was_written_is_read(records: dict[str, bytes]) -> None:
    assert read(written(records)) == records


@given(RECORDS, st.data())
def test_a_file_with_any_byte_changed_cut_off_or_doubled_is_refused(
    records: dict[str, bytes], data: st.DataObject
) -> None:
    text = written(records)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[place]))
    for wrong in (text[:place] + bytes([other]) + text[place + 1 :], text[:place], text + text[place:]):
        with pytest.raises(Invalid):
            read(wrong)


@given(RECORDS.filter(lambda records: len(records) > 1), st.data())
def test_a_file_without_one_of_its_lines_or_in_another_order_is_refused(
    records: dict[str, bytes], data: st.DataObject
) -> None:
    lines = written(records).splitlines(keepends=True)
    taken = data.draw(st.integers(0, len(lines) - 1))
    moved = [*lines[:taken], *lines[taken + 1 :]]
    with pytest.raises(Invalid):
        read(b"".join(moved))
    moved.insert(data.draw(st.integers(0, len(lines) - 1).filter(lambda place: place != taken)), lines[taken])
    with pytest.raises(Invalid):
        read(b"".join(moved))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "the end is missing"),
        (b"PK\3\4 something else\n", "is no backup of romana"),
        (b'{"kind": "List"}\n', "is no backup of romana"),
        (b"[]\n", "is no backup of romana"),
        (written({}).replace(b'"version":1', b'"version":2'), "has version 2 of the format"),
        (written({"a": b"1"})[:-20], "cut off"),
        (written({"a": b"1"}).split(b'{"records"')[0], "the end is missing"),
        (written({"a": b"1"}).replace(b'"text":"1"', b'"text":"2"'), "checksum"),
        (written({"a": b"1"}).replace(b'"records":1', b'"records":2'), "says 2 records"),
        (written({}) + b"more\n", "after the end"),
    ],
)
def test_a_refusal_says_what_is_wrong(text: bytes, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        read(text)


def test_every_line_is_json() -> None:
    lines = written({"a": b"\xff", "b": b"{}"}).splitlines()
    assert msgspec.json.decode(lines[1]) == {"key": "a", "base64": "/w=="}
    assert msgspec.json.decode(lines[2]) == {"key": "b", "text": "{}"}
