"""Features of raw media in MER2023's layout: speech, texts and videos through pretrained encoders (report 001).

affect launch recipes/extract_features.py [EXPERIMENT] --source media.csv --output data/mer2023 [--field value ...]

`media.csv` has any of the columns name, audio, video, text and boxes, and start and end (s) where an utterance is a
part of its files, as in training's tables. The features of an utterance go to
OUTPUT/features/NAME/<utterance>.npy, what made them to manifest.json there. A run that was stopped goes on where it
was; media that can't be read are listed in failures.jsonl, and the command then ends with 1.
"""

from __future__ import annotations

from pathlib import Path

from affect.cli import experiments_of, launch
from affect.extraction import AudioExtraction, TextExtraction, VideoExtraction


def demo() -> AudioExtraction:
    """Six generated recordings through a small random WavLM: seconds on one core."""
    return AudioExtraction(encoder="tiny", source="generated", layers=2, output=Path("data/demo_features"))


def audio() -> AudioExtraction:
    """Speech through the encoder of the report: chinese-hubert-large, 1024 numbers an utterance.

    The last 4 hidden layers are summed and averaged over time, as the public toolkit does; each recording is one
    sequence here, where the toolkit cuts those over 10 s in pieces. An utterance without a file of its own is heard
    in its video; one with neither gets zeros, the layout's mark of what is missing.
    """
    return AudioExtraction(encoder="TencentGameMate/chinese-hubert-large", source="media.csv")


def text() -> TextExtraction:
    """Texts through the language model of the report: Baichuan-13B-Base, 5120 numbers an utterance.

    The last 4 hidden layers are summed and averaged over the tokens, special ones left out. Its weights are bfloat16
    here, 26 GB, and it brings a program of its own along, which runs if told so by `--trust-remote-code`. `--encoder
    hfl/chinese-roberta-wwm-ext --dtype float32` runs on a CPU. An empty text gets zeros.
    """
    return TextExtraction(encoder="baichuan-inc/Baichuan-13B-Base", source="media.csv", dtype="bfloat16")


def video() -> VideoExtraction:
    """Frames through the image encoder of the report: CLIP ViT-L/14, 768 numbers an utterance.

    Five frames a second, averaged; `--boxes` crops them to the faces that py-feat or OpenFace found. A video in which
    no face was found gets zeros. An encoder that shares no space with texts gives the mean over an image's tokens, the
    first, special one of ViT and DINOv2 among them; beside registers (DINOv3) that and they are left out.
    """
    return VideoExtraction(encoder="openai/clip-vit-large-patch14", source="media.csv")


def audio_frames() -> AudioExtraction:
    """Every frame of speech through WavLM-large, 1024 numbers each 20 ms, in one file: for recipes/talking_face.py.

    The last 4 hidden layers are summed. A score of sync is tested by moving features called audio.
    """
    return AudioExtraction(
        encoder="microsoft/wavlm-large", source="data/clips/videos", output=Path("data/clips"), name="audio",
        level="frame", store=True, precision="float16",
    )  # fmt: skip


def video_frames() -> VideoExtraction:
    """Every image of videos through CLIP ViT-L/14, 768 numbers each fifth of a second, in one file.

    For recipes/talking_face.py; `--boxes` sees faces alone.
    """
    return VideoExtraction(
        encoder="openai/clip-vit-large-patch14", source="data/clips/videos", output=Path("data/clips"), name="video",
        level="frame", store=True, precision="float16",
    )  # fmt: skip


if __name__ == "__main__":
    launch(experiments_of(globals(), __name__))
