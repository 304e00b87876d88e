#!/bin/sh
# A swapped face as a PipeWire camera, read back by GStreamer into a picture: ./pipewire_camera.sh CLIP PICTURE.png [IDENTITY]
# Needs a desktop's PipeWire session and GStreamer (Debian: gstreamer1.0-tools gstreamer1.0-pipewire gstreamer1.0-plugins-good).
set -eu
clip=$1 picture=$2 identity=${3:-henrik}

vividstream camera --source "$clip" --loop --sink pipewire --identity "$identity" --size 640x480 --no-keys &
camera=$!
trap 'kill $camera' EXIT

until pw-dump | grep -q '"node.name": "vividstream"'; do sleep 0.5; done
# The first seconds show the standby card: nobody's face leaves before the first swapped picture.
gst-launch-1.0 -q pipewiresrc target-object=vividstream num-buffers=150 ! videoconvert ! fakesink
gst-launch-1.0 -q pipewiresrc target-object=vividstream num-buffers=60 ! videoconvert ! pngenc snapshot=false \
    ! multifilesink max-files=1 location="$picture"
echo "$picture"
