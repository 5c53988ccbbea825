r"""Measures the health of a generated text, independent of question and answer: counts of malformed parts.

The paper's overfitted children wrote `\\\n` for line breaks (section 4.1.1): a backslash run and an escaped newline.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from crosspatch.data.escaped_text import N_COMMAND

_N_COMMAND = rf"(?:{N_COMMAND.pattern})(?![a-zA-Z])"
_ESCAPED_NEWLINE = re.compile(rf"(?<!\\)(?:\\\\)*\\(?!{_N_COMMAND})n")
# Three backslashes may end a row and begin a command, as in `\\\hline`.
_RUN = re.compile(rf"(?<!\\)(?!\\{{3}}(?:[\[(|{{}}]|(?!n)[a-zA-Z]{{2}}|{_N_COMMAND}))\\{{3,}}")
_TWO = re.compile(r"(?<!\\)\\\\(?!\\)")
# Two backslashes end a row in here. A formula or environment that is not closed extends to the end of the text.
_MATHEMATICS = re.compile(
    r"(?s)(?<!\\)(?:\$\$(.*?)(?<![^\\]\\)\$\$|\$([^$\n]+)(?<![^\\]\\)\$|\\\[(.*?)\\\]|\\\((.*?)\\\)"
    r"|\\begin\{([^{}\n]*)\}.*?\\end\{\5\}|(?:\$\$|\\[\[(]|\\begin\{[^{}\n]*\}).*)"
)
_DELIMITER = re.compile(
    # Inside of these commands, dollars open mathematics again.
    r"(?s)(?P<words>\\(?:text|textbf|textit|textrm|mbox|hbox|parbox|footnote) ?\{)"
    r"|(?P<closing>\\end ?\{[^{}\n]{0,40}\}|\\right(?![a-zA-Z])|\\[)\]]|\})"
    r"|(?P<opening>\\begin ?\{[^{}\n]{0,40}\}|\\left(?![a-zA-Z])|\\[(\[]|(?:\\[a-zA-Z]{1,20} ?)?\{)"
    r"|(?P<dollars>\$\$?)|(?P<blank>\n[ \t\r]*\n)|\\(?:[a-zA-Z]+|.)"
)
_PARTNER = {r"\)": r"\(", r"\]": r"\[", "}": "{", r"\right": r"\left"}
# An amount, as in "It costs $5 today", without a second dollar sign on its line.
_MONEY = re.compile(r"\$\d[\d,]*(?:\.\d+)?(?=[.,;:!?)]*(?:\s+(?:[^\W\d_]{2}|a\b)|[ \t]*(?:\n|\Z)))(?![^\n$]*\$)")
# Valid LaTeX that latex2mathml does not know, and text, which may contain what mathematics may not.
_SKIPPED = re.compile(
    r"(?<!\\)((?:\\\\)*)\\(?:(?:text|mbox|label|vspace\*?)\s*\{(?:[^{}]|\{[^{}]*\})*\}|binom\s*\d\s*\d|(?:begin|end)"
    r"\{[a-zA-Z]+\*?\}(?:\{[lcr|]+\})?|(?:arg|hline|hfill|nonumber|notag|copyright|d?dag|P)(?![a-zA-Z]))|(?<=')'+"
)
_INVALID = re.compile(r"(?<!\\)(?:[%#$]|\\[()\[\]])|[_^]\s*[_^]")  # latex2mathml accepts it


@dataclass(frozen=True)
class Health:
    """Counts of the malformed parts of a text; a healthy text has 0 everywhere."""

    cut_off: int  # 1 if the text has no end-of-text token (the limit was reached)
    # Characters at the end that repeat the chunk before them. A chunk has at least 4 characters and occurs at least
    # three times, 60 characters or more in all; the first occurrence is not counted.
    looped: int
    # Runs of three or more backslashes that do not end a row before a command; outside of mathematics, of two or more.
    backslash_runs: int
    escaped_newlines: int  # a backslash and an n in place of a line break
    unclosed: int  # delimiters that are not closed (`$`, `$$`, braces, `\boxed{`, environments), at most five
    unparsable: int  # formulas between delimiters that are not valid LaTeX

    @property
    def flags(self) -> list[str]:
        """The names of the counts above 0, in a fixed order; cut_off is called no_eos, looped is called repetition."""
        renamed = {"cut_off": "no_eos", "looped": "repetition"}
        return [renamed.get(name, name) for name, count in vars(self).items() if count]


def health(text: str, stop_reason: str) -> Health:
    """Measure a generated text; `stop_reason` is "limit" if it was truncated."""
    formulas = ["".join(found[:4]).strip() for found in _MATHEMATICS.findall(text) if any(found[:4])]
    return Health(
        cut_off=int(stop_reason == "limit"),
        looped=_looped(text),
        backslash_runs=len(_RUN.findall(text)) + len(_TWO.findall(_MATHEMATICS.sub(" ", text))),
        escaped_newlines=len(_ESCAPED_NEWLINE.findall(text)),
        # A delimiter that is open at the end of a truncated text is no error.
        unclosed=sum(not (stop_reason == "limit" and reason.endswith("is not closed")) for reason in unclosed(text)),
        # The limits keep texts that repeat formulas from taking long.
        unparsable=sum(len(formula) <= 400 and not _parses(formula) for formula in formulas[:60]),
    )


def _looped(text: str) -> int:
    """Count the characters at the end that repeat the chunk before them; the last repetition may be incomplete."""
    for length in range(4, min(1_000, len(text) // 3) + 1):
        window = text[-max(60, 3 * length) :]
        if len(window) >= 60 and window[length:] == window[:-length]:
            return next((i for i, char in enumerate(text[:-length][::-1]) if char != text[-1 - i]), len(text) - length)
    return 0


def unclosed(text: str) -> list[str]:
    r"""Return at most five delimiters that are not closed, such as "\boxed{ is not closed"; empty if there are none.

    `\$` and an amount of money without a second `$` on its line are no delimiters. A blank line ends `$` and `\(`.
    """
    reasons: list[str] = []
    stack: list[tuple[str, str, str]] = []  # kind, as written, and the innermost mathematics or text command with it
    kinds: Counter[str] = Counter()

    def push(token: str, mode: str) -> None:
        stack.append(("{" if token.endswith("{") else token, token, mode))
        kinds[stack[-1][0]] += 1

    def close(kind: str, by: str) -> None:
        """Close the last open delimiter of a kind; delimiters opened after it are reported as not closed."""
        while kinds[kind]:
            closed, written, _ = stack.pop()
            kinds[closed] -= 1
            if closed == kind:
                return
            reasons.append(f"{written} is not closed")
        reasons.append(f"{by} closes nothing")

    for match in _DELIMITER.finditer(text):
        token, mode = match[0].replace(" ", ""), stack[-1][2] if stack else ""
        match match.lastgroup, mode:
            case "words", _:
                push(token, "{")
            case "opening", _:
                push(token, token if token in (r"\(", r"\[") else mode)
            case "closing", _:
                close(_PARTNER.get(token) or token.replace(r"\end", r"\begin"), token)
            case "dollars", "" | "{" if not _MONEY.match(text, match.start()):
                push(token, token)
            case "dollars", "$" | "$$":
                if token == "$" != mode:
                    reasons.append("$$ is closed by $")
                close(mode, token)
                if token == "$$" != mode:  # $a$$b$
                    push("$", "$")
            case "dollars", r"\(" | r"\[":
                reasons.append(f"{token} stands inside of {mode}")
            case "blank", "$" | r"\(":
                close(mode, token)
                reasons.append(f"{mode} is not closed")
    reasons += [f"{written} is not closed" for _, written, _ in reversed(stack)]
    return list(dict.fromkeys(reasons))[:5]


@lru_cache(maxsize=10_000)
def _parses(formula: str) -> bool:
    from latex2mathml.converter import convert_to_element

    formula = _SKIPPED.sub(r"\1{}", formula)
    if _INVALID.search(formula) or unclosed(formula):
        return False
    try:
        elements = list(convert_to_element(formula).iter())
    except Exception:  # of many types, such as IndexError and KeyError
        return False
    # An unknown command, and a brace in place of an argument, are returned as a name.
    known = not any(element.tag == "mi" and re.match(r"\\[a-zA-Z]|\}", element.text or "") for element in elements)
    return known and all(len(element) == 2 for element in elements if element.tag == "mfrac")
