"""The nearest of many points: a tree where SciPy is installed, plain distances where it is not (a bare GPU server)."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
AT_ONCE = 1 << 26  # distances held at a time


def nearest(points: F32, cloud: F32, count: int) -> tuple[F32, I64]:
    """Distances and numbers of the `count` points of the cloud that are nearest to each point, nearest first.

    float32 [N, 3] and [M, 3] in, [N, count] out. Which of equally near ones comes first is not said.
    """
    if find_spec("scipy") is None:
        return by_distances(points, cloud, count)
    from scipy.spatial import cKDTree

    distance, number = cKDTree(cloud).query(points, k=np.arange(1, count + 1))
    return distance.astype(np.float32), number.astype(np.int64)


def by_distances(points: F32, cloud: F32, count: int) -> tuple[F32, I64]:
    """The same without SciPy, on the GPU where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    away = torch.from_numpy(np.ascontiguousarray(cloud, np.float32)).to(device)
    rows = max(1, AT_ONCE // len(cloud))
    distances, numbers = [], []
    for first in range(0, len(points), rows):
        part = torch.from_numpy(np.ascontiguousarray(points[first : first + rows], np.float32))
        table = torch.cdist(part.to(device), away, compute_mode="donot_use_mm_for_euclid_dist")
        found = table.topk(count, largest=False)
        distances.append(found.values.cpu().numpy())
        numbers.append(found.indices.cpu().numpy())
    return np.concatenate(distances), np.concatenate(numbers)
