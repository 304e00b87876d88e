"""Makes engines/identity_vector.safetensors: mean and spread, over people, of what an identity vector is made of.

The people do not exist: 200 portraits of SFHQ-T2I (MIT, see NOTICE), each enrolled alone. Those that enrolment refuses
are left out. `python -m examples.fit_identity_vector ../shared/data/synth_faces engines/identity_vector.safetensors`
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from engines import UnsuitablePhoto, enroll
from engines.identity_vector import measured

LEAST_SPREAD = 0.02


def main(pictures: Path, out: Path) -> None:
    rows = []
    for path in sorted(pictures.glob("*.jpg")):
        photo = np.array(Image.open(path).convert("RGB"))
        try:
            person = enroll([photo], "nobody", "does not exist", ["0" * 64])
        except UnsuitablePhoto as refused:
            print(f"{path.name}: {refused}")
            continue
        rows.append(measured(person))
    people = np.array(rows)
    mean, spread = np.median(people, axis=0), people.std(axis=0)
    save_file(
        {"mean": mean.astype(np.float32), "spread": np.maximum(spread, LEAST_SPREAD).astype(np.float32)},
        out,
        {"people": str(len(people)), "source": "SFHQ-T2I (MIT), examples/fit_identity_vector.py"},
    )
    print(f"{len(people)} people")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
