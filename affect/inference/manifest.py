"""The manifest of a folder of features: what made them, so that nothing else is put beside them."""

from __future__ import annotations

import dataclasses
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from affect.errors import AffectError, first_line, nearest
from affect.extraction import AudioExtraction, Extraction, TextExtraction, VideoExtraction
from affect.models.extractors.loading import commit
from affect.recipe import differences

if TYPE_CHECKING:
    from affect.inference.extractor import Extractor

FILE = "manifest.json"
KINDS = {kind.modality: kind for kind in (AudioExtraction, TextExtraction, VideoExtraction)}
PACKAGES = ("affect", "torch", "transformers", "tokenizers", "numpy", "soundfile", "soxr", "av", "pillow")

_WHERE = ("source", "columns", "root", "output", "name", "store", "budget", "overwrite", "dry_run")
"""Settings that say where from and where to, and how fast."""
_LOCATION = ("encoder", "revision")
"""Settings by which the weights are found; that they are the same, their hash says."""


def deciding(extractor: Extractor) -> dict[str, Any]:
    """Return all that the numbers depend on, as JSON values."""
    settings = dataclasses.asdict(extractor.settings)
    facts = {
        "modality": extractor.settings.modality, "weights_sha256": extractor.weights, "width": extractor.encoder.width,
        "settings": {name: value for name, value in settings.items() if name not in (*_WHERE, *_LOCATION)},
        "mixed_precision": extractor.mixed, "preprocessing": extractor.encoder.facts,
    }  # fmt: skip
    return cast(dict[str, Any], json.loads(json.dumps(facts)))


def describe(extractor: Extractor, **more: Any) -> dict[str, Any]:
    """Return a manifest: what decides the numbers, where the weights are from, the packages, and `more`."""
    facts = deciding(extractor)
    asked = extractor.settings
    folder = Path(asked.encoder).expanduser()
    # Absolute: whoever predicts with it stands elsewhere.
    name = str(folder.resolve()) if folder.is_dir() else asked.encoder
    return {
        **facts,
        "settings": {"encoder": name, "revision": asked.revision, **facts["settings"]},
        "commit": commit(asked.encoder, asked.revision),
        "packages": {package: version(package) for package in PACKAGES},
        **more,
    }


def read(file: Path) -> dict[str, Any]:
    """Return a manifest; raises AffectError where it can't be read."""
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        wrote = "recipes/extract_features.py writes one beside the features"
        raise AffectError(f"{file}: no such manifest; {wrote}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise AffectError(f"{file}: cannot be read as a manifest of features ({first_line(error)})") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("settings"), dict):
        raise AffectError(f"{file}: is no manifest of features: it has no settings")
    return facts


def check(held: dict[str, Any], wanted: dict[str, Any], file: Path, advice: str) -> None:
    """Raise AffectError, naming the first field, where a manifest and what decides the numbers differ."""
    chosen = {name: value for name, value in held["settings"].items() if name not in _LOCATION}
    for name in differences({field: held.get(field) for field in wanted} | {"settings": chosen}, wanted):
        values = " and ".join(json.dumps(_at(facts, name), ensure_ascii=False) for facts in (held, wanted))
        raise AffectError(f"{file}: {name} differs ({values}): {advice}")


def settings_of(facts: dict[str, Any], file: Path, *, trust: bool = False) -> tuple[Extraction, str]:
    """Return a manifest's settings (its commit as the revision) and mixed precision; raises AffectError.

    That a program of the encoder's folder runs, `trust` has to say too: manifests come along with models of others.
    """
    modality = str(facts.get("modality"))
    if modality not in KINDS:
        raise AffectError(f"{file}: has the modality {modality!r}; {nearest(modality, KINDS)}")
    if facts["settings"].get("trust_remote_code") and not trust:
        raise AffectError(
            f"{file}: the features were made with a program of the folder of {facts['settings'].get('encoder')!r}: "
            "read it, and run it with --trust-remote-code (in Python affect.load(..., trust_remote_code=True))"
        )
    revision = facts.get("commit") or facts["settings"].get("revision")
    try:
        settings = KINDS[modality](source=str(file), **{**facts["settings"], "revision": revision})
        return settings, str(facts["mixed_precision"])
    except (TypeError, KeyError) as error:
        raise AffectError(f"{file}: is the manifest of another version of affect ({first_line(error)})") from error


def _at(facts: Any, name: str) -> Any:
    """Return the value of a dotted name."""
    for part in name.split("."):
        facts = facts.get(part) if isinstance(facts, dict) else None
    return facts
