# Runs a script in a copy of this machine that nobody else sees, and that is
# gone afterwards: overlay.sh DIRECTORY SCRIPT ARGUMENT…
set -eu
dir=$1 script=$2
shift 2
mount -t tmpfs tmpfs "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
mount -t proc proc "$dir/root/proc"
mount --rbind /dev "$dir/root/dev"
if [ "${1-}" = try ]; then
	exit 0
fi
cp "$script" "$dir/root/script.sh"
cp "$1" "$dir/root/holdfast.deb"
# A service manager that writes down what it is asked, and does nothing.
mkdir -p "$dir/root/run/systemd/system"
printf '#!/bin/sh\necho "$*" >>/systemctl.log\n' >"$dir/root/usr/bin/systemctl.new"
chmod 755 "$dir/root/usr/bin/systemctl.new"
mv "$dir/root/usr/bin/systemctl.new" "$dir/root/usr/bin/systemctl"
exec chroot "$dir/root" sh /script.sh
