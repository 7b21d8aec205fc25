"""Plot any study with your own configuration: `python study_figure.py width`."""

import sys
from pathlib import Path
from typing import Any

from kernelgap.studies import STUDIES, Result


def main(name: str = "gap", folder: str = ".", **changes: Any) -> Result:
    """Run the quick preset of a study, with some fields changed, and save its figure."""
    study = STUDIES[name]
    config = study.config(**{**study.presets["quick"], **changes})
    result = study.run(config, progress=True)
    print(result.table())
    result.plot().savefig(Path(folder) / f"{name}.png", dpi=160)
    return result


if __name__ == "__main__":
    main(*sys.argv[1:2])
