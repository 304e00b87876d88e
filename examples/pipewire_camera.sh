#!/bin/sh
# A swapped face as a PipeWire camera, read back by GStreamer into a picture:
#
#     examples/pipewire_camera.sh CLIP PICTURE.png [IDENTITY]      CLIP: a video file with a face, or a picture of one
#
# Needs PipeWire running for this user, as desktops have it (`vividstream doctor --only pipewire`), and GStreamer (Debian:
# gstreamer1.0-tools gstreamer1.0-pipewire gstreamer1.0-plugins-good).
set -eu
# As README installs it: in .venv beside this folder, unless another one is in PATH.
PATH=$PATH:$(cd "$(dirname "$0")/.." && pwd)/.venv/bin

clip=${1:?a video file with a face} picture=${2:?a PNG file to write} identity=${3:-henrik}
for program in pw-dump gst-launch-1.0; do
    command -v $program >/dev/null || {
        echo "$program is not installed: apt install pipewire wireplumber" \
            "gstreamer1.0-tools gstreamer1.0-pipewire gstreamer1.0-plugins-good" >&2
        exit 1
    }
done

vividstream camera --source "$clip" --loop --sink pipewire --identity "$identity" --size 640x480 --no-keys &
camera=$!
trap 'kill $camera 2>/dev/null || true; wait $camera || true' EXIT

until pw-dump | grep -q '"node.name": "vividstream"'; do
    kill -0 $camera 2>/dev/null || exit 1 # it has said why
    sleep 0.5
done
# The first seconds show the standby card: nobody's face leaves before the first swapped picture.
gst-launch-1.0 -q pipewiresrc target-object=vividstream num-buffers=150 ! videoconvert ! fakesink
gst-launch-1.0 -q pipewiresrc target-object=vividstream num-buffers=60 ! videoconvert ! pngenc snapshot=false \
    ! multifilesink max-files=1 location="$picture"
echo "$picture: what another program saw"
