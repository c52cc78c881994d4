"""Speaker diarization by sequence-to-sequence neural diarization: the experiments of report 004.

accelerate launch recipes/ssnd.py [EXPERIMENT] [--field value ...]
"""

from __future__ import annotations

from affect.cli import experiments_of, launch
from affect.data.simulation import Simulation
from affect.recipe import Optim, Train
from affect.tasks.diarization.config import Data, Diarization, Model


def demo() -> Diarization:
    """A tiny model of our kind on conversations of generated voices; six minutes on two cores."""
    return Diarization(
        data=Data(root="data/ssnd-voices", block=8.0, examples=640, valid=12, test=20),
        simulation=Simulation(speakers=(2, 3), noise=0.5, reverberation=0.0, moves=0.0, distance=(0.8, 1.25)),
        model=Model(width=64, hidden=128, encoder_layers=2, decoder_layers=2, channels=(16, 32, 64, 64)),
        optim=Optim(lr=1e-3, weight_decay=1e-2, warmup=0.05),
        train=Train(batch=16, epochs=10),
    )


if __name__ == "__main__":
    launch(experiments_of(globals(), __name__))
