#!/bin/sh
# Run by "cloud-init clean" (/etc/cloud/clean.d), which makes an image of a machine: what belongs to this VM goes. A machine that
# is drained, or on which a script runs, is refused, and cloud-init says so.
command -v evenkeel >/dev/null || exit 0
exec evenkeel generalize --yes
