"""The explorer's data: every cell once, what is beside it, and letters and formulas that a browser can show."""

import base64
import json
import math
import re
import zlib

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.data.problem import Problem
from crosspatch.report.explorer import Explorer
from crosspatch.report.formulas import formula_tree, formulas
from crosspatch.report.letters import whole_letters
from crosspatch.report.template import packed
from crosspatch.tables import GENERATIONS, SCORES
from html_reader import HOSTILE

from .conftest import CELLS, GENERATED, GRADED, HOSTILE_RUN, PROBLEMS, SCORED, generation, score


def of(scores, problems, generations=None, behaviour=None, texts=None):
    explorer = Explorer.of(problems, scores, generations, behaviour, texts)
    # As the page gets it.
    return json.loads(json.dumps(explorer.index)), [json.loads(json.dumps(part)) for part in explorer.prompts]


def test_every_cell_is_there_once_with_all_that_is_known_of_it_and_texts_go_with_their_rows():
    texts = pl.concat([GENERATED, GENERATIONS.frame([generation("twin", "c")])])
    index, (part,) = of(SCORED, PROBLEMS, texts, GRADED, {900: " wrong"})
    (picture,) = part["pictures"]
    rows = [(row["name"], row["layer"], row["start"], row["cells"], row["text"]) for row in picture["rows"]]
    assert rows == [("0", 0, 0, 2, None), ("6", 6, 2, 3, 3), ("29", 29, 5, 4, 4)]
    deltas = ("delta_clean", "delta_corrupted", "delta_patched")
    for name in ("step", "position", "cts", *deltas, "kl_clean", "kl_patched"):
        assert picture[name] == [cell[name] for cell in CELLS]
    assert picture["rank_corrupted"] == [1] * len(CELLS)
    assert [index["statuses"][place] for place in picture["status"]] == [cell["status"] for cell in CELLS]
    words = [(" wrong" if cell["corrupted_token_id"] == 900 else cell["token"]) for cell in CELLS]
    tokens_of = {"token_id": SCORED["token"], "clean_token_id": SCORED["token"], "corrupted_token_id": words}
    for name, tokens in tokens_of.items():
        assert [index["vocabulary"][place][1] for place in picture[name]] == list(tokens)
    assert "ceiling" in picture["ceiling"]
    # positions, disagreements, their share, cells with a CTS, too small, outside, mean CTS, recovered fraction
    assert picture["rows"][1]["profile"] == [3, 2, pytest.approx(2 / 3), 1, 1, 1, -0.5, -0.5]
    _, corrupted, twin, early, late = texts = part["texts"]
    unpatched = [("clean", None), ("corrupted", None), ("twin", None)]
    patched = [("patched", "L6.resid_post"), ("patched", "L29.resid_post")]
    assert [(text["condition"], text["patch"]) for text in texts] == [*unpatched, *patched]
    assert (corrupted["shared"], corrupted["own"], corrupted["verdict"]) == ("Divide ", "it. x = 4", "unparsed")
    assert twin["own"] == "c"
    assert (early["likeness"], early["verdict"]) == ("the clean text", None)
    # The letters of a patched text are those of its tokens.
    assert (late["own"], late["verdict"]) == ("", "incorrect")
    assert "repeats itself" in late["health"]
    # Prompts without scores are shown where nothing was patched.
    _, (part,) = of(None, PROBLEMS, GENERATED)
    assert (part["pictures"], len(part["texts"])) == ([], 4)
    with pytest.raises(ValueError, match="occurs twice"):
        of(pl.concat([SCORED, SCORED]), PROBLEMS)
    with pytest.raises(ValueError, match="no problem is known"):
        of(SCORED, {})


def test_heads_sets_of_layers_and_schedules_are_modes_and_rows():
    patches = [{"head": head, "component": "head", "patch": f"L3.head.{head}"} for head in (1, 0)]
    patches += [{"layer": None, "patch": "L3.resid_post+L4.resid_post"}, {"patch": "L3.resid_post@every:2"}]
    index, (part,) = of(SCORES.frame(score(3, 0, 0.5, **patch) for patch in patches), PROBLEMS)
    ways = [(variant["component"], variant["schedule"]) for variant in index["variants"]]
    names = {ways[p["variant"]]: [row["name"] for row in p["rows"]] for p in part["pictures"]}
    assert names == {
        ("head", "all"): ["3.0", "3.1"],
        ("resid_post", "all"): ["L3.resid_post+L4.resid_post"],
        ("resid_post", "every:2"): ["3"],
    }


def test_prompts_whose_names_look_alike_have_addresses_of_their_own():
    ids = ["x" * 90 + "A", "x" * 90 + "B", "a b", "a␣b", "a b (2)", "c"]
    problems = {name: Problem(name, "related", "f", name, "1") for name in ids}
    index, _ = of(SCORES.frame([score(3, 0, 0.5, prompt_id=name) for name in ids]), problems)
    names = [prompt["id"] for prompt in index["prompts"]]
    assert len(set(names)) == len(ids)
    assert names[-1] == "c"


