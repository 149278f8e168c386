"""What every tool shares: its flags, its help, its exit status.

    def define_flags() -> flags.FlagValues:
        values = flags.FlagValues()
        flags.DEFINE_integer("epochs", 10, "Passes over the training examples.", flag_values=values)
        _flags.define_session(values)
        return values

    def main(argv: list[str]) -> int:
        values = define_flags()
        files = _flags.parse(values, argv, __doc__)
        ...
        return 0

    if __name__ == "__main__":
        sys.exit(_flags.run(main))

Flags are defined on a FlagValues of the tool's own, never on absl's global one: two tools can meet in one process.
"""

from __future__ import annotations

import ast
import contextlib
import glob
import io
import math
import os
import re
import shlex
import shutil
import sys
import textwrap
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from tfxfer import names
from tfxfer.errors import TfxferError
from tfxfer.tools._quiet import prepare_tensorflow

HELP = {"-h", "-help", "--help", "--helpfull"}
_titles: weakref.WeakKeyDictionary[flags.Flag, str] = weakref.WeakKeyDictionary()


class UsageError(Exception):
    """A command line that cannot be used; exit status 2."""


# --- flags ---


class _ListFlag(flags.Flag):
    """A flag with a list of items: `split` turns its text into items, `gather` makes the value of them.

    Where it is `repeatable`, each appearance on the command line adds items; otherwise the last one counts.
    """

    def __init__(
        self,
        name: str,
        default: Any,
        help: str,
        form: str,
        split: Callable[[str], list],
        gather: Callable[[list], Any] = list,
        repeatable: bool = True,
    ) -> None:
        self.form, self._split, self._gather, self._repeatable = form, split, gather, repeatable
        self._items: list = []
        super().__init__(flags.ArgumentParser(), None, name, default, help)

    def _parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return self._gather(argument)
        try:
            items = self._split(argument)
        except ValueError as error:
            raise flags.IllegalFlagValueError(f"flag --{self.name}={argument}: {error}") from None
        self._items = [*(self._items if self.present and self._repeatable else []), *items]
        return self._gather(self._items)


def DEFINE_patterns(name: str, default: Any, help: str, values: flags.FlagValues) -> None:
    """Define a flag of regular expressions: repeatable, split at commas outside brackets; its value is a list[str]."""
    flags.DEFINE_flag(_ListFlag(name, default, help, "REGEX,...", _patterns), values)


def DEFINE_selection(purpose: str, which: str, values: flags.FlagValues) -> None:
    """Define --select and --exclude; `which` says by which names, where there are several."""
    DEFINE_patterns("select", [".*"], f"{purpose}{which}.", values)
    DEFINE_patterns("exclude", [], f"Tensors to leave out again{which}.", values)


def DEFINE_json(values: flags.FlagValues) -> None:
    """Define --json, by which a tool prints one object instead of text."""
    flags.DEFINE_bool("json", False, "Print one JSON object and nothing else.", flag_values=values)


def DEFINE_dequantize(values: flags.FlagValues) -> None:
    """Define --dequantize, by which the numbers of a quantized file are those that they stand for."""
    flags.DEFINE_bool(
        "dequantize",
        False,
        "Take the real numbers, as float32, in the place of integers with a scale, as quantized models of TensorFlow "
        "Lite have them.",
        flag_values=values,
    )


def DEFINE_rules(name: str, default: Any, help: str, values: flags.FlagValues, form: str = "REGEX=REPLACEMENT") -> None:
    """Define a repeatable flag `REGEX=REPLACEMENT`; its value is a list of pairs, in their order."""
    flags.DEFINE_flag(_ListFlag(name, default, help, form, lambda text: [names.parse_rule(text)]), values)


def DEFINE_takes(name: str, default: Any, help: str, values: flags.FlagValues) -> None:
    """Define a repeatable flag `REGEX=FILE`; its value is a list of pairs, in their order."""
    flags.DEFINE_flag(_ListFlag(name, default, help, "REGEX=FILE", _take), values)


