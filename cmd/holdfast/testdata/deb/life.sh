# The life of the package: installed, run, upgraded, removed, purged.
set -eu
fail() {
	echo "FAIL: $*"
	exit 1
}
as() { runuser -u holdfast -- "$@"; }
asked() { grep -qx -- "$1" /systemctl.log || fail "systemctl was not asked: $1; only: $(cat /systemctl.log)"; }
getent passwd holdfast >/dev/null && fail "there is a user holdfast before"
[ ! -e /var/lib/holdfast ] || fail "there is a /var/lib/holdfast before"
export DEBIAN_FRONTEND=noninteractive

dpkg -i /holdfast.deb >/install.log 2>&1 || fail "$(cat /install.log)"
grep -q 'holdfast node init' /install.log || fail "it does not say what comes next: $(cat /install.log)"
asked 'daemon-reload'
asked 'enable --quiet holdfast.service'
asked 'restart holdfast.service'
[ "$(stat -c '%U:%G %a' /var/lib/holdfast)" = 'holdfast:holdfast 700' ] || fail "the directory is $(stat -c '%U:%G %a' /var/lib/holdfast)"
case $(getent passwd holdfast) in
*:/usr/sbin/nologin) ;;
*) fail "the user can log in: $(getent passwd holdfast)" ;;
esac
for file in /usr/share/man/man1/holdfast.1.gz /usr/share/bash-completion/completions/holdfast /usr/share/doc/holdfast/copyright; do
	[ -s "$file" ] || fail "there is no $file"
done

# The unit is right, and leaves little open.
if command -v systemd-analyze >/dev/null; then
	systemd-analyze verify --man=no /lib/systemd/system/holdfast.service || fail "the unit is wrong"
	systemd-analyze security --offline=true --threshold=20 --no-pager /lib/systemd/system/holdfast.service >/security.log 2>&1 ||
		fail "the unit leaves too much open: $(tail -1 /security.log)"
	echo "unit: $(tail -1 /security.log)"
fi

# Root makes a node, which belongs to the service; it runs and ends as the unit says.
holdfast node init --name deb --site here --listen 127.0.0.1:0 --mesh-listen 127.0.0.1:0 >/dev/null
[ -z "$(find /var/lib/holdfast ! -user holdfast)" ] || fail "not the service's: $(find /var/lib/holdfast ! -user holdfast)"
runs() {
	as holdfast node run >/daemon.log 2>&1 &
	for _ in $(seq 200); do
		[ -S /var/lib/holdfast/admin.sock ] && return
		sleep 0.1
	done
	fail "it does not start: $(cat /daemon.log)"
}
ends() {
	pkill -TERM -x -u holdfast -f '.*node run' || fail "it runs no more: $(cat /daemon.log)"
	wait $! || fail "it ended badly: $(cat /daemon.log)"
	grep -q 'node has ended' /daemon.log || fail "it did not end cleanly: $(cat /daemon.log)"
}
runs
install -d -o holdfast -g holdfast /srv/backup
holdfast datastore create main --path /srv/backup -q
holdfast backup hosts.conf:/etc/hosts --backup-id deb -q >/dev/null
holdfast status >/dev/null
ends

# An upgrade leaves the node as it is, and restarts it.
: >/systemctl.log
dpkg -i /holdfast.deb >/install.log 2>&1 || fail "$(cat /install.log)"
asked 'restart holdfast.service'
grep -q 'holdfast node init' /install.log && fail "an upgrade wants another node"
runs
holdfast restore host/deb hosts.conf - | cmp - /etc/hosts || fail "the backup is not what it was"
ends

# Removed, it ends and keeps what it knows; purged, nothing of it is left but
# the backups.
: >/systemctl.log
dpkg -r holdfast >/install.log 2>&1 || fail "$(cat /install.log)"
asked 'stop holdfast.service'
asked 'disable --quiet holdfast.service'
[ -e /var/lib/holdfast/node.toml ] || fail "a removal takes the node away"
[ ! -e /usr/bin/holdfast ] || fail "the program is still there"
ls -A /var/lib/holdfast >/made.log
dpkg -P holdfast >/install.log 2>&1 || fail "$(cat /install.log)"
[ ! -e /var/lib/holdfast ] || fail "a purge leaves in /var/lib/holdfast: $(ls -A /var/lib/holdfast)"
getent passwd holdfast >/dev/null && fail "a purge leaves the user"
left=$(find /etc /lib /usr/bin /usr/sbin /usr/lib /usr/share /var -xdev -name '*holdfast*' -newer /script.sh || true)
[ -z "$left" ] || fail "a purge leaves: $left"
[ -d /srv/backup/host ] || fail "a purge takes backups away"

# What somebody else has put there stays.
dpkg -i /holdfast.deb >/install.log 2>&1 || fail "$(cat /install.log)"
as mkdir /var/lib/holdfast/my-store
dpkg -P holdfast >/install.log 2>&1 || fail "$(cat /install.log)"
[ -d /var/lib/holdfast/my-store ] || fail "a purge takes a directory that is not the node's"
grep -q 'stays' /install.log || fail "it does not say that something stays: $(cat /install.log)"
echo "purged: $(tr '\n' ' ' </made.log)"
