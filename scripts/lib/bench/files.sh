# shellcheck shell=bash
# Single files: large ones, small synced writes, and a database. Needs WORK, ROUNDS, FILESYSTEMS.

bench_files() {
  local round name
  for ((round = 1; round <= ROUNDS; round++)); do
    for name in "${FILESYSTEMS[@]}"; do files_one "$name"; done
    say "round $round of $ROUNDS" >&2
  done
}

files_one() {
  local file
  file=$(root_of "$1")/large
  sync
  measure write-large "$1" dd if=/dev/zero "of=$file" bs=1M count=512 conv=fsync status=none
  dd "if=$file" of=/dev/null bs=1M status=none
  measure read-large "$1" dd "if=$file" of=/dev/null bs=1M status=none
  rm "$file"
  sync
  workload "$1" random-writes "$file"
  workload "$1" sqlite-delete "$file.sqlite"
  workload "$1" sqlite-wal "$file.sqlite"
}

# workload WHO NAME FILE: one of workload.php, which prints how many it did in a second.
workload() { record "$2" "$1" "$("php$(php_command)" "$BENCH_LIBRARY/workload.php" "$2" "$3")"; }
