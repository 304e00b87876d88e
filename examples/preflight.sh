#!/bin/sh
# Starts the server only on a machine that is fit for it: ./preflight.sh [OPTIONS OF vividstream serve ...]
# A minute at most on a new machine. What failed is printed, a line each with the command that mends it; warnings are passed over.
set -eu
# As README installs it: in .venv beside this folder, unless another one is in PATH.
PATH=$PATH:$(cd "$(dirname "$0")/.." && pwd)/.venv/bin
report=$(vividstream doctor --use serve --bench-s 2 --json) || {
    printf '%s' "$report" | python3 -c '
import json, sys
for line in json.load(sys.stdin)["findings"]:
    if line["verdict"] == "fail":
        print("{check}: {says}\n    {mend}".format(**line))
'
    exit 1
}
exec vividstream serve "$@"
