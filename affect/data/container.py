"""Whether an audio file holds all the bytes that its own header promises.

Decoders shorten a cut-off wav, ogg or mp3 without a word, so the containers are read here: RIFF, RIFX, RF64 and
AIFF chunks, the last page of an ogg stream (RFC 3533), the Xing/Info header of an mp3. A cut-off flac makes the
decoder fail and needs no check.
"""

from __future__ import annotations

import io
from typing import BinaryIO

# Programs that write to a pipe cannot know the size and leave one of these: such a file promises nothing.
_UNKNOWN_SIZE = 0x7FFF0000
_LARGEST_OGG_PAGE = 65_307
_END_OF_STREAM = 4


def truncation(stream: BinaryIO) -> str | None:
    """Return how the file in `stream` is cut off, in words, or None where it is whole or does not tell."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    magic = stream.read(4)
    if magic in (b"RIFF", b"RF64"):
        missing = _missing_of_chunks(stream, size, "little", b"data")
    elif magic in (b"RIFX", b"FORM"):
        missing = _missing_of_chunks(stream, size, "big", b"data" if magic == b"RIFX" else b"SSND")
    elif magic == b"OggS":
        return _ogg_truncation(stream, size)
    elif magic[:3] == b"ID3" or (magic[:1] == b"\xff" and len(magic) == 4 and magic[1] & 0xE0 == 0xE0):
        missing = _missing_of_mp3(stream, size)
    else:
        missing = 0
    return f"{missing} bytes fewer than its header promises" if missing > 0 else None


def _missing_of_chunks(stream: BinaryIO, size: int, order: str, samples: bytes) -> int:
    """Return how many bytes the chunk that holds the samples lacks."""
    endian = "little" if order == "little" else "big"
    position, long_size = 12, 0
    while position + 8 <= size:
        stream.seek(position)
        header = stream.read(8)
        length = int.from_bytes(header[4:], endian)  # type: ignore[arg-type]
        if header[:4] == b"ds64":
            long_size = int.from_bytes(stream.read(16)[8:], "little")
        if header[:4] == samples:
            if length == 0xFFFFFFFF and long_size:
                length = long_size
            elif length >= _UNKNOWN_SIZE:
                return 0
            return position + 8 + length - size
        position += 8 + length + length % 2
    return 0


def _ogg_truncation(stream: BinaryIO, size: int) -> str | None:
    """Say whether the last page is incomplete or does not end its stream."""
    stream.seek(max(0, size - 2 * _LARGEST_OGG_PAGE))
    tail = stream.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return "its last ogg page is cut off"
    if len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
        return "its last ogg page is cut off"
    return None if page[5] & _END_OF_STREAM else "its ogg stream does not end"


def _missing_of_mp3(stream: BinaryIO, size: int) -> int:
    """Return how many bytes an mp3 with a Xing/Info header lacks; 0 where it has none."""
    stream.seek(0)
    start, tag = 0, stream.read(10)
    if tag[:3] == b"ID3" and len(tag) == 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    stream.seek(start)
    head = stream.read(4096)
    sync = next((i for i in range(len(head) - 1) if head[i] == 0xFF and head[i + 1] & 0xE0 == 0xE0), None)
    if sync is None:
        return 0
    # The header lies behind the side information of the first frame: at most 4 + 32 bytes, with a CRC 2 more.
    frame = head[sync : sync + 64]
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or len(frame) < at + 16:
        return 0
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    if not flags & 2:
        return 0
    field = at + 8 + (4 if flags & 1 else 0)
    promised = int.from_bytes(frame[field : field + 4], "big")
    return start + sync + promised - size
