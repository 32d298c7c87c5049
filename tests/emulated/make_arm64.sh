#!/usr/bin/env bash
# An ARM64 Python with the runtime's packages, for qemu-aarch64 -L: Debian's packages unpacked, wheels beside them.
# Nothing is installed on this system. Usage: make_arm64.sh [FOLDER], by default .perf/arm64 in the repository.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=$(realpath -m "${1:-$repository/.perf/arm64}")
work=$target.tmp
python=${PYTHON:-python3}
rm -rf "$work"
mkdir -p "$work"/apt/{lists,archives}/partial "$work/root/proc"

: > "$work/apt/status" # nothing is installed, so apt downloads every dependency
apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Debug::NoLocking=1
  -o "Dir::State::Lists=$work/apt/lists" -o "Dir::State::status=$work/apt/status"
  -o "Dir::Cache=$work/apt" -o "Dir::Cache::archives=$work/apt/archives")
"${apt[@]}" update
"${apt[@]}" install -y --download-only --no-install-recommends python3-minimal libpython3-stdlib libstdc++6
for package in "$work"/apt/archives/*.deb; do
  dpkg-deb -x "$package" "$work/root"
done

interpreter=$(basename "$(readlink -f "$work/root/usr/bin/python3")") # python3.11
for name in numpy onnxruntime tokenizers click flatbuffers packaging protobuf; do
  grep "^$name==" "$repository/constraints.txt"
done > "$work/pins.txt"
"$python" -m pip --disable-pip-version-check install --quiet --no-deps --only-binary=:all: --target "$work/root/site" \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
  --platform manylinux2014_aarch64 --python-version "${interpreter#python}" -r "$work/pins.txt"

# qemu shows the host's /proc/cpuinfo, on which onnxruntime's reader of ARM's falls over: it gets one of ARM.
for core in $(seq 0 $(($(nproc --all) - 1))); do
  printf 'processor\t: %s\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\n' "$core"
  printf 'CPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n'
done > "$work/root/proc/cpuinfo"

rm -rf "$target" "$work/apt"
mv "$work/root" "$target"
rm -rf "$work"
echo "$target"
