"""The command `polyjax`: train a sweep that a TOML file describes, and look at results files, check them and turn them
into pictures, films and tables."""

from collections.abc import Sequence

from polyjax.cli.command import application, examples, run

# Where each command is, which is imported when it is called; what it does, and examples for its help.
COMMANDS = {
    "sweep": (
        "sweeping:sweep",
        "Train a sweep that a TOML file or options describe.",
        "polyjax sweep mine.toml",
        "polyjax sweep mine.toml --restarts 8 --axes.density 'linspace(0.1, 1, 10)'",
        "polyjax sweep --model 'Redwood(6, 3)' --axes.density 'geomspace(0.01, 1, 40)' \\",
        "    --axes.importance 'geomspace(0.1, 10, 40)' --out results/mine.npz",
    ),
    "plot": (
        "looking:picture",
        "Draw a picture of a results file.",
        "polyjax plot results/mine.npz",
        "polyjax plot results/mine.npz --color loss --out loss.pdf",
        "polyjax plot results/mine.npz --kind embedding --at.density 0.1 --at.importance 2",
        "polyjax plot results/mine.npz --kind cut --axis importance --at.density 0.1",
        "polyjax plot results/mine.npz results/other.npz --kind compare",
    ),
    "explore": (
        "looking:explore",
        "Write a page on which to look at results files.",
        "polyjax explore results/mine.npz",
        "polyjax explore a.npz b.npz --out both.html",
    ),
    "film": (
        "looking:moving",
        "Write a film of a phase diagram that forms.",
        "polyjax film results/mine.npz",
        "polyjax film results/mine.npz --out mine.mp4",
    ),
    "info": (
        "info:info",
        "Say how a results file was made, and what is in it.",
        "polyjax info results/mine.npz",
        "polyjax info results/mine.npz --toml > again.toml",
    ),
    "verify": (
        "checking:check",
        "Train a few cells of a results file again and compare.",
        "polyjax verify results/mine.npz",
        "polyjax verify results/mine.npz --cells 20 --seed 0",
    ),
    "export": ("checking:write", "Write results for other programs.", "polyjax export results/mine.npz --to csv"),
}

app = application("polyjax", "Train phase diagrams of toy models, and look at results.")
for name, (place, does, *lines) in COMMANDS.items():
    app.command(f"polyjax.cli.{place}", name=name, help=does, help_epilogue=examples(*lines))
app.register_install_completion_command()


def main(argv: Sequence[str] | None = None) -> None:
    run(app, argv)


if __name__ == "__main__":
    main()
