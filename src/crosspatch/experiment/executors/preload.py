"""What every worker process needs, imported once before the first is forked: each import takes seconds."""

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel  # noqa: F401

from crosspatch.experiment import controls, patching, spans  # noqa: F401
from crosspatch.models import loading, pair, unembedding  # noqa: F401
from crosspatch.patching import self_check, sweep  # noqa: F401
