"""Attention over several streams a modality: the n best feature sets of each.

Legend: B examples, S streams.
"""

from __future__ import annotations

from affect.tasks.multimodal_emotion.models.attention import Attention


class TopN(Attention):
    """The public toolkit's `attention_topn`: `Attention` over up to 18 streams, any number of them a modality.

    The streams are those of the configuration, in its order; the output `attention` [B, S] has a weight each.
    Modality dropout leaves out all streams of a modality together.
    """