def DEFINE_factors(name: str, default: Any, help: str, values: flags.FlagValues) -> None:
    """Define a repeatable flag `REGEX=FACTOR`; its value is a dict[str, float], in their order."""
    flags.DEFINE_flag(_ListFlag(name, default, help, "REGEX=FACTOR", _factor, dict), values)


def DEFINE_stages(name: str, default: Any, help: str, values: flags.FlagValues) -> None:
    """Define a repeatable flag `EPOCH:REGEX=FACTOR`; its value is a list of (epoch, regex, factor)."""
    flags.DEFINE_flag(_ListFlag(name, default, help, "EPOCH:REGEX=FACTOR", _stage), values)


def DEFINE_ints(name: str, default: Any, help: str, values: flags.FlagValues) -> None:
    """Define a flag of positive integers between commas, `none` for none of them; its value is a list[int]."""
    flags.DEFINE_flag(_ListFlag(name, default, help, "N,N,...", _ints, repeatable=False), values)


def DEFINE_floats(name: str, help: str, values: flags.FlagValues) -> None:
    """Define a flag of numbers between commas; its value is a list[float], or None."""
    flags.DEFINE_flag(_ListFlag(name, None, help, "NUMBER,...", _floats, repeatable=False), values)


def DEFINE_feeds(name: str, help: str, values: flags.FlagValues) -> None:
    """Define a repeatable flag `NAME=VALUE`; its value is a dict of Python's literals, or of texts."""
    flags.DEFINE_flag(_ListFlag(name, {}, help, "NAME=VALUE", _feed, dict), values)


def _floats(text: str) -> list[float]:
    try:
        return [float(piece) for piece in text.split(",")]
    except ValueError:
        raise ValueError("write numbers, as in 103.939,116.779,123.68") from None


def _feed(text: str) -> list[tuple[str, Any]]:
    name, equals, value = text.partition("=")
    if not name.strip() or not equals:
        raise ValueError("write NAME=VALUE, as in is_training=False")
    try:
        return [(name.strip(), ast.literal_eval(value.strip()))]
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return [(name.strip(), value)]


def _ints(text: str) -> list[int]:
    pieces = [] if text.strip() in ("", "none") else text.split(",")
    if not all(piece.strip().isdecimal() and int(piece) > 0 for piece in pieces):
        raise ValueError("write positive integers, as in 256,128, or none")
    return [int(piece) for piece in pieces]


def _patterns(text: str) -> list[str]:
    patterns = names.split_patterns(text)
    for pattern in patterns:
        names.compile_pattern(pattern)
    return patterns


def _take(text: str) -> list[tuple[str, str]]:
    # Both sides may hold a `=`. From the right, the first `=` with a file behind it divides them.
    pieces = text.split("=")
    splits = [("=".join(pieces[:at]), "=".join(pieces[at:])) for at in range(len(pieces) - 1, 0, -1)]
    there = [(pattern, path) for pattern, path in splits if os.path.exists(path) or os.path.exists(f"{path}.index")]
    pattern, path = next(iter(there or splits), ("", ""))
    if not pattern or not path:
        raise ValueError("write REGEX=FILE, as in 'conv.*=runs/a/best'")
    names.compile_pattern(pattern)
    return [(pattern, path)]


def _factor(text: str) -> list[tuple[str, float]]:
    pattern, _, number = text.rpartition("=")
    factor = 0.0
    with contextlib.suppress(ValueError):
        factor = float(number)
    if not pattern or not 0 < factor < math.inf:
        raise ValueError("write REGEX=FACTOR with a factor above 0, as in 'conv.*=0.01'")
    names.compile_pattern(pattern)
    return [(pattern, factor)]


def _stage(text: str) -> list[tuple[int, str, float]]:
    epoch, colon, rest = text.partition(":")
    if not colon or not epoch.isdecimal() or int(epoch) < 1:
        raise ValueError("write EPOCH:REGEX=FACTOR with an epoch from 1 on, as in '10:conv5.*=0.01'")
    return [(int(epoch), pattern, factor) for pattern, factor in _factor(rest)]


