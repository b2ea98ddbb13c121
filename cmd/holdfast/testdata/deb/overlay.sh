# Runs a script in a copy of this machine that nobody else sees, and that is
# gone afterwards: overlay.sh DIRECTORY SCRIPT ARGUMENT…
set -eu
dir=$1 script=$2
shift 2
mount -t tmpfs tmpfs "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/top"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$dir/top"
mount -t proc proc "$dir/top/proc"
mount --rbind /dev "$dir/top/dev"
if [ "${1-}" = try ]; then
	exit 0
fi
cp "$script" "$dir/top/script.sh"
cp "$1" "$dir/top/holdfast.deb"
# A service manager that writes down what it is asked, and does nothing.
mkdir -p "$dir/top/run/systemd/system"
printf '#!/bin/sh\necho "$*" >>/systemctl.log\n' >"$dir/top/usr/bin/systemctl.new"
chmod 755 "$dir/top/usr/bin/systemctl.new"
mv "$dir/top/usr/bin/systemctl.new" "$dir/top/usr/bin/systemctl"
exec chroot "$dir/top" sh /script.sh
