"""One experiment: its stages in order, each resumed from its run directory."""

from crosspatch.experiment.stages import STAGES, ExperimentRun

__all__ = ["STAGES", "ExperimentRun"]
