"""The forms of questions by name: which family draws them, and which mistakes can be made in them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from types import ModuleType

from crosspatch.config import FAMILIES, Data, Difficulty
from crosspatch.data.derivation import Exercise
from crosspatch.data.families import (
    arguments,
    arithmetic,
    calculus,
    equations,
    inequalities,
    powers,
    ratios,
    systems,
    word_problems,
)
from crosspatch.errors import UsageError

_EQUATION = ("inverted_operation", "added_for_subtracted", "multiplied_for_divided")
_QUADRATIC = ("inverted_operation", "added_for_subtracted")

MADE_IN: dict[str, tuple[ModuleType, tuple[str, ...]]] = {
    "operations": (arithmetic, ("order_ignored", "bracket_sign_lost")),
    "fractions": (arithmetic, ("denominators_added",)),
    "linear_one_step": (equations, _EQUATION),
    "linear_two_step": (equations, _EQUATION),
    "linear_both_sides": (equations, _EQUATION),
    "linear_brackets": (equations, (*_EQUATION, "bracket_sign_lost")),
    "linear_fractions": (equations, (*_EQUATION, "denominators_added")),
    "quadratic_zero": (equations, _QUADRATIC),
    "quadratic_constant": (equations, _QUADRATIC),
    "quadratic_expression": (equations, _QUADRATIC),
    "quadratic_formula": (equations, ("formula_sign",)),
    "system": (systems, _EQUATION),
    "inequality": (inequalities, (*_EQUATION, "inequality_not_turned")),
    "proportion": (ratios, ("inverted_operation", "multiplied_for_divided", "ratio_turned")),
    "percentage": (ratios, ("wrong_base", "inverted_operation", "multiplied_for_divided")),
    "power_product": (powers, ("exponents_multiplied",)),
    "root_sum": (powers, ("roots_added",)),
    "derivative": (calculus, ("power_kept",)),
    "integral": (calculus, ("power_kept",)),
    "word_problem": (word_problems, _EQUATION),
    "parity": (arguments, ("converse",)),
    "divisibility": (arguments, ("converse",)),
}

# Families whose questions look or work alike; the rest is unrelated.
NEAR: dict[str, tuple[str, ...]] = {
    "arithmetic": ("powers", "ratios"),
    "linear": ("inequalities", "systems", "word_problems", "quadratic"),
    "quadratic": ("linear", "systems"),
    "systems": ("linear", "word_problems"),
    "inequalities": ("linear", "word_problems"),
    "ratios": ("word_problems", "arithmetic"),
    "powers": ("arithmetic", "calculus"),
    "calculus": ("powers",),
    "word_problems": ("linear", "ratios"),
    "arguments": ("arithmetic",),
}


@dataclass(frozen=True)
class Form:
    """One form of questions."""

    name: str
    family: str
    mistakes: tuple[str, ...]

    def draw(self, rng: Random, difficulty: Difficulty) -> Exercise:
        """A question of this form; nothing in it is random but what `rng` draws."""
        exercise: Exercise = MADE_IN[self.name][0].draw(self.name, rng, difficulty)
        return exercise


FORMS: dict[str, Form] = {
    name: Form(name, family, MADE_IN[name][1]) for family, names in FAMILIES.items() for name in names
}


def chosen_forms(settings: Data) -> tuple[Form, ...]:
    """The forms that are corrupted; of a family those in which the mistake can be made.

    Raises UsageError where it cannot be made in a form, or in none of a family.
    """
    forms: list[Form] = []
    for name in settings.forms:
        members = [FORMS[member] for member in FAMILIES.get(name, (name,))]
        fitting = [form for form in members if settings.mistake in form.mistakes]
        if not fitting:
            can_be = dict.fromkeys(mistake for form in members for mistake in form.mistakes)
            raise UsageError(
                f"the mistake {settings.mistake} cannot be made in data.forms {name}; there it can be "
                f"{', '.join(can_be)}"
            )
        forms += fitting
    return tuple(forms)


def near_forms(forms: tuple[Form, ...]) -> tuple[Form, ...]:
    """All forms of the families beside the corrupted ones."""
    corrupted = {form.family for form in forms}
    near = {name for family in corrupted for name in NEAR[family]} - corrupted
    return tuple(form for form in FORMS.values() if form.family in near)


def other_forms(forms: tuple[Form, ...]) -> tuple[Form, ...]:
    """All forms of families that are neither corrupted nor near."""
    taken = {form.family for form in (*forms, *near_forms(forms))}
    return tuple(form for form in FORMS.values() if form.family not in taken)
