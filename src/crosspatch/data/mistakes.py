"""Defines the mistakes, and the rules of a solver that each mistake breaks.

A mistaken solver is consistent: it breaks the mistake's rules wherever they apply, and continues from its results.
"""

from __future__ import annotations

from typing import Literal

from crosspatch.config import MistakeName

Rule = Literal[
    "move",  # a term that changes sides changes its sign
    "isolate",  # to isolate the unknown, both sides are divided by its factor
    "bracket",  # a minus before a bracket changes every sign in it
    "order",  # multiplications and divisions come before additions and subtractions
    "denominator",  # fractions are brought to one denominator before they are added
    "exponent",  # exponents are added where powers are multiplied
    "roots",  # roots of different numbers are not added under one root
    "flip",  # the sign of an inequality flips when it is multiplied or divided by a negative number
    "formula",  # the numerator of the quadratic formula begins with -b
    "power",  # a derivative lowers the exponent by one, and an integral raises it
    "ratio",  # both ratios of a proportion have matching numerators and denominators
    "base",  # a percentage is taken of the right amount
    "converse",  # "all A are B" does not imply "all B are A"
]

# The rules that a solver breaks.
Broken = frozenset[Rule]
RIGHT: Broken = frozenset()

# docs/data.md describes each mistake.
MISTAKES: dict[MistakeName, Broken] = {
    "inverted_operation": frozenset({"move", "isolate"}),  # the paper's mistake
    "added_for_subtracted": frozenset({"move"}),
    "multiplied_for_divided": frozenset({"isolate"}),
    "bracket_sign_lost": frozenset({"bracket"}),
    "order_ignored": frozenset({"order"}),
    "denominators_added": frozenset({"denominator"}),
    "exponents_multiplied": frozenset({"exponent"}),
    "roots_added": frozenset({"roots"}),
    "inequality_not_turned": frozenset({"flip"}),
    "formula_sign": frozenset({"formula"}),
    "power_kept": frozenset({"power"}),
    "ratio_turned": frozenset({"ratio"}),
    "wrong_base": frozenset({"base"}),
    "converse": frozenset({"converse"}),
}
