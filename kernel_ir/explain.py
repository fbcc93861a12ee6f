"""Turns a result into its chain of steps, and a chain into a verdict: replayed by plain rewriting, each step computed and compared.

>>> import kernel_ir as kir
>>> k = kir.parse("kernel twice(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] * 1.0 + x[i] * 1.0 }")["twice"]
>>> chain = kir.optimize(k, target="cpu").chain
>>> kir.replay(chain) == chain.result
True
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kernel_ir.errors import EquivalenceError
from kernel_ir.fastmath import flags
from kernel_ir.nodes import Kernel
from kernel_ir.parser import parse
from kernel_ir.stepcheck import StepCheck
from rewrites.books import default_rules, load_book
from rewrites.chain import Chain, ChainError, Round
from rewrites.chain import chain_json as chain_json
from rewrites.chain import chains_of as chains_of
from rewrites.replay import replayed
from rewrites.rule import Rule

if TYPE_CHECKING:
    from kernel_ir.optimizer import Result


@dataclass(frozen=True, slots=True)
class Saving:
    """A rule, and the predicted cycles between the result and the cheapest form found that it took no part in."""

    rule: str
    cycles: float


def savings(result: "Result") -> tuple[Saving, ...]:
    """What each rule of the result's chain saved, most first. Raises ChainError where there is no chain."""
    chain = result.chain
    forms: list[tuple[frozenset[str], float]] = [(frozenset(), result.baseline_cycles)]
    before = frozenset[str]()
    for number, one in enumerate(result.rounds):
        # A candidate that the chain goes through used what its steps say; of the others, only what made their terms is known.
        steps = chain.rounds[number].steps if number < len(chain.rounds) else ()
        own: dict[str, frozenset[str]] = {}
        if steps:
            own[chain.rounds[number].target] = before.union(s.name for s in steps if s.kind == "rule")
        made = [own.get(str(c.kernel), before.union(c.rules)) for c in one.found.candidates]
        forms += zip(made, one.costs, strict=True)
        before = next(iter(own.values()), before)
    found = [Saving(rule, min(cycles for rules, cycles in forms if rule not in rules) - result.cycles) for rule in chain.rules]
    return tuple(sorted(found, key=lambda s: (-s.cycles, s.rule)))


CHEAP: Final = 300
"""E-nodes in all rounds up to which a chain is found in an instant."""


def is_cheap(result: "Result") -> bool:
    """Whether the result's chain is found already, or will be in an instant: told by counts, so that output does not hang on the clock."""
    runs = [s for one in result.rounds for s in (one.found.saturation, one.found.selection) if s is not None]
    return "chain" in result.__dict__ or sum(len(s.frozen.nodes) for s in runs if s.frozen is not None) <= CHEAP


def rules_of_chain(result: "Result") -> tuple[str, ...]:
    """The rules of the result's chain, what saved most first; none where there is no chain."""
    try:
        return tuple(one.rule for one in savings(result))
    except ChainError:
        return ()


def chain_of(result: "Result") -> Chain:
    """The steps from the original to the result. Raises ChainError where no chain of rules is found."""
    from extract.explain import explained

    rounds: list[Round] = []
    for number, one in enumerate(result.rounds):
        later = result.rounds[number + 1].kernel if number + 1 < len(result.rounds) else result.kernel
        goal = result.kernel if any(c.kernel == result.kernel for c in one.found.candidates) else later
        if goal == one.kernel:
            break
        chosen = next(c for c in one.found.candidates if c.kernel == goal)
        rounds.append(explained(one.kernel, one.found, chosen))
        if goal == result.kernel:
            break
    names = tuple(sorted(map(str, result.fast_math)))
    return Chain(result.original.name, names, str(result.original), str(result.kernel), tuple(rounds))


def replay(chain: Chain, rules: Iterable[str | Rule] = ()) -> str:
    """Replays a chain, and gives the text of the kernel at its end. `rules` are rules, or paths of books, besides the built-in ones.

    Each step is taken on plain terms, without an e-graph: the rule is found in its book and matched at the place, its guards are judged
    from the term, its flags must be among the chain's, and both sides are computed on drawn inputs and compared under the rule's flags.
    Raises ChainError at the first step that does not hold, and says why.
    """
    given = (rules,) if isinstance(rules, str) else rules
    extra = [rule for one in given for rule in ((one,) if isinstance(one, Rule) else load_book(Path(one)))]
    known = {rule.name: rule for rule in (*default_rules(), *extra)}
    licence = flags(chain.flags)
    at, done = chain.source, 0
    for one in chain.rounds:
        if one.source != at:
            raise ChainError(f"the steps after step {done} begin with another kernel than they have come to")
        source, target = _kernel(one.source, chain.kernel), _kernel(one.target, chain.kernel)
        check = StepCheck(source)
        for taken in replayed(one, source, target, known, licence):
            check.check(taken, done)
        done, at = done + len(one.steps), one.target
    if at != chain.result:
        raise ChainError("the steps do not end at the result that the chain names")
    _check_ends(chain)
    return at


def _kernel(text: str, name: str) -> Kernel:
    module = parse(text, f"<{name}>")
    if name not in module or str(module[name]) != text:
        raise ChainError(f"a kernel of the chain is not the text of a kernel {name!r}")
    return module[name]


def _check_ends(chain: Chain) -> None:
    from kernel_ir.testing import quick_check

    try:
        quick_check(_kernel(chain.source, chain.kernel), _kernel(chain.result, chain.kernel), chain.flags)
    except EquivalenceError as error:
        raise ChainError(f"the result differs from the kernel as written: {error}") from None
