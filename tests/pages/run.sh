#!/bin/sh
# Opens the reports in headless Chromium: tests/pages/run.sh GENIALEARN. Installs Chromium where there is none and Debian has
# it. Exit code 77: did not run, with one line that says why.
set -eu
program=$1
found() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
if ! found >/dev/null; then
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    # Ubuntu's package is a snap, which does not start in containers.
    if grep -qx 'ID=debian' /etc/os-release 2>/dev/null; then
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium >/dev/null || true
    fi
fi
if ! browser=$(found); then
    echo "pages: NOT RUN, no Chromium here and none to install"
    exit 77
fi
exec python3 "$(dirname "$0")/check.py" "$program" "$browser"
