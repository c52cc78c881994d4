"""Whether a video file holds all the bytes that its own header promises.

Decoders play a cut-off film up to the cut without a word, so the containers are read here: the boxes of mp4 and mov
(ISO/IEC 14496-12), the Segment of Matroska and WebM (RFC 8794), the RIFF chunks of avi. A transport stream promises
nothing, and one that was cut between two packets can't be told from a whole one.
"""

from __future__ import annotations

import io
from typing import BinaryIO

_BOXES = frozenset((b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"wide", b"free", b"skip", b"pnot"))
"""Boxes that an mp4 or mov may begin with."""
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
# Programs that write to a pipe cannot know the size and leave one of these: such a file promises nothing.
_UNKNOWN_SIZE = 0x7FFF0000


def truncation(file: BinaryIO) -> str | None:
    """Return how the file is cut off, in words, or None where it is whole or does not tell; rewinds it."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    missing: int | None = 0
    if head[4:8] in _BOXES:
        missing = _missing_of_boxes(file, size)
    elif head[:4] == _EBML.to_bytes(4, "big"):
        missing = _missing_of_segment(file, size)
    elif head[:4] == b"RIFF" and head[8:] == b"AVI ":
        missing = _missing_of_riff(file, size)
    file.seek(0)
    if missing is None:
        return "its index (moov) is missing"
    return f"{missing} bytes fewer than its header promises" if missing > 0 else None


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
    position = 0
    while position < size:
        file.seek(position)
        kind, length, used = _element(file.read(12))
        if length is None:
            return 0
        position += used + length
        if kind == _SEGMENT:
            return max(0, position - size)
    return max(0, position - size)


def _element(head: bytes) -> tuple[int, int | None, int]:
    """Return an EBML element's identity, the length of its content (None: unknown) and that of its header."""
    width = _width(head[0])
    if len(head) <= width:
        return 0, None, 0
    length_width = _width(head[width])
    number = int.from_bytes(head[width : width + length_width], "big") & ((1 << 7 * length_width) - 1)
    unknown = number == (1 << 7 * length_width) - 1 or length_width > 8
    return int.from_bytes(head[:width], "big"), None if unknown else number, width + length_width


def _width(first: int) -> int:
    """Return how many bytes a number of variable width takes, told by the zeros before its first one."""
    return 9 - first.bit_length()


def _missing_of_riff(file: BinaryIO, size: int) -> int:
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
    return max(0, position - size - 1)
