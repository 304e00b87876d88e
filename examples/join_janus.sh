#!/bin/sh
# A swapped participant in a room of a Janus of your own, on this machine only:
#
#     examples/join_janus.sh FOLDER [CLIP]       CLIP: a video file with a face; without one, camera 0
#
# Needs Debian's `janus` (apt install janus), whose own service may go on: this Janus takes PORT (8189), so that both can
# run, listens on 127.0.0.1 only, and ends with the script. Everything lies in FOLDER. CLIP may be a picture, too. While
# it runs, another face: the command that it prints.
set -eu
# As README installs it: in .venv beside this folder, unless another one is in PATH.
PATH=$PATH:$(cd "$(dirname "$0")/.." && pwd)/.venv/bin

folder=$(realpath -m "${1:?give a folder for Janus\' settings}")
source=${2:-0}
identity=${IDENTITY:-lucia}
seconds=${SECONDS_IN_ROOM:-60}
port=${PORT:-8189}
library=$(echo /usr/lib/*/janus)
mkdir -p "$folder"
command -v janus >/dev/null || { echo "janus is not installed: apt install janus" >&2; exit 1; }

cat >"$folder/janus.jcfg" <<END
general: { configs_folder = "$folder"  plugins_folder = "$library/plugins"  transports_folder = "$library/transports"
    events_folder = "$library/events"  loggers_folder = "$library/loggers"  debug_level = 3 }
media: { rtp_port_range = "20000-40000" }
transports: { disable = "libjanus_http.so,libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,libjanus_rabbitmq.so" }
END
cat >"$folder/janus.transport.websockets.jcfg" <<END
general: { json = "compact"  ws = true  ws_ip = "127.0.0.1"  ws_port = $port }
END
cat >"$folder/janus.plugin.videoroom.jcfg" <<END
room-1234: { description = "a room"  publishers = 6  bitrate = 3000000  videocodec = "vp8,h264" }
END

janus -C "$folder/janus.jcfg" -F "$folder" >"$folder/janus.log" 2>&1 &
janus=$!
trap 'kill $janus 2>/dev/null' EXIT
sleep 1
kill -0 $janus 2>/dev/null || {
    tail -5 "$folder/janus.log" >&2
    echo "Janus did not start; is port $port taken by another one? PORT=8190 $0 ... takes another" >&2
    exit 1
}

echo "another face, from another terminal:"
echo "    vividstream camera --control $folder/join.sock --tell '{\"do\": \"identity\", \"name\": \"henrik\"}'"
loop=--no-loop
[ "$source" = 0 ] || loop=--loop
vividstream join janus ws://127.0.0.1:$port 1234 --source "$source" $loop --identity "$identity" --name "somebody" \
    --for-seconds "$seconds" --control "$folder/join.sock" --numbers "$folder/numbers.jsonl"
tail -1 "$folder/numbers.jsonl"