@contextlib.contextmanager
def group(values: flags.FlagValues, title: str) -> Iterator[None]:
    """Show the flags that are defined inside under a title of their own in `--help`."""
    before = set(values)
    yield
    _titles.update({values[name]: title for name in values if name not in before})


def define_session(values: flags.FlagValues) -> None:
    """Define what `tfxfer.session` takes: thread counts and GPU options."""
    with group(values, "TensorFlow session"):
        flags.DEFINE_integer(
            "intra_op_threads", 0, "Threads inside one op; 0 lets TensorFlow choose.", 0, flag_values=values
        )
        flags.DEFINE_integer(
            "inter_op_threads", 0, "Ops that run side by side; 0 lets TensorFlow choose.", 0, flag_values=values
        )
        flags.DEFINE_float(
            "per_process_gpu_memory_fraction",
            0.0,
            "Part of each GPU's memory to take, from 0 to 1; 0 lets TensorFlow choose.",
            0.0,
            1.0,
            flag_values=values,
        )
        flags.DEFINE_bool("allow_growth", False, "Take GPU memory as it is needed, not at once.", flag_values=values)


def define_checkpoint(values: flags.FlagValues) -> None:
    """Define which checkpoint of a run is used."""
    flag: flags.Flag = flags.Flag(
        flags.ArgumentParser(),
        None,
        "checkpoint",
        "best",
        "Weights: the run's best checkpoint by validation, its last one, or the prefix of a checkpoint or another file "
        "of weights of the same network, such as average_weights writes.",
    )
    flag.form = "best|last|PREFIX"  # type: ignore[attr-defined]  # what --help shows
    flags.DEFINE_flag(flag, values)


def define_class_names(values: flags.FlagValues) -> None:
    """Define where the classes' names come from."""
    flags.DEFINE_string(
        "class_names",
        None,
        "File of the classes' names: imagenet_class_index.json, synset_words.txt, or one name a line; default: the "
        "names of the run, ImageNet's of a model's own 1000, or numbers.",
        flag_values=values,
    )


# --- which flags are used ---


class Use(NamedTuple):
    """A flag that is used only where another flag has some value; elsewhere it is refused.

    Attributes:
      flag: the flag.
      other: what it depends on.
      values: `other` must have one of these values, or, if it is a list, hold one; if this is empty, any value that is
        not empty will do.
      unless: reverses the condition: `other` must have none of these values, or be left out.
      what: a description of `other` for the message.
    """

    flag: str
    other: str
    values: tuple[str, ...] | Callable[[Any], tuple[str, ...]] = ()
    unless: bool = False
    what: str = ""

    def fits(self, values: flags.FlagValues) -> bool:
        """Say whether the flag is used under these values."""
        value = values[self.other].value
        items = value if isinstance(value, list) else [value]
        sufficient = self.sufficient(values)
        return (any(item in sufficient for item in items) if sufficient else bool(value)) != self.unless

    def sufficient(self, values: flags.FlagValues | None = None) -> tuple[str, ...]:
        """Return the values of `other` with which the flag is used; if empty, any that is not empty."""
        return self.values(values) if callable(self.values) else self.values

    def cure(self, values: flags.FlagValues) -> str:
        """Say what must be given, or left out, for the flag to be used."""
        if self.unless and values[self.other].present:
            shown = "" if isinstance(values[self.other].value, list) else f"={values[self.other].value}"
            return f"not used with --{self.other}{shown}; leave one of the two out"
        if self.unless:
            return f"give another --{self.other} too{f', {self.what}' if self.what else ''}"
        sufficient = self.sufficient(values)
        possible = getattr(values[self.other].parser, "enum_values", sufficient)
        wanted = [f"--{self.other}={value}" for value in sufficient if value in possible] or [f"--{self.other}"]
        return f"give {' or '.join(wanted)} too{f', {self.what}' if self.what else ''}"


