# What the scripts share: saying what happens, installing what is missing, one clear line on failure.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
# Compiled files are found again from another clone.
export CCACHE_BASEDIR=$ROOT CCACHE_NOHASHDIR=1

# What the command line is built with, and what the tests and benchmarks need besides.
CLI_PACKAGES=(g++ cmake ninja-build pkg-config libhwy-dev libpthreadpool-dev libfmt-dev
  nlohmann-json3-dev libcli11-dev libjpeg-dev libpng-dev libonnx-dev libprotobuf-dev python3)
BUILD_PACKAGES=("${CLI_PACKAGES[@]}" ccache libgtest-dev libbenchmark-dev)

say() { printf '\n==> %s\n' "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}
trap 'die "failed at line $LINENO: $BASH_COMMAND"' ERR

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Installs those of the named Debian packages that are missing.
need_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "needs Debian's packages ${missing[*]}, and there is no apt-get"
  say "installing ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Makes the virtual environment $1 and installs the requirements file $2, unless that was done before.
# By uv, whose environments share one copy of every file: PyTorch alone takes gigabytes.
need_venv() {
  local venv=$1 requirements=$2 stamp=$1/.installed
  if [ -f "$stamp" ] && cmp -s "$requirements" "$stamp"; then return 0; fi
  need_packages python3-venv
  say "installing $(basename "$requirements") into $(basename "$venv")"
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check uv
  "$venv/bin/uv" pip install -q --python "$venv/bin/python" -r "$requirements"
  cp "$requirements" "$stamp"
}

build_cli() {
  need_packages "${CLI_PACKAGES[@]}"
  say "building the command line (release)"
  cmake --preset release -DSEPCONV_BUILD_TESTS=OFF -DSEPCONV_BUILD_BENCH=OFF >/dev/null
  cmake --build --preset release
}

build_release() {
  need_packages "${BUILD_PACKAGES[@]}"
  say "building (release)"
  cmake --preset release >/dev/null
  cmake --build --preset release
}
