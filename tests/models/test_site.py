"""Places and their names."""

from __future__ import annotations

import pytest

from crosspatch.errors import UsageError
from crosspatch.models.site import Site

NAMES = {
    Site(18): "L18.resid_post",
    Site(0, "attn_out"): "L0.attn_out",
    Site(2, "resid_mid"): "L2.resid_mid",
    Site(2, "mlp_out"): "L2.mlp_out",
    Site(11, "head", 3): "L11.head.3",
}


@pytest.mark.parametrize(("site", "name"), NAMES.items())
def test_a_name_and_back(site, name):
    assert site.name == name
    assert Site.parse(name) == site


@pytest.mark.parametrize(
    "name", ["", "L3", "3.resid_post", "L-1.resid_post", "Lx.attn_out", "L3.resid", "L3.head.x", "L3.mlp_out ", "L²"]
)
def test_no_name_of_a_site(name):
    with pytest.raises(UsageError, match=r"such as L18\.resid_post or L18\.head\.3"):
        Site.parse(name)


def test_a_head_has_a_number_and_nothing_else_has():
    with pytest.raises(UsageError, match=r"needs its number, such as L3\.head\.0"):
        Site.parse("L3.head")
    with pytest.raises(UsageError, match="head 1 with attn_out"):
        Site.parse("L3.attn_out.1")
    with pytest.raises(UsageError, match="count from 0"):
        Site(-1)
    with pytest.raises(UsageError, match="count from 0"):
        Site(0, "head", -1)
    with pytest.raises(UsageError, match="got component 'resid_pre', expected one of resid_post, "):
        Site(0, "resid_pre")


def test_sites_can_be_sorted_with_and_without_heads():
    shuffled = [Site(1), Site(0, "head", 10), Site(0), Site(1, "head", 0), Site(0, "head", 2), Site(0, "attn_out")]
    assert [site.name for site in sorted(shuffled)] == [
        "L0.attn_out",
        "L0.head.2",
        "L0.head.10",
        "L0.resid_post",
        "L1.head.0",
        "L1.resid_post",
    ]
