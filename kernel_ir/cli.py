"""Turns a command line into a command's run and an exit code: 0 done or equal, 1 not equal, 2 bad input, 130 interrupted."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any, Final, NoReturn, TextIO

from kernel_ir import __version__
from kernel_ir.cli_suggest_options import suggest_options
from kernel_ir.errors import EquivalenceError, KernelError, UsageError

DONE: Final = 0
NOT_EQUAL: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130
_CHOICE: Final = re.compile(r".*invalid choice: '([^']*)'")
_WORD: Final = re.compile(r"[\w-]+")  # 3.11 writes choices in quotes, 3.13 without


class _Parser(argparse.ArgumentParser):
    """argparse, but a fault is a UsageError, so that every error of the command line looks the same; and near words are named."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.set_defaults(parser=self)  # the innermost command's own wins

    def error(self, message: str) -> NoReturn:
        word, choices = _CHOICE.match(message), _WORD.findall(message.partition("choose from")[2])
        self.refuse(message, word.group(1) if word else "", choices)

    def unknown(self, words: Sequence[str]) -> NoReturn:
        """Refuses words that no option or argument takes."""
        option = words[0].partition("=")[0]
        what = "option" if option.startswith("-") else "argument"
        self.refuse(f"`{self.prog}` takes no {what} {option!r}", option, self._option_string_actions if what == "option" else ())

    def refuse(self, message: str, word: str, choices: Iterable[str]) -> NoReturn:
        """Raises what argparse would say, and the choice that the user may have meant."""
        from kernel_ir.cli_common import closest

        near = closest(word, choices)
        raise UsageError(message, hint=f"did you mean {near!r}?" if near else f"see `{self.prog} --help`")


