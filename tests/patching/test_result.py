"""A result: its texts, its profile by patch, the texts of its tokens, and its HTML in a notebook."""

from crosspatch.analysis.patch import patch
from crosspatch.patching.result import PatchResult, token_texts
from crosspatch.tables import GENERATIONS, SCORES
from html_reader import HOSTILE, Reader, tame
from score_cells import cell


def result(*cells: dict[str, object]) -> PatchResult:
    return PatchResult(SCORES.frame(cells), GENERATIONS.frame())


def scored(layer: int, step: int, moved: float, prompt_id: str = "p", **more: object) -> dict[str, object]:
    """A cell between models that are 2 logits apart, `moved` of which are recovered."""
    return cell(prompt_id, layer, step, (-1.0, 1.0, -1.0 + moved), **more)


def test_the_profile_is_worked_out_by_hand_and_is_a_table() -> None:
    agreeing = (cell("p", layer, step, (0.0, 0.0, 0.0)) for layer, step in ((3, 2), (5, 0)))
    found = result(scored(3, 0, 1.0), scored(3, 1, 2.0), *agreeing)
    first, second = found.profile().iter_rows(named=True)
    assert (first["patch"], first["positions"], first["disagreements"]) == ("L3.resid_post", 3, 2)
    assert (first["mean_cts"], first["recovered_fraction"]) == (0.75, 0.75)
    # Where the models never disagree nothing can be recovered, which is not 0.
    assert (second["mean_cts"], second["recovered_fraction"]) == (None, None)
    read = Reader(found._repr_html_())
    for words in ("2 of 4 cells (50.0%)", "0.75", "undefined", 'result.text("L5.resid_post")'):
        assert words in read.text
    assert "without scores" in result()._repr_html_()


def test_many_layers_are_a_strip_in_their_order() -> None:
    page = result(*(scored(layer, 0, layer / 10) for layer in (*range(1, 20), 0)))._repr_html_()
    assert tame(page)
    assert page.count("mean CTS") == 20
    assert page.index("L2.resid_post: recovered") < page.index("L19.resid_post: recovered")
    assert "layer 0" in Reader(page).text
    assert "layer 19" in Reader(page).text


def test_of_many_other_patches_the_best_are_shown() -> None:
    heads = [scored(0, 0, head / 10, patch=f"L0.head.{head}", component="head", head=head) for head in range(20)]
    text = Reader(result(*heads)._repr_html_()).text
    assert "The 8 of 20 patches that recover most" in text
    assert text.index("L0.head.19") < text.index("L0.head.18")
    assert "L0.head.11models" not in text.replace(" ", "")
    # Nothing in a prompt's name acts; half a surrogate pair cannot get into a frame.
    for text in HOSTILE:
        assert tame(result(scored(3, 0, 1.0, text, patch=text))._repr_html_())


def test_a_result_has_the_texts_of_all_its_tokens(qwen3_pair) -> None:
    found = patch(qwen3_pair, "Solve for x: 5x + 3 = 18", max_new_tokens=4)
    ids = set().union(*(found.scores[key] for key in ("token_id", "clean_token_id", "corrupted_token_id")))
    assert found.vocabulary.keys() == ids
    written = dict(found.scores.select("token_id", "token").iter_rows())
    # The control: a model predicts some token that no patch writes, so the scores' own texts would not do.
    assert written.items() < dict(found.vocabulary).items()
    assert token_texts(found.scores.head(0), qwen3_pair.prompts) == {}
    assert tame(found._repr_html_())
