"""Whether a media file holds all the bytes that its own header promises.

Decoders shorten a cut-off file, or play it up to the cut, without a word, so the containers are read here: RIFF, RIFX,
RF64, avi and AIFF chunks, the last page of an ogg stream (RFC 3533), the Xing/Info header of an mp3, the boxes of mp4
and mov (ISO/IEC 14496-12), the Segment of Matroska and WebM (RFC 8794), the objects of wma and wmv (ASF), the frames of
bare AAC (ADTS, ISO/IEC 13818-7). A cut-off flac makes the decoder fail and needs
no check. A transport stream promises nothing, and one that was cut between two packets can't be told from a whole one.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from affect.data.files import absence, open_file
from affect.errors import AffectError

_UNKNOWN_SIZE = 0x7FFF0000
"""Programs that write to a pipe cannot know the size and leave this or more: such a file promises nothing."""
_BOXES = frozenset((b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"wide", b"free", b"skip", b"pnot"))
"""Boxes that an mp4 or mov may begin with."""
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa")
"""How the first object of an ASF file begins."""
_LARGEST_OGG_PAGE = 65_307
_END_OF_STREAM = 4


def named(source: str | Path | bytes, name: str | None, kind: str) -> str:
    """Return what an error calls a file of a `kind` (audio, media), or its bytes, where `name` doesn't say it."""
    return name or (f"{kind} in memory" if isinstance(source, bytes) else str(source))


@contextmanager
def opened(source: str | Path | bytes, name: str, kind: str) -> Iterator[BinaryIO]:
    """Open a file, or its bytes; raises AffectError where it is missing, can't be opened, is empty or cut off."""
    try:
        file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else open_file(source)
    except FileNotFoundError as error:
        link = not isinstance(source, bytes) and os.path.islink(source)
        reason = absence(str(source)) if link else f"no such {kind} file"
        raise AffectError(f"{name}: {reason}") from error
    except (OSError, ValueError) as error:
        raise AffectError(f"{name}: cannot be opened ({getattr(error, 'strerror', None) or error})") from error
    with file:
        if not file.read(1):
            raise AffectError(f"{name}: is empty (0 bytes)")
        cut = truncation(file)
        if cut is not None:
            raise AffectError(f"{name}: is truncated, {cut}")
        file.seek(0)
        yield file