def _whole(least: int) -> Callable[[str], int]:
    """Reads a whole number of at least `least`."""

    def read(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return read


def _real(text: str) -> float:
    """Reads a number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value


def _sizes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", metavar="N=4096", action="append", default=[], help="a size; may be given again")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fast-math", metavar="LIST", default="none", help="reassoc,contract,arcp,afn,nnan,ninf,nsz; all; none (default)")


def _kernel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-k", "--kernel", metavar="NAME", action="append", default=[], help="only this kernel; may be given again")


def _target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", metavar="T", help="see `kir targets` (default: cuda if a device is here, else cpu)")


def _seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", metavar="S", type=_whole(0), default=0, help="seed of everything drawn (default 0)")


def _pack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pack", metavar="NAME", help="this pack in place of the built-in books (see `kir rules packs`)")


def _optimizing(parser: argparse.ArgumentParser) -> None:
    """Options of every command that optimizes."""
    _kernel(parser)
    _target(parser)
    _flags(parser)
    _sizes(parser)
    _seed(parser)
    parser.add_argument("--tolerance", metavar="T", type=_real, help="error budget: relative error that flags may add")
    parser.add_argument("--rules", metavar="FILE", action="append", default=[], help="a rule book more; may be given again")
    _pack(parser)
    parser.add_argument("--tune", metavar="N", type=_whole(0), default=0, help="time the N best plans and keep the fastest")
    parser.add_argument(
        "--packed", metavar="ARRAY", action="append", default=[], help="an `@ any` array that the caller packs; may be repeated"
    )
    parser.add_argument("--reschedule", action="store_true", help="choose anew what the file's `schedule` blocks pin")
    parser.add_argument(
        "--exact", metavar="SECONDS", type=_real, default=0.0, help="also extract by branch and bound, at most so long each time (SciPy)"
    )


def _rules(actions: Any) -> None:
    """The actions of `kir rules`, added to what `add_subparsers` returns, whose type argparse keeps to itself."""
    for action, what, names in (
        ("list", "every rule", None),
        ("show", "rules in full", "the rules' names"),
        ("check", "prove the rules that changed, and write their certificates", "books (default: the built-in ones)"),
    ):
        parser = actions.add_parser(action, help=what)
        if names:
            parser.add_argument("names", metavar="NAME", nargs="*", help=names)
        else:
            parser.add_argument("--family", metavar="F", help="only this family")
            parser.add_argument("--needs", metavar="FLAG", help="only rules that need this flag")
        if action == "check":
            parser.add_argument("--all", action="store_true", help="prove every rule, changed or not")
            parser.add_argument("--jobs", metavar="N", type=_whole(1), help="processes (default: as many as cores)")
        _pack(parser)
        _json(parser)
    _json(actions.add_parser("packs", help="rule sets of other systems, to optimize with in place of the built-in books"))
    mine = actions.add_parser("mine", help="the rules that lead from a slow kernel to a fast one that equals it, proved")
    mine.add_argument("slow", metavar="SLOW", help="a .kir file")
    mine.add_argument("fast", metavar="FAST", help="a .kir file with an equal kernel of the same signature")
    _kernel(mine)
    _flags(mine)
    _seed(mine)
    _pack(mine)
    mine.add_argument("--rules", metavar="FILE", action="append", default=[], help="a rule book more; may be given again")
    mine.add_argument("-o", "--output", metavar="OUT", help="write a rule book and its certificates instead of standard output")
    _json(mine)
    suggest = actions.add_parser("suggest", help="rules for kernels, from a model or by enumeration, proved before use")
    suggest.add_argument("files", metavar="FILE", nargs="+", help=".kir files")
    _optimizing(suggest)
    suggest_options(suggest)
    _json(suggest)


def _parser() -> argparse.ArgumentParser:
    top = _Parser(prog="kir", description="Optimizes compute kernels in an e-graph, and checks that the result means the same.")
    top.add_argument("--version", action="version", version=f"kir {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)

    optimize = commands.add_parser("optimize", help="rewrite the kernels of a file", description="Writes the optimized kernels.")
    optimize.add_argument("file", metavar="FILE", help="a .kir file, or - for standard input")
    _optimizing(optimize)
    optimize.add_argument("-o", "--output", metavar="OUT", help="write here instead of standard output")
    optimize.add_argument("--emit", choices=("kir", "python", "ptx"), default="kir", help="what to write (default kir)")
    optimize.add_argument("--explain", action="store_true", help="say on standard error what was done: every step, and what it saved")
    optimize.add_argument("--chain", metavar="OUT", help="write these steps to a file that `kir replay` checks")
    optimize.add_argument("--verify-chain", action="store_true", help="replay the steps before writing anything")
    optimize.add_argument("--no-check", action="store_true", help="do not check the result against the original before writing it")
    _json(optimize)

    emit = commands.add_parser("emit", help="the code of the kernels as they stand", description="Writes code of the kernels as they are.")
    emit.add_argument("file", metavar="FILE")
    _kernel(emit)
    _target(emit)
    _flags(emit)
    _sizes(emit)
    emit.add_argument("-o", "--output", metavar="OUT", help="write here instead of standard output")
    emit.add_argument("--emit", choices=("python", "ptx"), default="python", help="what to write (default python)")
    _json(emit)

    check = commands.add_parser("check", help="are the kernels of two files equal?", description="Compares kernels of one name.")
    check.add_argument("a", metavar="A", help="a .kir file, or -")
    check.add_argument("b", metavar="B", help="a .kir file, or -")
    _kernel(check)
    _flags(check)
    _seed(check)
    check.add_argument("--tolerance", metavar="T", type=_real, help="relative error accepted besides rounding bounds")
    check.add_argument("--examples", metavar="N", type=_whole(1), default=100, help="inputs to draw (default 100)")
    check.add_argument("--replay", metavar="FILE", help="run one saved counterexample instead of drawing")
    check.add_argument("--save", metavar="FILE", default=None, help="where to write a counterexample (default NAME.counterexample.npz)")
    _json(check)

    replay = commands.add_parser(
        "replay",
        help="check the steps of an optimization",
        description="""Replays a chain that `kir optimize --chain` wrote, on plain terms and without an e-graph: each step's rule is found
        in its book and matched at its place, its guards are judged from the term, its flags must be the chain's, and both sides are
        computed on drawn inputs. Writes the kernels at the ends; refuses the file at the first step that does not hold, and says why.""",
    )
    replay.add_argument("file", metavar="FILE", help="a chain file, or - for standard input")
    replay.add_argument("--rules", metavar="FILE", action="append", default=[], help="a rule book that the steps use; may be given again")
    _json(replay)

    run = commands.add_parser("run", help="run a kernel on this machine", description="Runs the optimized kernel.")
    run.add_argument("file", metavar="FILE")
    _optimizing(run)
    run.add_argument("--input", metavar="A.npz", help="arrays and scalars by name (default: drawn from the seed)")
    run.add_argument("--output", metavar="B.npz", help="where to write the outputs")
    run.add_argument("--bench", action="store_true", help="time it against the kernel as written and NumPy, in one run")
    _json(run)

    fmt = commands.add_parser("fmt", help="format files in place")
    fmt.add_argument("files", metavar="FILE", nargs="+")
    fmt.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file would change")

    targets = commands.add_parser("targets", help="the machines that kir knows")
    targets.add_argument("action", choices=("list", "show", "calibrate"), nargs="?", default="list")
    targets.add_argument("name", metavar="T", nargs="?", help="the target to show")
    targets.add_argument("--out", metavar="FILE.toml", help="calibrate: where to write (default: where the target cpu finds it)")
    _json(targets)

    _rules(commands.add_parser("rules", help="the rule books").add_subparsers(dest="action", metavar="ACTION", required=True))

    fuzz = commands.add_parser("fuzz", help="draw whole kernels and check the compiler on them")
    fuzz.add_argument("--kernels", metavar="N", type=_whole(1), default=50, help="kernels to draw (default 50)")
    fuzz.add_argument("--seconds", metavar="S", type=_real, help="stop after so long")
    fuzz.add_argument("--compile", action="store_true", help="compile each and compare the code too (slower)")
    fuzz.add_argument("--plans", action="store_true", help="compile every plan of each, not the cheapest alone (much slower)")
    fuzz.add_argument("--target", metavar="T", default="cpu", help="cpu (default), numpy, cuda-on-cpu, …")
    _flags(fuzz)
    _seed(fuzz)
    _json(fuzz)

    bench = commands.add_parser("bench", help="time every kernel of files, as `run --bench` does one")
    bench.add_argument("files", metavar="FILE", nargs="+")
    _kernel(bench)
    _target(bench)
    _flags(bench)
    _sizes(bench)
    _seed(bench)
    _json(bench)
    return top


_HOME: Final = {
    "optimize": "kernel_ir.cli_optimize",
    "emit": "kernel_ir.cli_optimize",
    "replay": "kernel_ir.cli_replay",
    "check": "kernel_ir.cli_check",
    "fuzz": "kernel_ir.cli_check",
    "run": "kernel_ir.cli_run",
    "bench": "kernel_ir.cli_run",
    "fmt": "kernel_ir.cli_files",
    "targets": "kernel_ir.cli_targets",
    "rules": "kernel_ir.cli_files",
}
"""The module whose function of the command's name runs it: heavy imports happen only for the command that needs them."""


def _nowhere() -> TextIO:
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (default `sys.argv`), returns its exit code."""
    # A process started with a closed stream (`kir … >&-`) has None for it.
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    try:
        arguments, unknown = _parser().parse_known_args(argv)
        if unknown:
            arguments.parser.unknown(unknown)
        command = getattr(import_module(_HOME[arguments.command]), arguments.command)
        return int(command(arguments))
    except EquivalenceError as error:
        print(f"not equal: {error}", file=sys.stderr)
        return NOT_EQUAL
    except KernelError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except MemoryError as error:
        print(f"error: not enough memory: {str(error) or 'for arrays this large'}\n  help: choose smaller sizes", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        # The reader has gone (`kir … | head`): nobody is left to tell. Python's own flush at exit must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


if __name__ == "__main__":
    sys.exit(main())
