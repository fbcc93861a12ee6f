"""Turns terms with a variable of its own for every binder into terms whose variables are named by range, so that equal loops meet.

A bound variable takes the least-numbered name of its range that is not free in the reduction itself: `max(j: s)` and
`sum(j: exp(s - max(j: s)))` then share one `j`, and shadowing is fine. A name carries its
range, so a fact about it holds wherever it stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rewrites.declare import SIGNATURES
from rewrites.inline import Inliner, NotEncodable
from rewrites.terms import Arg, Dag, Term, Variable

MAX_VARIABLES = 62
"""Bits of an i64 that a mask of free variables may use."""


@dataclass(slots=True)
class Canonical:
    """Builds the named terms."""

    source: Inliner
    dag: Dag = field(default_factory=Dag)
    variables: dict[str, Variable] = field(default_factory=dict[str, Variable])
    instances: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict[int, tuple[str, tuple[int, ...]]])
    _ranges: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    _made: dict[tuple[int, tuple[str, ...]], int] = field(default_factory=dict[tuple[int, tuple[str, ...]], int])

    def scope(self, variables: Sequence[str]) -> dict[str, str]:
        """Names for the variables of a statement, outermost first, all different."""
        env: dict[str, str] = {}
        for v in variables:
            env[v] = self._name(v, env, set(env.values()))
        return env

    def term(self, number: int, env: Mapping[str, str]) -> int:
        """The named term, where the free variables have the names of `env`."""
        free = sorted(self.source.free(number))
        key = (number, tuple([env[v] for v in free]))
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._term(number, env, {env[v] for v in free})
            instance = self.source.instances.get(number)
            # A temporary of one value for all its indices has a term that stands in loops where those indices are not.
            if instance is not None and all(v in env for i in instance[1] for v in self.source.free(i)):
                temp, indices = instance
                self.instances.setdefault(made, (temp, tuple([self.term(i, env) for i in indices])))
        return made

    def _term(self, number: int, env: Mapping[str, str], taken: set[str]) -> int:
        term = self.source.dag.terms[number]
        if not term.is_loop:
            return self.dag.add(term.name, *self._columns(term, [env] * len(term.args), env))
        inner = dict(env)
        index, *carries = term.variables
        inner[index] = self._name(index, env, taken, term.variables)
        for position, carry in enumerate(carries):
            inner[carry] = self._carry(carry, inner[index], position)
        # Ranges and first values are read outside the loop, all else inside.
        outside = 1 + len(term.variables)
        seen = 0
        scopes: list[Mapping[str, str]] = []
        for sort in SIGNATURES[term.name]:
            seen += sort == "E"
            scopes.append(env if sort == "E" and seen <= outside else inner)
        return self.dag.add(term.name, *self._columns(term, scopes, inner))

    def _columns(self, term: Term, scopes: Sequence[Mapping[str, str]], names: Mapping[str, str]) -> list[Arg]:
        columns: list[Arg] = []
        for arg, sort, scope in zip(term.args, SIGNATURES[term.name], scopes, strict=True):
            if sort == "E":
                columns.append(self.term(int(arg), scope))
            else:
                columns.append(names[str(arg)] if sort == "X" else arg)
        return columns

    def _name(self, variable: str, env: Mapping[str, str], taken: set[str], bound: Sequence[str] = ()) -> str:
        """The least-numbered name of the variable's range that is neither in `taken` nor has a carry there."""
        unique = self.source.variables[variable]
        lo, hi = self.term(unique.lo, env), self.term(unique.hi, env)
        label = self._label(lo, hi)
        number = 0
        while any(f"{label}#{number}{suffix}" in taken for suffix in ("", *(f".{i}" for i in range(len(bound) + 8)))):
            number += 1
        name = f"{label}#{number}"
        self._declare(Variable(name, len(self.variables), lo, hi, (unique.hint,), repeats=unique.repeats))
        return name

    def _carry(self, variable: str, loop: str, position: int) -> str:
        outer = self.variables[loop]
        name = f"{loop}.{position}"
        self._declare(Variable(name, len(self.variables), outer.lo, outer.hi, (self.source.variables[variable].hint,), loop))
        return name

    def _declare(self, variable: Variable) -> None:
        known = self.variables.get(variable.name)
        if known is not None:
            hints = tuple(dict.fromkeys((*known.hints, *variable.hints)))
            self.variables[variable.name] = replace(known, hints=hints)
            return
        if len(self.variables) == MAX_VARIABLES:
            raise NotEncodable(f"more than {MAX_VARIABLES} index variables")
        self.variables[variable.name] = variable

    def _label(self, lo: int, hi: int) -> str:
        label = f"{self._text(lo)}..{self._text(hi)}"
        if len(label) > 60 or self._ranges.get(label, (lo, hi)) != (lo, hi):
            label = f"{lo}:{hi}"
        self._ranges[label] = (lo, hi)
        return label

    def _text(self, number: int) -> str:
        term = self.dag.terms[number]
        match term.name:
            case "Lit":
                return str(term.args[1])
            case "Size" | "Par" | "Ix" | "Loc":
                return str(term.args[0])
            case name:
                return f"{name}({','.join([self._text(c) for c in term.children])})"
