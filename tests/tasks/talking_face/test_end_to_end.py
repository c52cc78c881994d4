"""Models that see and hear clips themselves: each clip's own scores, gradients, training, prediction from a file."""

from __future__ import annotations

import copy
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from affect import keyed, tasks
from affect.config import from_dict
from affect.data.clip import Clip, square
from affect.data.functionals import FUNCTIONAL_NAMES
from affect.errors import AffectError
from affect.inference import onnx as graphs
from affect.inference import opening
from affect.losses.masked import squared_error
from affect.losses.plcc import plcc_term
from affect.models import tiny
from affect.models.dropout import replace_dropout
from affect.task import Batch, Key
from affect.tasks.talking_face import export, films
from affect.tasks.talking_face.config import FRAMES, Augment, Data, Model, TalkingFace
from affect.tasks.talking_face.end_to_end import EndToEndModel
from affect.tasks.talking_face.films import FilmClips, changed, inputs_of
from affect.tasks.talking_face.functionals import SEEN, of_clip, seen_of
from affect.tasks.talking_face.media import AUDIO, IMAGES, SAMPLES, VIDEO, Media
from affect.tasks.talking_face.task import TalkingFaceTask
from affect.training import step
from affect.training.distributed import join
from affect.usage import UserInputs
from tests.data.films import film
from tests.tasks.talking_face import small
from tests.training import toy
from tests.training.runs import losses

SCORES = (("lip_sync_score", 1.0, 5.0), ("overall_score", 0.0, 100.0))
SMALL = {"encoder_dim": 16, "heads": 2, "layers": 1, "encoder_layers": 1, "dropout": 0.1}
LEARNED = {"video": "tiny", "audio": "tiny", "train_video": True, "train_audio": "all", "side": 32}
VARIANTS: dict[str, dict] = {
    "both": LEARNED,
    "frozen": {"video": "tiny", "audio": "tiny", "side": 24},
    "seen": {"video": "tiny", "train_video": True, "side": 32},
    "heard": {"audio": "tiny-group", "train_audio": "transformer"},
}
COUNTS = ((3, 8000), (2, 0), (0, 4800), (5, 100))
"""Images and samples by clip; a whole modality may be missing."""
IDS = tuple(f"clip{k}" for k in range(len(COUNTS)))
EVERY = range(len(COUNTS))


def made(name: str, **fields) -> EndToEndModel:
    torch.manual_seed(0)
    config = Model(**{**SMALL, **fields}, media=Media(**VARIANTS[name]))
    model = EndToEndModel.build(config, (), SCORES)
    replace_dropout(model)
    keyed.name_places(model)
    return model


def clips(model: EndToEndModel, places=EVERY) -> dict[str, torch.Tensor]:
    given = []
    for place in places:
        rng = np.random.default_rng(place)
        images, samples = COUNTS[place]
        side = model.config.media.side
        shown = rng.integers(0, 256, (images, side, side, 3)).astype(np.uint8)
        given.append(
            Clip(shown if images else None, rng.normal(0, 0.1, samples).astype(np.float32) if samples else None)
        )
    return inputs_of(given, model.config.media)


def heard(model: EndToEndModel, places=EVERY) -> dict[str, torch.Tensor]:
    with torch.no_grad(), keyed.examples(0, 7, [IDS[place] for place in places]):
        return model(**clips(model, places))


