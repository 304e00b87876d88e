#!/bin/sh
# From people who do not exist to a proved engine, in one go. It may be ended at any point and begun again:
#
#     benchmarks/tiny_run.sh FOLDER                       `tiny`: examples, autoencoder, retouch, figures, engine
#     RECIPE=distilled benchmarks/tiny_run.sh FOLDER      by a teacher, as docs/benchmarks/2026-11-23-tiny-run.md reports
#     SIZE=toy STILLS=24 CLIPS=8 AUTOENCODER_MINUTES=0.3 RETOUCH_MINUTES=0.5 benchmarks/tiny_run.sh FOLDER
#                                                         the same commands at a size that takes minutes
#
# PHASE=examples, autoencoder, student, engine runs one part alone (docs/training.md, "Half an hour on one GPU"). On a
# CPU, one thread, the minutes are those of that report; with a GPU set PRECISION, BATCH and the minutes.
set -eu

run=${1:?give a folder for everything that is made}
data=${VIVIDSTREAM_DATA:-../shared/data}
size=${SIZE:-tiny}
phase=${PHASE:-all}
case $size in
    tiny) crop=256 picture=64 frames=8 ;;
    toy) crop=64 picture=32 frames=6 ;;
    *) echo "SIZE is tiny or toy, not $size" >&2 && exit 2 ;;
esac
case ${RECIPE:-retouch} in
    retouch) recipe=retouch student=$run/retouch ;;
    distilled) recipe=distilled student=$run/rollout ;;
    *) echo "RECIPE is retouch or distilled, not $RECIPE" >&2 && exit 2 ;;
esac
case $phase in
    all | examples | autoencoder | student | engine) ;;
    *) echo "PHASE is examples, autoencoder, student or engine, not $phase" >&2 && exit 2 ;;
esac
examples=$run/examples ae=$run/autoencoder/swapper.safetensors student=$student/swapper.safetensors
small="train.precision=${PRECISION:-bfloat16} train.channels_last=yes data.images_a_batch=${BATCH:-8}"
small="$small data.videos_a_batch=${CLIPS_A_BATCH:-1} machine.save_minutes=${SAVE_MINUTES:-5} machine.tensorboard=no"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
begun=$(date +%s)

is() { # name: whether this part is to be run; says so
    [ "$phase" = all ] || [ "$phase" = "$1" ] || return 1
    printf '\n== %s (%s s)\n' "$1" "$(($(date +%s) - begun))"
}

stage() { # name, teacher, minutes, more
    name=$1 teacher=$2 minutes=$3
    shift 3
    # shellcheck disable=SC2086  # settings, a word each
    vividstream distill "$run/$name" --stage "$name" --examples "$examples" --teacher "$teacher" \
        --minutes "$minutes" $small train.learning_rate=2e-4 "$@"
}

distilled() {
    # shellcheck disable=SC2086
    vividstream train teacher "$run/teacher" --size "$size" --examples "$examples" --start "$ae" \
        --minutes "${TEACHER_MINUTES:-18}" $small train.learning_rate=5e-4 train.schedule=constant \
        stage.given=2 stage.conditions.drop_mask=0.05 stage.conditions.drop_face=0.1
    stage causal "$run/teacher/swapper.safetensors" "${CAUSAL_MINUTES:-8}"
    stage consistency "$run/causal/swapper.safetensors" "${CONSISTENCY_MINUTES:-12}" stage.parts=2
    stage rollout "$run/causal/swapper.safetensors" "${ROLLOUT_MINUTES:-38}" \
        --start "$run/consistency/swapper.safetensors" stage.adversarial=0 data.frames="$frames"
}

if is examples; then
    vividstream examples "$examples" --data "$data" --size-px "$crop" --picture-px "$picture" --frames "$frames" \
        --stills "${STILLS:-900}" --clips "${CLIPS:-80}" --workers "${WORKERS:-1}" --same-person 3 \
        --held-out-stills "${HELD_OUT_STILLS:-22}" --held-out-clips "${HELD_OUT_CLIPS:-4}" --rendered 0.6 --moved 0.4
fi
if is autoencoder; then
    vividstream train autoencoder "$run/autoencoder" --size "$size" --examples "$examples" \
        --minutes "${AUTOENCODER_MINUTES:-30}" train.precision="${PRECISION:-bfloat16}" machine.tensorboard=no
fi
if is student; then
    if [ "$recipe" = distilled ]; then
        distilled
    else
        # shellcheck disable=SC2086
        vividstream train retouch "$run/retouch" --size "$size" --examples "$examples" --start "$ae" \
            --minutes "${RETOUCH_MINUTES:-60}" $small
    fi
fi
if is engine; then
    vividstream eval steps --examples "$examples" --student "$student" --frames "$frames" --out "$run/steps"
    [ -d "$run/export" ] || vividstream export "$student" -o "$run/export" --store "$run/engines"
    VIVIDSTREAM_ENGINES_STORE="$run/engines" vividstream engines verify
fi
printf '\n== done (%s s); to look at it: VIVIDSTREAM_ENGINES_STORE=%s/engines vividstream serve --engine %s\n' \
    "$(($(date +%s) - begun))" "$run" "$size"
