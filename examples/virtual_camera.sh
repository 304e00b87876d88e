#!/bin/sh
# Be a camera for a minute: the swapped picture of CLIP in a v4l2loopback device, read by FFmpeg's v4l2 as a call would.
#
#     examples/virtual_camera.sh [CLIP] [DEVICE]      CLIP: a video file with a face; without one, camera 0
#
# Needs the module: sudo modprobe v4l2loopback video_nr=9 exclusive_caps=1 card_label=vividstream
# While it runs, choose the camera "vividstream" in any program. It changes the face half way, and leaves seen.png: what
# another program saw.
set -eu

source=${1:-0}
device=${2:-/dev/video9}
vividstream=${VIVIDSTREAM:-vividstream}
python=${PYTHON:-python3}
folder=$(mktemp -d)
control=$folder/camera.sock
trap 'kill "$camera" 2>/dev/null || true; rm -rf "$folder"' EXIT

[ -e "$device" ] || { "$vividstream" camera --list; echo "$device is not there" >&2; exit 1; }
"$vividstream" camera --source "$source" --loop --sink "$device" --identity amara --control "$control" --no-keys \
    2>"$folder/log" &
camera=$!
until grep -q '^commands:' "$folder/log"; do
    kill -0 "$camera" 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
    sleep 1
done
cat "$folder/log"

# Somebody watches: from now on it draws. The first pictures are the standby card.
"$python" - "$device" <<'END' &
import sys, time
import av
end = time.monotonic() + 30
with av.open(sys.argv[1], format="v4l2") as camera:
    for picture in camera.decode(video=0):
        if time.monotonic() > end:
            break
picture.to_image().save("seen.png")
END
reader=$!
sleep 12
"$vividstream" camera --control "$control" --print-delay || true
"$vividstream" camera --control "$control" --tell '{"do": "identity", "name": "henrik"}'
wait "$reader"
"$vividstream" camera --control "$control" --tell '{"do": "status"}'
"$vividstream" camera --control "$control" --tell '{"do": "quit"}'
wait "$camera" || true
echo "seen.png: what another program saw"