def test_heads_are_of_one_score_each_and_not_shared():
    model = made("both", heteroscedastic=True)
    shared = {id(p) for p in TalkingFaceTask(TalkingFace()).shared_parameters(model)}
    own = {name for name, p in model.named_parameters() if p.requires_grad and id(p) not in shared}
    assert own and all(name.startswith(("fusion.heads.", "fusion.spreads.")) for name in own)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_clip_is_the_same_alone_and_in_another_order(name, training):
    model = made(name).train(training)
    together, turned = heard(model), heard(model, EVERY[::-1])
    alone = [heard(model, [place]) for place in EVERY]
    for output, values in together.items():
        assert torch.isfinite(values).all(), output
        for others in (turned[output].flip(0), torch.cat([one[output] for one in alone])):
            torch.testing.assert_close(others, values, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("places", [EVERY, [1], [2]])
def test_every_parameter_that_learns_has_a_gradient_in_every_forward(name, places):
    model = made(name, modality_dropout=0.2, alignment=0.1).train()
    with keyed.examples(0, 7, [IDS[place] for place in places]):
        outputs = model(**clips(model, places))
    torch.stack([(value - 0.3).square().mean() for value in outputs.values()]).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert torch.isfinite(parameter.grad).all(), parameter_name
    coders = model.coders()
    assert any(p.requires_grad for p in coders) == (name != "frozen")
    if places == EVERY:
        assert all(p.grad.any() for p in coders if p.requires_grad and p.ndim > 1)


def test_what_is_missing_is_its_token_and_what_is_not_given_is_one_line():
    model = made("both").eval()
    before = heard(model)["overall_score"]
    with torch.no_grad():
        model.fusion.encoders[1].token.fill_(2.0)
    assert (heard(model)["overall_score"] != before).tolist() == [not samples for _, samples in COUNTS]
    given = clips(model)
    for name in (IMAGES, SAMPLES, VIDEO + FRAMES, AUDIO + FRAMES):
        with pytest.raises(AffectError, match="the model takes"):
            model(**{key: value for key, value in given.items() if key != name})


CHANGES = Augment(gain=6.0, noise=(5.0, 20.0), speed=0.2, crop=0.3, flip=True, drop=0.5)


def test_augmentation_follows_the_seed_the_epoch_and_the_clip():
    rng = np.random.default_rng(0)
    own = Clip(
        rng.integers(0, 256, (8, 16, 16, 3)).astype(np.uint8), rng.normal(0, 0.1, 12_800).astype(np.float32)
    )  # fmt: skip
    key = Key(seed=0, epoch=1)
    first, again = (changed("a", own, CHANGES, key) for _ in range(2))
    assert np.array_equal(first.images, again.images) and np.array_equal(first.sound, again.sound)
    for others in (changed("b", own, CHANGES, key), changed("a", own, CHANGES, Key(seed=0, epoch=2))):
        assert len(others.sound) != len(first.sound)
    ratio = len(first.sound) / len(own.sound)
    assert ratio != 1 and len(first.images) == pytest.approx(8 * ratio, abs=0.51), "both at one speed"
    assert changed("a", own, Augment(), key) == own
    assert changed("a", Clip(None, None), CHANGES, key) == Clip(None, None)
    flips = [changed(f"{k}", own, Augment(flip=True), key).images for k in range(40)]
    turned = [np.array_equal(images, own.images[:, :, ::-1]) for images in flips]
    assert 8 < sum(turned) < 32
    assert all(t or np.array_equal(images, own.images) for t, images in zip(turned, flips, strict=True))
    dropped = [changed(f"{k}", own, Augment(drop=0.5), key).images for k in range(40)]
    held = np.mean([[np.array_equal(i[t], i[t - 1]) for t in range(1, 8)] for i in dropped])
    assert 0.15 < held < 0.35
    assert all(np.array_equal(images[0], own.images[0]) for images in dropped)


def test_sound_gets_louder_or_softer_and_noise_within_what_is_asked_for():
    own = Clip(None, np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32))
    power = np.mean(own.sound**2)
    louder = [changed(f"{k}", own, Augment(gain=6.0), Key(seed=0, epoch=1)).sound for k in range(40)]
    decibels = np.array([10 * np.log10(np.mean(sound**2) / power) for sound in louder])
    assert -6.01 < decibels.min() < -3 and 3 < decibels.max() < 6.01
    assert all(np.corrcoef(sound, own.sound)[0, 1] > 0.9999 for sound in louder), "the level alone"
    noisy = [changed(f"{k}", own, Augment(noise=(10.0, 20.0)), Key(seed=0, epoch=1)).sound for k in range(40)]
    ratios = np.array([10 * np.log10(power / np.mean((sound - own.sound) ** 2)) for sound in noisy])
    assert 9.5 < ratios.min() < 13 and 17 < ratios.max() < 20.5


