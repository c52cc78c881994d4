"""Endings of the files that count as sound and as videos in a folder."""

from __future__ import annotations

SOUND = frozenset(
    (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".aac", ".ac3", ".amr", ".au", ".caf", ".m4a", ".mka", ".opus",
     ".w64", ".wma")
)  # fmt: skip
FILM = frozenset(
    (".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv")
)
