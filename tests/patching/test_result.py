"""A result: its texts, its profile by patch, the texts of its tokens, and what a notebook shows of it."""

from __future__ import annotations

import polars as pl
import pytest

from crosspatch.analysis.patch import patch
from crosspatch.characters import half_surrogate
from crosspatch.errors import UsageError
from crosspatch.patching.result import PatchResult, token_texts
from crosspatch.tables import GENERATIONS, SCORES
from html_reader import HOSTILE, Reader, tame


def cell(layer: int, step: int, *, moved: float | None = None, **more: object) -> dict[str, object]:
    """A cell between models 2 logits apart, of which `moved` came along; None: they agree."""
    differ = moved is not None
    return {
        "prompt_id": "p",
        "patch": f"L{layer}.resid_post",
        "component": "resid_post",
        "layer": layer,
        "head": None,
        "schedule": "all",
        "window": 1,
        "direction": "corrupt",
        "persistence": "transient",
        "step": step,
        "position": step,
        "token_id": 1,
        "token": "a",
        "clean_token_id": 1,
        "corrupted_token_id": 2 if differ else 1,
        "delta_clean": -1.0 if differ else 0.0,
        "delta_corrupted": 1.0 if differ else 0.0,
        "delta_patched": -1.0 + moved if moved is not None else 0.0,
        "cts": moved / 2 if moved is not None else None,
        "status": "ok" if differ else "agree",
        "kl_clean": 0.0,
        "kl_patched": 0.0,
        "rank_corrupted": 1,
        **more,
    }


def result(cells: list[dict[str, object]]) -> PatchResult:
    return PatchResult(SCORES.frame(cells), GENERATIONS.frame())


def test_the_profile_is_worked_out_by_hand() -> None:
    found = result([cell(3, 0, moved=1.0), cell(3, 1, moved=2.0), cell(3, 2), cell(5, 0)]).profile()
    first, second = found.iter_rows(named=True)
    assert (first["patch"], first["positions"], first["disagreements"]) == ("L3.resid_post", 3, 2)
    assert (first["mean_cts"], first["recovered_fraction"]) == (0.75, 0.75)
    # Where the models never disagree there is nothing to transfer, which is not 0.
    assert (second["mean_cts"], second["recovered_fraction"]) == (None, None)


def test_a_few_patches_are_a_table_with_what_is_undefined_said() -> None:
    read = Reader(result([cell(3, 0, moved=1.0), cell(5, 0)])._repr_html_())
    assert "1 of 2 cells (50.0%)" in read.text
    assert "0.50" in read.text
    assert "undefined" in read.text
    assert 'result.text("L5.resid_post")' in read.text


def test_many_layers_are_a_strip_in_their_order() -> None:
    page = result([cell(layer, 0, moved=layer / 10) for layer in (*range(1, 20), 0)])._repr_html_()
    assert tame(page)
    assert page.count("mean CTS") == 20
    assert page.index("L2.resid_post: recovered") < page.index("L19.resid_post: recovered")
    assert "layer 0" in Reader(page).text
    assert "layer 19" in Reader(page).text


def test_of_many_other_patches_the_best_are_shown() -> None:
    heads = [cell(0, 0, moved=head / 10, patch=f"L0.head.{head}", component="head", head=head) for head in range(20)]
    text = Reader(result(heads)._repr_html_()).text
    assert "The 8 of 20 patches that recover most" in text
    assert text.index("L0.head.19") < text.index("L0.head.18")
    assert "L0.head.11models" not in text.replace(" ", "")


def test_nothing_in_a_prompts_name_acts() -> None:
    # Half a surrogate pair cannot get into a frame.
    for text in filter(lambda text: half_surrogate(text) is None, HOSTILE):
        assert tame(result([cell(3, 0, moved=1.0, prompt_id=text, patch=text)])._repr_html_())


def test_without_scores_it_says_so() -> None:
    assert "without scores" in result([])._repr_html_()


def test_a_result_knows_the_texts_of_all_its_tokens(qwen3_pair) -> None:
    found = patch(qwen3_pair, "Solve for x: 5x + 3 = 18", max_new_tokens=4)
    ids = set().union(*(found.scores[key] for key in ("token_id", "clean_token_id", "corrupted_token_id")))
    assert found.vocabulary.keys() == ids
    written = dict(found.scores.select("token_id", "token").iter_rows())
    # The control: some token was wanted that no layer wrote, so that scores alone would not do.
    assert written.items() < dict(found.vocabulary).items()
    assert token_texts(found.scores.head(0), qwen3_pair.prompts) == {}
    assert tame(found._repr_html_())
    with pytest.raises(UsageError, match="nothing was generated"):
        found.text("L99.resid_post")
    assert isinstance(found.profile(), pl.DataFrame)