def test_a_crop_is_a_part_of_all_images_at_their_size():
    """Each image tells its own place: a gradient to the right in red, down in green, by time in blue."""
    right, down = np.meshgrid(np.arange(32) * 4, np.arange(32) * 4)
    images = np.stack([np.dstack([right, down, np.full_like(right, 10 * t)]) for t in range(5)]).astype(np.uint8)
    cut = [changed(f"{k}", Clip(images, None), Augment(crop=0.5), Key(seed=0, epoch=1)).images for k in range(40)]
    assert all(each.shape == images.shape and each.dtype == images.dtype for each in cut)
    spans = np.array([[np.ptp(each[0, 16, :, 0]), np.ptp(each[0, :, 16, 1])] for each in cut]) / np.ptp(
        images[0, 0, :, 0]
    )
    assert np.abs(spans[:, 0] - spans[:, 1]).max() < 0.1, "a square"
    assert 0.4 < spans.min() < 0.6 and spans.max() > 0.9
    assert np.ptp([each[0, 16, 0, 0] for each in cut]) > 20 and np.ptp([each[0, 0, 16, 1] for each in cut]) > 20
    assert all(np.array_equal(each[0, ..., :2], image[..., :2]) for each in cut for image in each), "the same of all"
    assert all(each[:, 0, 0, 2].tolist() == [0, 10, 20, 30, 40] for each in cut), "in their order"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("clips") / "generated"


def recipe(root: Path, **fields) -> TalkingFace:
    base = small.recipe(root)
    data = Data(
        corpus="generated_clips", root=str(root), clips=18, clip_seconds=(0.4, 0.8), boxes="boxes",
        scores=("lip_sync_score", "overall_score"),
    )  # fmt: skip
    model = Model(**SMALL, media=Media(**{**LEARNED, "faces": True, "lr": 1e-4}))
    train = replace(base.train, batch=6, epochs=2, steps=3)
    return replace(base, data=data, model=model, train=train, augment=CHANGES, **fields)


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    small.train(recipe(root), folder)
    return folder


def lines(folder: Path, *files: Path) -> list[dict]:
    output = io.StringIO()
    opening.predict(opening.find(folder), UserInputs(files=files), output)
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_clip_is_predicted_as_the_run_predicted_it(root, trained, tmp_path):
    wanted = [json.loads(line) for line in (trained / "predictions-test.jsonl").read_text().splitlines()]
    for row in wanted:
        for folder, ending in (("clips", "mp4"), ("boxes", "csv")):
            (tmp_path / f"{row['id']}.{ending}").write_bytes((root / folder / f"{row['id']}.{ending}").read_bytes())
    bare = tmp_path / "bare.mp4"
    bare.write_bytes((tmp_path / f"{wanted[0]['id']}.mp4").read_bytes())
    *found, lacks, gone = lines(trained, *(tmp_path / f"{row['id']}.mp4" for row in wanted), bare, tmp_path / "no.mp4")
    for line, row in zip(found, wanted, strict=True):
        assert line["prediction"] == pytest.approx(row["prediction"], abs=1e-3)
        assert line["features"] == ["video", "audio"] and set(line["scale"]) == set(row["prediction"])
    assert "no CSV (py-feat's or OpenFace's) tells where it is" in lacks["error"]
    assert "no such file" in gone["error"]
    with pytest.raises(AffectError, match="this model takes files: videos"):
        lines(trained)


