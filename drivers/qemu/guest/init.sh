#!/bin/busybox sh
# The init of a guest for tests. Its arguments are shell commands, which it runs one after
# the other before it gives a shell on the console.

# tick prints a line a second.
tick() { i=0; while :; do i=$((i + 1)); echo "tick $i"; sleep 1; done; }
# hog takes so many MiB of memory, and keeps them.
hog() { dd if=/dev/zero of=/dev/shm/hog bs=1M count="$1" 2>/dev/null && echo "took $1 MiB"; }
panic() { echo c >/proc/sysrq-trigger; }
# boots counts how often it was used with this disk, which it formats if it must.
boots() {
	mount -t ext4 "$1" /mnt 2>/dev/null || { mke2fs -q -F "$1" >/dev/null && mount -t ext2 "$1" /mnt 2>/dev/null || mount -t ext4 "$1" /mnt; }
	n=$(($(cat /mnt/boots 2>/dev/null || echo 0) + 1))
	echo $n >/mnt/boots
	sync
	echo "boot $n of $1"
}
# net asks for an address, and answers each request on port 8080 with a line.
net() {
	ip link set lo up
	ip link set eth0 up
	udhcpc -q -n -i eth0 -s /bin/dhcp >/dev/null 2>&1
	echo "address $(ip -4 -o addr show eth0 | awk '{print $4}')"
	while :; do printf 'HTTP/1.0 200 OK\r\n\r\nhello from %s\n' "$(hostname)" | nc -l -p 8080 >/dev/null; done &
}
# seed shows what a CD for cloud-init has.
seed() {
	mount -t iso9660 -o ro /dev/sr0 /mnt && for f in $(find /mnt -type f); do echo "== $f"; cat "$f"; echo; done
	umount /mnt
}
# The shells that people type into read this file too, for what is above.
[ $$ = 1 ] || return 0

/bin/busybox --install -s /bin
export PATH=/bin HOME=/ PS1='guest# ' ENV=/init
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs -o size=95% shm /dev/shm
while read -r module; do insmod /modules/$module.ko 2>/dev/null; done </modules/order
echo 1 >/proc/sys/kernel/sysrq

cat >/bin/dhcp <<'END'
#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr flush dev $interface
ip addr add $ip/${mask:-24} dev $interface
[ -z "$router" ] || ip route add default via $router
END
chmod +x /bin/dhcp
acpid -l /dev/null 2>/dev/null

echo "Hello from a Berth guest."
echo "$(uname -m), Linux $(uname -r), $(nproc) CPUs, $(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo) MiB, up $(cut -d' ' -f1 /proc/uptime) s"
for command; do eval "$command"; done
while :; do setsid cttyhack sh; done
