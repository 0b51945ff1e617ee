"""Which device takes which run: made-up studies on made-up devices, with a made-up clock."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from initbench.executors.queue import Queue
from initbench.protocols import KindRule

TWO_KINDS = ("fast", "fast", "slow", "slow", "slow")
SPEED = {"fast": 1.0, "slow": 0.37}


@dataclass(frozen=True)
class Placed:
    run: int
    card: int
    kind: str
    began: float
    ended: float


@dataclass(frozen=True)
class Plan:
    """A study: the pair and the init of each run, and the seconds that an init takes on a device of speed 1."""

    pairs: list[str]
    inits: list[str]
    seconds: dict[str, float]


def crossed(chance: np.random.Generator, inits: int, blocks: int, seeds: int) -> Plan:
    names = [f"init {number}" for number in range(inits)]
    pairs, own = [], []
    for seed in range(seeds):
        for block in range(blocks):
            pairs += [f"block {block} seed {seed}"] * inits
            own += names
    return Plan(pairs, own, {name: chance.choice([1, 5, 20]) * chance.uniform(0.5, 1.5) for name in names})


def play(
    plan: Plan, cards: Sequence[str], fixed: dict[str, str] | None = None, rule: KindRule = "pairs", spread: float = 0.0
) -> list[Placed]:
    """Plays a study to its end. A card that becomes free takes a run at once, unless there is none for its kind.

    Args:
        plan: the study.
        cards: the kind of each card.
        fixed: kinds of pairs that others have fixed.
        rule: of the queue.
        spread: share by which a run may take longer than its init takes.
    """
    kinds: dict[str, str] = dict(fixed or {})
    queue = Queue(plan.pairs, set(cards), kinds.setdefault, rule, shuffled=len(cards) > 1)
    chance = np.random.default_rng(len(plan.pairs))
    free = [(0.0, card) for card in range(len(cards))]
    heapq.heapify(free)
    done = []
    while free:
        now, card = heapq.heappop(free)
        run = queue.take(cards[card])
        if run is None:  # nothing comes into a queue, so it is idle from here on
            continue
        seconds = plan.seconds[plan.inits[run]] / SPEED[cards[card]] * (1 + spread * chance.random())
        done.append(Placed(run, card, cards[card], now, now + seconds))
        heapq.heappush(free, (now + seconds, card))
    return done


def kinds_of(plan: Plan, done: list[Placed]) -> dict[str, set[str]]:
    found = defaultdict(set)
    for placed in done:
        found[plan.pairs[placed.run]].add(placed.kind)
    return found


@pytest.mark.parametrize("part", range(5))
def test_no_pair_is_on_two_kinds(part: int) -> None:
    """250 studies of other sizes and other times for each init, in five parts."""
    for number in range(50 * part, 50 * (part + 1)):
        chance = np.random.default_rng(number)
        plan = crossed(chance, *(int(chance.integers(1, most)) for most in (9, 5, 7)))
        cards = [str(chance.choice(["fast", "slow"])) for _ in range(chance.integers(2, 9))]
        done = play(plan, cards, spread=0.3)
        assert sorted(placed.run for placed in done) == list(range(len(plan.pairs))), number
        assert {len(kinds) for kinds in kinds_of(plan, done).values()} == {1}, number


def test_mixing_splits_pairs_and_is_asked_for() -> None:
    """The rule costs time where there is one pair; whoever wants the time back mixes."""
    plan = crossed(np.random.default_rng(0), 6, 1, 1)
    alone, mixed = play(plan, TWO_KINDS), play(plan, TWO_KINDS, rule="mix")
    assert {len(kinds) for kinds in kinds_of(plan, alone).values()} == {1}
    assert {len(kinds) for kinds in kinds_of(plan, mixed).values()} == {2}


def test_one_missing_init_is_on_all_cards_of_a_kind() -> None:
    """The others are done, on the fast kind: the slow cards have nothing to do with it, and all fast ones have."""
    plan = Plan([f"seed {seed}" for seed in range(12)], ["mae"] * 12, {"mae": 3.0})
    done = play(plan, TWO_KINDS, fixed=dict.fromkeys(plan.pairs, "fast"))
    assert Counter(placed.card for placed in done) == {0: 6, 1: 6}
    assert max(placed.ended for placed in done) == pytest.approx(6 * 3.0)


def test_where_a_run_lands_has_nothing_to_do_with_its_init() -> None:
    """Runs that all take equally long would come round to the same cards."""
    plan = crossed(np.random.default_rng(1), 4, 1, 40)
    equal = Plan(plan.pairs, plan.inits, dict.fromkeys(plan.seconds, 1.0))
    found: dict[str, Counter[int]] = defaultdict(Counter)
    for placed in play(equal, ["fast"] * 4):
        found[plan.inits[placed.run]][placed.card] += 1
    for init, cards in found.items():
        assert set(cards) == {0, 1, 2, 3}, init
        assert max(cards.values()) <= 20, init


def test_no_card_of_a_kind_is_idle_while_a_run_for_it_waits() -> None:
    plan = crossed(np.random.default_rng(2), 5, 2, 4)
    done = play(plan, ["fast"] * 3, spread=0.5)
    last = max(placed.began for placed in done)
    for card in range(3):
        own = sorted((placed.began, placed.ended) for placed in done if placed.card == card)
        assert own[0][0] == 0
        assert all(ended == began for (_, ended), (began, _) in itertools.pairwise(own))
        assert own[-1][1] >= last


def test_a_pair_on_a_kind_that_is_not_here_stays_together() -> None:
    plan = crossed(np.random.default_rng(3), 4, 2, 3)
    elsewhere = dict.fromkeys(plan.pairs, "another")
    assert {len(kinds) for kinds in kinds_of(plan, play(plan, TWO_KINDS, elsewhere)).values()} == {1}
    assert play(plan, TWO_KINDS, elsewhere, "same") == []


def test_what_is_to_be_alone_comes_last() -> None:
    queue = Queue(["a", "a", "b"], {"fast"}, lambda pair, kind: kind)
    first = queue.take("fast")
    assert first == 0
    queue.put_back(0, "a")
    assert [queue.take("fast") for _ in range(3)] == [1, 2, None]
    assert [queue.take_alone("slow"), queue.take_alone("fast"), queue.take_alone("fast")] == [None, 0, None]
