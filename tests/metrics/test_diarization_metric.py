"""DER and JER against published numbers, against pyannote.metrics, against counting on a grid, and their properties."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyannote.core import Annotation, Timeline
from pyannote.core import Segment as Interval
from pyannote.metrics.diarization import DiarizationErrorRate
from pyannote.metrics.identification import IdentificationErrorRate

from affect.metrics.diarization import Errors, Segment, compare, errors, jaccard, score, speaker_map

quick = settings(max_examples=80, deadline=None)


@st.composite
def talk(draw: st.DrawFn, names: str = "abcd", most: int = 12) -> list[Segment]:
    """Draw segments on a grid of a quarter second, overlapping as they like."""
    drawn = draw(st.lists(st.tuples(st.integers(0, 80), st.integers(1, 24), st.sampled_from(names)), max_size=most))
    return [(start / 4, (start + length) / 4, name) for start, length, name in drawn]


def test_the_published_value_of_pyannote_metrics():
    """Its own tests' pair: 16 of 31 s."""
    reference = [(0, 10, "A"), (12, 20, "B"), (24, 27, "A"), (30, 40, "C")]
    told = [(2, 13, "a"), (13, 14, "d"), (14, 20, "b"), (22, 38, "c"), (38, 40, "d")]
    found = errors(told, reference)
    assert parts(found) == [2, 7, 7, 31]
    assert found.rate == pytest.approx(0.516129, abs=5e-7)


speaking = talk().filter(bool)
collars = st.sampled_from([0.0, 0.25, 0.5])
regions = st.none() | st.just([(2.0, 9.0), (11.0, 15.5)])


def parts(found: Errors) -> list[float]:
    return [found.missed, found.false_alarm, found.confusion, found.speech]


def on_a_grid(
    prediction: list[Segment], reference: list[Segment], collar: float, skip_overlap: bool, uem: list | None
) -> list[float]:
    """Count the same in frames of a sixteenth second, mapping speakers by trying every way.

    Turns of one speaker that overlap are joined by trying every pair, so that the seams of those that touch stay.
    """
    step = 1 / 16
    frames = np.arange(-32, 33 * 16) * step + step / 2

    def active(segments: list[Segment], names: list) -> np.ndarray:
        table = np.zeros((len(names), len(frames)), dtype=bool)
        for start, end, name in segments:
            table[names.index(name)] |= (frames > start) & (frames < end)
        return table

    ours, theirs = sorted({s[2] for s in prediction}), sorted({s[2] for s in reference})
    said, spoken = active(prediction, ours), active(reference, theirs)
    inside = np.ones(len(frames), dtype=bool)
    if uem is not None:
        inside = np.any([(frames > start) & (frames < end) for start, end in uem], axis=0)
    scored = inside.copy()
    if collar:
        for time in itertools.chain.from_iterable(turn[:2] for turn in without_own_overlaps(reference)):
            scored &= np.abs(frames - time) > collar
    if skip_overlap:
        scored &= spoken.sum(0) < 2
    padded = [*range(len(ours)), *[None] * len(theirs)]

    def shared(choice: tuple[int | None, ...], where: np.ndarray) -> int:
        return sum(int((spoken[r] & said[s])[where].sum()) for r, s in enumerate(choice) if s is not None)

    # By all time in the UEM, and of those alike by what is scored.
    ways = set(itertools.permutations(padded, len(theirs)))
    right = max((shared(choice, inside), shared(choice, scored)) for choice in ways)[1]
    many, found = spoken[:, scored].sum(0), said[:, scored].sum(0)
    missed, extra = np.maximum(many - found, 0).sum(), np.maximum(found - many, 0).sum()
    return [float(x * step) for x in (missed, extra, np.minimum(many, found).sum() - right, many.sum())]


def without_own_overlaps(segments: list[Segment]) -> list[Segment]:
    """Join two turns of one speaker that overlap, until there are none."""
    for one, other in itertools.combinations(segments, 2):
        if one[2] == other[2] and max(one[0], other[0]) < min(one[1], other[1]):
            rest = list(segments)
            rest.remove(one)
            rest.remove(other)
            return without_own_overlaps([*rest, (min(one[0], other[0]), max(one[1], other[1]), one[2])])
    return segments


@settings(max_examples=100, deadline=None)
@given(talk("xyz", 6), talk("abc", 6), collars, st.booleans(), regions)
def test_intervals_count_what_frames_and_every_mapping_count(prediction, reference, collar, skip_overlap, uem) -> None:
    found = errors(prediction, reference, collar=collar, skip_overlap=skip_overlap, uem=uem)
    assert parts(found) == pytest.approx(on_a_grid(prediction, reference, collar, skip_overlap, uem), abs=1e-9)


