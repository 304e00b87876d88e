#!/bin/sh
# Be a camera for a minute: the swapped picture of CLIP in a v4l2loopback device, read by FFmpeg's v4l2 as a call would.
#
#     examples/virtual_camera.sh [CLIP] [DEVICE]      CLIP: a video file with a face, or a picture of one; else camera 0
#
# Needs the module: sudo modprobe v4l2loopback video_nr=9 exclusive_caps=1 card_label=vividstream
# While it runs, choose the camera "vividstream" in any program. It changes the face half way, and leaves seen-1.png and
# seen-2.png: what another program saw.
set -eu
# As README installs it: in .venv beside this folder, unless another one is in PATH.
PATH=$PATH:$(cd "$(dirname "$0")/.." && pwd)/.venv/bin

source=${1:-0}
device=${2:-/dev/video9}
half_s=${HALF_S:-15}
vividstream=$(command -v vividstream) || { echo "vividstream is not installed: README.md, Set up" >&2; exit 1; }
python=$(dirname "$(realpath "$vividstream")")/python # it has FFmpeg's libraries; the system's Python does not
folder=$(mktemp -d)
control=$folder/camera.sock
camera=
trap '[ -z "$camera" ] || kill "$camera" 2>/dev/null || true; rm -rf "$folder"' EXIT

[ -e "$device" ] || { vividstream camera --list; echo "$device is not there" >&2; exit 1; }
vividstream camera --source "$source" --loop --sink "$device" --identity amara --control "$control" --no-keys \
    2>"$folder/log" &
camera=$!
until grep -q '^commands:' "$folder/log"; do
    kill -0 "$camera" 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
    sleep 1
done
cat "$folder/log"

# Somebody watches: from now on it draws. The first pictures are the standby card.
"$python" - "$device" "$half_s" <<'END' &
import sys, time
import av
device, half_s = sys.argv[1], float(sys.argv[2])
with av.open(device, format="v4l2") as camera:
    begun, first = time.monotonic(), None
    for picture in camera.decode(video=0):
        passed = time.monotonic() - begun
        if passed < half_s or first is None:
            first = picture
        elif passed > 2 * half_s:
            break
first.to_image().save("seen-1.png")
picture.to_image().save("seen-2.png")
END
reader=$!
sleep "$half_s"
vividstream camera --control "$control" --print-delay || true
vividstream camera --control "$control" --tell '{"do": "identity", "name": "henrik"}'
wait "$reader"
vividstream camera --control "$control" --tell '{"do": "status"}'
vividstream camera --control "$control" --tell '{"do": "quit"}'
wait "$camera" || true
echo "seen-1.png, seen-2.png: what another program saw"
