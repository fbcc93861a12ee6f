"""Extraction from small e-graphs against the optimum by enumeration, and the cost of loops."""

import itertools
import random
from collections.abc import Iterator

import numpy as np
import pytest

from extract.exact import exact
from extract.extractor import Choice, choices, tree_costs
from extract.weights import WEIGHTINGS, CostGraph, Edges, cost_graph, default_cycles, extents
from rewrites.adapter import Frozen
from rewrites.encode import encode
from tests.conftest import kernel


def graph(nodes: list[tuple[int, float, tuple[int, ...]]], roots: tuple[int, ...]) -> CostGraph:
    """A graph of (class, cost, classes needed)."""
    parent = [i for i, (_, _, needs) in enumerate(nodes) for _ in needs]
    child = [c for _, _, needs in nodes for c in needs]
    classes = np.array([home for home, _, _ in nodes], np.int64)
    own = np.array([cost for _, cost, _ in nodes])
    edges = Edges(classes, np.array(parent, np.int64), np.array(child, np.int64), roots, int(classes.max()) + 1)
    return CostGraph(own, edges)


def reached(g: CostGraph, chosen: dict[int, int], needs: list[tuple[int, ...]]) -> dict[int, int] | None:
    """The part of a choice that the roots reach, None if it has a cycle or a gap."""
    order: dict[int, int] = {}

    def visit(home: int, path: frozenset[int]) -> bool:
        if home in path or home not in chosen:
            return False
        if home not in order:
            if not all(visit(c, path | {home}) for c in needs[chosen[home]]):
                return False
            order[home] = chosen[home]
        return True

    return order if all(visit(r, frozenset()) for r in g.edges.roots) else None


def optimum(nodes: list[tuple[int, float, tuple[int, ...]]], g: CostGraph) -> float:
    """The least cost of a DAG, by trying every choice."""
    homes = sorted({home for home, _, _ in nodes})
    options = [[i for i, n in enumerate(nodes) if n[0] == home] for home in homes]
    needs = [n[2] for n in nodes]
    best = float("inf")
    for picked in itertools.product(*options):
        found = reached(g, dict(zip(homes, picked, strict=True)), needs)
        if found is not None:
            best = min(best, sum(nodes[i][1] for i in found.values()))
    return best


def random_nodes(seed: int) -> list[tuple[int, float, tuple[int, ...]]]:
    """A few classes of one to three nodes; class 0 is the root, cycles occur, each class also has a leaf or reaches one."""
    rng = random.Random(seed)
    count = rng.randint(3, 7)
    nodes: list[tuple[int, float, tuple[int, ...]]] = []
    for home in range(count):
        for _ in range(rng.randint(1, 3)):
            needs = tuple(rng.randrange(count) for _ in range(rng.randint(1, 2)))
            nodes.append((home, float(rng.randint(1, 9)), needs))
        if home >= count - 2:
            nodes.append((home, float(rng.randint(1, 20)), ()))
    return nodes


@pytest.mark.parametrize("seed", range(60))
def test_choices_are_sound_and_near_the_optimum(seed: int) -> None:
    nodes = random_nodes(seed)
    g = graph(nodes, (0,))
    best = optimum(nodes, g)
    found = choices(g, [0] * len(nodes))
    if best == float("inf"):
        assert found == ()
        return
    needs = [n[2] for n in nodes]
    for choice in found:
        assert reached(g, choice.nodes, needs) == choice.nodes
        assert choice.cost == sum(nodes[i][1] for i in choice.nodes.values())
    assert best <= min(c.cost for c in found) <= 1.35 * best


def test_most_choices_are_the_optimum() -> None:
    right = total = 0
    for seed in range(60, 160):
        nodes = random_nodes(seed)
        g = graph(nodes, (0,))
        best = optimum(nodes, g)
        if best < float("inf"):
            total += 1
            right += min(c.cost for c in choices(g, [0] * len(nodes))) == best
    assert right >= 0.9 * total


