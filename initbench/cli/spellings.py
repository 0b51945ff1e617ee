"""Options that had another name: the old spelling works and says the new one."""

from __future__ import annotations

from collections.abc import Sequence

from initbench.cli.output import say

# By the words of the command. Each old name had another meaning in other commands.
OLD_SPELLINGS: dict[tuple[str, ...], dict[str, str]] = {
    ("report",): {"--html": "--file"},
    ("recipe", "new"): {"--out": "--file"},
    ("validate", "init"): {"--steps": "--pretext-steps"},
}


def newly_spelled(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of a command with every old name of an option replaced; says each on standard error."""
    renamed: dict[str, str] = {}
    for words, names in OLD_SPELLINGS.items():
        if tuple(arguments[: len(words)]) == words:
            renamed = names
    spelled = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in renamed:
            say("yellow", "note", f"{name} is called {renamed[name]} now")
            spelled.append(f"{renamed[name]}{equals}{value}")
        else:
            spelled.append(argument)
    return spelled
