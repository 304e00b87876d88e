#!/bin/sh
# From people who do not exist to a live engine, at toy size, on two cores in some nine minutes:
#
#     examples/tiny_chain.sh FOLDER
#
# Data, autoencoder, teacher, student, measure, export, a film, a server. Nobody should wear the result: faces of 64 px
# from a few minutes of training. It shows that every part works and what it costs; docs/training.md is the real way.
# Each command goes on where it was ended, so the script may be run again in the same folder.
set -eu
# As README installs it: in .venv beside this folder, unless another one is in PATH.
PATH=$PATH:$(cd "$(dirname "$0")/.." && pwd)/.venv/bin

run=${1:?give a folder for everything that is made}
data=${VIVIDSTREAM_DATA:-../shared/data}
examples=$run/examples

say() { printf '\n== %s (%s s)\n' "$1" "$(($(date +%s) - begun))"; }
begun=$(date +%s)

say "examples: rendered people and portraits that move, as the live engine would be shown them"
vividstream examples "$examples" --data "$data" --size-px 64 --picture-px 32 --frames 9 \
    --stills 192 --clips 40 --held-out-stills 6 --held-out-clips 12 --same-person 3 --workers 2

say "autoencoder: pixels to latents"
vividstream train autoencoder "$run/autoencoder" --size toy --examples "$examples" train.steps=800 machine.tensorboard=no

say "teacher: whole windows, many steps"
vividstream train teacher "$run/teacher" --size toy --examples "$examples" --start "$run/autoencoder/swapper.safetensors" \
    train.steps=300 stage.conditions.drop_mask=0.0 stage.conditions.drop_face=0.1 machine.tensorboard=no

say "student: made causal, then one step, then on its own past"
vividstream distill "$run/student" --size toy --examples "$examples" --teacher "$run/teacher/swapper.safetensors" \
    causal.train.steps=100 consistency.train.steps=60 rollout.train.steps=250 machine.tensorboard=no

say "measure: held-out people, student at 1, 2, 4 steps and teacher at 50, from the same noise"
vividstream eval steps --examples "$examples" --student "$run/student/swapper.safetensors" \
    --teacher "$run/teacher/swapper.safetensors" --teacher-steps 4 --teacher-steps 50 --out "$run/steps"

say "export: weights, ONNX, and an engine that is proved against eager torch"
[ -d "$run/export" ] || vividstream export "$run/student/swapper.safetensors" -o "$run/export" --store "$run/engines"
export VIVIDSTREAM_ENGINES_STORE="$run/engines"
vividstream engines verify

say "live: every stage of a frame timed, then a server with the engine, opened and ended"
vividstream bench -e proxy -e toy:ort --frames 60
"$(dirname "$0")/../.ci/serve_once" 120 "vividstream serve --engine toy --port 0"

say "done; to look at it: VIVIDSTREAM_ENGINES_STORE=$run/engines vividstream serve --engine toy"
python3 - "$run/steps/steps.json" <<'PY'
"""Holds the student against what was promised of it; exits with 1 where it falls short."""

import json
import statistics
import sys

curves = json.load(open(sys.argv[1]))["curves"]
error = {name: statistics.fmean(curve["true_rms"]) for name, curve in curves.items()}
student, teacher, proxy = error["student, 1 step"], error["teacher, 50 steps"], error["proxy"]
print(f"error on true swap: student {student:.2f}, teacher at 50 steps {teacher:.2f}, proxy {proxy:.2f}")
sys.exit(not (student <= 1.1 * teacher and student < proxy))
PY
