#!/usr/bin/env bash
# Packs build/warmpath-VERSION-linux-ARCH.tar.gz: bin/warmpath, the shared libraries it needs beyond glibc in lib/ (the binary looks
# for them in $ORIGIN/../lib before the system's), LICENSE and README. It runs on any x86-64 or arm64 Linux with Debian 12's glibc or newer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup.sh

binary=build/bin/warmpath
version=$("$binary" --version | awk '{ print $2 }')
name=warmpath-$version-linux-$(uname -m)
stage=build/package/$name
rm -rf "build/package"
mkdir -p "$stage/bin" "$stage/lib"
cp "$binary" "$stage/bin/"
strip --strip-debug "$stage/bin/warmpath"
cp LICENSE README.md "$stage/"

# glibc's own parts stay the system's: the loader and libc must match.
ldd "$binary" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' |
  grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv|ld-linux[^/]*)\.so' | while read -r library; do
    cp -L "$library" "$stage/lib/"
  done

# What was packed must start with its own libraries, wherever it is unpacked.
packed=$(env -i "$stage/bin/warmpath" --version)
foreign=$(ldd "$stage/bin/warmpath" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' |
  grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv)\.so' | grep -vF "/$name/bin/../lib/" || true)
[ -z "$foreign" ] || die "the packed binary still loads: $foreign"
tar -C build/package -czf "build/$name.tar.gz" "$name"
rm -rf build/package
echo "$packed"
echo "build/$name.tar.gz ($(du -h "build/$name.tar.gz" | cut -f1))"