def own_classifiers(values: Any = None) -> tuple[str, ...]:
    """Return the endpoints that are a model's own classifier; what most tools do not need is loaded here."""
    from tfxfer.models.registry import MODELS

    if values is not None and "model" in values and values["model"].value not in MODELS:
        return ("",)  # a network in a file has none
    return tuple(model.classifier for model in MODELS.values() if model.classifier)


def models(values: Any = None) -> tuple[str, ...]:
    """Return the models of the registry."""
    from tfxfer.models.registry import MODELS

    return tuple(MODELS)


def _without_sources(values: Any = None) -> tuple[str, ...]:
    """Return the models that take images as they are, and whose files have one form."""
    from tfxfer.models.registry import MODELS

    return tuple(model.name for model in MODELS.values() if model.input_spec is None)


# What a network in a file needs besides, and no model of the registry.
OF_FILE = ("input", "feed", "tags", "signature", "moving_averages", "input_spec", "mean", "scale", "bgr")
# Each row holds in every tool that has both flags; a tool hands rows of its own to `parse`.
USES = (
    Use("data_dir", "dataset", ("mnist", "folder", "listing")),
    Use("listing", "dataset", ("listing",)),
    Use("validation_listing", "dataset", ("listing",)),
    Use("pattern", "dataset", ("pattern",)),
    Use("split", "dataset", ("folder", "listing")),
    Use("split", "validation_listing", unless=True),
    Use("most_bad", "dataset", ("folder", "listing", "pattern")),
    Use("decode", "dataset", ("folder", "listing", "pattern")),
    Use("source", "weights", what="the file whose form it is"),
    Use("source", "model", _without_sources, unless=True),
    Use("rename", "weights", what="the file whose names are changed"),
    Use("image_size", "model", _without_sources, unless=True),
    *(Use(flag, "model", models, unless=True, what="a network in a file") for flag in OF_FILE),
    *(Use(flag, "input_spec", unless=True) for flag in ("mean", "scale", "bgr")),
    *(Use(flag, "endpoint", own_classifiers, unless=True) for flag in ("hidden", "normalize")),
    Use("decay_steps", "schedule", ("cosine", "exponential")),
    Use("decay_rate", "schedule", ("exponential",)),
    Use("shown", "summaries", ("images", "activations")),
)


def unused(values: flags.FlagValues, rows: Iterable[Use] = USES) -> list[Use]:
    """Return the rows whose flag has no effect under these values, whether or not the user gave it."""
    return [row for row in rows if row.flag in values and row.other in values and not row.fits(values)]


def check_used(values: flags.FlagValues, rows: Iterable[Use] = USES) -> None:
    """Refuse the flags that the user gave and that would have no effect.

    Raises:
      UsageError: names all of them, grouped by what they need.
    """
    by_cure: dict[str, list[str]] = {}
    for row in unused(values, rows):
        if values[row.flag].present:
            by_cure.setdefault(row.cure(values), []).append(f"--{row.flag}")
    if by_cure:
        raise UsageError("; ".join(f"{' and '.join(refused)}: {cure}" for cure, refused in by_cure.items()))


# --- command line ---

_parsed: flags.FlagValues | None = None


