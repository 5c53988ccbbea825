"""Classes of tokens by their text: operation words, answer marks, signs, digits, LaTeX or other.

The class of a cell is the class of the clean model's top-1 token. So the class does not depend on the patch, the
generated text, or whether the models disagree: if both models' top-1 tokens counted, a cell where they differ would
have two chances to be an operation word, and any other cell only one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl

from crosspatch.patching.patches import OPERATORS

OPERATION, ANSWER, SIGN, DIGIT, LATEX, OTHER = "operation", "answer", "sign", "digit", "latex", "other"
CLASSES = (OPERATION, ANSWER, SIGN, DIGIT, LATEX, OTHER)

# Tokens are often the beginning of a word: "Sub", "Mult", "Div".
_OPERATION = re.compile(
    r"add|adds|adding|added|addition|plus|sub|subtr|subtract\w*|deduct\w*|minus|mult|multip|multipl\w*|times|"
    r"div|divid\w*|move|moves|moved|moving|transpos\w*|isolat\w*",
    re.IGNORECASE,
)
_ANSWER = re.compile(r"\\?boxed|answers?|final|solutions?|roots?|stop|therefore", re.IGNORECASE)
# A backslash, a dollar sign, only brackets, or a command's name, which tokenizers split from its backslash.
_LATEX = re.compile(
    r".*[\\$].*|(?!\^$)[{}_^&\[\]]+|[dt]?frac|sqrt|cdot|pm|text|textbf|left|right|quad|begin|end|align\w*|implies|"
    r"[rR]ightarrow|int|mathrm|mathbf|neq|leq|geq|approx",
    re.DOTALL,
)
_DIGIT = re.compile(r".*\d.*", re.DOTALL)
_SIGN = re.compile(rf".*[{re.escape(''.join(sorted(OPERATORS)))}()≤≥≠≈].*", re.DOTALL)
_RULES = ((OPERATION, _OPERATION), (ANSWER, _ANSWER), (LATEX, _LATEX), (DIGIT, _DIGIT), (SIGN, _SIGN))


def class_of(token: str) -> str:
    """Classify a token by its text."""
    word = token.strip().strip("*_:#").strip()
    return next((name for name, rule in _RULES if rule.fullmatch(word)), OTHER)


def with_class(scores: pl.DataFrame, texts: Mapping[int, str]) -> pl.DataFrame:
    """Add a column `class` to scores; `texts` maps token ids to texts, and a token without a text is `other`."""
    classes = {token: class_of(text) for token, text in texts.items()}
    of_clean = pl.col("clean_token_id").replace_strict(classes, default=OTHER, return_dtype=pl.String)
    return scores.with_columns(of_clean.alias("class"))
