#!/bin/sh
# The browser extension in a browser of its own, beside a server of your own, on this machine only:
#
#     examples/web_call.sh FOLDER [ADDRESS]      ADDRESS: the page of a call, https://meet.jit.si/ without one
#
# Needs Chromium (apt install chromium). Extension, token and the browser's profile lie in FOLDER; the browser you use
# every day is left alone. In the call choose the camera "vividstream". The server ends with the browser.
# CHROMIUM_FLAGS is handed to the browser, PORT to the server.
set -eu
# As README installs it: in .venv beside this folder, unless another one is in PATH.
PATH=$PATH:$(cd "$(dirname "$0")/.." && pwd)/.venv/bin

folder=$(realpath -m "${1:?give a folder for the extension and the browser\'s profile}")
address=${2:-https://meet.jit.si/}
identity=${IDENTITY:-lucia}
port=${PORT:-8080}
browser=$(command -v chromium || command -v chromium-browser) || { echo "Chromium is not installed: apt install chromium" >&2; exit 1; }

mkdir -p "$folder"
umask 077
[ -s "$folder/token" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$folder/token"
token=$(cat "$folder/token")

VIVIDSTREAM_EXTENSION_TOKEN=$token vividstream extension "$folder/extension" --server "http://127.0.0.1:$port" >/dev/null
VIVIDSTREAM_SERVE_TOKEN=$token vividstream serve --identity "$identity" --max-sessions 2 --port "$port" >"$folder/server.log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM
until grep -q "is ready" "$folder/server.log"; do
    kill -0 $server 2>/dev/null || { tail -3 "$folder/server.log" >&2; exit 1; }
    sleep 0.5
done

"$browser" --user-data-dir="$folder/profile" --no-first-run --load-extension="$folder/extension/chromium" \
    --disable-extensions-except="$folder/extension/chromium" ${CHROMIUM_FLAGS:-} "$address"
