"""What every worker process needs, imported once before the first is forked: each import takes seconds."""

from crosspatch.experiment import controls, patching, spans  # noqa: F401
from crosspatch.models import pair  # noqa: F401
from crosspatch.patching import sweep  # noqa: F401
