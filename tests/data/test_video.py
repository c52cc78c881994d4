import io
import math
import re
import struct
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.data import audio, video
from affect.data.faces import Boxes
from affect.errors import AffectError
from tests.data.films import film, song

LEVELS = tuple(range(20, 220, 10))
RAMP = film(LEVELS)


def shown(source, rate, **options):
    """The grey levels and the times of the frames taken, levels rounded to the tens they were written in."""
    taken = list(video.frames(source, rate, **options))
    assert all(frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous for frame in taken)
    return [round(frame.image.mean() / 10) * 10 for frame in taken], [frame.time for frame in taken]


def refused(source, words, rate=10, function=None):
    with pytest.raises(AffectError, match=words) as caught:
        function(source) if function else list(video.frames(source, rate))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def boxes_of(numbers, box, **options):
    return Boxes(numbers=np.array(numbers), boxes=np.array([box] * len(numbers), float), **options)


def test_frames_are_those_written():
    levels, times = shown(RAMP, 10)
    assert levels == list(LEVELS)
    assert times == pytest.approx(np.arange(20) / 10)
    assert next(video.frames(RAMP, 10)).image.shape == (16, 16, 3)


def test_a_file_is_read_as_its_bytes(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(RAMP)
    assert shown(path, 5) == shown(RAMP, 5)


@pytest.mark.parametrize(
    ("rate", "places"),
    [
        (5, range(0, 20, 2)),
        (1, [0, 10]),
        (3, [0, 4, 7, 10, 14, 17]),
        (0.7, [0, 15]),
        (1000, range(20)),
        (11, range(20)),
    ],
)
def test_each_tick_takes_the_frame_at_or_after_it_once(rate, places):
    assert shown(RAMP, rate)[0] == [LEVELS[place] for place in places]


def test_colours_are_red_green_blue():
    colour = np.zeros((16, 16, 3), np.uint8) + np.array([200, 100, 30], np.uint8)
    data = film([0], image=lambda place, level: colour)
    assert np.abs(next(video.frames(data, 1)).image.astype(int) - colour).max() <= 6


@settings(max_examples=25, deadline=None)
@given(gaps=st.lists(st.integers(5, 400), min_size=1, max_size=19), rate=st.sampled_from([0.5, 1, 3, 7, 15, 25]))
def test_a_variable_rate_is_sampled_by_times(gaps, rate):
    times = np.cumsum([0, *gaps])
    levels = LEVELS[: len(times)]
    expected = []
    for tick in range(int(times[-1] * rate / 1000) + 2):
        # Matroska keeps milliseconds: a frame a millisecond before its tick is the one that was meant.
        after = [i for i, time in enumerate(times) if Fraction(int(time) + 1, 1000) >= Fraction(tick) / Fraction(rate)]
        expected += after[:1]
    expected = sorted(set(expected))
    got, at = shown(film(levels, form="matroska", times=times), rate)
    assert got == [levels[place] for place in expected]
    assert at == pytest.approx(times[expected] / 1000)


def test_thirds_of_a_second_rounded_to_milliseconds_are_not_missed():
    """30 frames a second in Matroska are at .033, .067, .1: a rate of 15 takes every other one all the same."""
    times = np.round(np.arange(20) * 1000 / 30).astype(int)
    assert shown(film(LEVELS, form="matroska", times=times), 15)[0] == list(LEVELS[::2])


def test_time_begins_with_the_first_frame():
    data = film(LEVELS, form="mpegts", codec="mpeg2video", fps=25)
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].start_time > 0
    levels, times = shown(data, 5)
    assert levels == list(LEVELS[::5])
    assert times == pytest.approx([0, 0.2, 0.4, 0.6])


def test_a_bare_stream_has_the_times_of_its_rate():
    data = film(LEVELS, form="m4v", codec="mpeg4", fps=25)
    levels, times = shown(data, 5)
    assert levels == list(LEVELS[::5]) and times == pytest.approx([0, 0.2, 0.4, 0.6])


def turned(data, matrix):
    """Write a display matrix (16.16 numbers a, b, c, d) into the track header of an mp4."""
    at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    a, b, c, d = (round(number * 65536) for number in matrix)
    return data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[at + 36 :]


