"""What a part of a model declares about its layers, and that only skeletons need: kept in float32, adapters, ties."""

import pytest
from torch import nn

from quant import QuantError
from quant.selection import select
from tests.models import Layers


class Declaring(nn.Module):
    """A part of a model that tells transformers about its layers by attributes."""

    def __init__(self, **attributes: object) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 4)
        self.gates = nn.Linear(4, 4)
        self.router = nn.ModuleDict({"gate": nn.Linear(4, 4), "other": nn.Linear(4, 4)})
        self.act = nn.ReLU()
        vars(self).update(attributes)


@pytest.mark.parametrize("attribute", ["_keep_in_fp32_modules", "_keep_in_fp32_modules_strict"])
@pytest.mark.parametrize("container", [list, tuple, set])
def test_what_a_part_keeps_in_float32_is_left_under_its_whole_name(attribute: str, container: type) -> None:
    model = nn.ModuleDict({"part": Declaring(**{attribute: container(["gate", "rou*r.o*"])}), "plain": Declaring()})
    selection = select(model)
    reason = "Declaring keeps it in float32"
    assert selection.left == dict.fromkeys(("part.gate", "part.router.gate", "part.router.other"), reason)
    assert selection.chosen == ("part.gates", "plain.gate", "plain.gates", "plain.router.gate", "plain.router.other")


def test_what_is_no_list_of_names_keeps_nothing_in_float32() -> None:
    assert select(Declaring(_keep_in_fp32_modules="gate")).left == {}


def test_the_parts_of_adapters_are_left_under_their_whole_names() -> None:
    model = nn.ModuleDict({"part": Declaring(adapter_layer_names=("router", "absent", "gate", "act", "training"))})
    selection = select(model)
    assert selection.chosen == ("part.gates",)
    parts = ("part.router.gate", "part.router.other", "part.gate")
    assert selection.left == dict.fromkeys(parts, "part of an adapter")


def test_ties_that_a_skeleton_declares_hold_both_ways_and_inside_a_part() -> None:
    """On meta nothing is shared yet. The names are those of weights, as seen from the module that declares them."""
    part = Declaring(all_tied_weights_keys={"gate.weight": "router.gate.weight"})
    ties = {"gate": "router.gate", "router.gate": "gate"}
    assert select(part.to("meta")).left == {name: f"weight shared with {other}" for name, other in ties.items()}
    inside = nn.ModuleDict({"part": part})
    assert select(inside).left == {f"part.{name}": f"weight shared with part.{other}" for name, other in ties.items()}


def test_a_pattern_that_resembles_nothing_is_told_the_first_name() -> None:
    with pytest.raises(QuantError, match=r"layers are named like 'layers\.0'\)"):
        select(Layers(2), include="zzz")
