#!/bin/sh
# Make a virtual environment with pip. Debian and Ubuntu keep what that needs in python3-venv, which
# is installed here when we are root; otherwise the command to run is printed.
set -eu
if "$PYTHON" -m venv "$1" >/dev/null 2>&1; then exit 0; fi
rm -rf "$1"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "python3-venv is missing: installing it with apt-get"
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y python3-venv >/dev/null
    exec "$PYTHON" -m venv "$1"
fi
echo "$PYTHON -m venv failed. On Debian and Ubuntu run: sudo apt-get install python3-venv" >&2
exit 1
