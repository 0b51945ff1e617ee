"""What outputs state about a study, collected so that two statements about one thing can be compared."""

from __future__ import annotations

from dataclasses import dataclass

from tests.printed import Cell, Range

MARGIN = 0.5
TURNED = {
    "equivalent, but above 0": "equivalent, but below 0",
    "equivalent, but below 0": "equivalent, but above 0",
}


def turned(verdict: str) -> str:
    """The verdict of the same difference with the other sign."""
    if verdict.startswith("better"):
        return verdict.replace("better", "worse", 1).replace(" it ", " the other ", 1)
    if verdict.startswith("worse"):
        return verdict.replace("worse", "better", 1).replace(" the other ", " it ", 1)
    return TURNED.get(verdict, verdict)


@dataclass(frozen=True)
class Statement:
    """What an output says of a thing: a number, a word, or that there is none.

    Attributes:
        where: the output.
        of: the thing, as `("lung × unetr", "lwi", "Dice")`.
    """

    where: str
    of: tuple[str, ...]
    says: Range | str | None


def contradictions(statements: list[Statement]) -> list[str]:
    """Names the things of which two outputs say what cannot both be true."""
    things: dict[tuple[str, ...], list[Statement]] = {}
    for item in statements:
        things.setdefault(item.of, []).append(item)
    found = []
    for of, said in things.items():
        ranges = [item.says for item in said if isinstance(item.says, Range)]
        if len(ranges) == len(said):
            agree = max(item.low for item in ranges) <= min(item.high for item in ranges)
        else:
            agree = len({item.says for item in said}) == 1
        if not agree:
            found.append(f"{' · '.join(of)}: " + "; ".join(f"{item.where} {item.says}" for item in said))
    return found


class Statements:
    """Collects statements; a difference is kept in one direction, whichever an output shows."""

    def __init__(self) -> None:
        self.all: list[Statement] = []

    def say(self, where: str, of: tuple[str, ...], says: Range | str | None) -> None:
        """Adds one statement."""
        self.all.append(Statement(where, of, says))

    def interval(self, where: str, of: tuple[str, ...], found: Cell) -> None:
        """Adds a value and the two ends of its interval."""
        for name, part in (("", found.value), ("low", found.low), ("high", found.high)):
            self.say(where, (*of, name), part)

    def difference(self, where: str, block: str, first: str, second: str, found: Cell) -> None:
        """Adds the difference of `first` and `second` with its interval and verdict."""
        verdict = found.word
        if first > second:
            first, second = second, first
            verdict = turned(verdict)
            value, low, high = (None if part is None else part.turned() for part in (found.value, found.high, found.low))
        else:
            value, low, high = found.value, found.low, found.high
        of = (block, f"{first} − {second}")
        self.interval(where, (*of, "difference"), Cell(value, low, high))
        self.say(where, (*of, "verdict"), verdict)

    def p(self, where: str, block: str, first: str, second: str, name: str, says: Range | None) -> None:
        """Adds a p value or the size of a family, which is the same for both directions."""
        self.say(where, (block, " − ".join(sorted((first, second))), name), says)
