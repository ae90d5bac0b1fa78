# shellcheck shell=bash
# A store of many sites: how long what depends on one site, and what depends on all, takes. Needs WORK, SITES_COUNT.

bench_sites() {
  local directory=$WORK/sites objects before time
  mkdir -p "$directory"/{one,two}/sites
  sitefs_start "$directory"
  sitefs_run --quiet platform add one "$directory/one" --sites sites >/dev/null
  sitefs_run --quiet platform add two "$directory/two" --sites sites >/dev/null
  sitefs_stop "$directory"
  SITEFS_SCALE_STORE=$directory/store SITEFS_SCALE_SITES=$SITES_COUNT \
    cargo test --quiet --locked --release --manifest-path "$REPOSITORY/Cargo.toml" --test scale -- --ignored --nocapture >&2
  drop_caches
  before=$(now_us)
  sitefs_serve
  record sites-start-cold sitefs "$(sites_seconds_since "$before")"
  sitefs_stop "$directory"
  before=$(now_us)
  sitefs_serve
  record sites-start sitefs "$(sites_seconds_since "$before")"
  sites_memory start
  say "started" >&2
  for ((time = 1; time <= 5; time++)); do
    measure sites-status sitefs sitefs_run --quiet status
    measure sites-list sitefs sitefs_run --quiet site list
    measure sites-log sitefs sitefs_run --quiet log site1.example
    printf '%d\n' "$time" >"$directory/sitefs/sites/site1.example/file"
    measure sites-snapshot sitefs sitefs_run --quiet snapshot site1.example
    measure sites-clone sitefs sitefs_run --quiet clone site1.example "clone-$time"
    measure sites-cutover sitefs sitefs_run --quiet cutover site1.example --platform two
    measure sites-cutover sitefs sitefs_run --quiet cutover site1.example --platform one
    measure sites-remove sitefs sitefs_run --quiet site remove "clone-$time" --force
  done
  sites_memory commands
  measure sites-gc sitefs sitefs_run --quiet gc
  sites_memory gc
  say "collected" >&2
  measure sites-verify sitefs sitefs_run --quiet verify
  sites_memory verify
  objects=$(sitefs_run --json status | json_first objects)
  say "$SITES_COUNT sites, $objects objects, $(megabytes "$(disk_use "$directory/store")") MB on disk" >&2
  sites_end
}

# sites_end: stops what is there and removes it.
sites_end() {
  [[ -d $WORK/sites ]] || return 0
  sitefs_stop "$WORK/sites"
  remove_tree "$WORK/sites"
  # shellcheck disable=SC2034 # read by sitefs_run
  SITEFS_DIRECTORY=$WORK/daemon
}

sites_seconds_since() { awk -v us=$(($(now_us) - $1)) 'BEGIN { printf "%.6f", us / 1e6 }'; }

# sites_memory WHEN: what the daemon has in memory.
sites_memory() { record "sites-memory-$1" sitefs "$(memory_of_daemon VmRSS | awk '{ print $1 / 1e6 }')"; }

# json_first KEY: the first number under KEY in a document on standard input.
json_first() { sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" | head -n 1; }