def test_cut_into_micro_batches_it_takes_the_same_steps(root, trained, tmp_path):
    whole = recipe(root)
    cut = replace(whole, train=replace(whole.train, budget=60.0, mode="replay"))
    small.train(cut, tmp_path / "cut")
    assert len(losses(trained)) == 3
    assert losses(tmp_path / "cut") == pytest.approx(losses(trained), rel=1e-5)
    rows = [[json.loads(x) for x in (f / "predictions-test.jsonl").read_text().splitlines()]
            for f in (trained, tmp_path / "cut")]  # fmt: skip
    for row, other in zip(*rows, strict=True):
        assert row["prediction"] == pytest.approx(other["prediction"], abs=1e-3)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict[str, str]:
    """Folders of encoders as transformers saves them: a ViT and a HuBERT, small, with random weights."""
    from transformers import HubertModel, ViTConfig, ViTModel, Wav2Vec2FeatureExtractor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(1)
    top = tmp_path_factory.mktemp("encoders")
    facts = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=16, patch_size=8, **facts)).save_pretrained(top / VIDEO)
    side = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=side).save_pretrained(top / VIDEO)
    HubertModel(tiny.architecture("tiny-hubert")[0]).save_pretrained(top / AUDIO)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(top / AUDIO)
    return {kind: str(top / kind) for kind in (VIDEO, AUDIO)}


@pytest.mark.parametrize("learns", [False, True])
def test_encoders_of_a_folder_are_stepped(encoders, learns):
    """However the batch is cut: loss and gradient are the same, and what is frozen stays."""
    media = Media(**encoders, side=24, train_video=learns, train_audio="all" if learns else "none")
    torch.manual_seed(0)
    model = EndToEndModel.build(Model(**SMALL, media=media), (), SCORES)
    replace_dropout(model)
    keyed.name_places(model.train())
    terms = [squared_error("lip_sync_score"), plcc_term("overall_score")]
    labels = {name: torch.linspace(low, high, len(EVERY)) for name, low, high in SCORES}
    steps = []
    for cut, mode in (([EVERY], "hold"), ([[2], [0, 3], [1]], "hold"), ([[2], [0, 3], [1]], "replay")):
        own = copy.deepcopy(model)
        batches = [
            Batch(ids=tuple(IDS[k] for k in places), inputs=clips(own, places), rows=[{}] * len(places),
                  targets={name: values[list(places)] for name, values in labels.items()})
            for places in cut
        ]  # fmt: skip
        loss = float(step.accumulate(join(), own, terms, batches, mode=mode, key=(0, 7)).loss)
        steps.append((loss, toy.gradient(own), own))
    (loss, gradient, own), *others = steps
    for other, its, _ in others:
        assert other == pytest.approx(loss, rel=1e-5)
        assert toy.relative(its, gradient) < 1e-4
    torch.optim.SGD([p for p in own.parameters() if p.requires_grad], lr=0.1).step()
    before = dict(model.named_parameters())
    moved = {name: not torch.equal(value, before[name]) for name, value in own.named_parameters()}
    of_coders = {name: value for name, value in moved.items() if name.startswith(("images.", "speech."))}
    assert sum(of_coders.values()) > 20 if learns else not any(of_coders.values())
    assert any(moved.values())


def test_the_task_tells_lengths_rates_of_encoders_and_moves_sound(root):
    task = tasks.make(recipe(root)).for_fold(0, 1)
    assert isinstance(task, TalkingFaceTask) and isinstance(task.clips, FilmClips)
    rows = list(task.parts["test"])
    assert all(row["length"] == pytest.approx(50 * row["seconds"], abs=1) for row in rows)
    groups = {group["name"]: group["lr"] for group in task.param_groups(task.new_model())}
    assert groups == {"decayed": 3e-3, "encoders_decayed": 1e-4, "not_decayed": 3e-3, "encoders_not_decayed": 1e-4}
    plain = task.collate(rows[:2], None).inputs
    moved = task.collate([{**row, "condition": "delay=0.32"} for row in rows[:2]], None)
    late, by = moved.inputs, round(0.32 * 16_000)
    assert [row["left"] for row in moved.rows] == pytest.approx([1 - 0.32 / row["seconds"] for row in rows[:2]])
    for before, after, count in zip(plain[SAMPLES], late[SAMPLES], plain[AUDIO + FRAMES], strict=True):
        assert torch.equal(after[:count].roll(-by), before[:count])
    assert torch.equal(late[IMAGES], plain[IMAGES])
    said = [f"test@delay={by}" for by in (0.04, 0.08, 0.16, 0.32, 0.64)]
    assert [each.name for each in task.evaluations()][-5:] == said
    assert set(task.baselines()["test"]) == {"constant", "generator_mean", "ridge", "forest"}
    assert task.corpus.exclusions == [] and set(task.corpus.groups) == {"identity", "source", "generator"}


