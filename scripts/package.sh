#!/usr/bin/env bash
# package.sh [BINARY [DIRECTORY]]: packs DIRECTORY/warmpath-VERSION-linux-ARCH.tar.gz (build/bin/warmpath, into build): bin/warmpath, the
# shared libraries it needs beyond glibc in lib/ (the binary looks for them in $ORIGIN/../lib before the system's), the certificate
# authorities of Debian in share/ (for systems without any: SSL_CERT_FILE names them), LICENSE and README. It runs on any x86-64 or
# arm64 Linux with Debian 12's glibc or newer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup.sh

binary=${1:-build/bin/warmpath}
directory=${2:-build}
authorities=/etc/ssl/certs/ca-certificates.crt
version=$("$binary" --version | awk '{ print $2 }')
name=warmpath-$version-linux-$(uname -m)
stage=$directory/package/$name
rm -rf "$directory/package"
mkdir -p "$stage/bin" "$stage/lib" "$stage/share"
cp "$binary" "$stage/bin/"
strip --strip-debug "$stage/bin/warmpath"
cp LICENSE README.md "$stage/"
[ -f "$authorities" ] || die "$authorities is missing: install ca-certificates"
cp -L "$authorities" "$stage/share/"

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
tar -C "$directory/package" -czf "$directory/$name.tar.gz" "$name"
rm -rf "$directory/package"
echo "$packed"
echo "$directory/$name.tar.gz ($(du -h "$directory/$name.tar.gz" | cut -f1))"
