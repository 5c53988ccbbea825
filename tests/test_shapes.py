"""Shapes in annotations are checked, in functions that are defined again and again too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

from crosspatch.patching.scores import score_states
from shapes import checked


def defined(wide: bool) -> Callable[[Tensor], Tensor]:
    """A function of this name, with one of two signatures; it returns what it gets without its last row."""
    if wide:

        @jaxtyped(typechecker=checked)
        def cut(x: Float[Tensor, "N D"]) -> Float[Tensor, "M D"]:
            return x[:-1]

    else:

        @jaxtyped(typechecker=checked)
        def cut(x: Float[Tensor, N]) -> Float[Tensor, N]:
            return x[:-1]

    return cut


def test_each_definition_checks_its_own_signature():
    for _ in range(2):
        wide, narrow = defined(True), defined(False)
        assert wide(torch.ones(3, 2)).shape == (2, 2)
        for wrong in (torch.ones(3), torch.ones(3, 2, dtype=torch.int64)):
            with pytest.raises(TypeCheckError, match=r"checking the parameters of .*cut"):
                wide(wrong)
        with pytest.raises(TypeCheckError, match=r"checking the parameters of .*cut"):
            narrow(torch.ones(3, 2))
        with pytest.raises(TypeCheckError, match=r"checking the return value of .*cut"):
            narrow(torch.ones(3))


def test_the_engine_is_checked():
    with pytest.raises(TypeCheckError, match="score_states"):
        score_states(torch.ones(4), torch.ones(4), torch.ones(4))
