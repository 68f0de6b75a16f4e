#!/bin/sh
# check.sh DEB ROOT: installs the package in a clean Debian root, starts the gateway, uses it as a light,
# upgrades it, and purges it. Then it does the same in a booted system, if systemd-nspawn is installed.
# Needs root and mmdebstrap. ROOT is created, and used again if it exists.
set -eu
deb=$1 root=$2
say() { echo "package: $*"; }
fail() { echo "package: $*" >&2; exit 1; }

if [ ! -e "$root/ready" ]; then
    say "creating a clean root with mmdebstrap"
    rm -rf "$root"
    mmdebstrap --quiet --variant=minbase --include=passwd,libgcc-s1,systemd,systemd-sysv bookworm "$root"
    touch "$root/ready"
fi
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
gateway=
stop() {
    if [ -n "$gateway" ]; then kill "$gateway" 2> /dev/null || true; wait "$gateway" || true; fi
    gateway=
}
unmount() {
    for mount in dev/urandom proc; do umount "$root/$mount" 2> /dev/null || true; done
}
cleanup() {
    stop
    inside dpkg --purge saegis > /dev/null 2>&1 || true
    unmount
}
trap cleanup EXIT
mount -t proc proc "$root/proc"
if [ ! -c "$root/dev/urandom" ]; then
    touch "$root/dev/urandom"
    mount --bind /dev/urandom "$root/dev/urandom"
fi

cp "$deb" "$root/tmp/saegis.deb"
inside dpkg -i /tmp/saegis.deb > /dev/null
inside saegis version
inside id saegis > /dev/null
inside bash -c '. /usr/share/bash-completion/completions/saegis && complete -p saegis' > /dev/null
zcat "$root/usr/share/man/man1/saegis-explain.1.gz" | grep -q '^\.SH SYNOPSIS' || fail "there is no manual page"
found=$(stat -c '%a %u' "$root/etc/saegis/saegis.toml")
[ "$found" = "640 0" ] || fail "saegis.toml has mode and owner $found"
inside setpriv --reuid saegis --regid saegis --clear-groups \
    saegis check --config /etc/saegis/saegis.toml
inside saegis init /tmp/new --demo > /dev/null
rm -rf "$root/tmp/new"

say "adding a light"
port=18443
sed -i "s/127.0.0.1:8443/127.0.0.1:$port/; s/127.0.0.1:9464/127.0.0.1:19464/" "$root/etc/saegis/saegis.toml"
table=$root/etc/saegis/policies/psk-lookup-table.csv
"$(dirname "$0")/light.sh" "$port" "$table" > "$root/tmp/light.toml"
chmod 600 "$root/tmp/light.toml"

start() {
    rm -f "$root/tmp/log"
    # Without a function, so that the process that is killed is the gateway.
    chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin \
        setpriv --reuid saegis --regid saegis --clear-groups --no-new-privs \
        saegis run --config /etc/saegis/saegis.toml > "$root/tmp/log" 2>&1 &
    gateway=$!
    for _ in $(seq 100); do
        if grep -qs gateway.ready "$root/tmp/log"; then return; fi
        kill -0 "$gateway" 2> /dev/null || break
        sleep 0.1
    done
    cat "$root/tmp/log" >&2
    fail "the gateway does not start"
}
light() { inside saegis ae --config /tmp/light.toml "$@"; }

start
light register
light create container lamp
light send lamp on
stop

say "upgrading"
touch "$root/etc/saegis/private"
chmod 600 "$root/etc/saegis/private"
again=$root/tmp/again
rm -rf "$again"
dpkg-deb -R "$deb" "$again"
sed -i 's/^Version: .*/&+1/' "$again/DEBIAN/control"
dpkg-deb --root-owner-group -Znone -b "$again" "$root/tmp/again.deb" > /dev/null
# dpkg keeps the changed configuration files without a question, because the package did not change them.
inside dpkg -i /tmp/again.deb > /dev/null
grep -q "^Clight-AE1," "$table" || fail "the upgrade lost a table"
found=$(stat -c '%a %g' "$root/etc/saegis/private")
[ "$found" = "600 0" ] || fail "the upgrade gave a private file mode and group $found"
start
# The registration survived, so the container is there.
light latest lamp
stop

say "purging"
inside dpkg --purge saegis > /dev/null
for left in etc/saegis var/lib/saegis usr/bin/saegis; do
    [ ! -e "$root/$left" ] || fail "/$left is left"
done
if inside id saegis > /dev/null 2>&1; then fail "the user saegis is left"; fi
say "installed, used, upgraded and purged"
unmount
trap - EXIT

if ! command -v systemd-nspawn > /dev/null; then
    say "systemd-nspawn is not installed, so the service was not started by systemd"
    exit
fi
say "booting the clean root"
for file in result log refused upgraded connections; do rm -f "$root/$file"; done
mv "$root/tmp/saegis.deb" "$root/saegis.deb"
mv "$root/tmp/again.deb" "$root/again.deb"
for script in boot.sh light.sh; do cp "$(dirname "$0")/$script" "$root/$script"; done
cat > "$root/etc/systemd/system/check.service" << END
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/boot.sh
END
wants=$root/etc/systemd/system/multi-user.target.wants
mkdir -p "$wants"
ln -sf ../check.service "$wants/check.service"
timeout 180 systemd-nspawn --quiet --directory "$root" --boot --register=no --keep-unit \
    --private-network > "$root/boot.log" 2>&1 || true
result=$(cat "$root/result" 2> /dev/null || echo "the system did not boot: $(tail -n 3 "$root/boot.log")")
say "$result"
case $result in
    *"none refused") ;;
    *) tail -n 30 "$root/log" >&2 || true; exit 1 ;;
esac
