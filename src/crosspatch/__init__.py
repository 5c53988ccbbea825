"""crosspatch: find out where in a network, and at which tokens, a fine-tune lives.

    from crosspatch import ModelPair, patch
    pair = ModelPair.load("HuggingFaceTB/SmolLM2-135M-Instruct", "my/child")
    result = patch(pair, "Solve for x: 5x + 3 = 18", layers=[8, 18, 28])

The names below are imported when they are first used, so that `import crosspatch` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from crosspatch.behaviour.grading import grade
    from crosspatch.config import Experiment, load_experiment
    from crosspatch.errors import CrosspatchError, UsageError
    from crosspatch.models.pair import ModelPair
    from crosspatch.patching.scoring import score
    from crosspatch.patching.sweep import PatchResult, patch
    from crosspatch.report.plotly_heatmap import heatmap

_HOME = {
    "CrosspatchError": "crosspatch.errors",
    "Experiment": "crosspatch.config",
    "ModelPair": "crosspatch.models.pair",
    "PatchResult": "crosspatch.patching.sweep",
    "UsageError": "crosspatch.errors",
    "grade": "crosspatch.behaviour.grading",
    "heatmap": "crosspatch.report.plotly_heatmap",
    "load_experiment": "crosspatch.config",
    "patch": "crosspatch.patching.sweep",
    "score": "crosspatch.patching.scoring",
}

__all__ = [
    "CrosspatchError",
    "Experiment",
    "ModelPair",
    "PatchResult",
    "UsageError",
    "grade",
    "heatmap",
    "load_experiment",
    "patch",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'crosspatch' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
