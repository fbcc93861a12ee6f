"""The command `replay`: a chain file into the kernels at its ends, where every step of it holds."""

import argparse

from kernel_ir.cli_common import console, read_text, working, write_json, write_out
from kernel_ir.explain import chains_of
from kernel_ir.explain import replay as replayed


def replay(arguments: argparse.Namespace) -> int:
    """`kir replay FILE`: exit 2 at the first step that does not hold."""
    chains = chains_of(*read_text(arguments.file))
    texts: list[str] = []
    for chain in chains:
        with working(f"replaying {chain.kernel}"):
            texts.append(replayed(chain, arguments.rules))
    if arguments.json:
        found = [{"kernel": c.kernel, "steps": len(c.steps), "rules": list(c.rules), "text": t} for c, t in zip(chains, texts, strict=True)]
        write_json({"file": arguments.file, "chains": found})
    else:
        write_out("\n\n".join(texts) + "\n", None)
    for chain in chains:
        console().print(f"{chain.kernel}: all {len(chain.steps)} steps hold", markup=False, soft_wrap=True)
    return 0
