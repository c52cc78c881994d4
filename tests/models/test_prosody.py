"""The prosody branch."""

import pytest
import torch

from affect.errors import AffectError
from affect.models.prosody import ProsodyBranch


def test_standardises_with_the_training_part():
    torch.manual_seed(0)
    raw = torch.randn(200, 5) * torch.tensor([1.0, 50.0, 0.01, 3.0, 0.0]) + torch.tensor([0.0, 200.0, 0.5, -7.0, 4.0])
    branch = ProsodyBranch(5, width=8).eval()
    branch.set_statistics(raw.mean(0), raw.std(0))
    standard = (raw - raw.mean(0)) / raw.std(0).masked_fill(raw.std(0) == 0, 1)
    torch.testing.assert_close(branch(raw), branch.network(standard), atol=1e-4, rtol=1e-4)
    again = ProsodyBranch(5, width=8).eval()
    again.load_state_dict(branch.state_dict())
    torch.testing.assert_close(again(raw), branch(raw))


def test_values_that_are_not_finite_count_as_the_mean():
    branch = ProsodyBranch(2, width=4).eval()
    branch.set_statistics(torch.tensor([3.0, 5.0]), torch.tensor([1.0, 2.0]))
    broken = torch.tensor([[float("nan"), 6.0], [float("inf"), 6.0], [3.0, 6.0]])
    values = branch(broken)
    torch.testing.assert_close(values[0], values[2])
    torch.testing.assert_close(values[1], values[2])


def test_width_and_dropout():
    branch = ProsodyBranch(88)
    assert branch.width == 64
    assert branch(torch.randn(3, 88)).shape == (3, 64)


@pytest.mark.parametrize(
    ("mean", "words"),
    [(torch.zeros(3), "takes 2 features"), (torch.tensor([0.0, float("nan")]), "not finite")],
)
def test_bad_statistics(mean, words):
    with pytest.raises(AffectError, match=words):
        ProsodyBranch(2).set_statistics(mean, torch.ones(2))
