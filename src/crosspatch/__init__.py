"""crosspatch: find out where in a network, and at which tokens, a fine-tune acts.

    from crosspatch import ModelPair, patch
    pair = ModelPair.load("HuggingFaceTB/SmolLM2-135M-Instruct", "my/child")
    result = patch(pair, "Solve for x: 5x + 3 = 18", layers=[8, 18, 28])

The names below are imported when they are first used, so that `import crosspatch` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from crosspatch.analysis.patch import patch, score
    from crosspatch.config import Experiment
    from crosspatch.errors import CrosspatchError, UsageError
    from crosspatch.experiment.stages import run_experiment
    from crosspatch.grading.grading import grade
    from crosspatch.models.pair import ModelPair
    from crosspatch.patching.result import PatchResult
    from crosspatch.report.notebook import depth_chart, head_map, heatmap
    from crosspatch.settings_io import load_experiment
    from crosspatch.statistics.patch_mode import PatchMode
    from crosspatch.storage.run import RunDirectory
    from crosspatch.storage.summary import Summary

_HOME = {
    "CrosspatchError": "crosspatch.errors",
    "Experiment": "crosspatch.config",
    "ModelPair": "crosspatch.models.pair",
    "PatchResult": "crosspatch.patching.result",
    "RunDirectory": "crosspatch.storage.run",
    "Summary": "crosspatch.storage.summary",
    "UsageError": "crosspatch.errors",
    "PatchMode": "crosspatch.statistics.patch_mode",
    "depth_chart": "crosspatch.report.notebook",
    "grade": "crosspatch.grading.grading",
    "head_map": "crosspatch.report.notebook",
    "heatmap": "crosspatch.report.notebook",
    "load_experiment": "crosspatch.settings_io",
    "patch": "crosspatch.analysis.patch",
    "run_experiment": "crosspatch.experiment.stages",
    "score": "crosspatch.analysis.patch",
}

__all__ = [
    "CrosspatchError",
    "Experiment",
    "ModelPair",
    "PatchMode",
    "PatchResult",
    "RunDirectory",
    "Summary",
    "UsageError",
    "depth_chart",
    "grade",
    "head_map",
    "heatmap",
    "load_experiment",
    "patch",
    "run_experiment",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'crosspatch' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
