#!/bin/sh
# Install the system libraries that Qt, OpenGL and a virtual screen need on Debian and Ubuntu.
# Elsewhere, or without the right to do so, say what is needed and go on: a desktop usually has it.
set -eu

if [ "$(uname -s)" != Linux ]; then
    exit 0
fi

packages="xvfb xauth libgl1 libegl1 libgl1-mesa-dri libglib2.0-0 libfontconfig1 libdbus-1-3
libgssapi-krb5-2 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0
libxcb-render-util0 libxcb-shape0 libxcb-xfixes0 libxcb-xinerama0 libxcb-xkb1"

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Not Debian or Ubuntu: if Qt does not start, install your distribution's versions of" >&2
    echo "Xvfb, xauth, Mesa OpenGL, fontconfig, D-Bus, xkbcommon-x11 and the xcb libraries." >&2
    exit 0
fi

# The venv module of the Python in use is a package of its own there.
if ! "${PYTHON:-python3}" -c "import ensurepip, venv" >/dev/null 2>&1; then
    packages="$packages python3-venv"
fi

missing=""
for package in $packages; do
    # Newer releases have some of them under a name that ends in t64.
    for name in "$package" "${package}t64"; do
        case "$(dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null || true)" in
        installed) continue 2 ;;
        esac
    done
    missing="$missing $package"
done
if [ -z "$missing" ]; then
    exit 0
fi

if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "These system libraries are missing; ask for them to be installed as root with" >&2
    echo "    apt-get install$missing" >&2
    exit 0
fi

echo "Installing system libraries:$missing"
$as_root apt-get update -q
# shellcheck disable=SC2086  # one word per package
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
