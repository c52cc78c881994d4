"""The manifest of a folder of features: what made them, so that nothing else is put beside them."""

from __future__ import annotations

import dataclasses
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.errors import AffectError, first_line, nearest
from affect.extraction import AudioExtraction, Extraction, TextExtraction, VideoExtraction
from affect.models.extractors.loading import commit
from affect.recipe import differences

if TYPE_CHECKING:
    from affect.inference.extractor import Extractor

FILE = "manifest.json"
KINDS: dict[str, type[Extraction]] = {
    kind.modality: kind for kind in (AudioExtraction, TextExtraction, VideoExtraction)
}
PACKAGES = ("affect", "torch", "transformers", "tokenizers", "numpy", "soundfile", "soxr", "av", "pillow")

_WHERE = ("source", "columns", "root", "output", "name", "budget", "overwrite", "dry_run")
"""Settings that say where from and where to, and how fast."""
_LOCATION = ("encoder", "revision")
"""Settings by which the weights are found; that they are the same, their hash says."""


def settings(extraction: Extraction) -> dict[str, Any]:
    """Return the settings that the numbers depend on."""
    return {name: value for name, value in dataclasses.asdict(extraction).items() if name not in _WHERE}


def deciding(extractor: Extractor) -> dict[str, Any]:
    """Return all that the numbers depend on, as JSON values."""
    chosen = {name: value for name, value in settings(extractor.settings).items() if name not in _LOCATION}
    found: dict[str, Any] = json.loads(
        json.dumps(
            {
                "modality": extractor.settings.modality,
                "weights_sha256": extractor.weights,
                "width": extractor.width,
                "settings": chosen,
                "mixed_precision": extractor.mixed,
                "preprocessing": extractor.facts(),
            }
        )
    )
    return found


def describe(extractor: Extractor, **more: Any) -> dict[str, Any]:
    """Return a manifest: what decides the numbers, where the weights are from, the packages, and `more`."""
    facts = deciding(extractor)
    asked = extractor.settings
    folder = Path(asked.encoder).expanduser()
    # Absolute: whoever predicts with it stands elsewhere.
    name = str(folder.resolve()) if folder.is_dir() else asked.encoder
    facts["settings"] = {"encoder": name, "revision": asked.revision, **facts["settings"]}
    return {
        **facts,
        "commit": commit(asked.encoder, asked.revision),
        "packages": {package: version(package) for package in PACKAGES},
        **more,
    }


def read(file: Path) -> dict[str, Any] | None:
    """Return a manifest, or None where there is none; raises AffectError where it can't be read."""
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise AffectError(f"{file}: cannot be read as a manifest of features ({first_line(error)})") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("settings"), dict):
        raise AffectError(f"{file}: is no manifest of features: it has no settings")
    return facts


def check(found: dict[str, Any], wanted: dict[str, Any], file: Path, advice: str) -> None:
    """Raise AffectError, naming the first field, where a manifest and what decides the numbers differ."""
    held = {name: found.get(name) for name in wanted}
    chosen = {name: value for name, value in found["settings"].items() if name not in _LOCATION}
    other = differences({**held, "settings": chosen}, wanted)
    if other:
        values = " and ".join(json.dumps(_at(facts, other[0]), ensure_ascii=False) for facts in (found, wanted))
        raise AffectError(f"{file}: {other[0]} differs ({values}): {advice}")


def settings_of(facts: dict[str, Any], file: Path, encoder: str | None, revision: str | None) -> tuple[Extraction, str]:
    """Return the settings and the mixed precision of a manifest, with its commit as the revision.

    `encoder` and `revision` replace those of the manifest. Raises AffectError where a field is missing or unknown.
    """
    modality = str(facts.get("modality"))
    if modality not in KINDS:
        raise AffectError(f"{file}: has the modality {modality!r}; {nearest(modality, KINDS)}")
    chosen = dict(facts["settings"])
    if encoder is not None:
        chosen |= {"encoder": encoder, "revision": None}
    else:
        chosen["revision"] = facts.get("commit") or chosen.get("revision")
    chosen["revision"] = revision if revision is not None else chosen["revision"]
    try:
        return KINDS[modality](source=str(file), **chosen), str(facts["mixed_precision"])
    except (TypeError, KeyError) as error:
        raise AffectError(f"{file}: is the manifest of another version of affect ({first_line(error)})") from error


def _at(facts: dict[str, Any], name: str) -> Any:
    """Return the value of a dotted name."""
    value: Any = facts
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
