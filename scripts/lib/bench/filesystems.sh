# shellcheck shell=bash
# The file systems that are compared, each with a writable directory: root_of NAME. All of them keep their bytes on the
# file system of WORK. Needs common.sh, sitefs.sh, WORK, QUICK.
#
#   sitefs            the head of a site: a volume with nothing below it, or the imported tree
#   sitefs-snapshot   a snapshot, read only
#   sitefs-new        a head's files that were written through the mount

# filesystems_start: mounts what there is. Sets FILESYSTEMS, ext4 first, sitefs last.
filesystems_start() {
  local name
  [[ $(findmnt -no FSTYPE -T "$WORK") == ext4 ]] ||
    warn "$WORK is on $(findmnt -no FSTYPE -T "$WORK"): what is called ext4 below is that"
  FILESYSTEMS=(ext4)
  mkdir -p "$WORK"/ext4 "$WORK"/fs
  if ! $QUICK; then
    for name in btrfs overlayfs fuse-overlayfs bindfs; do
      if mount_one "$name" 2>"$WORK/fs/$name.log"; then FILESYSTEMS+=("$name"); else warn "left out: $name"; fi
    done
  fi
  FILESYSTEMS+=(sitefs)
  mkdir -p "$WORK"/{empty,platforms/one/sites,platforms/two/sites}
  sitefs_start "$WORK/daemon" >/dev/null
  sitefs_run --quiet platform add one "$WORK/platforms/one" --sites sites >/dev/null
  sitefs_run --quiet platform add two "$WORK/platforms/two" --sites sites >/dev/null
  sitefs_run --quiet site import work "$WORK/empty" --platform one --app generic >/dev/null
}

filesystems_end() {
  local mount
  sitefs_stop "$WORK/daemon"
  while IFS= read -r mount; do umount "$mount" || umount -l "$mount"; done < <(mounts_under "$WORK")
}

mount_one() {
  local directory=$WORK/fs/$1
  mkdir -p "$directory"/{lower,upper,work,mounted}
  case $1 in
    btrfs)
      command -v mkfs.btrfs >/dev/null || return 1
      truncate -s 4G "$directory/image"
      mkfs.btrfs -q "$directory/image" && mount -o loop "$directory/image" "$directory/mounted"
      ;;
    overlayfs)
      mount -t overlay overlay \
        -o "lowerdir=$directory/lower,upperdir=$directory/upper,workdir=$directory/work" "$directory/mounted"
      ;;
    fuse-overlayfs)
      command -v fuse-overlayfs >/dev/null || return 1
      fuse-overlayfs -o "allow_other,lowerdir=$directory/lower,upperdir=$directory/upper,workdir=$directory/work" \
        "$directory/mounted"
      ;;
    bindfs)
      command -v bindfs >/dev/null || return 1
      bindfs "$directory/lower" "$directory/mounted"
      ;;
  esac
}

root_of() {
  case $1 in
    ext4) printf '%s' "$WORK/ext4" ;;
    sitefs) printf '%s' "$WORK/daemon/sitefs/generations/work/1" ;;
    *) printf '%s' "$WORK/fs/$1/mounted" ;;
  esac
}

# cold NAME: as after the machine has started: neither the kernel nor the file system's own process knows anything.
cold() {
  sync
  case $1 in
    sitefs*) sitefs_stop "$WORK/daemon" && drop_caches && sitefs_serve ;;
    fuse-overlayfs | bindfs) umount "$WORK/fs/$1/mounted" && drop_caches && mount_one "$1" ;;
    btrfs) umount "$WORK/fs/$1/mounted" && drop_caches && mount -o loop "$WORK/fs/$1/image" "$WORK/fs/$1/mounted" ;;
    *) drop_caches ;;
  esac
}

drop_caches() {
  sync
  echo 3 >/proc/sys/vm/drop_caches
}

# memory_of_daemon KEY: VmRSS or VmHWM of the sitefs daemon that is spoken to, in bytes.
memory_of_daemon() {
  awk -v key="$1:" '$1 == key { print $2 * 1024 }' "/proc/$(<"$SITEFS_DIRECTORY/run/sitefs.pid")/status"
}