def parse(
    values: flags.FlagValues,
    argv: list[str],
    doc: str | None,
    *,
    at_least: int = 0,
    at_most: int | None = None,
    imply: Callable[[Any], None] | None = None,
    uses: Sequence[Use] = (),
) -> list[str]:
    """Set the flags from a command line whose first word is the program.

    Args:
      values: the tool's flags.
      argv: the command line; flags and positional arguments may be mixed, `--` ends the flags.
      doc: the tool's docstring, printed above the flags by `--help`.
      at_least: how many positional arguments there must be.
      at_most: how many there may be; None for any number.
      imply: sets flags that follow from others.
      uses: the tool's own rows, in addition to `USES`.

    Returns:
      The positional arguments.

    Raises:
      UsageError: an unknown flag (with the nearest names), a value that does not fit, too few or too many arguments, or
        a flag that would not be used.
      SystemExit: with status 0, after `--help`.
    """
    before_dashes = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    if HELP.intersection(before_dashes):
        print(help_text(values, doc), flush=True)
        raise SystemExit(0)
    values.set_gnu_getopt(True)
    try:
        positional = values(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        raise UsageError(_unknown(error.flagname, values) + _file_with_a_dash(before_dashes)) from None
    except flags.Error as error:
        raise UsageError(str(error)) from None
    if len(positional) < at_least:
        raise UsageError(f"{len(positional)} arguments are too few, {at_least} are needed; see --help")
    if at_most is not None and len(positional) > at_most:
        raise UsageError(f"unexpected argument: {names.listed(positional[at_most:])}; see --help")
    global _parsed
    _parsed = values
    if imply is not None:
        imply(values)
    check_used(values, (*USES, *uses))
    return positional


def _unknown(name: str, values: flags.FlagValues) -> str:
    nearest = ", ".join(f"--{near}" for near in names.nearest(name, values))
    return f"unknown flag --{name}" + (f"; nearest: {nearest}" if nearest else "") + "; --help lists all flags"


def _file_with_a_dash(arguments: Sequence[str]) -> str:
    # A file whose name begins with a dash looks like a flag. A checkpoint is named by its prefix.
    files = (text for text in arguments if text.startswith("-") and glob.glob(f"{glob.escape(text)}*"))
    return next((f"; the file of that name is given as ./{text}" for text in files), "")


def help_text(values: flags.FlagValues, doc: str | None) -> str:
    """Show a tool's docstring and its flags, its own first, wrapped to the terminal."""
    width = max(40, shutil.get_terminal_size().columns)
    blocks = [(doc or "").strip()]
    for title, entries in by_title(values).items():
        shown_entries = [_flag_help(flag, width) for flag in entries]
        blocks.append("\n".join([f"flags, {title}:" if title else "flags:", *shown_entries]))
    return "\n\n".join(blocks)


def by_title(values: flags.FlagValues) -> dict[str, list[flags.Flag]]:
    """Return the flags below the titles under which help shows them; a tool's own come first, below no title."""
    groups: dict[str, list[flags.Flag]] = {"": []}
    for flag in dict.fromkeys(values[name] for name in values):
        groups.setdefault(_titles.get(flag, ""), []).append(flag)
    return {title: entries for title, entries in groups.items() if entries}


def usage(flag: flags.Flag) -> str:
    """Return how a flag is written, as `--epochs=INTEGER` or `--[no]json`."""
    form = _choices(flag) or getattr(flag, "form", flag.flag_type().rpartition(" ")[2].upper())
    return f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}={form}"


def purpose(flag: flags.Flag) -> str:
    """Return what a flag is for, on one line, without its choices and its default."""
    return " ".join(flag.help.removeprefix(f"<{_choices(flag)}>: ").split())


def _choices(flag: flags.Flag) -> str:
    return "|".join(getattr(flag.parser, "enum_values", ()))


def _flag_help(flag: flags.Flag, width: int) -> str:
    text = f"{purpose(flag)} (default: {shown(flag.default)})"
    body = textwrap.fill(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False)
    return f"  {usage(flag)}\n{body}"