def truncation(file: BinaryIO) -> str | None:
    """Return how the file is cut off, in words, or None where it is whole or does not tell."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    missing: int | None = 0
    if head[:4] == b"RIFF" and head[8:] == b"AVI ":
        missing = _missing_of_avi(file, size)
    elif head[:4] in (b"RIFF", b"RF64"):
        missing = _missing_of_chunks(file, size, "little", b"data")
    elif head[:4] in (b"RIFX", b"FORM"):
        missing = _missing_of_chunks(file, size, "big", b"data" if head[:4] == b"RIFX" else b"SSND")
    elif head[:4] == b"OggS":
        return _ogg_truncation(file, size)
    elif head[4:8] in _BOXES:
        missing = _missing_of_boxes(file, size)
    elif head[:4] == _EBML.to_bytes(4, "big"):
        missing = _missing_of_segment(file, size)
    elif head == _ASF:
        missing = _missing_of_objects(file, size)
    elif len(head) >= 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        missing = _missing_of_frames(file, size)
    elif head[:3] == b"ID3" or (len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0):
        missing = _missing_of_mp3(file, size)
    if missing is None:
        return "its index (moov) is missing"
    return f"{missing} bytes fewer than its header promises" if missing > 0 else None


def _missing_of_chunks(file: BinaryIO, size: int, order: Literal["little", "big"], samples: bytes) -> int:
    """Return how many bytes the chunk that holds the samples lacks."""
    position, long_size = 12, 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(8)
        length = int.from_bytes(header[4:], order)
        if header[:4] == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], "little")
        if header[:4] == samples:
            if length == 0xFFFFFFFF and long_size:
                length = long_size
            elif length >= _UNKNOWN_SIZE:
                return 0
            return position + 8 + length - size
        position += 8 + length + length % 2
    return 0


def _missing_of_avi(file: BinaryIO, size: int) -> int:
    """Return how many bytes the last RIFF chunk lacks: avi files over a gigabyte have several."""
    position = 0
    while position + 12 <= size:
        file.seek(position)
        header = file.read(8)
        length = int.from_bytes(header[4:], "little")
        if header[:4] != b"RIFF" or length == 0 or length >= _UNKNOWN_SIZE:
            return 0
        position += 8 + length + length % 2
    # The padding of an odd chunk at the end is left out by some writers.
    return position - size - 1


def _ogg_truncation(file: BinaryIO, size: int) -> str | None:
    """Say whether the last page is incomplete or does not end its stream."""
    file.seek(max(0, size - 2 * _LARGEST_OGG_PAGE))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
        return "its last ogg page is cut off"
    return None if page[5] & _END_OF_STREAM else "its ogg stream does not end"


def _missing_of_mp3(file: BinaryIO, size: int) -> int:
    """Return how many bytes an mp3 with a Xing/Info header lacks; 0 where it has none."""
    file.seek(0)
    start, tag = 0, file.read(10)
    if tag[:3] == b"ID3" and len(tag) == 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    file.seek(start)
    head = file.read(4096)
    sync = next((i for i in range(len(head) - 1) if head[i] == 0xFF and head[i + 1] & 0xE0 == 0xE0), None)
    if sync is None:
        return 0
    # The header lies behind the side information of the first frame: at most 4 + 32 bytes, with a CRC 2 more.
    frame = head[sync : sync + 64]
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    if at < 0 or len(frame) < at + 16 or not flags & 2:
        return 0
    field = at + 8 + (4 if flags & 1 else 0)
    return start + sync + int.from_bytes(frame[field : field + 4], "big") - size


def _missing_of_boxes(file: BinaryIO, size: int) -> int | None:
    """Return how many bytes the last box lacks, None where no box is the index that every mp4 needs."""
    position, indexed = 0, False
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        indexed = indexed or kind == b"moov"
        if length == 1:
            length = int.from_bytes(header[8:], "big")
        # Zero is "up to the end"; fewer than a header's bytes are padding behind the last box.
        if length < 8:
            break
        position += length
    if position > size:
        return position - size
    return 0 if indexed else None


def _missing_of_segment(file: BinaryIO, size: int) -> int:
    """Return how many bytes the Segment lacks; 0 where it has no size, as in a live stream."""
    position, kind = 0, 0
    while position < size and kind != _SEGMENT:
        file.seek(position)
        kind, length, used = _element(file.read(12))
        if length is None:
            return 0
        position += used + length
    return position - size


def _element(head: bytes) -> tuple[int, int | None, int]:
    """Return an EBML element's identity, the length of its content (None: unknown) and that of its header."""
    # Numbers of variable width tell it by the zeros before their first one.
    width = 9 - head[0].bit_length()
    if len(head) <= width:
        return 0, None, 0
    length_width = 9 - head[width].bit_length()
    number = int.from_bytes(head[width : width + length_width], "big") & ((1 << 7 * length_width) - 1)
    unknown = number == (1 << 7 * length_width) - 1 or length_width > 8
    return int.from_bytes(head[:width], "big"), None if unknown else number, width + length_width


def _missing_of_objects(file: BinaryIO, size: int) -> int:
    """Return how many bytes the last object of an ASF file lacks; 0 where it has no size, as in a live stream."""
    position = 0
    while position + 24 <= size:
        file.seek(position + 16)
        length = int.from_bytes(file.read(8), "little")
        if length < 24:
            return 0
        position += length
    return position - size


def _missing_of_frames(file: BinaryIO, size: int) -> int:
    """Return how many bytes the last frame of bare AAC lacks; 0 where something else stands between frames."""
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(7)
        if len(head) < 7:
            return 7 - len(head)
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        if head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or length < 7:
            return 0
        position += length
    return position - size