def test_tree_costs_by_hand() -> None:
    # 0: f(1, 1) | g(2);  1: leaf 4;  2: leaf 7
    g = graph([(0, 1.0, (1, 1)), (0, 1.0, (2,)), (1, 4.0, ()), (2, 7.0, ())], (0,))
    best, cost = tree_costs(g)
    assert best.tolist() == [8.0, 4.0, 7.0]
    assert cost.tolist() == [9.0, 8.0, 4.0, 7.0]
    tree, dag = choices(g, [0] * 4)
    assert (tree.cost, dag.cost) == (8.0, 5.0)


def test_a_tie_goes_to_the_input() -> None:
    g = graph([(0, 1.0, ()), (0, 1.0, ())], (0,))
    assert [c.nodes for c in choices(g, [3, 0])] == [{0: 1}, {0: 1}]


def test_a_cycle_alone_has_no_choice() -> None:
    assert choices(graph([(0, 1.0, (1,)), (1, 1.0, (0,))], (0,)), [0, 0]) == ()


def deep(count: int) -> Iterator[tuple[int, float, tuple[int, ...]]]:
    for home in range(count):
        yield home, 1.0, (home + 1, home + 1)
    yield count, 1.0, ()


def test_deep_sharing_is_linear() -> None:
    g = graph(list(deep(150)), (0,))
    found: tuple[Choice, ...] = choices(g, [0] * g.size)
    assert {c.cost for c in found} == {151.0}


def encoded(name: str, sizes: dict[str, int]) -> tuple[Frozen, CostGraph]:
    from rewrites.sharing import free_variables, ranges

    encoding = encode(kernel(name))
    free = free_variables(encoding.terms, ranges(encoding.terms, encoding.variables))
    masks = tuple(sum(1 << encoding.variables[x].bit for x in names) for names in free)
    frozen = Frozen(encoding.terms, tuple(range(len(encoding.terms))), masks, dict(enumerate(encoding.roots)), (0,) * len(encoding.terms))
    lengths = extents(encoding.terms, encoding.variables, sizes)
    return frozen, cost_graph(frozen, encoding.variables, lengths, {}, default_cycles, WEIGHTINGS[0], (frozen.roots[0],))


def test_a_node_costs_its_cycles_times_the_extents_that_it_reads() -> None:
    frozen, g = encoded("matmul", {"M": 10, "N": 20, "K": 30})
    own = {n.name: c for n, c in zip(frozen.nodes, g.own.tolist(), strict=True) if n.name.startswith("f_")}
    assert own == {"f_mul": 0.5 * 10 * 20 * 30}


def test_a_triangle_counts_half() -> None:
    encoding = encode(kernel("cumsum"))
    lengths = extents(encoding.terms, encoding.variables, {"N": 100})
    assert sorted(lengths.values()) == [50.5, 100.0]


def test_a_fold_counts_its_steps_once() -> None:
    frozen, g = encoded("mandelbrot", {"H": 2, "W": 3})
    squares = [c for n, c in zip(frozen.nodes, g.own.tolist(), strict=True) if n.name == "f_mul" and n.args[1] == n.args[2]]
    assert squares == [2 * 0.5 * 200] * 2


@pytest.mark.parametrize("seed", range(60))
def test_exact_extraction_is_the_optimum(seed: int) -> None:
    pytest.importorskip("scipy")
    nodes = random_nodes(seed)
    g = graph(nodes, (0,))
    best = exact(g, (0,) * len(nodes))
    if optimum(nodes, g) == float("inf"):
        assert best is None
        return
    assert best is not None
    assert best.ending == "proved"
    assert best.choice.cost == pytest.approx(optimum(nodes, g))
    assert best.bound <= best.choice.cost
    assert best.gap <= 1e-6
    assert reached(g, best.choice.nodes, [n[2] for n in nodes]) == best.choice.nodes


def test_exact_extraction_out_of_time_keeps_the_greedy_choice() -> None:
    pytest.importorskip("scipy")
    rng = random.Random(5)
    nodes = [(home, rng.uniform(1, 2), tuple(rng.sample(range(120), 3))) for home in range(120) for _ in range(4)]
    nodes += [(home, 50.0, ()) for home in range(120)]
    g = graph(nodes, (0,))
    best = exact(g, (0,) * len(nodes), 0.05)
    greedy = min(choices(g, (0,) * len(nodes)), key=lambda c: c.cost)
    assert best is not None
    assert best.bound <= best.choice.cost <= greedy.cost
