"""The double of the Hub, and the real client pointed at it."""

from __future__ import annotations

import shutil
import types

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

from tests.hub.double import TOKEN, Hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The double, with the client of this process pointed at it, logged in, and impatient."""
    with Hub() as server:
        # The client reads its environment at import, which was done offline.
        before = constants.ENDPOINT
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(before, server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(_http, "time", types.SimpleNamespace(sleep=lambda seconds: None))
        yield server


@pytest.fixture
def run(spoken, tmp_path):
    """A copy of a run that a test may change."""
    return shutil.copytree(spoken / "seed0" / "fold1", tmp_path / "runs" / "spoken" / "seed0" / "fold1")