def test_unknown_tokens_and_infinite_numbers_travel():
    scores = SCORES.frame([score(3, 0, 0.5, kl_clean=math.inf, rank_corrupted=None)])
    index, (part,) = of(scores, PROBLEMS)
    assert [900, None] in index["vocabulary"]
    assert part["pictures"][0]["kl_clean"] == ["inf"]
    assert part["pictures"][0]["rank_corrupted"] == [None]
    with pytest.raises(ValueError):
        packed(math.nan)


def test_hostile_texts_are_made_legible():
    index, parts = of(**HOSTILE_RUN)
    everything = json.dumps([index, parts], ensure_ascii=False)
    assert not re.search("[\x00\x1b\u202e\u200f\u2028\ud83d]", everything)
    assert "⟨U+202E⟩" in everything
    assert "⟨U+D83D⟩" in index["prompts"][0]["question"]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_packing_loses_nothing_and_shows_nothing(value):
    found = packed(value)
    assert re.fullmatch(r"[A-Za-z0-9+/]+=*", found)
    assert json.loads(zlib.decompress(base64.b64decode(found))) == value


@pytest.mark.parametrize(
    ("tokens", "text", "found"),
    [
        (["a", "b"], "ab", {}),
        ([" \ufffd", "\ufffd", " x"], " ∫ x", {0: " ∫", 1: ""}),
        (["x", "\ufffd", "\ufffd", "\ufffd", "y"], "x∫🗾y", {1: "∫🗾", 2: "", 3: ""}),
        (["\ufffd", "\ufffd", " a", "\ufffd"], "∫ a∂", {0: "∫", 1: "", 3: "∂"}),
        # The end of text is a token and no letter.
        (["\ufffd", "\ufffd", "<end>"], "∫", {0: "∫", 1: ""}),
        # Read alone, a token has lost its space.
        (["Divide", "by", "8", "."], "Divide by 8.", {1: " by", 2: " 8"}),
        # A token without letters ends no run.
        (["a", "\ufffd", "", "b c"], "aéb c", {1: "é", 2: ""}),
        # Other words than the text's: nothing is known.
        (["\ufffd", "b"], "xyz and no such letter", {}),
        (["q", "\ufffd"], "∫", {}),
    ],
)
def test_broken_letters_are_made_whole(tokens, text, found):
    assert whole_letters(tokens, text) == found


@given(st.text(alphabet="aé∫🗾 ", max_size=12))
def test_tokens_of_single_bytes_give_the_text_again(text):
    tokens = [bytes([byte]).decode("utf-8", errors="replace") for byte in text.encode()]
    found = whole_letters(tokens, text)
    assert "".join(found.get(i, token) for i, token in enumerate(tokens)) == text


def elements(tree):
    yield tree
    for child in tree[2]:
        if isinstance(child, list):
            yield from elements(child)


def test_formulas_become_trees_and_other_texts_none():
    trees = {
        r"$\frac{1}{2}$": "math mrow mfrac mrow mn mrow mn",
        r"\[\begin{aligned}x&=1\end{aligned}\]": "math mrow mtable mtr mtd mi mtd mi mo mn",
        r"\(x\)": "math mrow mi",
    }
    found = formulas([f"so {written}, and {written}" for written in trees])
    assert {written: " ".join(tree[0] for tree in elements(found[written])) for written in found} == trees
    # What is no formula or too deep stays as it was written.
    texts = [r"$\frac{1$", r"$\nosuchcommand x$", "$5 and $6", "$ x$", r"\(unclosed", "$$", "x"]
    assert [formulas([text]) for text in texts] == [{}] * len(texts)
    shallow, deep = (r"\[" + "^{" * depth + "x" + "}" * depth + r"\]" for depth in (5, 246))
    assert formulas([shallow])
    assert formulas([deep]) == {}


@pytest.mark.parametrize(
    "written", [r"$\href{javascript:alert(1)}{x}$", r"$\text{<script>alert(1)</script>}$", r"$\class{a}{b}$", *HOSTILE]
)
def test_formulas_hold_mathematics_alone(written):
    for tree in formulas([written]).values():
        for tag, attributes, children in elements(tree):
            assert tag not in ("script", "a", "img")
            assert not {"href", "class", "id", "style", "onclick"} & set(attributes)
            assert all(isinstance(child, list | str) for child in children)


@given(st.text(alphabet="\\{}$^_&ab1 []()", max_size=40))
def test_any_latex_gives_a_tree_or_none(latex):
    tree = formula_tree(f"${latex}$")
    assert tree is None or json.dumps(tree)
