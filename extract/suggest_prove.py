"""Turns a rule into a proof that its flags license it, once: by the database if it knows, else by the prover in a process of its own."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import rewrites
from extract.suggest_database import Database, Proof, digest
from extract.suggest_isolate import Isolated, Overrun
from extract.suggest_repair import flags_in_order
from kernel_ir.errors import KernelError
from rewrites.derive import derivable
from rewrites.prove import check_rule
from rewrites.rule import Rule
from rewrites.wording import canonical_text

PROOF: Final = 60.0
"""Seconds (CPU time) for one proof, and for one derivation: a safety net, as is the next."""
SUGGESTION: Final = 240.0
"""Seconds for all proofs that one suggestion sets off: its repairs and its generalisations."""
ATTEMPTS: Final = 150
"""Proofs that one suggestion may set off."""


def checked(rule: Rule) -> Proof:
    """The prover's verdict."""
    verdict = check_rule(rule, PROOF, spare=False)
    return Proof(verdict.holds, verdict.method, verdict.why, not verdict.holds and verdict.refuted)


@functools.cache
def prover() -> str:
    """The prover's version: a hash of its source, and of the meaning of the ops. A proof by another one counts for nothing."""
    home = Path(rewrites.__file__).parent
    language = home.parent / "kernel_ir"
    sources = [*sorted(home.glob("prove*.py")), language / "meaning.py", language / "ops.py"]
    return digest(*(path.read_text("utf-8") for path in sources))


@dataclass(slots=True)
class Prover:
    """Proves rules within the limits of one suggestion; `begin` starts the next one's."""

    database: Database
    isolated: Isolated
    proofs: int = 0
    left: float = 0.0
    count: int = 0

    def begin(self) -> None:
        """Gives the next suggestion its time."""
        self.left, self.count = SUGGESTION, 0

    def holds(self, rule: Rule) -> bool:
        """Whether the rule is proved; no more where the suggestion's time is up."""
        return self.proof(rule).holds

    def proof(self, rule: Rule) -> Proof:
        """What is known of the rule, proved now where nothing is."""
        try:
            text = canonical_text(rule)
        except KernelError as error:
            return Proof(False, why=error.message)
        known = self.database.proof(text, prover())
        if known is not None:
            return known
        left = min(PROOF, self.left)
        if left <= 0 or self.count >= ATTEMPTS:
            return Proof(False, why="its time is up")
        self.count += 1
        self.proofs += 1
        try:
            found = self.isolated.call(left, checked, rule)
        except Overrun as reason:
            found = Proof(False, why=f"no proof: {reason}")
        self.left -= self.isolated.used
        # What ran out of a suggestion's time may be proved with more of it.
        if left == PROOF or not found.why.startswith("no proof"):
            self.database.proved(text, prover(), found)
        return found

    def least(self, rule: Rule) -> Rule:
        """The proved rule without the flags that it can do without; those that give away most go first."""
        for flag in tuple(flags_in_order())[::-1]:
            if flag not in rule.needs:
                continue
            fewer = replace(rule, needs=rule.needs - {flag})
            if self.holds(fewer):
                rule = fewer
        return rule

    def derived(self, rule: Rule, rules: Sequence[Rule]) -> bool:
        """Whether the rules derive it already; a derivation that does not end is none."""
        try:
            return self.isolated.call(PROOF, derivable, rule, tuple(rules))
        except Overrun:
            return False
