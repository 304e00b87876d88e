#!/bin/sh
# The run at `tiny` size that docs/benchmarks/2026-11-23-tiny-run.md reports, from rendered people to tables by steps:
#
#     benchmarks/tiny_run.sh FOLDER
#
# On a CPU, one thread, half an hour of autoencoder and an hour and a half of the rest; it may be ended and begun again.
# The minutes are what that report had; with a GPU, or a night, take more of each.
set -eu

run=${1:?give a folder for everything that is made}
data=${VIVIDSTREAM_DATA:-../shared/data}
small="train.precision=bfloat16 train.channels_last=yes data.images_a_batch=8 data.videos_a_batch=1"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

vividstream examples "$run/examples" --data "$data" --size-px 256 --picture-px 64 --frames 8 \
    --stills 900 --clips 80 --held-out-stills 22 --held-out-clips 4 --same-person 3 --rendered 0.6 --moved 0.4

vividstream train autoencoder "$run/autoencoder" --size tiny --examples "$run/examples" \
    --minutes "${AUTOENCODER_MINUTES:-30}" train.precision=bfloat16

# shellcheck disable=SC2086  # settings, a word each
vividstream train teacher "$run/teacher" --size tiny --examples "$run/examples" \
    --start "$run/autoencoder/swapper.safetensors" --minutes "${TEACHER_MINUTES:-18}" $small \
    train.learning_rate=5e-4 train.schedule=constant \
    stage.given=2 stage.conditions.drop_mask=0.05 stage.conditions.drop_face=0.1

stage() { # name, teacher, minutes, more
    name=$1 teacher=$2 minutes=$3
    shift 3
    # shellcheck disable=SC2086
    vividstream distill "$run/$name" --stage "$name" --examples "$run/examples" --teacher "$teacher" \
        --minutes "$minutes" $small train.learning_rate=2e-4 "$@"
}
stage causal "$run/teacher/swapper.safetensors" "${CAUSAL_MINUTES:-8}"
stage consistency "$run/causal/swapper.safetensors" "${CONSISTENCY_MINUTES:-12}" stage.parts=2
stage rollout "$run/causal/swapper.safetensors" "${ROLLOUT_MINUTES:-38}" \
    --start "$run/consistency/swapper.safetensors" stage.adversarial=0 data.frames=8

vividstream eval steps --examples "$run/examples" --student "$run/rollout/swapper.safetensors" \
    --teacher "$run/teacher/swapper.safetensors" --teacher-steps 4 --teacher-steps 50 --out "$run/steps"
