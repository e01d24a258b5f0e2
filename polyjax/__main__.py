"""Say how a results file was made, whether it can be trusted, and show what is in it.

polyjax info FILE                          how it was made, and what is in it
polyjax verify FILE                        trains a few of its cells again and compares; exit code 1 where they differ
polyjax explore FILE... --out page.html    writes a page on which to look at it: diagrams, and any cell that is clicked
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from polyjax.cli.info import describe
from polyjax.cli.parser import Parser
from polyjax.results import load
from polyjax.runs.folder.directory import folder
from polyjax.runs.verification import Comparison, verify
from polyjax.selection import RULES


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(prog="polyjax", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"polyjax {version('polyjax')}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    info = commands.add_parser("info", help="how a results file was made, and what is in it")
    check = commands.add_parser("verify", help="train a few of its cells again and compare")
    page = commands.add_parser("explore", help="write a page on which to look at results files, one file of HTML")
    for each in (info, check):
        each.add_argument("file", help="a results file")
    page.add_argument("files", nargs="+", metavar="FILE", help="a results file; several are shown side by side")
    page.add_argument("--out", type=Path, default=Path("page.html"), help="the page to write (default: page.html)")
    page.add_argument("--rule", choices=RULES, help="over restarts (default: refined where there is such, else best)")
    page.add_argument("--steps", action="store_true", help="with a slider for the steps, of runs with snapshot_weights")
    check.add_argument("--cells", type=int, default=5, help="how many cells (default: 5)")
    check.add_argument("--seed", type=int, help="of the choice of cells (default: others every time)")
    arguments = parser.parse_args(argv)
    if arguments.command == "info":
        info.report(lambda: tell(arguments.file))
    elif arguments.command == "explore":
        page.report(lambda: explore(arguments.files, arguments.out, arguments.rule, arguments.steps))
    else:
        check.report(lambda: compare(arguments.file, arguments.cells, arguments.seed))


def tell(path: str) -> None:
    """Do what `polyjax info` is for."""
    run = folder(Path(path))
    if run.is_dir() and not Path(path).is_file():
        saved = len([*run.glob("*.npz")])
        words = f"{saved} chunks are saved in {run}, and the command that began it goes on from there"
        raise ValueError(f"the run that makes {run.with_suffix('.npz')} is not finished: {words}")
    print(describe(path, load(path)))


def explore(paths: Sequence[str], out: Path, rule: str | None, steps: bool) -> None:
    """Do what `polyjax explore` is for."""
    try:
        from polyjax.draw.page import explore as page_of
    except ImportError as error:
        raise ValueError(str(error)) from error
    stems = [Path(path).stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else paths
    found = {name: load(path) for name, path in zip(names, paths, strict=True)}
    page_of({name: results.by_step() if steps else results for name, results in found.items()}, rule).save(out)
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB)")


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