def shown(default: Any) -> str:
    """Return the default of a flag as help shows it."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, dict):
        return " ".join(f"{key}={value}" for key, value in default.items()) or "none"
    if isinstance(default, list):
        return ",".join("=".join(item) if isinstance(item, tuple) else str(item) for item in default) or "none"
    return "none" if default is None or default == "" else str(default)


# --- messages of the library ---

# Parameters of the library whose flags have other names.
FLAG_OF = {
    "variables": "restore",
    "size": "image_size",
    "root": "data_dir",
    "dtype": "store_dtype",
    "feeds": "feed",
}
OF_TRAINING = {"logdir"}  # a flag of `train` that messages of other tools name too
PHRASES = {"select fewer variables": ("restore", "restore fewer variables by --restore")}
_RULES = re.compile(r"(?:`|open_weights\(path, )?\brename=(\[.*\])[`)]?")
_FEEDS = re.compile(r"\bfeeds=(\{[^{}]*\})")
_QUOTED = re.compile(r"`([a-z]\w*)(?:=([^`]*))?`")


def in_flags(text: str, values: Mapping[str, Any] | flags.FlagValues | None = None) -> str:
    """Turn the parameters that a message of the library names into the flags of a tool.

    `` `logdir` `` becomes `--logdir`, `` `overwrite=True` `` becomes `--overwrite`, `` `keep=0` `` becomes `--keep=0`,
    and rules for names become `--rename=REGEX=REPLACEMENT`. A parameter for which the tool has no flag stays as it is.
    So does everything outside of backticks: a path, a variable or a class may have the name of a flag.

    Args:
      text: the message.
      values: the tool's flags; default: those that were parsed last.
    """
    known = _parsed if values is None else values
    if known is None:
        return text

    def quoted(match: re.Match[str]) -> str:
        name = match[1] if match[1] in known else FLAG_OF.get(match[1], match[1])
        value = "" if match[2] in (None, "True") else f"={match[2]}"
        return f"--{name}{value}" if name in known or name in OF_TRAINING else match[0]

    for phrase, (name, ours) in PHRASES.items():
        text = text.replace(phrase, ours) if name in known else text
    text = _FEEDS.sub(lambda match: _feeds_in_flags(match, known), text)
    text = _RULES.sub(lambda match: _rules_in_flags(match, known), text)
    return _QUOTED.sub(quoted, text)


def _feeds_in_flags(match: re.Match[str], known: Mapping[str, Any] | flags.FlagValues) -> str:
    """Write `feeds={name: value}` as flags; `...` is a value to be filled in."""
    if "feed" not in known:
        return match[0]
    values = ast.literal_eval(match[1])
    texts = [f"{name}={'VALUE' if value is ... else value}" for name, value in values.items()]
    return " ".join(f"--feed={shlex.quote(text)}" for text in texts)


def _rules_in_flags(match: re.Match[str], known: Mapping[str, Any] | flags.FlagValues) -> str:
    """Write `rename=[(regex, replacement), ...]` as flags; a list with `...` becomes a template of the flag."""
    if "rename" not in known:
        return match[0]
    try:
        rules = ast.literal_eval(match[1])
        texts = [f"{pattern}={replacement}" for pattern, replacement in rules] if ... not in rules else []
    except (ValueError, SyntaxError, TypeError):
        texts = []
    return " ".join(f"--rename={shlex.quote(text)}" for text in texts) or "--rename='REGEX=REPLACEMENT'"


# --- exit status ---


def run(main: Callable[[list[str]], int], argv: list[str] | None = None) -> int:
    """Run a tool's main and turn errors into a message and an exit status.

    Returns:
      main's own status; 1 for a refusal or a file that cannot be used; 2 for bad usage; 130 for an interrupt; 141 where
      the reader of the output has gone (`| head`). Any other exception is a defect of tfxfer and keeps its traceback.
    """
    global _parsed
    _parsed = None
    prepare_tensorflow()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # Names may have letters that the coding of the output lacks; stderr escapes them by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main(sys.argv if argv is None else argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # Otherwise Python writes what is still buffered at exit, which fails again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except UsageError as error:
        _complain(error, str(error))
        return 2
    except OSError as error:
        _complain(error, f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror or error))
        return 1
    except TfxferError as error:
        _complain(error, in_flags(str(error)))
        return 1
    return status


def _complain(error: Exception, message: str) -> None:
    name, message = type(error).__name__, "\n".join(map(names.printable, message.split("\n")))
    if not sys.stderr.isatty():
        print(f"{name}: {message}", file=sys.stderr)
        return
    from rich.console import Console
    from rich.text import Text

    # rich leaves the colour out where NO_COLOR is set.
    Console(stderr=True).print(Text.assemble((name, "bold red"), ": ", message), soft_wrap=True, highlight=False)
