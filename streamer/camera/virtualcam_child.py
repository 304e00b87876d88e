# SPDX-License-Identifier: MIT
#
# This file alone is MIT, so that it may be joined with pyvirtualcam (GPL-2.0), which the rest of the project never
# imports.
#
# Copyright (c) 2026 the vividstream authors
#
# Permission is hereby granted, free of charge, to any person obtaining a copy
# of this software and associated documentation files (the "Software"), to deal
# in the Software without restriction, including without limitation the rights
# to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
# copies of the Software, and to permit persons to whom the Software is
# furnished to do so, subject to the following conditions:
#
# The above copyright notice and this permission notice shall be included in all
# copies or substantial portions of the Software.
#
# THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
# IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
# FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
# AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
# LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
# OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
# SOFTWARE.
"""Writes pictures from a pipe to a virtual camera, by pyvirtualcam. A program of its own: it imports nothing of ours.

    python virtualcam_child.py --list                what pyvirtualcam can write to here
    python virtualcam_child.py < pictures

The pictures: one line of JSON, {"width": 1280, "height": 720, "fps": 30, "backend": "obs", "device": null}, then one
picture after the other, each width * height * 3 bytes of RGB. It answers with one line of JSON: {"backend": ...,
"device": ...}, or {"error": "..."}, and ends with 1. At the end of its input the camera is closed, and it ends with 0.
"""

import json
import os
import sys


def main() -> int:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer

    def say(values: "dict[str, object]") -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    try:
        import pyvirtualcam
        from pyvirtualcam.camera import BACKENDS
    except ImportError as error:
        say({"error": f"pyvirtualcam is not installed ({error})"})
        return 1
    if sys.argv[1:] == ["--list"]:
        say({"version": pyvirtualcam.__version__, "backends": sorted(BACKENDS)})
        return 0 if BACKENDS else 1
    pictures = sys.stdin.buffer
    wanted = json.loads(pictures.readline())
    shape = (wanted["height"], wanted["width"], 3)
    if wanted["backend"] is not None and wanted["backend"] not in BACKENDS:
        known = ", ".join(sorted(BACKENDS))
        say({"error": f'pyvirtualcam cannot write to "{wanted["backend"]}" here, only to: {known}'})
        return 1
    import numpy as np

    try:
        camera = pyvirtualcam.Camera(
            width=wanted["width"], height=wanted["height"], fps=wanted["fps"],
            backend=wanted["backend"], device=wanted["device"],
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        say({"error": " ".join(str(error).split())})
        return 1
    with camera:
        say({"backend": camera.backend, "device": camera.device})
        size = shape[0] * shape[1] * shape[2]
        while len(data := pictures.read(size)) == size:
            camera.send(np.frombuffer(data, np.uint8).reshape(shape))
    return 0


if __name__ == "__main__":
    sys.exit(main())