@pytest.mark.parametrize(
    ("matrix", "turns"), [((1, 0, 0, 1), 0), ((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)]
)
def test_rotation_noted_in_the_header(matrix, turns):
    """x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12), so (0, 1, -1, 0) turns clockwise, as telephones note."""
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:, :16] = 220
    picture[:8, 16:] = 120
    data = turned(film([0], size=(32, 16), image=lambda place, level: picture), matrix)
    image = next(video.frames(data, 1)).image
    expected = np.rot90(picture, turns)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 4


def marked(place, level):
    """A frame of 48 x 32 with a white square of 8 whose left upper corner is (20, 12)."""
    image = np.full((32, 48, 3), level, np.uint8)
    image[12:20, 20:28] = 250
    return image


def test_faces_are_cut_out():
    data = film([20] * 4, size=(48, 32), image=marked)
    boxes = boxes_of([0, 1, 2, 3], (20, 12, 8, 8))
    images = [frame.image for frame in video.frames(data, 10, boxes=boxes, margin=0.0)]
    assert [image.shape for image in images] == [(8, 8, 3)] * 4
    assert min(image.mean() for image in images) > 220
    assert next(video.frames(data, 10, boxes=boxes, margin=1.0)).image.shape == (16, 16, 3)


def test_frames_without_a_face_are_left_out():
    boxes = boxes_of([1, 2, 4], (2, 2, 8, 8))
    boxes.boxes[1] = math.nan
    assert [frame.time for frame in video.frames(RAMP, 5, boxes=boxes)] == pytest.approx([0.4])


def test_no_face_at_all_is_no_error():
    assert list(video.frames(RAMP, 5, boxes=boxes_of([0], [math.nan] * 4))) == []


def test_boxes_of_another_video():
    boxes = boxes_of(range(20), (400, 300, 50, 50))
    with pytest.raises(AffectError, match="media in memory: every face box lies outside the image"):
        list(video.frames(RAMP, 10, boxes=boxes))


def test_memory_does_not_grow_with_the_video():
    data = film([20, 200] * 60, size=(160, 128))
    one = 160 * 128 * 3
    tracemalloc.start()
    try:
        count = sum(1 for _ in video.frames(data, 10))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 120 and peak < 12 * one


def tones(channels=1, seconds=2.0, rate=16_000):
    at = np.arange(round(seconds * rate)) / rate
    return np.stack([np.sin(2 * np.pi * 220 * (i + 1) * at) * 9000 for i in range(channels)]).astype(np.int16)


@pytest.mark.parametrize("form", ["matroska", "mov", "avi"])
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_is_what_was_written(form, channels):
    sound = tones(channels)
    samples = video.audio_of(film(LEVELS, form=form, sound=sound), 16_000)
    assert samples.dtype == np.float32
    expected = (sound.astype(np.float64) / 2**15).mean(axis=0)
    assert samples.shape == expected.shape and np.abs(samples - expected).max() < 1e-6


def test_sound_is_resampled_as_that_of_sound_files(tmp_path):
    sound = tones(2, rate=44_100)
    soundfile.write(tmp_path / "a.wav", sound.T, 44_100)
    samples = video.audio_of(film(LEVELS, form="mov", sound=sound, sound_rate=44_100), 16_000)
    expected = audio.load(tmp_path / "a.wav", 16_000)
    assert abs(len(samples) - len(expected)) <= 1
    shorter = min(len(samples), len(expected))
    assert np.abs(samples[:shorter] - expected[:shorter]).max() < 1e-3
    assert np.array_equal(video.audio_of(tmp_path / "a.wav"), expected)
    assert np.array_equal(video.audio_of((tmp_path / "a.wav").read_bytes()), expected)


def test_lossy_sound_is_nearly_what_was_written():
    sound = tones()
    samples = video.audio_of(film(LEVELS, sound=sound, sound_codec="aac"))
    # The encoder runs in for 1024 samples, which the file written here does not say.
    assert len(samples) == pytest.approx(33_024, abs=1024)
    assert np.corrcoef(samples[3024:31_024], sound[0, 2000:30_000])[0, 1] > 0.99


