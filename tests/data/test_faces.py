import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect.data import faces
from affect.data.faces import Box, crop, kept_boxes, read_boxes
from affect.errors import AffectError

PYFEAT = "frame,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight,FaceScore,approx_time,input"


def pyfeat(folder: Path, *rows: str, header: str = PYFEAT) -> Path:
    path = folder / "faces.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return path


def openface(folder: Path, *faces: tuple[int, float, int, tuple[float, float, float, float]], more="") -> Path:
    """A table of (frame, confidence, success, extent of the landmarks), as OpenFace 2 writes it."""
    header = ["frame", *more.split(), "timestamp", "confidence", "success", "X_0", "p_scale"]
    header += [f"{axis}_{point}" for axis in "xy" for point in range(68)]
    lines = [", ".join(header)]
    random = np.random.default_rng(0)
    for frame, confidence, success, (left, top, right, bottom) in faces:
        across, down = random.uniform(left, right, 68), random.uniform(top, bottom, 68)
        across[[3, 9]], down[[60, 2]] = (left, right), (top, bottom)
        cells = [frame, *(0 for _ in more.split()), (frame - 1) / 30, confidence, success, -900, 0.7, *across, *down]
        lines.append(", ".join(map(str, cells)))
    path = folder / "openface.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refused(path, words, **options):
    with pytest.raises(AffectError, match=words) as caught:
        read_boxes(path, **options)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


def test_pyfeat(tmp_path):
    boxes = read_boxes(pyfeat(tmp_path, "0,10,20,30,40,.99,00:00,a.mp4", "1,11.5,21,31,41,.98,00:00,a.mp4"))
    assert boxes.at(0) == Box(10, 20, 30, 40)
    assert boxes.at(1) == Box(11.5, 21, 31, 41)
    assert boxes.at(2) is None


def test_columns_in_another_order_with_blanks_and_a_byte_order_mark(tmp_path):
    header = "\ufeffFaceScore, FaceRectHeight , FaceRectWidth,FaceRectY,FaceRectX,anger,frame"
    boxes = read_boxes(pyfeat(tmp_path, ".9,40,30,20,10,.1,0.0", "", ".9,41,30,20,10,.1,1.0", header=header))
    assert boxes.at(0) == Box(10, 20, 30, 40) and boxes.at(1) == Box(10, 20, 30, 41)


def test_the_largest_face_that_is_sure_enough(tmp_path):
    rows = ("0,0,0,10,10,.9,,", "0,50,50,20,20,.8,,", "0,90,90,99,99,.3,,", "1,5,5,9,9,.49,,", "2,5,5,9,9,.5,,")
    boxes = read_boxes(pyfeat(tmp_path, *rows))
    assert boxes.at(0) == Box(50, 50, 20, 20)
    assert boxes.at(1) is None
    assert boxes.at(2) == Box(5, 5, 9, 9)


@pytest.mark.parametrize("cells", [",,,,,", "nan,nan,nan,nan,nan,", "5,5,0,9,.9,", "5,5,9,-1,.9,", "inf,5,9,9,.9,"])
def test_a_frame_without_a_face(tmp_path, cells):
    boxes = read_boxes(pyfeat(tmp_path, f"0,{cells},", "1,5,5,9,9,.9,,"))
    assert boxes.at(0) is None and boxes.at(1) == Box(5, 5, 9, 9)


def test_frames_beside_those_looked_at(tmp_path):
    """py-feat with skip_frames=5 looks at every fifth; frame 15 was looked at and showed nobody."""
    path = pyfeat(tmp_path, "0,1,1,9,9,1,,", "5,2,2,9,9,1,,", "10,3,3,9,9,1,,", "15,,,,,,,", "20,4,4,9,9,1,,")
    boxes = read_boxes(path)
    assert boxes.step == 5
    left = [box.left if box else None for box in (boxes.at(index) for index in range(24))]
    assert left == [1] * 3 + [2] * 5 + [3] * 5 + [None] * 5 + [4] * 5 + [None]


def test_openface(tmp_path):
    path = openface(
        tmp_path,
        (1, 0.98, 1, (100, 50, 180, 150)),
        (2, 0.98, 0, (100, 50, 180, 150)),
        (3, 0.2, 1, (100, 50, 180, 150)),
        (4, 0.9, 1, (101, 51, 181, 151)),
    )
    boxes = read_boxes(path)
    assert boxes.at(0) == pytest.approx(Box(100, 50, 80, 100))
    assert boxes.at(1) is None and boxes.at(2) is None
    assert boxes.at(3) == pytest.approx(Box(101, 51, 80, 100))
    assert boxes.at(4) is None


def test_openface_of_several_faces(tmp_path):
    path = openface(tmp_path, (1, 0.9, 1, (0, 0, 20, 20)), (1, 0.9, 1, (50, 50, 99, 99)), more="face_id")
    assert read_boxes(path).at(0) == pytest.approx(Box(50, 50, 49, 49))