def annotation(segments: list[Segment]) -> Annotation:
    made = Annotation()
    for k, (start, end, name) in enumerate(segments):
        made[Interval(start, end), k] = name
    return made


def pyannotes(metric: IdentificationErrorRate, prediction: list, reference: list, uem: list | None) -> list[float]:
    """Return its parts; what it takes for an overlap of a speaker with himself is joined first, as ours does."""
    spans = [Interval(*span) for span in ([(-10.0, 60.0)] if uem is None else uem)]
    turns = annotation(without_own_overlaps(reference)), annotation(without_own_overlaps(prediction))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = metric.compute_components(*turns, uem=Timeline(spans))
    return [theirs[name] for name in ("missed detection", "false alarm", "confusion", "total")]


@quick
@given(talk("xyzw"), speaking, regions)
def test_der_is_pyannotes(prediction, reference, uem) -> None:
    """With neither collar nor overlap left out its mapping is that of all time, as ours always is."""
    theirs = pyannotes(DiarizationErrorRate(), prediction, reference, uem)
    assert parts(errors(prediction, reference, uem=uem)) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_der_is_pyannotes_under_our_mapping(seed: int) -> None:
    """It maps what a collar or overlap leaves: its confusion is at most ours, and ours where speakers are named."""
    random = np.random.default_rng(seed)

    def talk(names: str) -> list[Segment]:
        starts = random.uniform(0, 40, 14).round(3).tolist()
        drawn = zip(starts, random.exponential(3, 14).round(3).tolist(), random.choice(list(names), 14), strict=True)
        # Touching turns keep their seams on both sides.
        turns = [(round(start, 3), round(start + length, 3), str(name)) for start, length, name in drawn]
        return [*turns, (turns[0][1], turns[0][1] + 2, turns[0][2])]

    prediction, reference = talk("xyz"), talk("abc")
    uem = [(2.0, 9.0), (11.0, 35.5)] if seed % 2 else None
    for collar, skip_overlap in ((0.25, False), (0.0, True), (0.5, True)):
        options = {"collar": 2 * collar, "skip_overlap": skip_overlap}
        ours = parts(errors(prediction, reference, collar=collar, skip_overlap=skip_overlap, uem=uem))
        *others, confusion, total = pyannotes(DiarizationErrorRate(**options), prediction, reference, uem)
        assert [*ours[:2], ours[3]] == pytest.approx([*others, total], abs=1e-6)
        assert ours[2] >= confusion - 1e-6
        names = speaker_map(prediction, reference, uem=uem)
        named = [(start, end, names.get(name, name)) for start, end, name in prediction]
        assert ours == pytest.approx(pyannotes(IdentificationErrorRate(**options), named, reference, uem), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(talk("xyz", 6), talk("abc", 6), regions)
def test_jer_is_the_least_over_every_mapping(prediction, reference, uem) -> None:
    found = jaccard(prediction, reference, uem=uem)

    def alone(segments: list[Segment], name: str) -> list[Segment]:
        return [(start, end, "one") for start, end, speaker in segments if speaker == name]

    def distance(r: str, s: str | None) -> float:
        """Of two speakers alone it follows from their errors."""
        parts_of = errors(alone(prediction, s) if s else [], alone(reference, r), uem=uem)
        either = parts_of.speech + parts_of.false_alarm
        return (parts_of.missed + parts_of.false_alarm) / either

    names = sorted({s[2] for s in reference if errors([], alone(reference, s[2]), uem=uem).speech > 0})
    partners = [*sorted({s[2] for s in prediction}), *[None] * len(names)]
    ways = set(itertools.permutations(partners, len(names)))
    assert sorted(found) == names
    assert sum(found.values()) == pytest.approx(min(sum(map(distance, names, way)) for way in ways))


# By hand


def test_by_hand() -> None:
    reference = [(0, 6, "ann"), (5, 10, "ben")]
    prediction = [(1, 5, 1), (5, 8, 2), (8, 9, 1), (10, 12, 2)]
    found = errors(prediction, reference)
    # Missed: 0 to 1, one of two in 5 to 6, 9 to 10; confused: 8 to 9; made up: 10 to 12.
    assert parts(found) == [3.0, 2.0, 1.0, 11.0]
    assert found.rate == pytest.approx(6 / 11)
    assert speaker_map(prediction, reference) == {1: "ann", 2: "ben"}
    assert jaccard(prediction, reference) == pytest.approx({"ann": 1 - 4 / 7, "ben": 1 - 3 / 7})
    # Left by a collar of one second: 1 to 4, 7 to 9 and after 11.
    assert parts(errors(prediction, reference, collar=1.0)) == [0.0, 1.0, 1.0, 5.0]
    assert parts(errors(prediction, reference, skip_overlap=True)) == [2.0, 2.0, 1.0, 9.0]
    assert parts(errors(prediction, reference, uem=[(0, 2), (1, 3), (11, 20)])) == [1.0, 1.0, 0.0, 3.0]


def test_recordings_are_pooled_by_seconds() -> None:
    """The second says nothing and the third has no speech: a mean of rates would have to leave that out."""
    references = [[(0, 90, "ann")], [(0, 10, "ann")], []]
    predictions = [[(0, 90, 1)], [], [(0, 5, 1)]]
    found = score(predictions, references)
    assert found == {"der": 0.15, "jer": 0.5, "missed": 10.0, "false_alarm": 5.0, "confusion": 0.0, "speech": 100.0}
    assert score(predictions[1:], references[1:], uems=[[(0, 4)], [(0, 1)]])["der"] == pytest.approx(5 / 4)
    assert sum((errors(p, r) for p, r in zip(predictions, references, strict=True)), Errors()).rate == found["der"]


def test_a_recording_without_speech_has_no_rate() -> None:
    found = score([[(0, 3, 1)]], [[]])
    assert math.isnan(found["der"])
    assert math.isnan(found["jer"])
    assert found["false_alarm"] == 3.0
    empty = score([], [])
    assert math.isnan(empty["der"])
    assert parts(errors([], [])) == [0.0, 0.0, 0.0, 0.0]
    # All of it in collars: nothing is scored.
    assert math.isnan(errors([(0, 0.4, 1)], [(0, 0.4, "ann")], collar=0.25).rate)


def test_one_prediction_serves_one_speaker() -> None:
    reference = [(0, 5, "ann"), (5, 10, "ben")]
    assert errors([(0, 10, 1)], reference).confusion == 5.0
    # The best of all mappings, not the best of the first speaker: 1 shares most with ann, who can do with 2.
    prediction = [(0, 5, 1), (5, 9, 1), (10, 14, 2)]
    assert speaker_map(prediction, [(0, 5, "ann"), (10, 14, "ann"), (5, 9, "ben")]) == {1: "ben", 2: "ann"}


def test_an_overlap_that_is_rounding_is_a_seam() -> None:
    """.1 + .2 ends after .3 begins or before, by the digits: neither is an overlap, and both have a collar."""
    split = [(0.0, 0.1 + 0.2, "ann"), (0.3, 4.0, "ann")], [(0.0, 1.1, "ann"), (1.1 + 1e-12, 4.0, "ann")]
    for reference, kept in zip(split, (4 - 0.25 - 0.55, 4 - 0.5 - 0.5), strict=True):
        assert errors([], list(reference), collar=0.25).missed == pytest.approx(kept)
        assert errors([], list(reference), skip_overlap=True).missed == pytest.approx(4.0)
    # A true overlap of one speaker is none of two, and its ends are no boundaries.
    assert errors([], [(0, 2, "ann"), (1.9, 4, "ann")], collar=0.25).missed == pytest.approx(3.5)
    assert errors([], [(0, 1, "ann"), (1.001, 4, "ann")], collar=0.25).missed == pytest.approx(2.999)


def test_speakers_are_mapped_before_anything_is_left_out() -> None:
    """Of ten short turns and a long one a collar leaves the long one alone, in which the other speaker is said."""
    short = [(k, k + 0.4) for k in range(10)]
    reference = [*[(*turn, "ann") for turn in short], (20, 23.5, "ann")]
    prediction = [*[(*turn, 1) for turn in short], (20, 23.5, 2)]
    assert parts(errors(prediction, reference, collar=0.25)) == pytest.approx([0, 0, 3, 3])
    assert speaker_map(prediction, reference) == {1: "ann"}
    # Where two mappings share equally much, the one that is right where it is scored is taken.
    halves, said = [(2, 4, "ben"), (2, 4, "cat"), (0, 2, "ann")], [(0, 2, 1), (2, 4, 1)]
    assert errors(said, halves, skip_overlap=True).confusion == 0


def test_a_comparison_is_all_scores_of_a_recording() -> None:
    reference, prediction = [(0, 6, "ann"), (5, 10, "ben"), (30, 31, "cat")], [(1, 5, 1), (5, 8, 2), (20, 21, 3)]
    uem = [(0.0, 12.0)]
    compared = compare(prediction, reference, collar=0.5, uem=uem)
    assert compared.errors == errors(prediction, reference, collar=0.5, uem=uem)
    assert compared.jaccard == jaccard(prediction, reference, uem=uem)
    assert compared.predicted_speakers == 2


@pytest.mark.parametrize("bad", [(3.0, 2.0, "a"), (0.0, math.nan, "a"), (-math.inf, 1.0, "a")])
def test_impossible_times_are_refused(bad: Segment) -> None:
    with pytest.raises(ValueError, match="speaker 'a'"):
        errors([bad], [(0, 1, "a")])
    with pytest.raises(ValueError, match="speaker 'a'"):
        errors([], [bad])
    with pytest.raises(ValueError, match="the UEM"):
        errors([], [], uem=[bad[:2]])


def test_other_mistakes_are_refused() -> None:
    for collar in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="collar"):
            errors([], [], collar=collar)
    with pytest.raises(ValueError, match="differ"):
        score([[]], [[], []])
    with pytest.raises(ValueError, match="differ"):
        score([[]], [[]], uems=[])


