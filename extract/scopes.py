"""Turns what a lowering emits into nested plan nodes: open loops and branches collect nodes, and close into their enclosing scope."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from extract.domains import conjunction
from extract.names import Names
from extract.values import Values
from kernel_ir.nodes import Binder, Expr, Fold, Load, Reduce
from kernel_ir.plan import FoldLoop, Loop, LoopKind, Node, Tile, When
from kernel_ir.walk import free, subtrees


@dataclass(slots=True)
class Scope:
    """One open loop (or the iteration itself): what it binds, the nodes so far, values that already have a name here."""

    names: set[str]
    body: list[Node] = field(default_factory=list[Node])
    known: dict[Expr, Expr] = field(default_factory=dict[Expr, Expr])


class Scopes(Values):
    """The open scopes, outermost first, and the conditions under which the innermost runs."""

    def __init__(self, outer: set[str], names: Names) -> None:
        self.names = names
        self.scopes = [Scope(outer)]
        self.guards: list[tuple[int, Expr]] = []

    def _level(self, e: Expr) -> int:
        """The outermost scope that binds all that `e` reads; the innermost where a condition guards it."""
        if self.guards and any(isinstance(x, Load | Reduce | Fold) for x in subtrees(e)):
            return len(self.scopes) - 1
        names = free(e)
        return max((n for n, scope in enumerate(self.scopes) if scope.names & names), default=0)

    def _emit(self, node: Node) -> None:
        self.scopes[-1].body.append(node)

    @contextmanager
    def _at(self, level: int) -> Generator[None]:
        """Emits into an outer scope for a while."""
        whole, self.scopes = self.scopes, self.scopes[: level + 1]
        try:
            yield
        finally:
            self.scopes = whole

    @contextmanager
    def _loops(self, binders: tuple[Binder, ...], kind: LoopKind = LoopKind.VECTOR, keep: bool = False) -> Generator[None]:
        """Opens loops, the innermost of `kind`; they close, and land in their enclosing scopes, at the end."""
        start = len(self.scopes)
        ranges: list[tuple[Expr, Expr]] = []
        for b in binders:
            ranges.append((self.value(b.lo), self.value(b.hi)))
            self.scopes.append(Scope({b.index}))
        yield
        for n in reversed(range(len(binders))):
            scope = self.scopes.pop()
            holds_loop = any(isinstance(x, Loop | FoldLoop | Tile) for x in scope.body)
            chosen = kind if n == len(binders) - 1 and not holds_loop else LoopKind.SERIAL
            lo, hi = ranges[n]
            self._emit(Loop(binders[n].index, lo, hi, chosen, tuple(scope.body)))
        assert len(self.scopes) == start

    @contextmanager
    def _branch(self, condition: Expr) -> Generator[None]:
        self.scopes.append(Scope(set()))
        with self._guard(condition):
            yield
        body = tuple(self.scopes.pop().body)
        self._emit(When(condition, body))

    @contextmanager
    def _under(self, guards: tuple[Expr, ...]) -> Generator[None]:
        """Emits under a condition, if there are guards; inside, nothing is guarded any more."""
        if not guards:
            yield
            return
        kept, self.guards = self.guards, []
        self.scopes.append(Scope(set()))
        yield
        body = tuple(self.scopes.pop().body)
        self._emit(When(conjunction(guards), body))
        self.guards = kept

    @contextmanager
    def _guard(self, condition: Expr) -> Generator[None]:
        self.guards.append((len(self.scopes), condition))
        yield
        self.guards.pop()

    def _forget(self, array: str) -> None:
        """Drops named values that read what a statement has just written."""
        for scope in self.scopes:
            scope.known = {e: v for e, v in scope.known.items() if not any(isinstance(x, Load) and x.array == array for x in subtrees(e))}