def test_tables_that_cannot_be_read(tmp_path):
    refused(tmp_path / "none.csv", "cannot be read .No such file")
    refused(tmp_path, "cannot be read")
    empty = tmp_path / "empty.csv"
    empty.touch()
    refused(empty, "is empty")
    refused(pyfeat(tmp_path), "has a header and no row")
    refused(pyfeat(tmp_path, "0,1", header="frame,left"), "no column FaceRectX.*; it has: frame, left$")
    message = refused(pyfeat(tmp_path, "0", header=PYFEAT.replace("FaceScore", "Score")), "has no column FaceScore")
    assert "FaceRectX," in message.partition("it has:")[2]
    refused(pyfeat(tmp_path, "0,1,1,wide,9,.9,,"), r"faces.csv:2: FaceRectWidth is 'wide', which is no number")
    refused(pyfeat(tmp_path, "0,1,1,9,9,.9,,", "0.5,1,1,9,9,.9,,"), r"faces.csv:3: frame is 0.5; it must be")
    refused(pyfeat(tmp_path, ",1,1,9,9,.9,,"), "frame is nan")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x81" * 9)
    refused(binary, "is not UTF-8")


def numbered(height: int, width: int) -> np.ndarray:
    """An image whose pixels hold their own place: row, column, 0."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def test_crop():
    image = numbered(100, 200)
    square = crop(image, Box(50, 40, 10, 20), margin=0.5)
    assert square.shape == (30, 30, 3)
    assert tuple(square[0, 0]) == (35, 40, 0)
    assert crop(image, Box(50, 40, 10, 20), margin=0.0).shape == (20, 20, 3)
    assert not np.shares_memory(square, image)


def test_crop_at_the_edge_is_moved_inwards():
    image = numbered(100, 200)
    assert tuple(crop(image, Box(-5, -5, 20, 20), margin=0.0)[0, 0]) == (0, 0, 0)
    assert tuple(crop(image, Box(190, 90, 20, 20), margin=0.0)[-1, -1]) == (99, 199, 0)
    assert crop(image, Box(0, 0, 200, 100)).shape == (100, 100, 3)
    assert tuple(crop(image, Box(0, 0, 200, 100))[0, 0]) == (0, 50, 0)


@pytest.mark.parametrize("box", [Box(200, 0, 9, 9), Box(0, 100, 9, 9), Box(-9, 0, 9, 9), Box(0, -20, 9, 9)])
def test_a_box_outside_the_image(box):
    assert crop(numbered(100, 200), box) is None


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.tuples(*[st.floats(-30, 70)] * 2, *[st.floats(0.01, 90)] * 2),
    st.floats(0, 2),
)
def test_crop_is_a_square_of_the_image_that_holds_the_face_where_it_can(height, width, numbers, margin):
    box = Box(*numbers)
    square = crop(numbered(height, width), box, margin)
    outside = box.left >= width or box.top >= height or box.left + box.width <= 0 or box.top + box.height <= 0
    assert (square is None) == outside
    if square is None:
        return
    side = square.shape[0]
    assert square.shape == (side, side, 3) and 1 <= side <= min(height, width)
    top, left = (int(number) for number in square[0, 0, :2])
    if side < min(height, width) and side > 1:
        assert side == pytest.approx(max(box.width, box.height) * (1 + margin), abs=0.5001)
        # Half a pixel for the side, half for the place.
        assert left <= max(box.left, 0) + 1 and left + side >= min(box.left + box.width, width) - 1
        assert top <= max(box.top, 0) + 1 and top + side >= min(box.top + box.height, height) - 1


@pytest.mark.parametrize(
    ("file", "frames", "first"),
    [
        ("001.csv", 40, (236.1538, 182.5872, 254.9308, 349.1095)),
        ("Feat_Test.csv", 1, (196.97684, 140.99774, 173.81049, 257.63934)),
    ],
)
def test_real_tables_of_pyfeat(real_data, file, frames, first):
    path = real_data / "pyfeat" / file
    if not path.is_file():
        pytest.skip("real tables are absent (AFFECT_REAL_DATA)")
    boxes = read_boxes(path)
    assert boxes.numbers.tolist() == list(range(frames)) and np.isfinite(boxes.boxes).all()
    assert boxes.at(0) == pytest.approx(first, rel=1e-5)


def test_a_real_table_of_openface(real_data):
    path = real_data / "pyfeat" / "OpenFace_Test.csv"
    if not path.is_file():
        pytest.skip("real tables are absent (AFFECT_REAL_DATA)")
    import pandas

    table = pandas.read_csv(path, skipinitialspace=True)
    boxes = read_boxes(path)
    x, y = (table[[f"{axis}_{point}" for point in range(68)]].to_numpy() for axis in "xy")
    good = ((table["confidence"] >= 0.5) & (table["success"] == 1)).to_numpy()
    assert good.any() and (table["frame"] == np.arange(1, 101)).all()
    expected = np.stack([x.min(1), y.min(1), np.ptp(x, 1), np.ptp(y, 1)], axis=1)
    expected[~good] = math.nan
    np.testing.assert_allclose(boxes.boxes, expected)
    assert (faces.crop(np.zeros((480, 640, 3), np.uint8), boxes.at(0)).shape) == (134, 134, 3)


def test_a_table_is_parsed_once_until_it_changes(tmp_path, monkeypatch):
    path = pyfeat(tmp_path, "0,10,20,30,40,.99,0,a", "2,,,,,,0,a")
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    first = kept_boxes(path)
    with monkeypatch.context() as closed:
        closed.setattr(faces, "read_csv", lambda *given: pytest.fail("read again"))
        again = kept_boxes(path)
    for kept in (first, again):
        assert kept.step == 2 and kept.at(0) == Box(10, 20, 30, 40) and kept.at(2) is None
    pyfeat(tmp_path, "0,11,20,30,40,.99,0,a", "1,11,20,30,40,.99,0,a")
    assert kept_boxes(path).at(1) == Box(11, 20, 30, 40)
