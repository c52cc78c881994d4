import pytest
import torch
from torch import nn

from affect import coverage


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Linear(2, 2)])
        self.head = nn.Linear(2, 3)


def weights() -> dict[str, torch.Tensor]:
    return dict(Stack().state_dict())


def test_weights_of_their_own_have_no_faults():
    assert coverage.faults_of_saved(Stack(), weights()) == ""
    assert coverage.faults_of_reading(Stack(), {kind: [] for kind in KINDS}) == ""


KINDS = ("missing_keys", "unexpected_keys", "mismatched_keys")


def test_every_fault_is_named():
    own = weights()
    del own["head.bias"]
    own |= {"more": torch.zeros(1), "head.weight": torch.zeros(2, 2)}
    own["layers.0.weight"][0, 1] = -torch.inf
    assert coverage.faults_of_saved(Stack(), own) == (
        "its weights do not fit Stack: 1 of 8 are missing (head.bias); 1 have no place in it (more); "
        "1 are of another shape (head.weight: [2, 2] for [3, 2]); 1 hold NaN or infinite values (layers.0.weight)"
    )
    lacking = coverage.faults_of_saved(Stack(), {})
    assert lacking.endswith("8 of 8 are missing (head.bias, head.weight, layers.0.bias and 5 more)")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_found_in_any_precision(dtype, value):
    broken = torch.zeros(3, 4, dtype=dtype)
    broken[1, 2] = value
    plain = {"a": torch.zeros(2, dtype=dtype), "b": torch.zeros(0, dtype=dtype), "c": torch.zeros(2, dtype=torch.int64)}
    assert coverage.not_finite(plain | {"d": broken}) == ["d"]


def test_what_a_file_has_besides_is_a_head_unless_it_is_of_a_stack():
    facts = {"missing_keys": [], "mismatched_keys": [], "unexpected_keys": ["head2.weight", "classifier.0.bias"]}
    assert coverage.faults_of_reading(Stack(), facts) == ""
    assert "layers.4.bias" in coverage.faults_of_reading(Stack(), facts | {"unexpected_keys": ["layers.4.bias"]})
    facts |= {"missing_keys": ["masked_spec_embed", "a.masked_spec_embed", "pooler.weight"]}
    assert coverage.faults_of_reading(Stack(), facts, ("pooler.",)) == ""
    assert "pooler.weight" in coverage.faults_of_reading(Stack(), facts)


def test_a_hole_is_a_layer_that_is_missing_before_others():
    names = list(weights())
    assert coverage.holes(Stack(), names) == []
    assert coverage.holes(Stack(), [name for name in names if ".2." not in name]) == ["layers.2"]
    assert coverage.holes(Stack(), [name for name in names if ".3." not in name]) == [], "fewer layers are no hole"
    assert coverage.holes(Stack(), ["head.bias"]) == []
