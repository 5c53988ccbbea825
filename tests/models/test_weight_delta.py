"""Weight deltas: nothing where nothing moved, and a planted change in its own row and no other."""

import copy
import math

import polars as pl
import pytest
import torch

from architectures import tiny_architecture
from crosspatch.errors import UsageError
from crosspatch.models import weight_delta as module
from crosspatch.models.weight_delta import weight_delta
from crosspatch.tables import WEIGHTS
from pairs import child_of

RANKS = ("effective_rank", "stable_rank", "top_share")


def moved(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("delta_norm") > 0)


# Grouped heads, heads of their own, fused in two ways, and experts in stacks.
@pytest.mark.parametrize("name", ["qwen3", "gpt2", "gpt_neox", "phi3", "gpt_oss"])
def test_every_weight_has_its_row_and_identical_models_no_delta(name):
    model = tiny_architecture(name)
    twin = weight_delta(model, copy.deepcopy(model), "twin")
    assert dict(twin.schema) == pl.Schema(WEIGHTS.dtypes)
    assert twin["delta_norm"].max() == twin["ratio"].max() == 0
    assert all(twin[column].null_count() == twin.height for column in RANKS)
    rows = weight_delta(model, child_of(model), "corrupted")
    assert rows["clean_norm"].min() > 0
    assert moved(rows).height == rows.height == twin.height
    assert set(rows["parameter"]) == {parameter for parameter, _ in model.named_parameters()}
    norms = rows.group_by("parameter").agg(pl.col("clean_norm").pow(2).sum().sqrt())
    for parameter, norm in norms.iter_rows():
        assert norm == pytest.approx(float(model.get_parameter(parameter).detach().norm()), rel=1e-5)
    inside = rows.filter(pl.col("layer").is_not_null())
    assert set(inside["layer"]) == {0, 1, 2, 3}
    assert all(f".{layer}." in parameter for layer, parameter in inside.select("layer", "parameter").iter_rows())


def test_a_planted_direction_is_one_direction_and_nowhere_else():
    model, child = tiny_architecture("qwen3"), tiny_architecture("qwen3")
    generator = torch.Generator().manual_seed(0)
    up, down = torch.randn(96, generator=generator), torch.randn(48, generator=generator)
    child.get_parameter("model.layers.2.mlp.up_proj.weight").data.add_(0.01 * torch.outer(up, down))
    rows = moved(weight_delta(model, child, "corrupted"))
    assert rows.select("layer", "name", "parameter").rows() == [(2, "mlp.up_proj", "model.layers.2.mlp.up_proj.weight")]
    row = rows.row(0, named=True)
    assert row["shape"] == [96, 48]
    assert row["delta_norm"] == pytest.approx(0.01 * float(up.norm() * down.norm()), rel=1e-4)
    assert row["ratio"] == pytest.approx(row["delta_norm"] / row["clean_norm"])
    # Not to the last digit: the change was rounded when it was added.
    assert (row["effective_rank"], row["stable_rank"]) == pytest.approx((1, 1), abs=1e-4)
    assert row["top_share"] == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("rows_at_once", [4096, 7])
def test_ranks_are_those_of_the_singular_values(rows_at_once, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows_at_once)
    model = tiny_architecture("qwen3")
    child = child_of(model)
    rows = weight_delta(model, child, "corrupted")
    for name in ("model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight"):
        delta = (child.get_parameter(name).detach() - model.get_parameter(name).detach()).double()
        values = torch.linalg.svdvals(delta)
        shares = values.square() / values.square().sum()
        row = rows.row(by_predicate=pl.col("parameter") == name, named=True)
        assert row["effective_rank"] == pytest.approx(math.exp(-float((shares * shares.log()).sum())))
        assert row["stable_rank"] == pytest.approx(float(1 / shares.max()))
        assert row["top_share"] == pytest.approx(float(values.max() / values.sum()))
        assert row["delta_norm"] == pytest.approx(float(delta.norm()))


def test_a_tied_weight_is_counted_once_and_a_weight_of_0_has_no_ratio():
    model = tiny_architecture("llama")
    name = "model.layers.0.mlp.gate_proj.weight"
    model.get_parameter(name).data.zero_()
    child = copy.deepcopy(model)
    child.get_parameter(name).data[:3, :3] += 2 * torch.eye(3)
    row = moved(weight_delta(model, child, "corrupted")).row(0, named=True)
    # Equal directions count as many as they are.
    assert [row[column] for column in RANKS] == pytest.approx([3, 3, 1 / 3])
    assert row["ratio"] is None
    model.lm_head.weight = model.model.embed_tokens.weight
    child = copy.deepcopy(model)
    assert "lm_head.weight" not in weight_delta(model, child, "twin")["parameter"]
    # Untied in the child alone: then there are two changes.
    child.lm_head.weight = torch.nn.Parameter(child.lm_head.weight + 1)
    assert moved(weight_delta(model, child, "corrupted"))["parameter"].to_list() == ["lm_head.weight"]
    # Models of other weights are refused.
    with pytest.raises(UsageError, match="only one of the models has the weight"):
        weight_delta(model, tiny_architecture("qwen3"), "corrupted")
    other = copy.deepcopy(model)
    other.model.norm.weight = torch.nn.Parameter(torch.ones(24))
    with pytest.raises(UsageError, match=r"the weight model.norm.weight has the shapes 48 and 24"):
        weight_delta(model, other, "corrupted")
