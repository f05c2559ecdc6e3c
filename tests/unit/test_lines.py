"""The line reader: whole, compressed and damaged input."""

import gzip
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopotel_prom.archive.lines import (
    BadLine,
    Line,
    LongLine,
    read_documents,
    read_lines,
    read_whole,
    zstd,
)
from loopotel_prom.errors import ArchiveError, DocumentError


def _zstd(data: bytes) -> bytes:
    """Compress with the checksum without which zstd lets much damage pass."""
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": _zstd,
}
packings = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)


def _noise(size: int) -> bytes:
    """Make bytes without newlines that no packer can shrink much."""
    return os.urandom(size).replace(b"\n", b" ")


@packings
def test_lines_carry_file_number_and_offset(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    """Numbers and offsets count the uncompressed input, blank lines included."""
    path = tmp_path / "traces.jsonl"
    path.write_bytes(pack(b"one\n\n  \r\ntwo\r\nthree"))
    assert list(read_lines(path)) == [
        Line(str(path), 1, 0, b"one"),
        Line(str(path), 4, 9, b"two"),
        Line(str(path), 5, 14, b"three"),
    ]


@given(st.lists(st.binary(max_size=40)), st.sampled_from(list(PACKERS.values())))
def test_an_offset_finds_the_line_again(
    parts: list[bytes], pack: Callable[[bytes], bytes]
) -> None:
    """Cutting the input at a line's offset gives the line, whatever the bytes."""
    # The bar keeps plain bytes from beginning as a compressed stream does.
    data = b"|" + b"\n".join(parts)
    lines = list(read_lines(io.BytesIO(pack(data))))
    assert all(data[line.offset :].startswith(line.data) for line in lines)
    kept = [part.rstrip(b"\r") for part in data.split(b"\n") if part.strip()]
    assert [line.data for line in lines] == kept


@packings
def test_a_line_beyond_the_limit_is_reported_and_skipped(
    pack: Callable[[bytes], bytes],
) -> None:
    """Its neighbours are read; the limit itself still fits."""
    data = b"a" * 10 + b"\n" + b"b" * 1_000_000 + b"\nc\n" + b"d" * 11
    lines = list(read_lines(io.BytesIO(pack(data)), max_line_bytes=10))
    assert lines == [
        Line("<stream>", 1, 0, b"a" * 10),
        BadLine("<stream>", 2, 11, "longer than 10 bytes"),
        Line("<stream>", 3, 1_000_012, b"c"),
        BadLine("<stream>", 4, 1_000_014, "longer than 10 bytes"),
    ]


@pytest.mark.parametrize("name", ("gzip", "zstd"))
def test_a_torn_stream_gives_its_good_lines_first(name: str) -> None:
    """What was compressed before the tear is read, and the tear has its place."""
    whole = b"".join(b"%d %s\n" % (n, _noise(50_000)) for n in range(1, 9))
    torn = PACKERS[name](whole)[:250_000]
    *good, last = read_lines(io.BytesIO(torn))
    assert [line.data[:2] for line in good] == [b"%d " % n for n in range(1, 5)]
    fault = f"the {name} stream ends here, torn"
    assert last == BadLine("<stream>", 5, 4 * 50_003, fault)


@pytest.mark.parametrize("name", ("gzip", "zstd"))
def test_a_damaged_stream_is_a_bad_line(name: str) -> None:
    """A flipped bit in the checksum or the blocks is told, and ends the reading."""
    packed = bytearray(PACKERS[name](_noise(300_000)))
    packed[len(packed) // 2 : len(packed) // 2 + 100_000] = bytes(100_000)
    (line,) = read_lines(io.BytesIO(packed))
    assert isinstance(line, BadLine)
    assert line.fault.startswith((f"damaged {name} stream", f"the {name} stream"))


def test_a_wrong_checksum_is_a_bad_line() -> None:
    """A gzip file that unpacks, but to other bytes than were packed."""
    packed = bytearray(gzip.compress(b"one\n"))
    packed[-8] ^= 1
    *_, last = read_lines(io.BytesIO(packed))
    assert isinstance(last, BadLine)
    assert "damaged gzip stream: CRC check failed" in last.fault


def test_a_tear_within_a_skipped_line_is_reported_too() -> None:
    """Both faults of the line are told, and reading ends."""
    torn = gzip.compress(_noise(2_000_000))[:-9]
    lines = list(read_lines(io.BytesIO(torn), max_line_bytes=10))
    assert [(line.number, line.offset) for line in lines] == [(1, 0), (1, 0)]
    assert [getattr(line, "fault", "")[-5:] for line in lines] == ["bytes", " torn"]


@packings
def test_concatenated_parts_are_one_stream(pack: Callable[[bytes], bytes]) -> None:
    """Rotation tools append a compressed part to another."""
    data = pack(b"one\ntw") + pack(b"o\n")
    assert [line.data for line in read_lines(io.BytesIO(data))] == [b"one", b"two"]


def test_a_stream_is_left_open() -> None:
    """Who opened it closes it, also when the reader is left early."""
    stream = io.BytesIO(b"one\ntwo\n")
    for line in read_lines(stream):
        assert line == Line("<stream>", 1, 0, b"one")
        break
    assert not stream.closed


def test_a_named_pipe_is_read_as_a_stream(tmp_path: Path) -> None:
    """Nothing is asked of the source that only a regular file can do."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"one\ntwo\n",))
    writer.start()
    lines = [line.number for line in read_lines(pipe)]
    writer.join()
    assert lines == [1, 2]


@pytest.mark.parametrize(
    ("name", "message"),
    (
        ("nowhere.jsonl", "No such file or directory; check the path"),
        (".", "Is a directory; name the files in it"),
    ),
)
def test_what_cannot_be_opened_is_one_clear_error(
    tmp_path: Path, name: str, message: str
) -> None:
    """The error names the path, the cause and what to do."""
    path = tmp_path / name
    with pytest.raises(ArchiveError) as caught:
        next(read_lines(path))
    assert str(caught.value) == f"{path}: {message}"


def test_a_failing_disk_is_an_archive_error(tmp_path: Path) -> None:
    """An input/output error while reading is no line of the file."""

    class Failing(io.BytesIO):
        name = "traces.jsonl"

        def readinto(self, _buffer: object) -> int:
            raise OSError(5, "Input/output error")

    with pytest.raises(ArchiveError, match=r"^traces\.jsonl: Input/output error; "):
        list(read_lines(Failing()))


@pytest.mark.parametrize("suffix", (".json", ".json.gz", ".json.zst"))
def test_a_json_file_is_one_document(tmp_path: Path, suffix: str) -> None:
    """The suffix decides, however many lines it has."""
    path = tmp_path / f"trace{suffix}"
    path.write_bytes(b'{"a":\n1}\n')
    (line,) = read_documents(path)
    assert line == Line(str(path), 1, 0, b'{"a":\n1}', whole=True)


@packings
def test_a_pretty_printed_document_is_one(pack: Callable[[bytes], bytes]) -> None:
    """A brace alone on the first line that is not blank tells."""
    data = b'\n {\n  "a": 1\n}\n'
    assert list(read_documents(io.BytesIO(pack(data)))) == [
        Line("<stream>", 2, 1, b' {\n  "a": 1\n}', whole=True)
    ]


def test_a_brace_after_the_first_line_is_a_line() -> None:
    """A torn record within an archive does not swallow what follows."""
    lines = list(read_documents(io.BytesIO(b"{}\n{\n{}\n")))
    assert [line.data for line in lines if isinstance(line, Line)] == [
        b"{}",
        b"{",
        b"{}",
    ]


@pytest.mark.parametrize("data", (b"{\n" + b" " * 20, b"{\n}" + b" " * 18))
def test_a_whole_document_has_the_same_limit(data: bytes) -> None:
    """A pretty-printed document is not read beyond the limit either."""
    (line,) = read_documents(io.BytesIO(data), max_document_bytes=20)
    assert line == BadLine("<stream>", 1, 0, "a document longer than 20 bytes")


def test_whole_reads_any_source_as_one(tmp_path: Path) -> None:
    """The suffix is not asked; a blank source gives nothing."""
    path = tmp_path / "trace.txt"
    path.write_bytes(b"one\ntwo\n")
    (line,) = read_whole(path)
    assert line == Line(str(path), 1, 0, b"one\ntwo", whole=True)
    assert list(read_whole(io.BytesIO(b" \n\n"))) == []


@packings
def test_a_line_too_long_to_hold_comes_in_pieces(
    pack: Callable[[bytes], bytes],
) -> None:
    """They are the line without its newline; its neighbours are as ever."""
    long = _noise(700_000)
    data = b"one\n" + long + b"\nthree\n" + long
    kinds, sizes = [], []
    for item in read_lines(io.BytesIO(pack(data)), held_bytes=1000):
        kinds.append((type(item), item.number, item.offset))
        if isinstance(item, LongLine):
            pieces = list(item.pieces)
            sizes.append(max(map(len, pieces)))
            assert b"".join(pieces) == long
    assert kinds == [
        (Line, 1, 0),
        (LongLine, 2, 4),
        (Line, 3, 700_005),
        (LongLine, 4, 700_011),
    ]
    assert max(sizes) == 256 * 1024


@packings
@pytest.mark.parametrize("pieces", (0, 1, 2))
def test_what_is_left_of_a_long_line_is_skipped(
    pack: Callable[[bytes], bytes], pieces: int
) -> None:
    """Whatever its consumer has read of it, the next line is the next."""
    data = _noise(700_000) + b"\ntwo"
    lines = read_lines(io.BytesIO(pack(data)), held_bytes=1000)
    long = next(lines)
    assert isinstance(long, LongLine)
    for _ in range(pieces):
        next(long.pieces)
    assert list(lines) == [Line("<stream>", 2, 700_001, b"two")]


def test_a_long_line_that_exceeds_the_limit_is_left() -> None:
    """Not one byte beyond the limit is given; the next line is."""
    data = b"x" * 2_000_000 + b"\ntwo"
    lines = read_lines(io.BytesIO(data), held_bytes=10, max_line_bytes=1_000_000)
    long = next(lines)
    assert isinstance(long, LongLine)
    size = 0
    with pytest.raises(DocumentError, match="longer than 1000000 bytes"):
        for piece in long.pieces:
            size += len(piece)
    assert size <= 1_000_000
    assert list(lines) == [Line("<stream>", 2, 2_000_001, b"two")]


@pytest.mark.parametrize("name", ("gzip", "zstd"))
def test_a_tear_in_a_long_line_is_told_once(name: str) -> None:
    """Its consumer is told, or the next item tells; nothing follows."""
    torn = PACKERS[name](_noise(1_000_000))[:-9]
    fault = f"the {name} stream ends here, torn"
    for read in (True, False):
        lines = read_lines(io.BytesIO(torn), held_bytes=10)
        long = next(lines)
        assert isinstance(long, LongLine)
        if read:
            with pytest.raises(DocumentError, match=fault):
                list(long.pieces)
        left = [] if read else [BadLine("<stream>", 1, 0, fault)]
        assert list(lines) == left


@packings
def test_a_whole_document_comes_in_pieces_too(pack: Callable[[bytes], bytes]) -> None:
    """Pretty-printed, its newlines are a part of it."""
    data = b"\n{\n" + b" " * 600_000 + b"\n}\n"
    (long,) = [
        (item.number, item.offset, b"".join(item.pieces), item.whole)
        for item in read_documents(io.BytesIO(pack(data)), held_bytes=10)
        if isinstance(item, LongLine)
    ]
    assert long == (2, 1, data[1:], True)