def test_trivial_models_are_given_what_is_seen_and_heard(root, monkeypatch):
    task = tasks.make(recipe(root)).for_fold(0, 1)
    rows = [*task.parts["train"]]
    first = task.clips.functionals(rows)
    assert first.shape == (len(rows), SEEN + len(FUNCTIONAL_NAMES)) and np.isfinite(first).all()
    with monkeypatch.context() as closed:
        closed.setattr(films, "read", lambda *given: pytest.fail("read again"))
        assert np.array_equal(task.clips.functionals(rows), first)
    clip = films.read(Path(rows[0]["path"]), task.recipe.model.media, Path(rows[0]["boxes"]), "a")
    assert np.array_equal(first[0], of_clip(clip, task.recipe.model.media))
    seen, blurred = (seen_of(np.stack([square(square(i, 4 if k else 32), 32) for i in clip.images])) for k in (0, 1))
    assert blurred[-1] < 0.8 * seen[-1], "it is less sharp"
    assert seen_of(clip.images[:1])[-2] == 0 < seen[-2], "one image does not move"
    silent = of_clip(Clip(clip.images, None), task.recipe.model.media)
    assert np.isnan(silent[SEEN:]).all() and np.array_equal(silent[:SEEN], first[0, :SEEN])
    heard = replace(task.recipe.model.media, video=None, train_video=False, faces=False)
    assert np.array_equal(of_clip(clip, heard), first[0, SEEN:])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": Model(media=Media(video="tiny"), alignment=0.1)}, "model.alignment must be 0 with one feature"),
        (
            {"model": Model(media=Media(video="tiny", faces=True)), "boxes": None},
            "media.faces must be left out without",
        ),
        ({"augment": Augment(mixup=0.2)}, "augment.mixup must be left out with model.media"),
        ({"augment": Augment(mask=0.2)}, "augment.mask must be left out with model.media"),
        ({"model": Model(**SMALL)}, "augment.gain must be left out without model.media"),
    ],
)
def test_what_does_not_fit_clips_is_named(root, changes, said):
    base = recipe(root)
    boxes = changes.pop("boxes", base.data.boxes)
    with pytest.raises(AffectError, match=said):
        replace(base, data=replace(base.data, boxes=boxes), **changes)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"video": ""}, "media.video must be a name"),
        ({"rate": 0.0}, "media.rate must be positive"),
        ({"side": 8}, "media.side must be at least 16"),
        ({"train_video": True}, "media.train_video must be left out without model.media.video"),
        ({"lr": 1e-4}, "media.lr must be left out where no encoder learns"),
        ({"lr": 1e-4, "video": "tiny"}, "media.lr must be left out where no encoder learns"),
    ],
)
def test_a_wrong_field_is_named(fields, said):
    with pytest.raises(AffectError, match=said):
        Media(**fields)


def test_a_corpus_without_videos_is_refused_before_a_model_is_built(tmp_path):
    base = small.recipe(small.corpus(tmp_path / "features"))
    task = tasks.make(replace(base, model=Model(**SMALL, media=Media(video="tiny"))))
    with pytest.raises(AffectError, match="no row names a video"):
        _ = task.corpus


