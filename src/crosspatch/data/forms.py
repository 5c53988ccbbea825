"""Lists the forms of questions by name, with their families and the mistakes that they allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from crosspatch.config import FAMILIES, Data, Difficulty
from crosspatch.data.derivation import Exercise
from crosspatch.data.families import (
    arguments,
    arithmetic,
    calculus,
    equations,
    powers,
    ratios,
    systems,
    word_problems,
)
from crosspatch.errors import UsageError

_EQUATION = ("inverted_operation", "added_for_subtracted", "multiplied_for_divided")
_QUADRATIC = ("inverted_operation", "added_for_subtracted")

# The families that are similar to each family; all others are unrelated to it.
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
    """One form of questions; `family_draw` generates a question of any form in the family's module."""

    name: str
    family_draw: Callable[[str, Random, Difficulty], Exercise]
    mistakes: tuple[str, ...]

    @property
    def family(self) -> str:
        """The form's family."""
        return next(family for family, names in FAMILIES.items() if self.name in names)

    def draw(self, rng: Random, difficulty: Difficulty) -> Exercise:
        """Generate a question of this form; all of its randomness comes from `rng`."""
        return self.family_draw(self.name, rng, difficulty)


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("operations", arithmetic.draw, ("order_ignored", "bracket_sign_lost")),
        Form("fractions", arithmetic.draw, ("denominators_added",)),
        Form("linear_one_step", equations.draw, _EQUATION),
        Form("linear_two_step", equations.draw, _EQUATION),
        Form("linear_both_sides", equations.draw, _EQUATION),
        Form("linear_brackets", equations.draw, (*_EQUATION, "bracket_sign_lost")),
        Form("linear_fractions", equations.draw, (*_EQUATION, "denominators_added")),
        Form("quadratic_zero", equations.draw, _QUADRATIC),
        Form("quadratic_constant", equations.draw, _QUADRATIC),
        Form("quadratic_expression", equations.draw, _QUADRATIC),
        Form("quadratic_formula", equations.draw, ("formula_sign",)),
        Form("system", systems.draw, _EQUATION),
        Form("inequality", equations.draw, (*_EQUATION, "inequality_not_turned")),
        Form("proportion", ratios.draw, ("inverted_operation", "multiplied_for_divided", "ratio_turned")),
        Form("percentage", ratios.draw, ("wrong_base", "inverted_operation", "multiplied_for_divided")),
        Form("power_product", powers.draw, ("exponents_multiplied",)),
        Form("root_sum", powers.draw, ("roots_added",)),
        Form("derivative", calculus.draw, ("power_kept",)),
        Form("integral", calculus.draw, ("power_kept",)),
        Form("word_problem", word_problems.draw, _EQUATION),
        Form("parity", arguments.draw, ("converse",)),
        Form("divisibility", arguments.draw, ("converse",)),
    )
}


def chosen_forms(settings: Data) -> tuple[Form, ...]:
    """Return the forms of the training problems; a family's name selects its forms that allow the mistake.

    Raises UsageError if a form, or every form of a family, does not allow the mistake.
    """
    forms: list[Form] = []
    for name in settings.forms:
        members = [FORMS[member] for member in FAMILIES.get(name, (name,))]
        fitting = [form for form in members if settings.mistake in form.mistakes]
        if not fitting:
            allowed = dict.fromkeys(mistake for form in members for mistake in form.mistakes)
            raise UsageError(
                f"data.forms {name} does not allow the mistake {settings.mistake}, expected {' or '.join(allowed)}"
            )
        forms += fitting
    return tuple(forms)


def near_forms(forms: tuple[Form, ...]) -> tuple[Form, ...]:
    """Return all forms of the families that are similar to the chosen ones."""
    chosen = {form.family for form in forms}
    near = {name for family in chosen for name in NEAR[family]} - chosen
    return tuple(form for form in FORMS.values() if form.family in near)


def other_forms(forms: tuple[Form, ...]) -> tuple[Form, ...]:
    """Return all forms of families that are neither chosen nor similar to chosen ones."""
    taken = {form.family for form in (*forms, *near_forms(forms))}
    return tuple(form for form in FORMS.values() if form.family not in taken)