# Properties


@quick
@given(speaking, regions)
def test_the_reference_itself_has_no_errors(reference, uem) -> None:
    found = errors(reference, reference, uem=uem)
    assert found.missed == found.false_alarm == 0.0
    assert found.confusion == pytest.approx(0.0, abs=1e-9)
    assert list(jaccard(reference, reference, uem=uem).values()) == pytest.approx(
        [0.0] * len(jaccard(reference, reference, uem=uem))
    )


@quick
@given(speaking, collars, st.booleans())
def test_silence_misses_everything_and_overlap_counts_for_each_speaker(reference, collar, skip_overlap) -> None:
    found = errors([], reference, collar=collar, skip_overlap=skip_overlap)
    assert found.missed == found.speech
    assert math.isnan(found.rate) if found.speech == 0 else found.rate == 1.0
    assert set(jaccard([], reference).values()) == {1.0}
    alone = [errors([], [s for s in reference if s[2] == name]).speech for name in {s[2] for s in reference}]
    assert errors([], reference).speech == pytest.approx(sum(alone))


@quick
@given(talk(), speaking, collars, st.permutations("abcd"), st.randoms())
def test_names_and_order_do_not_matter(prediction, reference, collar, names, random) -> None:
    renamed = [(start, end, names["abcd".index(name)] + "'") for start, end, name in prediction]
    mixed = random.sample(reference, len(reference))
    assert parts(errors(renamed, mixed, collar=collar)) == pytest.approx(
        parts(errors(prediction, reference, collar=collar))
    )
    assert sorted(jaccard(renamed, mixed).values()) == pytest.approx(sorted(jaccard(prediction, reference).values()))


