# shellcheck shell=bash
# What is done inside the daemon: import, snapshot, clone, cutover; its memory. Needs WORK, ROUNDS, TREE_BYTES.

SNAPSHOT_CHANGES=100

bench_store() {
  local round
  for ((round = 1; round <= ROUNDS; round++)); do
    store_import "$round"
    store_versions "site-$round" "" 10
    record memory sitefs "$(memory_of_daemon VmRSS | awk '{ print $1 / 1e6 }')"
    if ((round == 1)); then store_clones_share; fi
    sitefs_run --quiet site remove "site-$round" --force >/dev/null
    say "round $round of $ROUNDS" >&2
  done
  store_memory_idle
}

# store_import ROUND: into a store of its own, as nothing is stored twice.
store_import() {
  local directory=$WORK/import daemon=$WORK/daemon before after
  mkdir "$directory" "$WORK/ext4/import"
  cat "$WORK/original.tar" >/dev/null
  sync
  measure import ext4 tar -xf "$WORK/original.tar" -C "$WORK/ext4/import"
  remove_tree "$WORK/ext4/import"
  mkdir "$WORK/ext4/import"
  sync
  measure import-synced ext4 store_untar_synced "$WORK/ext4/import"
  remove_tree "$WORK/ext4/import"
  sync
  mkdir -p "$directory/platform/sites"
  find "$WORK/original" -type f -print0 | xargs -0 cat >/dev/null
  sitefs_start "$directory" >/dev/null
  sitefs_run --quiet platform add one "$directory/platform" --sites sites >/dev/null
  before=$(disk_use "$directory/store")
  measure import sitefs sitefs_run --quiet site import tree "$WORK/original" --platform one --app generic
  awk -F'\t' '$1 == "import" && $2 == "sitefs" { last = $3 } END { print last }' "$VALUES" |
    { read -r last && record import-synced sitefs "$last"; }
  after=$(disk_use "$directory/store")
  record store-share sitefs "$(awk -v bytes=$((after - before)) -v of="$TREE_BYTES" 'BEGIN { print 100 * bytes / of }')"
  sitefs_stop "$directory"
  remove_tree "$directory"
  # shellcheck disable=SC2034 # read by sitefs_run
  SITEFS_DIRECTORY=$daemon
  sitefs_run --quiet site import "site-$1" "$WORK/original" --platform one --app generic >/dev/null
}

store_untar_synced() {
  tar -xf "$WORK/original.tar" -C "$1"
  sync -f "$1"
}

disk_use() {
  sync -f "$1"
  du -s --block-size=1 "$1" | cut -f 1
}

# store_versions SITE PREFIX TIMES: snapshots of changes, clones, cutovers; rows named with the prefix.
store_versions() {
  local site=$1 prefix=$2 times=$3 time head=$WORK/daemon/sitefs/generations/$1/1 platform=two
  local -a changed
  mapfile -t changed < <(find "$head" -type f -size -64k | awk 'NR % 97 == 0' | head -n "$SNAPSHOT_CHANGES")
  for ((time = 1; time <= times; time++)); do
    for file in "${changed[@]}"; do printf 'changed %d\n' "$time" >>"$file"; done
    measure "${prefix}snapshot" sitefs sitefs_run --quiet snapshot "$site"
  done
  for ((time = 1; time <= times; time++)); do
    measure "${prefix}clone" sitefs sitefs_run --quiet clone "$site" "$site-clone-$time"
    sitefs_run --quiet site remove "$site-clone-$time" --force >/dev/null
  done
  printf 'one\n' >"$head/RELEASE"
  "php$(php_command)" "$BENCH_LIBRARY/workload.php" follow "$WORK/daemon/sitefs/sites/$site" 3 >"$WORK/follow" &
  for ((time = 1; time <= times; time++)); do
    measure "${prefix}cutover" sitefs sitefs_run --quiet cutover "$site" --platform "$platform"
    if [[ $platform == two ]]; then platform=one; else platform=two; fi
  done
  wait $!
  if [[ -z $prefix ]]; then record cutover-client sitefs "$(<"$WORK/follow")"; fi
}

store_clones_share() {
  local before after number
  before=$(disk_use "$WORK/daemon/store")
  for ((number = 1; number <= 100; number++)); do
    sitefs_run --quiet clone site-1 "many-$number" >/dev/null
  done
  after=$(disk_use "$WORK/daemon/store")
  record clones-share sitefs "$(awk -v bytes=$((after - before)) -v of="$TREE_BYTES" 'BEGIN { print 100 * bytes / of }')"
  for ((number = 1; number <= 100; number++)); do
    sitefs_run --quiet site remove "many-$number" --force >/dev/null
  done
}

# store_memory_idle: 1,000 sites, after a start.
store_memory_idle() {
  local number
  tree_import
  for ((number = 1; number <= 1000; number++)); do
    sitefs_run --quiet clone tree "idle-$number" >/dev/null
  done
  sitefs_stop "$WORK/daemon"
  sitefs_serve
  sleep 2
  record memory-idle sitefs "$(memory_of_daemon VmRSS | awk '{ print $1 / 1e6 }')"
  for ((number = 1; number <= 1000; number++)); do
    sitefs_run --quiet site remove "idle-$number" --force >/dev/null
  done
}
