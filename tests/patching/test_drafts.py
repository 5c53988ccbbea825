"""Drafts: what followed the same tokens before. `test_engines` shows that no draft changes a text."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from crosspatch.patching.drafts import DraftLengths, Drafts


def draft(drafts, text, guide=None, limit=9):
    """The rule, and the tokens that it drafts."""
    found = drafts.guide(text, guide)
    if found is None:
        return None
    rule, (there, ahead) = found
    return rule, list(islice(there, len(text) + ahead, len(text) + ahead + limit))


def test_a_known_text_is_followed_as_long_as_it_fits():
    drafts = Drafts([9, 9], known=[[1, 2, 3, 4, 5], [1, 7, 8]])
    assert draft(drafts, [9, 9], drafts.first, 3) == ("same", [1, 2, 3])
    assert draft(drafts, [9, 9, 1], drafts.first) == ("same", [2, 3, 4, 5])
    # The other known text begins with the same tokens.
    assert draft(drafts, [9, 9, 1, 7], drafts.first) == ("long", [8])
    assert draft(drafts, [9, 9, 1, 2, 3, 4, 5], drafts.first) is None


def test_texts_that_differ_in_some_tokens_draft_each_other():
    drafts = Drafts([0])
    guide = [0, 1, 2, 3, 4, 5, 6, 7, 8], 0
    # One token is another; one is left out; two are added.
    assert draft(drafts, [0, 1, 99], guide) == ("moved", [3, 4, 5, 6, 7, 8])
    assert draft(drafts, [0, 1, 99, 3], guide) == ("same", [4, 5, 6, 7, 8])
    assert draft(drafts, [0, 1, 3], guide) == ("near", [4, 5, 6, 7, 8])
    assert draft(drafts, [0, 1, 98, 99, 2], guide) == ("near", [3, 4, 5, 6, 7, 8])
    # The control: nothing near is the same.
    assert draft(drafts, [0, 1, 98, 99], guide) == ("moved", [4, 5, 6, 7, 8])


def test_what_followed_the_last_tokens_is_looked_up():
    drafts = Drafts([1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert draft(drafts, [0, 0, 2, 3, 4, 5]) == ("long", [6, 7, 8, 9])
    assert draft(drafts, [0, 0, 0, 0, 0, 5]) == ("short", [6, 7, 8, 9])
    # A text that repeats itself drafts itself: its end, which nothing follows, hides no earlier place.
    text = [0, 1, 2, 3, 4, 5, 1, 2, 3]
    drafts = Drafts([0])
    drafts.note(text, 1, len(text))
    assert draft(drafts, text) == ("short", [4, 5, 1, 2, 3])


def test_drafts_are_as_long_as_they_pay():
    def length(kept, texts=1):
        lengths = DraftLengths(16)
        for _ in range(500):
            lengths.note("same", kept, kept + 1)
        return lengths.length("same", texts)

    assert length(100) > length(3) > 0
    assert length(3, texts=8) < length(3)
    # Of tokens that are rarely kept, or cost as much as they save, there are none.
    assert length(0) == length(3, texts=16) == 0
    assert DraftLengths(16).length("moved", 1) > 0


TOKENS = st.lists(st.integers(0, 3), max_size=20)


@given(prompt=st.lists(st.integers(0, 3), min_size=1, max_size=10), known=st.lists(TOKENS), text=TOKENS)
def test_a_draft_stood_somewhere_after_the_same_last_token(prompt, known, text):
    drafts = Drafts(prompt, known)
    text = prompt + text
    drafts.note(text, len(prompt), len(text))
    found = draft(drafts, text, drafts.first)
    if found is not None and found[0] != "moved":
        here = [text[-1], *found[1]]
        places = [text, *(prompt + one for one in known)]
        assert found[1]
        assert any(here == t[i : i + len(here)] for t in places for i in range(len(t)))
