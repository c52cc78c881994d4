"""Images and sound of a video on one clock."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from affect.data import clip, video
from affect.data.faces import Boxes
from affect.errors import AffectError
from tests.data.films import film, song

RATE = 16_000
LEVELS = tuple(range(20, 220, 10))


def ramp(seconds: float) -> np.ndarray:
    """Sound whose value says when it is: 10,000 a second."""
    return (np.arange(round(seconds * RATE)) * 10_000 / RATE).astype(np.int16)[None]


def read(source, **options) -> clip.Clip:
    return clip.read(source, **{"rate": 10, "seconds": 60.0, "side": 16, "sampling_rate": RATE, **options})


def grey(made: clip.Clip) -> list[int]:
    assert made.images is not None and made.images.dtype == np.uint8
    return [round(image.mean() / 10) * 10 for image in made.images]


def moved(*, images: float = 0.0, sound: float = 0.0) -> bytes:
    """A Matroska file whose images and sound begin so many seconds after 0."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        stream.pix_fmt, stream.gop_size = "yuv420p", 1
        stream.codec_context.time_base = Fraction(1, 1000)
        track = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for place, level in enumerate(LEVELS):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(1000 * images) + 100 * place, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        heard = av.AudioFrame.from_ndarray(ramp(2.0), format="s16", layout="mono")
        heard.sample_rate, heard.pts, heard.time_base = RATE, round(sound * RATE), Fraction(1, RATE)
        container.mux(track.encode(heard))
        container.mux(track.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("shift", [{}, {"sound": 0.478}, {"images": 0.321}, {"images": 0.021, "sound": 0.478}])
def test_images_and_sound_are_of_the_same_moment(shift):
    data = moved(**shift)
    starts = video.starts(data)
    assert starts == pytest.approx((shift.get("images", 0.0), shift.get("sound", 0.0)), abs=1e-3)
    made = read(data)
    first = (grey(made)[0] - LEVELS[0]) / 100 + shift.get("images", 0.0) - shift.get("sound", 0.0)
    assert made.sound is not None and made.images is not None
    assert made.sound[0] * 32768 / 10_000 == pytest.approx(first, abs=2e-3), "the moment that the first image is of"
    assert len(made.images) == np.ceil(len(made.sound) / RATE * 10 - 1e-6), "they end together"
    assert grey(made) == list(LEVELS)[LEVELS.index(grey(made)[0]) :][: len(made.images)]


def test_it_ends_where_it_is_told_to_and_each_half_can_be_left_out():
    data = moved()
    short = read(data, seconds=0.55)
    assert grey(short) == list(LEVELS[:6]) and len(short.sound) == 0.6 * RATE
    seen, heard = read(data, sampling_rate=None), read(data, side=None, seconds=1.0)
    assert seen.sound is None and grey(seen) == list(LEVELS)
    assert heard.images is None and len(heard.sound) == RATE
    assert read(film(LEVELS)).sound is None, "a silent film"


def test_image_k_is_what_is_seen_at_k_by_rate_whatever_the_rate_of_the_video():
    """The time is that of the frame: neither its number by a rate nor the header tells it."""
    times = [0, 100, 200, 700, 800, 900, 1500]
    made = read(film(LEVELS[:7], form="matroska", times=times), rate=10)
    assert grey(made) == [20, 30, 40, 40, 40, 40, 40, 50, 60, 70, 70, 70, 70, 70, 70, 80]
    slow = read(film(LEVELS[:3]), rate=20)
    assert grey(slow) == [20, 20, 30, 30, 40], "shown until the next one is"


def test_faces_are_held_where_none_is_found_and_none_at_all_is_none():
    numbers = np.arange(20)
    boxes = np.array([[2.0, 2, 8, 8]] * 20)
    boxes[[0, 1, 5, 6]] = np.nan
    seen = read(film(LEVELS), boxes=Boxes(numbers=numbers, boxes=boxes))
    assert grey(seen) == [40, 50, 60, 60, 60, *range(90, 220, 10)]
    data = film(LEVELS, form="matroska", sound=ramp(2.0))
    boxes[:] = np.nan
    none = read(data, boxes=Boxes(numbers=numbers, boxes=boxes))
    assert none.images is None and none.sound is not None and len(none.sound) == 2 * RATE


def test_the_square_in_the_middle_is_brought_to_size():
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = 200
    assert (clip.square(image, 8) == 200).all()
    assert clip.square(image, 40).shape == (40, 40, 3)


def test_a_header_that_says_nothing_of_the_length_is_not_asked():
    assert video.seconds_of(film(LEVELS)) == pytest.approx(2.0, abs=0.11)
    assert video.seconds_of(film(LEVELS, form="m4v", codec="mpeg4")) == pytest.approx(2.0, abs=0.3)


def test_aac_is_longer_than_what_was_written_and_images_end_it():
    """AAC of 5.0 s decodes to 5.0133 s or more: whole frames of 1,024 samples."""
    sound = (3000 * np.sin(np.arange(5 * RATE) / 5)).astype(np.int16)[None]
    data = film(range(50), sound=sound, sound_codec="aac")
    assert len(video.audio_of(data, RATE)) > 5 * RATE
    made = read(data)
    assert made.images is not None and made.sound is not None
    assert len(made.images) == 50 and len(made.sound) == 5 * RATE


def test_the_whole_picture_has_black_borders():
    image = np.full((8, 16, 3), 200, np.uint8)
    image[:, :2] = 40
    made = clip.square(image, 16, whole=True)
    assert made.shape == (16, 16, 3) and not made[[*range(3), *range(13, 16)]].any()
    assert (made[6:10, 4:] == 200).all() and (made[6:10, 0] == 40).all()
    assert (clip.square(image, 16)[:, 0] == 200).all(), "the middle alone has no edge"
    (low, high) = (read(film(LEVELS[8:9] * 10, size=(32, 16)), whole=whole).images.mean() for whole in (True, False))
    assert low == pytest.approx(high / 2, rel=0.1)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (song(ramp(1.0)), "has no video stream, only sound"),
        (film(LEVELS)[:-200], "truncated|damaged|cut off"),
        (moved(images=2.5), "its sound has ended before its images begin"),
    ],
)
def test_what_can_not_be_seen_is_one_line(source, words):
    with pytest.raises(AffectError, match=words) as caught:
        read(source)
    assert "\n" not in str(caught.value)


def test_a_container_that_was_decoded_for_one_stream_has_nothing_for_the_other():
    """Why each stream has a container of its own: without a word there would be no image."""
    data = moved()
    with av.open(io.BytesIO(data)) as container:
        assert list(container.decode(audio=0))
        assert not list(container.decode(video=0))
    made = read(data)
    assert made.images is not None and len(made.images) == len(LEVELS) and len(made.sound) == 2 * RATE
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].frames == 0, "a header that counts no frames"
