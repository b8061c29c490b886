#!/bin/sh
# container.sh ROOT ro|rw IDENTITY MOUNTS HOSTS CA -- COMMAND...: becomes COMMAND in a root file system of its own, as a container runtime
# would start it. Runs in a mount namespace of its own. IDENTITY: the words for setpriv; MOUNTS: lines of "source target ro|rw";
# CA: a certificate that the container trusts beside the system's.
set -eu
root=$1 mode=$2 identity=$3 mounts=$4 hosts=$5 ca=$6
shift 7
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
for d in proc dev sys etc tmp run var/run var/tmp opt root usr/local/bin; do mkdir -p "$root/$d"; done
chmod 1777 "$root/tmp" "$root/var/tmp"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
for d in bin sbin lib lib32 lib64 libexec share; do
  if [ -L "/$d" ]; then ln -s "usr/$d" "$root/$d"; fi
  if [ -d "/usr/$d" ]; then mkdir -p "$root/usr/$d"; mount --bind -o ro "/usr/$d" "$root/usr/$d"; fi
done
for f in passwd group nsswitch.conf ld.so.cache ld.so.conf.d alternatives mime.types localtime; do
  if [ -e "/etc/$f" ]; then cp -a "/etc/$f" "$root/etc/" 2>/dev/null || true; fi
done
mkdir -p "$root/etc/ssl/certs"
cat /etc/ssl/certs/ca-certificates.crt "$ca" >"$root/etc/ssl/certs/ca-certificates.crt"
: >"$root/etc/hosts"
: >"$root/etc/resolv.conf"
mount --bind "$hosts" "$root/etc/hosts"
while read -r source target how; do
  [ -n "$source" ] || continue
  if [ -d "$source" ]; then
    mkdir -p "$root$target"
  else
    mkdir -p "$(dirname "$root$target")"
    : >"$root$target"
  fi
  mount --bind "$source" "$root$target"
  [ "$how" = rw ] || mount -o remount,bind,ro "$root$target"
done <"$mounts"
[ "$mode" = rw ] || mount -o remount,ro "$root"
cd "$root"
# shellcheck disable=SC2086  # the identity is several words
exec /usr/sbin/chroot "$root" /usr/bin/setpriv $identity -- "$@"
