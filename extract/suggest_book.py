"""Turns kept rules into a rule book with their provenance as comments, and adds them to one that is there."""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from extract.suggest import Outcome
from extract.suggest_read import one_rule
from kernel_ir.errors import RuleError, UsageError
from rewrites import certificates
from rewrites.books import load_book
from rewrites.prove import check_rule
from rewrites.wording import canonical_text

HEAD = "# Rules that `kir rules suggest` proved and kept. They load like any other: `--rules` of every command that optimizes.\n"


def book_text(kept: Sequence[Outcome]) -> str:
    """The rules as text, each under a comment with who suggested it, how it was proved, and what it gains."""
    return "\n".join(map(_entry, kept))


def _entry(o: Outcome) -> str:
    gains = "; ".join(f"{g.kernel} {g.before:.4g} -> {g.after:.4g} {g.unit} ({g.ratio:.3f}x)" for g in o.gains)
    asked = f", prompt {o.prompt}" if o.prompt else ""
    lines = [
        f"# suggested by {_comment(o.source)}{asked}",
        f"# proved by {_comment(o.method)}, certificate {certificates.key(one_rule(o.admitted))}",
        f"# gains: {_comment(gains)}" if gains else "",
        o.admitted,
    ]
    return "\n".join(filter(None, lines)) + "\n"


def _comment(text: str) -> str:
    """Text that cannot leave its comment, whatever a server calls itself."""
    return re.sub(r"[^\x20-\x7e]+", " ", text)[:200]


def added(path: Path, kept: Sequence[Outcome]) -> tuple[str, int]:
    """The text of the book at `path` with the rules that it does not have yet, and how many these are.

    Raises a KernelError where the book that is there cannot be read as one: it is left as it is.
    """
    try:
        text = path.read_text("utf-8") if path.exists() else HEAD
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the book {path}: {error}", hint="choose another file with --book") from None
    empty = all(line.lstrip().startswith("#") for line in text.splitlines() if line.strip())
    there = () if empty else load_book(f"{text}\n")
    known, names = {canonical_text(r) for r in there}, {r.name for r in there}
    new: list[Outcome] = []
    for o in kept:
        rule = one_rule(o.admitted)
        if canonical_text(rule) in known:
            continue
        if rule.name in names:
            name = next(n for k in range(2, 10**6) if (n := f"{rule.name}_{k}") not in names)
            o = replace(o, name=name, admitted=re.sub(r"^rule\s+\w+", f"rule {name}", o.admitted))
            rule = one_rule(o.admitted)
        known.add(canonical_text(rule))
        names.add(rule.name)
        new.append(o)
    if not new:
        return text, 0
    whole = text.rstrip("\n") + "\n\n" + book_text(new)
    load_book(f"{whole}\n")
    return whole, len(new)


def certificates_text(path: Path) -> str:
    """The certificates of the book at `path`: those beside it, new ones where none is. RuleError for a rule without a proof."""
    rules = load_book(path)
    known = certificates.read(path)
    for rule in certificates.unproved(rules, known):
        started = time.process_time()
        verdict = check_rule(rule)
        if not verdict.holds:
            raise RuleError(f"rule {rule.name!r} of {path} is not proved: {verdict.why}", rule.span, "take it out of the book")
        known[rule.name] = certificates.certificate(rule, verdict, time.process_time() - started)
    return certificates.text_of({rule.name: known[rule.name] for rule in rules})
