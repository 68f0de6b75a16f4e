#!/bin/sh
# boot.sh: runs inside a booted clean root, started by check.sh. Installs the package, connects while it is
# upgraded, purges it, and writes the result to /result.
exec > /log 2>&1
set -ux
fail() { echo "$*" > /result; poweroff; exit 1; }

dpkg -i /saegis.deb || fail "the package cannot be installed"
systemctl is-active saegis.socket saegis.service || fail "the service does not run"
/light.sh 8443 /etc/saegis/policies/psk-lookup-table.csv > /light.toml || fail "no light"
chmod 600 /light.toml
saegis reload --config /etc/saegis/saegis.toml
light() { saegis ae --config /light.toml "$@"; }
light register || fail "the light cannot register"
light create container lamp || fail "the light cannot create a container"

before=$(systemctl show --property MainPID saegis.service)
(
    set +x
    while [ ! -e /upgraded ]; do
        light send lamp on > /sent 2>&1 || cp /sent /refused
        echo >> /connections
    done
) &
sleep 1
dpkg -i /again.deb || fail "the package cannot be upgraded"
sleep 1
touch /upgraded
wait
[ ! -e /refused ] || fail "a connection failed during the upgrade: $(cat /refused)"
[ "$before" != "$(systemctl show --property MainPID saegis.service)" ] || fail "the upgrade restarted nothing"
light latest lamp || fail "the registration did not survive the upgrade"
dpkg --purge saegis || fail "the package cannot be purged"
if systemctl is-active saegis.socket saegis.service; then fail "the purged service runs"; fi
echo "$(wc -l < /connections) connections during the upgrade, none refused" > /result
poweroff
