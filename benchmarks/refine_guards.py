"""What keeps Refine from forgetting: python benchmarks/refine_guards.py [--quick | --runs N].

The same corrections (three views of a picture in another stain) taught with the same number of
steps: practising on stored tiles, on tissue the diffusion backbone draws, with an anchor to the old
weights, or with nothing; going all the way to what was learnt, and as Refine does it, back part of
the way. Rows give Dice points gained on the untouched half of the picture, and lost on pictures in
the usual stain that nobody corrected. With --kept FILE runs measured before are not repeated.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from kept import Kept, Values
from refine_lab import Lab, labelled_lab, restained
from report import Row, finish, parser, points

from napari_genselfdiff.learning.refine_config import RefineConfig
from napari_genselfdiff.learning.simulation import (
    SimulationConfig,
    answers,
    correct_views,
    refine_once,
    untouched_dice,
)
from napari_genselfdiff.registry.folder import read_model

STEPS = 60
_FIXED = RefineConfig(budget_s=3600.0, most_steps=STEPS, fewest_steps=STEPS, blends=(1.0,))
GUARDS: dict[str, RefineConfig] = {
    "nothing": replace(_FIXED, practice="none"),
    "stored": _FIXED,
    "generated": replace(_FIXED, practice="generated"),
    "anchor": replace(_FIXED, practice="none", anchor=0.03),
    "shipped": replace(_FIXED, blends=RefineConfig().blends),
    "generated_part_way": replace(_FIXED, practice="generated", blends=RefineConfig().blends),
    "nothing_part_way": replace(_FIXED, practice="none", blends=RefineConfig().blends),
}


def main() -> None:
    reader = parser(__doc__.splitlines()[0])
    reader.add_argument("--runs", type=int, metavar="N", help="another number of runs")
    reader.add_argument("--kept", type=Path, metavar="FILE", help="keep runs, and go on with them")
    args = reader.parse_args()
    with tempfile.TemporaryDirectory(prefix="gsd-guards-") as folder:
        lab = labelled_lab(Path(folder), runs=args.runs or (2 if args.quick else 10))
        kept = Kept(args.kept, {"steps": STEPS, "model": lab.model.hash})
        finish("refine_guards", list(measure(lab, kept)), args.json)


def measure(lab: Lab, kept: Kept) -> Iterator[Row]:
    """Two rows a guard."""
    for number in range(lab.runs):
        kept.run("guards", number, lambda n=number: _one_run(lab, n))
    runs = list(kept.runs("guards").values())
    for name in GUARDS:
        gained, lost = np.array([run[name] for run in runs]).T
        yield points(f"guard_{name}_gained", gained, "untouched half, the corrected stain")
        yield points(f"guard_{name}_lost", lost, "pictures in the usual stain")


def _one_run(lab: Lab, number: int) -> Values:
    """Gained and lost Dice of every guard on the same corrections."""
    names = [lab.names[(7 * number + i) % len(lab.names)] for i in range(3)]
    picture = restained(lab.picture(names[0]))
    others = [lab.picture(name) for name in names[1:]]
    scenes = answers([picture], lab.model, lab.profile)
    rng = np.random.default_rng([number, 5])
    tiles = [c.tile for c in correct_views(scenes, 3, SimulationConfig(), rng)]
    before = untouched_dice(scenes), untouched_dice(answers(others, lab.model, lab.profile))
    found: Values = {}
    for name, config in GUARDS.items():
        out = lab.place(name, number)
        refine_once(lab.model, lab.model, tiles, lab.profile, replace(config, seed=number), out)
        new = read_model(out)
        after = (
            untouched_dice(answers([picture], new, lab.profile)),
            untouched_dice(answers(others, new, lab.profile)),
        )
        found[name] = (after[0] - before[0], before[1] - after[1])
    return found


if __name__ == "__main__":
    main()
