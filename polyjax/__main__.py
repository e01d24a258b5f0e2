"""Say how a results file was made, and whether it can be trusted.

polyjax info FILE      how it was made, and what is in it
polyjax verify FILE    trains a few of its cells again and compares; exit code 1 where they differ
"""

import argparse
import sys
from collections.abc import Sequence

from polyjax.cli.info import describe
from polyjax.cli.parser import Parser
from polyjax.results import load
from polyjax.runs.verification import Comparison, verify


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(prog="polyjax", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    info = commands.add_parser("info", help="how a results file was made, and what is in it")
    check = commands.add_parser("verify", help="train a few of its cells again and compare")
    for each in (info, check):
        each.add_argument("file", help="a results file")
    check.add_argument("--cells", type=int, default=5, help="how many cells (default: 5)")
    check.add_argument("--seed", type=int, help="of the choice of cells (default: others every time)")
    arguments = parser.parse_args(argv)
    if arguments.command == "info":
        info.report(lambda: print(describe(arguments.file, load(arguments.file))))
    else:
        check.report(lambda: compare(arguments.file, arguments.cells, arguments.seed))


def compare(path: str, cells: int, seed: int | None) -> None:
    """Do what `polyjax verify` is for."""
    print(path)
    found = verify(path, cells, seed)
    names = "".join(f"{name:<12}" for name in found[0].coordinates)
    print(f"  {names}largest difference: trained again  of what the stored weights have")
    for cell in found:
        values = "".join(f"{value:<12.4g}" for value in cell.coordinates.values())
        print(f"  {values}{_again(cell):<33}  {cell.of_weights:.1e}")
    wrong = sum(not cell.agrees for cell in found)
    print(f"{wrong} of {len(found)} cells differ" if wrong else f"all {len(found)} cells agree")
    if wrong:
        sys.exit(1)


def _again(cell: Comparison) -> str:
    differences = f"{max(cell.capacity, cell.loss):.1e}"
    return f"{differences}, same weights" if cell.same_bits else differences


if __name__ == "__main__":
    main()
