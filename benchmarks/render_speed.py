"""How many people the renderer draws per second, here.

    python -m benchmarks.render_speed --data ../shared/data --device cpu --threads 2

Prints pictures per second: the median of several rounds over the same random shots, after one round to warm up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from distill.people.assets import load_assets
from distill.people.render import render
from distill.people.sample import generator, sample_person, sample_posture, sample_scene
from distill.people.types import Shot


def shot(index: int) -> Shot:
    person, posture, scene = (generator("train", 5, index, part) for part in range(3))
    return Shot(sample_person(person), sample_posture(posture), sample_scene(scene))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="of the processor, where it does the drawing")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--pictures", type=int, default=0, help="per round; 0: 48 on the processor, 512 elsewhere")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    assets = load_assets(chosen.data, chosen.device)
    on_gpu = assets.device.type == "cuda"
    shots = [shot(index) for index in range(chosen.pictures or (512 if on_gpu else 48))]
    rates, used = [], []
    for _ in range(chosen.rounds + 1):
        began, cpu = time.perf_counter(), time.process_time()
        render(assets, shots, chosen.size)
        if on_gpu:
            torch.cuda.synchronize()
        rates.append(len(shots) / (time.perf_counter() - began))
        used.append((time.process_time() - cpu) / len(shots))
    name = torch.cuda.get_device_name() if on_gpu else f"{chosen.threads} threads"
    print(f"{statistics.median(rates[1:]):.1f} pictures/s at {chosen.size} px on {name}, torch {torch.__version__}")
    print(f"processor time per picture: {1000 * statistics.median(used[1:]):.1f} ms")
    if on_gpu:
        print(f"most memory: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
