"""Draws a contact sheet of people who do not exist.

python -m benchmarks.people_sheet --data ../shared/data --out docs/people.jpg
"""

from __future__ import annotations

import argparse
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.render_speed import shot
from distill.people.assets import load_assets
from distill.people.render import render

MOST_BYTES = 600_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("docs/people.jpg"))
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    assets = load_assets(chosen.data)
    shots = [shot(index) for index in range(chosen.first, chosen.first + chosen.count)]
    pictures = render(assets, shots, chosen.size).rgb_BHW3.numpy()
    rows = -(-len(pictures) // chosen.columns)
    sheet = np.zeros((rows, chosen.columns, chosen.size, chosen.size, 3), np.uint8)
    sheet.reshape(-1, chosen.size, chosen.size, 3)[: len(pictures)] = pictures
    whole = Image.fromarray(sheet.transpose(0, 2, 1, 3, 4).reshape(rows * chosen.size, chosen.columns * chosen.size, 3))
    packed = BytesIO()
    for quality in range(92, 40, -4):
        packed = BytesIO()
        whole.save(packed, "JPEG", quality=quality, optimize=True)
        if packed.tell() <= MOST_BYTES:
            break
    chosen.out.write_bytes(packed.getvalue())
    print(f"{chosen.out}: {len(pictures)} people, {packed.tell() / 1000:.0f} kB")


if __name__ == "__main__":
    main()
