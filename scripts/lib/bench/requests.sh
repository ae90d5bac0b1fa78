# shellcheck shell=bash
# How many requests the kernel sends to sitefs for each kind of work, by its own tracepoint. Needs perf.

bench_requests() {
  local new tree
  if ! command -v perf >/dev/null || ! perf list fuse:fuse_request_send 2>/dev/null | grep -q fuse_request_send; then
    warn "left out: perf and the tracepoint fuse:fuse_request_send are needed"
    return 0
  fi
  tree_import
  new=$(root_of sitefs)/requests
  tree=$WORK/daemon/sitefs/generations/requests/1
  sitefs_run --quiet clone tree requests >/dev/null
  mkdir "$new"
  count_requests 'untar;file' "$TREE_FILES" tar -xf "$WORK/original.tar" -C "$new"
  count_requests 'find, first;file' "$TREE_FILES" tree_find "$tree"
  count_requests 'find, again;file' "$TREE_FILES" tree_find "$tree"
  count_requests 'read all, first;file' "$TREE_FILES" tree_read "$tree"
  count_requests 'read all, again;file' "$TREE_FILES" tree_read "$tree"
  # Once before, as each directory is asked for its access control list then.
  look_as_web "$tree" >/dev/null
  count_requests 'stat by another user;file' 1000 look_as_web "$tree"
  count_requests 'chmod -R;file' "$TREE_FILES" tree_chmod "$tree"
  count_requests 'rm -r;file' "$TREE_FILES" rm -rf "$new"
  count_requests 'random writes;write and fsync' 300 workload sitefs random-writes "$(root_of sitefs)/file"
  count_requests 'SQLite, rollback journal;transaction' 200 workload sitefs sqlite-delete "$(root_of sitefs)/file"
  count_requests 'SQLite, WAL;transaction' 200 workload sitefs sqlite-wal "$(root_of sitefs)/file"
  sitefs_run --quiet site remove requests --force >/dev/null
}

# look_as_web TREE: the attributes of 1,000 files, by their whole paths.
look_as_web() {
  find "$1" -type f -print0 >"$WORK/files"
  head -z -n 1000 "$WORK/files" | as_web xargs -0 stat -c %s
}

# The operations that are counted, by their numbers in the kernel's interface.
REQUEST_NAMES=(1:lookup 3:getattr 4:setattr 5:readlink 6:symlink 9:mkdir 10:unlink 11:rmdir 12:rename 14:open 15:read
  16:write 18:release 20:fsync 22:getxattr 25:flush 27:opendir 28:readdir 35:create 36:interrupt 43:fallocate
  44:readdirplus 46:lseek)

# count_requests TITLE;UNIT UNITS COMMAND...: the report divides by UNITS.
count_requests() {
  local title=$1 units=$2 entry
  local -a events=()
  shift 2
  sync
  for entry in "${REQUEST_NAMES[@]}"; do
    events+=(-e fuse:fuse_request_send --filter "opcode==${entry%%:*}")
  done
  # The command may be a function, so it is not perf that runs it.
  perf stat -x, -a -o "$WORK/requests" "${events[@]}" -- sleep 1000 2>/dev/null &
  wait_until 5 pgrep -P $! sleep || fail "perf does not start"
  "$@" >/dev/null
  kill "$(pgrep -P $! sleep)"
  wait $! 2>/dev/null || true
  awk -F, '/fuse_request_send/ { print $1 }' "$WORK/requests" | paste - <(printf '%s\n' "${REQUEST_NAMES[@]#*:}") |
    while read -r count name; do
      if ((count > 0)); then record "requests:$title;$units" "$name" "$count"; fi
    done
}