def test_cut_off_sound_files_are_found(tmp_path):
    soundfile.write(tmp_path / "a.wav", tones()[0], 16_000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-1000])
    refused(tmp_path / "a.wav", "is truncated, 1000 bytes fewer", function=video.audio_of)


FORMS = [("mp4", "mpeg4"), ("mov", "mpeg4"), ("matroska", "mpeg4"), ("webm", "libvpx"), ("avi", "mpeg4")]


@pytest.mark.parametrize(("form", "codec"), FORMS)
def test_a_truncated_video_is_an_error_before_its_first_frame(form, codec, tmp_path):
    data = film(LEVELS, form=form, codec=codec)
    assert len(shown(data, 10)[0]) == 20
    for kept in (len(data) - 2, len(data) - 300, len(data) // 2, len(data) // 4):
        path = tmp_path / f"{kept}.film"
        path.write_bytes(data[:kept])
        reader = video.frames(path, 1)
        with pytest.raises(AffectError, match=f"^{re.escape(str(path))}: is (truncated|not readable)"):
            next(reader)
        refused(path, "is truncated|not readable", function=video.audio_of)


def test_a_recording_that_was_never_finished():
    """A camera that loses power leaves the pictures without the index, which is written last."""
    at = RAMP.index(b"moov") - 4
    refused(RAMP[:at], "is truncated, its index .moov. is missing")


def test_a_stream_of_unknown_length_is_read():
    data = bytearray(film(LEVELS, form="matroska"))
    at = data.index(bytes.fromhex("18538067")) + 4
    assert data[at] == 1
    data[at : at + 8] = bytes([1]) + b"\xff" * 7
    assert shown(bytes(data), 10)[0] == list(LEVELS)


def rolling(form, codec):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    return bytearray(
        film(range(30), form=form, codec=codec, size=(64, 64), image=lambda place, level: np.roll(noise, place, 0))
    )


def zeros_in_mpeg4():
    data = rolling("mp4", "mpeg4")
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    return bytes(data)


def zeros_in_mpeg2():
    """What the decoder would paint over: nothing marks the frames."""
    data = rolling("mpegts", "mpeg2video")
    middle = len(data) // 2 // 188 * 188
    data[middle + 40 : middle + 140] = bytes(100)
    return bytes(data)


@pytest.mark.parametrize("damaged", [zeros_in_mpeg4, zeros_in_mpeg2])
def test_damage_in_the_middle_is_an_error(damaged):
    taken = []
    with pytest.raises(AffectError, match="media in memory: is .*damaged"):
        for frame in video.frames(damaged(), 10):
            taken.append(frame)
    assert 5 < len(taken) < 25


@pytest.mark.skipif("libx264" not in av.codecs_available, reason="this FFmpeg writes no H.264")
def test_a_lost_packet_of_a_transport_stream_is_an_error():
    """The packets are numbered by stream (here 256); the decoder does not always notice, the container does."""
    data = bytes(rolling("mpegts", "libx264"))
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    pictures = [at for at, packet in enumerate(packets) if int.from_bytes(packet[1:3], "big") & 0x1FFF == 256]
    for lost in pictures[40:80:3]:
        refused(b"".join(packets[:lost] + packets[lost + 1 :]), "media in memory: is .*damaged")


def test_files_that_are_no_video(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("it was a dark and stormy night\n" * 40)
    assert "empty.mp4: is empty (0 bytes)" in refused(tmp_path / "empty.mp4", "empty")
    assert str(tmp_path / "text.mp4") in refused(tmp_path / "text.mp4", "not readable media")
    refused(tmp_path / "none.mp4", "no such media file")
    refused(tmp_path, "cannot be opened")
    refused(b"", "media in memory: is empty")
    with pytest.raises(AffectError, match="^the video of 'a1': is empty"):
        list(video.frames(b"", 1, name="the video of 'a1'"))


def test_sound_alone_and_pictures_alone():
    only = song(tones())
    refused(only, "has no video stream, only sound")
    assert len(video.audio_of(only)) == pytest.approx(33_024, abs=1024)
    refused(RAMP, "has no sound", function=video.audio_of)


def test_no_frame_at_all():
    refused(film([], form="avi", sound=tones()), "holds no video frame")


def test_an_unknown_codec():
    data = film(LEVELS, form="avi").replace(b"FMP4", b"QQQQ")
    refused(data, "codec that FFmpeg cannot decode")


def test_a_song_with_a_cover_is_no_video():
    cover = film([100], form="image2pipe", codec="png", pixels="rgb24")
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        track = container.add_stream("libmp3lame", rate=16_000, layout="mono")
        with av.open(io.BytesIO(cover)) as picture:
            drawn = container.add_stream_from_template(picture.streams.video[0])
            drawn.disposition = av.stream.Disposition.attached_pic
            packets = [packet for packet in picture.demux() if packet.size]
            frame = av.AudioFrame.from_ndarray(tones(), format="s16", layout="mono")
            frame.sample_rate = 16_000
            sounds = [*track.encode(frame), *track.encode(None)]
            for packet in packets:
                packet.stream = drawn
                container.mux(packet)
            container.mux(sounds)
    with av.open(io.BytesIO(file.getvalue())) as container:
        assert len(container.streams.video) == 1
    refused(file.getvalue(), "has no video stream, only sound")


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-VERSION:3\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
    ],
)
@pytest.mark.parametrize("file", ["secret.ts", "/secret.ts"])
def test_a_playlist_opens_no_other_file(text, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.ts").write_bytes(film(LEVELS, form="mpegts", codec="mpeg2video", fps=25))
    (tmp_path / "list.mp4").write_text(text.format(str(tmp_path) + file if file[0] == "/" else file))
    refused(tmp_path / "list.mp4", "not readable media")


@pytest.mark.parametrize(
    ("file", "count", "shape", "seconds"),
    [
        ("face_noface.mov", 169, (540, 960, 3), 3.97),
        ("single_face.mp4", 72, (360, 640, 3), 2.42),
        ("no_face.mp4", 95, (540, 960, 3), 3.97),
    ],
)
def test_real_videos(real_data, file, count, shape, seconds):
    path = real_data / "pyfeat" / file
    if not path.is_file():
        pytest.skip("real videos are absent (AFFECT_REAL_DATA)")
    every = [(frame.time, frame.image.shape) for frame in video.frames(path, 1000)]
    assert len(every) == count and {size for _, size in every} == {shape}
    taken = [frame.time for frame in video.frames(path, 4)]
    times = np.array([time for time, _ in every])
    wanted = [times[times >= tick / 4 - 1e-6][0] for tick in range(math.floor(times[-1] * 4 + 1e-6) + 1)]
    assert taken == pytest.approx(sorted(set(wanted)))
    samples = video.audio_of(path)
    assert np.isfinite(samples).all() and len(samples) / 16_000 == pytest.approx(seconds, abs=0.05)
    refused(path.read_bytes()[:-5000], "is truncated|not readable")


def test_a_title_in_another_encoding_is_no_damage(tmp_path):
    content = film([50, 100], fps=10)
    place = content.index(b"Lavf")
    path = tmp_path / "a.mp4"
    path.write_bytes(content[:place] + b"caf\xe9" + content[place + 4 :])
    assert len(list(video.frames(path, 10.0))) == 2


def test_a_span_is_seen_as_a_video_of_it_alone(tmp_path):
    levels = list(range(10, 250, 12))
    whole, part = (tmp_path / name for name in ("whole.mkv", "part.mkv"))
    whole.write_bytes(film(levels, form="matroska"))
    part.write_bytes(film(levels[7:15], form="matroska"))
    seen = [*video.frames(whole, 4.0, span=(0.7, 1.5))]
    alone = [*video.frames(part, 4.0)]
    assert [round(frame.time, 3) for frame in seen] == [round(frame.time, 3) for frame in alone] == [0.0, 0.3, 0.5]
    for frame, other in zip(seen, alone, strict=True):
        np.testing.assert_allclose(frame.image.mean(), other.image.mean(), atol=2)
    assert len([*video.frames(whole, 4.0, span=(0.7, math.inf))]) > 3
    with pytest.raises(AffectError, match="has no image from 7 to 8 s"):
        next(video.frames(whole, 4.0, span=(7, 8)))
