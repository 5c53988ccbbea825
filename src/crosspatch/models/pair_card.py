"""What a notebook shows of a pair: what the two models are, what they share, and what sets them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crosspatch.card import Card, Table
from crosspatch.models.blocks import text_config
from crosspatch.models.fingerprint import fingerprint
from crosspatch.models.placement import device_names
from crosspatch.models.quantization import quantization_of

if TYPE_CHECKING:
    from crosspatch.models.pair import ModelPair


def pair_card(pair: ModelPair) -> Card:
    """Both models' names, fingerprints, precision and device; the shape that they have together."""
    config = text_config(pair.clean)
    models = (pair.clean, pair.corrupted)
    prints = [fingerprint(model) for model in models]
    each = Table(
        ("", "clean", "corrupted"),
        [
            ("from", *pair.names),
            ("fingerprint", *prints),
            ("precision", *(_precision(model) for model in models)),
            ("device", *(device_names(model) for model in models)),
        ],
        note="The two have the same weights: nothing can transfer." if prints[0] == prints[1] else "",
    )
    heads = f"{pair.n_heads} heads a block"
    shared = getattr(config, "num_key_value_heads", None) or pair.n_heads
    if shared != pair.n_heads:
        heads += f", {shared} of keys and values"
    system = f", system turn {pair.prompts.system!r}" if pair.prompts.system else ""
    facts = [
        ("architecture", type(pair.clean).__name__),
        ("shape", f"{pair.n_layers} layers (0 to {pair.n_layers - 1}), {heads}, width {config.hidden_size:,}"),
        ("vocabulary", f"{config.vocab_size:,} tokens"),
        ("a question is read", f"as a user turn{system}" if pair.prompts.uses_template else "as it stands"),
    ]
    layers = ", ".join(map(str, sorted({pair.n_layers // 3, 2 * pair.n_layers // 3, pair.n_layers - 1})))
    hints = [f'crosspatch.patch(pair, "Solve for x: 5x + 3 = 18", layers=[{layers}])']
    return Card("A pair of models", facts, [each], hints)


def _precision(model: Any) -> str:
    precision, quantization = str(model.dtype).removeprefix("torch."), quantization_of(model)
    return precision if quantization is None else f"{precision}, linear layers in {quantization}"
