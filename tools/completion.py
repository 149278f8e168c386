"""Print a script that completes tfxfer's tools, flags, values and file names in bash.

    mkdir -p ~/.local/share/bash-completion/completions
    tfxfer completion bash > ~/.local/share/bash-completion/completions/tfxfer

serves every new shell, if the package bash-completion is installed; `source <(tfxfer completion bash)` serves this
shell alone. The script holds all flags and starts no program when a key is pressed. Write it again after an upgrade.
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence

from absl import flags

from tfxfer.tools import _flags, _main

SHELLS = ("bash",)
_OF_FILES = re.compile(r"\b(files?|folders?|directory|png)\b", re.IGNORECASE)


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_string("command", "tfxfer", "Name of the command, if it is an alias.", flag_values=values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    [shell] = _flags.parse(values, argv, __doc__, at_least=1, at_most=1)
    if shell not in SHELLS:
        raise _flags.UsageError(f"no script for {shell!r}; there is one for {', '.join(SHELLS)}")
    if not re.fullmatch(r"[\w.-]+", values.command):
        raise _flags.UsageError(
            f"--command={values.command}: the name of a command has letters, digits, _, . and - only"
        )
    print(script(values.command), end="")
    return 0


def script(command: str) -> str:
    """Return the script with the present flags of all tools."""
    tools = list(_main.tools())
    modules = {tool: importlib.import_module(f"tfxfer.tools.{tool}") for tool in tools}
    defined = {tool: module.define_flags() for tool, module in modules.items()}
    arguments = {"completion": SHELLS, "fetch": list(modules["fetch"].ITEMS)}
    parts = {
        "COMMAND": command,
        "FUNCTION": "_" + re.sub(r"\W", "_", command),
        "TOOLS": shlex.quote(" ".join([*tools, "--help", "--version"])),
        "FLAGS": _cases((tool, _spellings(values)) for tool, values in defined.items()),
        "VALUES": _cases(
            (f"{tool}--{name}", choices) for tool, values in defined.items() for name, choices in _choices(values)
        ),
        "ARGUMENTS": _cases(arguments.items()),
    }
    return re.sub("@([A-Z]+)@", lambda match: parts[match[1]], _SCRIPT)


def _cases(pairs: Iterable[tuple[str, Sequence[str]]]) -> str:
    return "\n".join(f"        {key}) echo {shlex.quote(' '.join(words))} ;;" for key, words in pairs)


def _spellings(values: flags.FlagValues) -> list[str]:
    """Return how each flag is written; a flag with a value ends in `=`."""
    spellings = [f"--{name}" if values[name].boolean else f"--{name}=" for name in sorted(values)]
    return [*spellings, *(f"--no{name}" for name in sorted(values) if values[name].boolean), "--help"]


def _choices(values: flags.FlagValues) -> Iterator[tuple[str, list[str]]]:
    """Yield each flag with known values, and these; `@`, the last, stands for the name of a file."""
    for name in sorted(values):
        flag = values[name]
        choices = list(getattr(flag.parser, "enum_values", ()) or getattr(flag, "choices", ()))
        if choices:
            yield name, choices
        elif not hasattr(flag, "form") and flag.flag_type().endswith("string") and _OF_FILES.search(flag.help):
            yield name, ["@"]


# Bash splits words at `=` if COMP_WORDBREAKS holds it, as it does by default: --model=vg is three words, or one.
_SCRIPT = r"""# Completion of @COMMAND@ for bash: source <(@COMMAND@ completion bash)

@FUNCTION@_flags() {
    case $1 in
@FLAGS@
    esac
}

@FUNCTION@_values() {
    case $1 in
@VALUES@
    esac
}

@FUNCTION@_arguments() {
    case $1 in
@ARGUMENTS@
        *) echo @ ;;
    esac
}

# Put the words of $2 that begin with $1 into COMPREPLY, each with $3 before it; if $2 ends in @, also files.
@FUNCTION@_reply() {
    local word words=${2%@}
    if [[ $2 == *@ ]]; then
        compopt -o filenames 2>/dev/null
        while IFS= read -r word; do
            # A checkpoint is given by its prefix, and shown once.
            [[ $word == *.data-[0-9]*-of-[0-9]* || $word == *.meta ]] && [[ -e ${word%.*}.index ]] && continue
            [[ -f $word ]] && word=${word%.index}
            COMPREPLY+=("$3$word")
        done < <(compgen -f -- "$1")
    fi
    if [[ -n $words ]]; then
        while IFS= read -r word; do
            [[ $word == --no* && $word != *= && $1 != --no* ]] && continue  # but --normalize=
            [[ $word == *= ]] && compopt -o nospace 2>/dev/null
            COMPREPLY+=("$3$word")
        done < <(compgen -W "$words" -- "$1")
    fi
}

@FUNCTION@() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} tool=${COMP_WORDS[1]} flag= start=
    COMPREPLY=()
    if ((COMP_CWORD < 2)); then
        @FUNCTION@_reply "$current" @TOOLS@
        return
    fi
    if [[ $current == "=" ]]; then
        flag=$before current=
    elif [[ $before == "=" ]]; then
        flag=${COMP_WORDS[COMP_CWORD - 2]}
    elif [[ $current == --*=* ]]; then
        flag=${current%%=*} current=${current#*=} start=$flag=
    elif [[ $before == --* && " $(@FUNCTION@_flags "$tool") " == *" $before= "* ]]; then
        flag=$before
    fi
    if [[ -n $flag ]]; then
        @FUNCTION@_reply "$current" "$(@FUNCTION@_values "$tool$flag")" "$start"
    elif [[ $current == -* ]]; then
        @FUNCTION@_reply "$current" "$(@FUNCTION@_flags "$tool")"
    else
        @FUNCTION@_reply "$current" "$(@FUNCTION@_arguments "$tool")"
    fi
}

complete -F @FUNCTION@ @COMMAND@
"""


if __name__ == "__main__":
    sys.exit(_flags.run(main))
