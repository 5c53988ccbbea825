"""Drafts: what followed the same tokens before. `test_engines` shows that no draft changes a text."""

from hypothesis import given
from hypothesis import strategies as st

from crosspatch.patching.drafts import Drafts


def test_a_known_text_is_followed_as_long_as_it_fits():
    drafts = Drafts([9, 9], known=[[1, 2, 3, 4, 5], [1, 7, 8]])
    assert drafts.follow([], 3) == [1, 2, 3]
    assert drafts.follow([1], 9) == [2, 3, 4, 5]
    assert drafts.follow([1, 7], 9) == [8]
    assert drafts.follow([1, 2, 3, 4, 5], 9) == drafts.follow([2], 9) == drafts.follow([1], 0) == []


def test_what_followed_three_tokens_is_looked_up():
    drafts = Drafts([1, 2, 3, 4, 5, 6, 7, 8, 9])
    # In the prompt, and across its end while the text is short.
    assert drafts.look_up([0, 0, 0, 0, 0, 3, 4, 5], 9) == [6, 7, 8, 9]

    assert Drafts([1, 2, 3, 5, 1, 2]).look_up([3], 9) == [5, 1, 2]
    # A text that repeats itself drafts itself: its end, which nothing follows, hides no earlier place.
    drafts = Drafts([0])
    text: list[int] = []
    for token in (1, 2, 3, 4, 5, 1, 2, 3):
        text.append(token)
        drafts.note(text, len(text))
    assert drafts.look_up(text, 9) == [4, 5, 1, 2]
    # Long matches come first and give more.
    known = list(range(40))
    drafts = Drafts([0], known=[known])
    drafts.note([100, 17, 18, 19, 99, 98], 1)
    assert drafts.look_up([7, 7, 7, 7, 7, 17, 18, 19], 30) == [99, 98]
    assert drafts.look_up(known[12:20], 30) == known[20:36]


TOKENS = st.lists(st.integers(0, 3), max_size=20)


@given(prompt=st.lists(st.integers(0, 3), min_size=1, max_size=10), known=st.lists(TOKENS), text=TOKENS)
def test_a_draft_stood_somewhere_after_the_same_three_tokens(prompt, known, text):
    drafts = Drafts(prompt, known)
    drafts.note(text, 1)
    for limit in (0, 1, 5):
        draft = drafts.look_up(text, limit)
        assert len(draft) <= limit
        if draft:
            context = text if len(text) >= 8 else prompt + text
            found = [*context[-3:], *draft]
            places = [prompt, *known, text]
            assert any(found == t[i : i + len(found)] for t in places for i in range(len(t)))
