# shellcheck shell=bash
# One site of a million small files. Needs WORK, SCALE_FILES and what store.sh has.

bench_scale() {
  local head
  "php$(php_command)" "$BENCH_LIBRARY/make-files.php" "$WORK/many" "$SCALE_FILES"
  tar -cf "$WORK/many.tar" -C "$WORK/many" .
  mkdir "$WORK/many-ext4"
  sync
  measure scale-import ext4 tar -xf "$WORK/many.tar" -C "$WORK/many-ext4"
  rm "$WORK/many.tar"
  sync
  measure scale-import sitefs sitefs_run --quiet site import many "$WORK/many" --platform one --app generic
  say "imported" >&2
  head=$WORK/daemon/sitefs/generations/many/1
  cold sitefs
  measure scale-first-list sitefs ls -l "$head"
  measure scale-first-list ext4 ls -l "$WORK/many-ext4"
  cold ext4
  measure scale-find-cold ext4 tree_find "$WORK/many-ext4"
  measure scale-find ext4 tree_find "$WORK/many-ext4"
  cold sitefs
  measure scale-find-cold sitefs tree_find "$head"
  measure scale-find sitefs tree_find "$head"
  say "walked" >&2
  record scale-memory sitefs "$(memory_of_daemon VmRSS | awk '{ print $1 / 1e6 }')"
  store_versions many scale- 5
  rm -rf "$WORK/many" "$WORK/many-ext4"
}
