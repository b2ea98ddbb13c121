#!/usr/bin/env bash
# Makes the Debian package of a binary: deb.sh BINARY VERSION OUTDIR. It needs
# dpkg-deb alone.
set -euo pipefail
binary=$1 version=$2 out=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# A version of git becomes one of Debian: v1.2.3-4-gabcdef is 1.2.3+4.gabcdef, and
# a bare commit comes before every release.
version=${version#v}
case $version in
[0-9]*.[0-9]*) version=$(printf %s "$version" | sed 's/-/+/; s/-/./g') ;;
*) version=0~$(printf %s "$version" | tr -c 'A-Za-z0-9.+~\n' .) ;;
esac
arch=$(dpkg --print-architecture)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
install -D -m 755 "$binary" "$root/usr/bin/holdfast"
install -D -m 644 "$here/holdfast.service" "$root/lib/systemd/system/holdfast.service"
install -D -m 644 "$here/../LICENSE" "$root/usr/share/doc/holdfast/copyright"
for page in "$here"/../docs/*.md "$here/../README.md"; do
	install -D -m 644 "$page" "$root/usr/share/doc/holdfast/$(basename "$page")"
done
"$binary" man "$root/man"
for page in "$root"/man/*.1; do
	install -D -m 644 "$page" "$root/usr/share/man/man1/$(basename "$page")"
	gzip -9 -n "$root/usr/share/man/man1/$(basename "$page")"
done
rm -rf "$root/man"
install -d "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions" "$root/usr/share/fish/vendor_completions.d"
"$binary" completion bash >"$root/usr/share/bash-completion/completions/holdfast"
"$binary" completion zsh >"$root/usr/share/zsh/vendor-completions/_holdfast"
"$binary" completion fish >"$root/usr/share/fish/vendor_completions.d/holdfast.fish"
chmod 644 "$root"/usr/share/bash-completion/completions/* "$root"/usr/share/zsh/vendor-completions/* "$root"/usr/share/fish/vendor_completions.d/*
mkdir "$root/DEBIAN"
install -m 755 "$here"/debian/* "$root/DEBIAN/"
cat >"$root/DEBIAN/control" <<CONTROL
Package: holdfast
Version: $version
Architecture: $arch
Maintainer: The Holdfast authors <holdfast@example.org>
Section: admin
Priority: optional
Depends: adduser
Recommends: fuse3
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Description: replicated backups for Proxmox VE, from many sites to many sites
 A node that Proxmox VE hosts back up to as they do to a Proxmox Backup Server,
 and a client for it and for Proxmox Backup Servers.
CONTROL
mkdir -p "$out"
dpkg-deb --root-owner-group -Z"${DEB_COMPRESSION:-xz}" --build "$root" "$out/holdfast_${version}_$arch.deb"