def test_its_card_has_a_program_that_runs(root, trained, tmp_path, monkeypatch, capsys):
    config = json.loads((trained / "checkpoints" / "best" / "config.json").read_text())
    assert TalkingFaceTask.preprocessing(config)["clip"]["faces"] is True
    card = TalkingFaceTask.card(config, {}, str(trained / "checkpoints" / "best"))
    assert card.command == "CLIP.mp4"
    row = json.loads((trained / "predictions-test.jsonl").read_text().splitlines()[0])
    for folder, ending in (("clips", "mp4"), ("boxes", "csv")):
        (tmp_path / f"CLIP.{ending}").write_bytes((root / folder / f"{row['id']}.{ending}").read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(card.program, {})
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{name} {value:.2f} on a scale of 1 to 5" for name, value in row["prediction"].items()]


def test_its_graph_has_the_encoders_and_scores_a_video(root, trained, tmp_path, monkeypatch):
    best = trained / "checkpoints" / "best"
    done = export.onnx(best, tmp_path / "model.onnx", 18)
    session, model = graphs.Session(done.path), tasks.load(best)
    for images in ((1,), (4, 0, 2), (30,)):
        given = export.example(model, images, seed=9)
        found = session.run({name: value.numpy() for name, value in given.items()})
        with torch.inference_mode():
            wanted = model(**given)
        for name in found:
            assert found[name] == pytest.approx(wanted[name].numpy(), abs=4e-4)
    row = json.loads((trained / "predictions-test.jsonl").read_text().splitlines()[0])
    for folder, ending in (("clips", "mp4"), ("boxes", "csv")):
        (tmp_path / f"CLIP.{ending}").write_bytes((root / folder / f"{row['id']}.{ending}").read_bytes())
    import onnx

    (line,) = lines(done.path, tmp_path / "CLIP.mp4")
    assert line["prediction"] == pytest.approx(row["prediction"], abs=1e-3)
    monkeypatch.setattr(graphs, "write", lambda *given: shutil.copy(done.path, given[5]))
    small_one = export.int8(best, tmp_path / "model.int8", 18, size=2, srcc_drop=2, mean_error=0.05)
    kinds = {node.op_type for node in onnx.load(small_one.path).graph.node}
    assert {"MatMulInteger", "Conv"} <= kinds and "ConvInteger" not in kinds and small_one.size < 0.8 * done.size
    assert 0 < small_one.difference < 0.2
    (rounded,) = lines(small_one.path, tmp_path / "CLIP.mp4")
    assert rounded["prediction"] == pytest.approx(line["prediction"], abs=0.2)
    assert rounded["prediction"] != line["prediction"] and rounded["scale"] == line["scale"]


def test_it_is_written_as_int8_and_can_not_be_pruned(trained, tmp_path, monkeypatch):
    best = trained / "checkpoints" / "best"
    with pytest.raises(AffectError, match=r"encoders are not pruned; for pruned train one on .*extracted"):
        export.pruned(best, tmp_path / "model", 18)
    given = []
    monkeypatch.setattr(export, "write", lambda model, path, opset: given.append(model))
    monkeypatch.setattr(export, "quantize", lambda path: path.write_bytes(b"no graph"))
    with pytest.raises(AffectError, match="is no model that onnxruntime can run"):
        export.int8(best, tmp_path / "model", 18)
    assert [type(model) for model in given] == [EndToEndModel] and not any(tmp_path.iterdir())


def test_without_faces_the_whole_picture_may_be_seen(tmp_path):
    (tmp_path / "a.mp4").write_bytes(film([200] * 5, size=(32, 16)))
    seen = {
        fit: films.read(tmp_path / "a.mp4", Media(video="tiny", side=16, fit=fit), None, "a").images
        for fit in ("crop", "pad")
    }
    assert seen["crop"].min() > 100 and seen["pad"][:, 5:11].min() > 100 and seen["pad"][:, :3].max() < 20
    assert from_dict(Media, {"video": "tiny"}, "media").fit == "crop", "what runs from before it saw"
