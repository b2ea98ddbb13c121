#!/usr/bin/env bash
# Installs what tests in network namespaces need, where that is possible: on
# Debian and its children, as root. Elsewhere it does nothing, and those tests
# say what they lack.
set -euo pipefail
missing=()
command -v ip >/dev/null || missing+=(iproute2)
command -v nft >/dev/null || missing+=(nftables)
if [ ${#missing[@]} -eq 0 ] || [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null; }
install || { apt-get update -qq && install; } || echo "could not install ${missing[*]}; tests that need them are skipped" >&2
