"""Five landmarks of a face, and crops that lay them over a template: how most published face networks want a face.

The five are, in this order, the eye in the picture's left half, the other eye, the tip of the nose, the mouth's corner
under the first eye and the other one. They are taken from the 478 where networks were trained with them: eyes are the
mean of their lids' six points (not the irises, which follow the gaze), as in the usual way from 68 landmarks to 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np

from engines.types import Floats

Template = Literal["arcface_112_v1", "arcface_112_v2", "arcface_128", "dfl_whole_face", "ffhq_512", "mtcnn_512"]

RIGHT_EYE = [33, 160, 158, 133, 153, 144]
LEFT_EYE = [362, 385, 387, 263, 373, 380]
NOSE_TIP = 4  # 1, often taken, lies 8 % of the eyes' distance below what detectors of five points call the nose
MOUTH_CORNERS = [61, 291]


def _points(text: str) -> Floats:
    return np.array(text.split(), np.float32).reshape(5, 2)


# Shares of the crop's side, x and y. The names end with the side in pixels for which each was published.
TEMPLATES: Mapping[Template, Floats] = MappingProxyType(
    {
        "arcface_112_v1": _points(
            ".35473214 .45658929  .64526786 .45658929  .5 .61154464  .37913393 .776875  .62086607 .776875"
        ),
        "arcface_112_v2": _points(
            ".34191607 .46157411  .65653393 .45983393  .500225 .64050536  .37097589 .82469196  .63151696 .82325089"
        ),
        "arcface_128": _points(
            ".36167656 .40387734  .63696719 .40235469  .50019687 .56044219  .38710391 .72160547  .61507734 .72034453"
        ),
        "dfl_whole_face": _points(
            ".35342266 .39285716  .62797622 .39285716  .48660713 .5401786  .38839287 .68750011  .59821427 .68750011"
        ),
        "ffhq_512": _points(
            ".37691676 .46864664  .62285697 .46912813  .50123859 .61331904  .39308822 .725411  .61150205 .72490465"
        ),
        "mtcnn_512": _points(
            ".36562865 .46733799  .63305391 .46585885  .50019127 .61942959  .39032951 .77598822  .61178945 .77476328"
        ),
    }
)


def five_points(points_px: Floats) -> Floats:
    """float32 [478, 3] landmarks -> float32 [5, 2]."""
    flat = points_px[:, :2]
    eyes = [flat[RIGHT_EYE].mean(axis=0), flat[LEFT_EYE].mean(axis=0)]
    return np.asarray(np.stack([*eyes, flat[NOSE_TIP], *flat[MOUTH_CORNERS]]), np.float32)


def template_crop(points_px: Floats, template: Template, size_px: int, offset_px: float = 0.0) -> Floats:
    """The similarity transform that lays a face's five points over a template of a crop: `crop_from_frame` [2, 3].

    points_px: float32 [478, 3] frame pixels. offset_px is added to the template's x and y.
    Raises ValueError where the points are not finite or all in one place.
    """
    return similarity(five_points(points_px), TEMPLATES[template] * size_px + offset_px)


def similarity(points_N2: Floats, onto_N2: Floats) -> Floats:
    """Rotation, scale and shift with the least squared distance (Umeyama, 1991): float32 [2, 3], never a reflection."""
    given, wanted = points_N2.astype(np.float64), onto_N2.astype(np.float64)
    if not np.isfinite(given).all():
        raise ValueError("landmarks are not finite")
    middle, there = given.mean(axis=0), wanted.mean(axis=0)
    a, b = given - middle, wanted - there
    spread = float((a * a).sum())
    if not spread > 1e-6:
        raise ValueError("landmarks are all in one place")
    along = float((a * b).sum()) / spread  # scale times cosine
    across = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / spread  # scale times sine
    linear = np.array([[along, -across], [across, along]])
    return np.asarray(np.concatenate([linear, (there - linear @ middle)[:, None]], axis=1), np.float32)
