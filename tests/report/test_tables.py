"""The page's tables of tokens."""

from __future__ import annotations

from crosspatch.report.tables import token_tables, words_table
from crosspatch.tables import TOKENS, WORDS

PLACE = {"component": "resid_post", "direction": "corrupt", "persistence": "transient", "schedule": "all"}


def row(name: str, measure: str, estimate: float | None, layer: int | None = None, **more: object) -> dict:
    ends = {"low": None, "high": None} if estimate is None else {"low": estimate - 0.1, "high": estimate + 0.1}
    fixed = {"domain": "related", **PLACE, "layer": layer, "late": False, "by": "class", "class": name, "control": None}
    counted = {"effective": 7.5, "p_value": None, "n_prompts": 9}
    return {**fixed, "measure": measure, "contrast": "value", "estimate": estimate, **ends, **counted, **more}


def test_a_table_of_all_layers_together() -> None:
    rows = [
        row("operation", "share_of_disagreements", 0.6),
        row("operation", "recovered_fraction", 0.3),
        row("operation", "recovered_fraction", -0.2, contrast="excess", p_value=0.99),
        row("operation", "recovered_fraction", 0.9, layer=3),
        {**row("operation", "recovered_fraction", 0.95), "late": True},
        row("digit", "recovered_fraction", None),
    ]
    (table,) = token_tables(TOKENS.frame(rows))
    assert table.name == "Related mathematics, by class of token (resid_post corrupt)"
    assert [row[0] for row in table.rows] == ["operation", "digit"]
    share, rate, rate_excess, rate_p, transfer, excess, p = table.rows[0][1:]
    n = " (n_eff 7.5)"
    assert (share, transfer) == (f"0.60 [0.50, 0.70]{n}", f"0.30 [0.20, 0.40]{n}")
    assert (excess, p) == (f"−0.20 [−0.30, −0.10]{n}", "0.99")
    assert (rate, rate_excess, rate_p) == ("", "", "")
    assert table.rows[1][5] == "nothing"
    assert list(token_tables(TOKENS.frame())) == []


def test_only_tokens_that_were_written_often_and_that_models_disagree_at() -> None:
    def word(token: str, positions: int, disagreements: int) -> dict:
        counts = {"positions": positions, "prompts": 2, "disagreements": disagreements}
        shares = {"disagreement_rate": disagreements / positions, "mean_cts": 1.0, "published_cts": 0.5}
        return {"domain": "related", **PLACE, "token": token, **counts, **shares}

    words = WORDS.frame([word(" add", 9, 4), word("rare", 2, 2), word(" is", 9, 0)])
    assert [row[1] for row in words_table(words).rows] == ["␣add"]
