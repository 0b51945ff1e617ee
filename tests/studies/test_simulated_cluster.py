"""A study on a made-up cluster whose nodes fail: the code that chooses and claims runs, under a made-up clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cluster_simulation import Cluster, Course, simulate


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """A study on two kinds of nodes, each of which fails several times."""
    cluster = Cluster(runs=60, nodes=6, slow=0.34, between_failures=5.0)
    return simulate(cluster, tmp_path_factory.mktemp("cluster"))


def test_every_run_ends_once_although_nodes_fail(course: Course) -> None:
    assert course.failures > 5
    assert course.lost > 0
    assert course.ended == dict.fromkeys(range(60), 1)


def test_the_runs_of_a_pair_are_on_one_kind_of_node(course: Course) -> None:
    assert len(course.kinds) == 6
    assert all(len(kinds) == 1 for kinds in course.kinds.values())
    assert set.union(*course.kinds.values()) == {"fast", "slow"}


def test_nodes_that_are_up_are_busy_until_the_last_runs(tmp_path: Path) -> None:
    """On one kind of node, what is lost at the end is about the length of a run, which is an hour."""
    course = simulate(Cluster(runs=60, nodes=6, slow=0.0, between_failures=12.0), tmp_path)
    assert course.failures > 0
    assert course.bound <= course.bound_up <= course.hours < course.bound_up + 2.5