@quick
@given(talk(), speaking, collars, st.floats(-1000, 1000))
def test_a_shift_in_time_changes_nothing(prediction, reference, collar, by) -> None:
    def shifted(segments: list[Segment]) -> list[Segment]:
        return [(start + by, end + by, name) for start, end, name in segments]

    before = errors(prediction, reference, collar=collar, uem=[(2, 14)])
    after = errors(shifted(prediction), shifted(reference), collar=collar, uem=[(2 + by, 14 + by)])
    assert parts(after) == pytest.approx(parts(before), abs=1e-6)


@quick
@given(talk(), speaking, collars, st.booleans(), st.floats(0.01, 0.99))
def test_splitting_segments_changes_nothing_but_collars(prediction, reference, collar, skip_overlap, at) -> None:
    def split(segments: list[Segment]) -> list[Segment]:
        cuts = [(start, start + at * (end - start), end, name) for start, end, name in segments]
        return [piece for a, b, c, name in cuts for piece in ((a, b, name), (b, c, name))]

    expected = parts(errors(prediction, reference, skip_overlap=skip_overlap))
    assert parts(errors(split(prediction), split(reference), skip_overlap=skip_overlap)) == pytest.approx(expected)
    # Seams of the prediction have no collar; those of the reference take time away.
    with_collar = errors(prediction, reference, collar=collar)
    assert parts(errors(split(prediction), reference, collar=collar)) == pytest.approx(parts(with_collar), abs=1e-9)
    assert errors(prediction, split(reference), collar=collar).speech <= with_collar.speech + 1e-9
    assert jaccard(split(prediction), split(reference)) == pytest.approx(jaccard(prediction, reference))


@quick
@given(talk(), speaking, talk("ef"))
def test_bounds(prediction, reference, more) -> None:
    found = errors(prediction, reference)
    assert min(parts(found)) >= 0
    assert found.missed + found.confusion <= found.speech + 1e-9
    assert all(0 <= value <= 1 for value in jaccard(prediction, reference).values())
    # Whoever invents speakers beside the same prediction gains nothing but false alarms.
    worse = errors([*prediction, *[(s + 100, e + 100, name) for s, e, name in more]], reference)
    assert worse.missed == pytest.approx(found.missed)
    assert worse.false_alarm >= found.false_alarm - 1e-9
