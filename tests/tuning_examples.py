"""A few examples to train a tiny pair on."""

from __future__ import annotations

from crosspatch.config import Data
from crosspatch.data.splits import make_splits
from crosspatch.tuning.examples import Example
from pairs import make_pair

SPLITS = make_splits(Data(train=8, validation=2, related=0), seed=0)
TRAIN, VALIDATION = (
    [Example.of(problem, make_pair("qwen3").prompts, 1024) for problem in problems]
    for problems in (SPLITS.train, SPLITS.validation)
)
