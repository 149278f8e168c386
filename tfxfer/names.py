"""Names of variables: pure strings, no files and no TensorFlow.

A name is an op name (`conv1/kernel`, never `conv1/kernel:0`). One language chooses names everywhere: regular
expressions that must match the whole name, so that `conv1/.*` never takes `conv10/kernel`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence

from tfxfer.errors import SelectionError

Rules = Sequence[tuple[str, str]]


def op_name(name: str) -> str:
    """Strip the output number: `conv1/kernel:0` becomes `conv1/kernel`."""
    return re.sub(r":\d+$", "", name)


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a regular expression.

    Raises:
      SelectionError: it is not a regular expression; the message gives the place.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise SelectionError(f"{pattern!r} is not a regular expression: {error}") from None


def match(patterns: Iterable[str], names: Sequence[str], exclude: Iterable[str] = ()) -> list[str]:
    """Choose the names that one or more patterns match whole, in the order of `names`.

    Args:
      patterns: regular expressions, matched with `fullmatch`.
      names: what there is to choose from.
      exclude: regular expressions whose matches are left out again.

    Raises:
      SelectionError: a pattern (also one of `exclude`) is not a regular expression or matches nothing, or
        `exclude` leaves nothing over. All such patterns are listed, each with the nearest names.
    """
    wanted, unwanted = list(patterns), list(exclude)
    hits = {pattern: set(filter(compile_pattern(pattern).fullmatch, names)) for pattern in wanted + unwanted}
    empty = [pattern for pattern, found in hits.items() if not found]
    if empty:
        raise SelectionError(_nothing_matched(empty, names))
    taken = set().union(*(hits[pattern] for pattern in wanted))
    kept = taken.difference(*(hits[pattern] for pattern in unwanted))
    left = [name for name in names if name in kept]
    if wanted and not left:
        raise SelectionError(
            f"`exclude` ({listed(unwanted)}) leaves nothing of the {len(taken)} names that {listed(wanted)} matches"
        )
    return left


def _nothing_matched(patterns: Sequence[str], names: Sequence[str]) -> str:
    if not names:
        return f"{listed(patterns)} matches nothing: the list of variables to choose from is empty"
    lines = [f"{len(patterns)} of the patterns match none of the {len(names)} variables:"]
    lines += [f"  {pattern!r}    nearest: {', '.join(nearest(pattern, names))}" for pattern in patterns]
    return "\n".join([*lines, "a pattern must match a whole name, as in 'conv1/.*' or '.*/kernel'"])


def by_number(name: str) -> list[tuple[int, str]]:
    """Return a key to sort names by, under which `conv2` comes before `conv10`: digits in names count as numbers."""
    texts_and_numbers = re.split("([0-9]+)", name)  # in turns
    key = [(0, part) for part in texts_and_numbers]
    key[1::2] = [(len(digits), digits) for digits in (part.lstrip("0") for part in texts_and_numbers[1::2])]
    return key


def exactly(names: Iterable[str]) -> list[str]:
    """Return for each name the pattern that matches it and no other."""
    return [re.escape(name) for name in names]


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Return the names that look most like `name`, best first, at least one if there is any."""
    return difflib.get_close_matches(name, list(names), n=count, cutoff=0.0)


def close(name: str, names: Iterable[str]) -> str | None:
    """Return the one name that is close enough to be what was meant, or None."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=0.75)), None)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ` (did you mean NAME?)` where one name is close enough to be meant, else the empty string."""
    meant = close(name, names)
    return f" (did you mean {meant}?)" if meant else ""


def listed(names: Iterable[object], limit: int = 10) -> str:
    """Join names by commas; what goes beyond `limit` is counted instead."""
    every = [str(name) for name in names]
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more


def printable(text: str) -> str:
    """Escape what a terminal would obey and not show: control characters, line ends, marks that turn the direction."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def parse_rule(text: str) -> tuple[str, str]:
    """Split `REGEX=REPLACEMENT` at its last `=`.

    Raises:
      SelectionError: the rule has no `=`, or the left side is not a regular expression.
    """
    pattern, equals, replacement = text.rpartition("=")
    if not equals or not pattern:
        raise SelectionError(f"{text!r} is not a rule; write REGEX=REPLACEMENT, as in '(conv\\d_\\d)_W=\\1/kernel'")
    compile_pattern(pattern)
    return pattern, replacement


# A backslash with what follows it, a character class, or one character.
_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", flags=re.DOTALL)


def split_patterns(text: str) -> list[str]:
    """Split at commas, but not inside (), [] or {}, and not after a backslash: `a{1,2},b` gives two patterns."""
    parts, depth, current = [], 0, ""
    for piece in _PIECE.findall(text):
        depth = max(0, depth + (piece in {"(", "{"}) - (piece in {")", "}"}))
        if piece == "," and not depth:
            parts.append(current)
            current = ""
        else:
            current += piece
    return [part for part in [*parts, current] if part]


def renamer(rules: Rules | Callable[[str], str], names: Sequence[str]) -> dict[str, str]:
    """Apply rename rules to names, in order, each as `re.sub` on the part of the name that it matches.

    Args:
      rules: pairs (regular expression, replacement), or a function from old name to new.
      names: the old names.

    Returns:
      A dict from new name to old, in the order of `names`.

    Raises:
      SelectionError: a rule matches no name, or two names would become one.
    """
    rename = rules if callable(rules) else _apply_rules(rules, names)
    new = [rename(name) for name in names]
    result = dict(zip(new, names, strict=True))
    if len(result) < len(names):
        clashes = [
            f"{', '.join(o for n, o in zip(new, names, strict=True) if n == name)} -> {name}"
            for name in dict.fromkeys(n for n in new if new.count(n) > 1)
        ]
        raise SelectionError(
            "the rename rules make one name of several:\n  "
            + "\n  ".join(clashes)
            + "\nchoose the ones that are wanted first, as by weights.only(chosen).renamed(rules)"
        )
    return result


def _apply_rules(rules: Rules, names: Sequence[str]) -> Callable[[str], str]:
    table = {name: name for name in names}
    for pattern, replacement in rules:
        compiled = compile_pattern(pattern)
        if not any(compiled.search(name) for name in table.values()):
            if eaten := [old for old in names if compiled.search(old)]:
                raise SelectionError(
                    f"the rename rule {pattern!r} matches nothing any more: an earlier rule made {table[eaten[0]]} "
                    f"of {eaten[0]}. Rules are applied one after the other, to any part of a name; end a pattern by $, "
                    "or put this rule first"
                )
            near = ", ".join(nearest(pattern, list(table.values())))
            raise SelectionError(f"the rename rule {pattern!r} matches none of the {len(names)} names; nearest: {near}")
        try:
            table = {old: compiled.sub(replacement, new) for old, new in table.items()}
        except (re.error, IndexError) as error:
            raise SelectionError(f"the replacement {replacement!r} of rule {pattern!r} is wrong: {error}") from None
    return table.__getitem__
