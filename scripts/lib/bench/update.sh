# shellcheck shell=bash
# The whole update of a wiki as Aegir 3 does it and as sitefs does it, with visitors on it. Needs common.sh, web.sh,
# mediawiki.sh, client.sh, sitefs.sh and WORK; UPDATE_FILES_MB and UPDATE_DATABASE_MB are what the site has beside its pages.
#
# The old procedure: the site is closed; its database is dumped, dump and directory are packed with tar and gzip, unpacked
# on the new platform, the dump loaded into a new database, the application's update run, the web server pointed to the new
# platform, the site opened again.

UPDATE_PAGES=48

# bench_update: prepares the site once, then both procedures, and a table.
bench_update() {
  # shellcheck disable=SC2153 # set by scripts/bench
  local directory=$WORK/update
  mkdir -p "$directory"
  # A run that was interrupted may have left the site closed.
  rm -f "$directory/web/closed"
  UPDATE_LIVE=$directory/live
  web_start "$directory/web" "$UPDATE_LIVE" wiki
  update_fixture "$directory"
  : >"$directory/rows.tsv"
  update_old "$directory"
  update_sitefs "$directory" switch
  if sitefs_run update --help | grep -q in-place; then update_sitefs "$directory" in-place; fi
  web_stop "$directory/web"
  update_table "$directory"
}

# update_fixture DIRECTORY: the platforms and the site, larger where that is asked for. Its address changes with the port.
update_fixture() {
  local directory=$1
  mediawiki_fixture "$directory" "$REPOSITORY/target/debian" "$WEB_URL" "$UPDATE_PAGES"
  sed -i "s|^\$wgServer = .*|\$wgServer = '$WEB_URL';|" "$directory/original-site/LocalSettings.php"
  [[ ! -e $directory/is-large ]] || return 0
  if ((UPDATE_FILES_MB + UPDATE_DATABASE_MB > 0)); then
    say "making $UPDATE_FILES_MB MB of uploads and $UPDATE_DATABASE_MB MB of database" >&2
    "php$(php_version)" "$BENCH_LIBRARY/make-site.php" "$directory/original-site" "$UPDATE_FILES_MB" "$UPDATE_DATABASE_MB"
    chown -R "$WEB_USER": "$directory/original-site"
  fi
  touch "$directory/is-large"
}

# update_old DIRECTORY
update_old() {
  local directory=$1 one=$1/old/mediawiki-1 two=$1/old/mediawiki-2
  remove_tree "$directory/old"
  mkdir -p "$directory/old"
  cp -a --reflink=auto "$directory/platforms/mediawiki-1" "$directory/platforms/mediawiki-2" "$directory/old"
  cp -a --reflink=auto "$directory/original-site" "$one/sites/wiki"
  ln -sfn "$one" "$UPDATE_LIVE"
  update_with_visitors "$directory" old update_old_procedure "$directory" "$one" "$two"
}

# Each step waits for the one before; nothing is taken back, which is the best case for it.
update_old_procedure() {
  local directory=$1 one=$2 two=$3 work=$1/old/work
  mkdir -p "$work"
  touch "$directory/web/closed"
  # Requests that began before the site was closed may be writing still.
  sqlite3 -cmd '.timeout 60000' "$one/sites/wiki/database/wiki.sqlite" .dump >"$work/database.sql"
  [[ $(tail -n 1 "$work/database.sql") == 'COMMIT;' ]]
  tar -czf "$work/backup.tar.gz" -C "$work" database.sql -C "$one/sites" --exclude=wiki/database wiki
  rm "$work/database.sql"
  tar -xzf "$work/backup.tar.gz" -C "$two/sites"
  mkdir "$two/sites/wiki/database"
  sqlite3 "$two/sites/wiki/database/wiki.sqlite" <"$two/sites/database.sql"
  rm "$two/sites/database.sql"
  chown -R "$WEB_USER": "$two/sites/wiki/database"
  update_php "$two" "$two/sites/wiki"
  ln -sfn "$two" "$UPDATE_LIVE.new"
  mv -T "$UPDATE_LIVE.new" "$UPDATE_LIVE"
  nginx -c "$directory/web/nginx.conf" -e "$directory/web/log/nginx-error.log" -s reload 2>/dev/null
  rm -rf "$one/sites/wiki"
  rm "$directory/web/closed"
}

# update_php PLATFORM SITE: what the recipe does.
update_php() {
  mediawiki_run "$1" "$2" update --quick
  mediawiki_run "$1" "$2" rebuildLocalisationCache --lang en
} >/dev/null

# update_sitefs DIRECTORY STRATEGY
update_sitefs() {
  local directory=$1 strategy=$2 daemon=$1/daemon
  remove_tree "$daemon"
  mkdir -p "$daemon"
  cp -a --reflink=auto "$directory/platforms" "$daemon/platforms"
  sitefs_start "$daemon" >/dev/null
  for number in 1 2; do
    sitefs_run --quiet platform add "mediawiki-$number" "$daemon/platforms/mediawiki-$number" --sites sites --docroot . \
      >/dev/null
  done
  sitefs_run --quiet site import wiki "$directory/original-site" --platform mediawiki-1 --app mediawiki >/dev/null
  ln -sfn "$daemon/sitefs/live/wiki" "$UPDATE_LIVE"
  update_with_visitors "$directory" "$strategy" sitefs_run --json update wiki --platform mediawiki-2 --strategy "$strategy"
  sitefs_stop "$daemon"
  remove_tree "$daemon"
}

# update_with_visitors DIRECTORY NAME COMMAND...: a row of the table. One visitor reads and one writes, before, during and
# after.
update_with_visitors() {
  local directory=$1 name=$2 start end before after status visitors=$1/visitors-$2 daemon=
  shift 2
  rm -rf "$visitors"
  curl --silent --show-error --fail --output /dev/null --retry 5 --retry-all-errors "$WEB_URL/wiki/Chapter_1"
  sync
  client_start "$visitors" 1 "$WEB_URL/wiki/Chapter_1"
  writer_start "$visitors/writer" "$WEB_URL"
  sleep 1
  if [[ $name != old ]]; then daemon=$(<"$directory/daemon/run/sitefs.pid"); fi
  before=$(update_io "$daemon")
  start=$(now_ms)
  # In a process of its own: what its children have read and written is counted for it when they end.
  set +e # no "||" here: inside it bash would go on after errors
  (
    set -e
    "$@" >"$visitors/output" 2>"$visitors/messages"
    update_io "$BASHPID" >"$visitors/io"
  )
  status=$?
  set -e
  ((status == 0)) || { tail "$visitors/messages" >&2 && fail "the procedure \"$name\" failed"; }
  end=$(now_ms)
  after=$(update_io "$daemon")
  sleep 2
  client_stop "$visitors"
  writer_stop "$visitors/writer"
  [[ $(curl --silent --head "$WEB_URL/wiki/Chapter_1" | tr -d '\r' | awk '$1 == "X-Platform:" { print $2 }') == mediawiki-2 ]] ||
    fail "after \"$name\" visitors do not get the new platform"
  printf '%s\t%s\t%s\t%s\t%s\n' "$name" "$(seconds $((end - start)))" "$(update_unread <"$visitors/answers.tsv")" \
    "$(update_unwritten <"$visitors/writer/writes.tsv")" \
    "$(printf '%s\n' "$before" "$after" "$(<"$visitors/io")" | update_bytes)" >>"$directory/rows.tsv"
}

# update_io PID: bytes that a process and its children that have ended have read and written, by calls and for the disk.
# Zeros without a process.
update_io() {
  if [[ -z $1 ]]; then printf '0 0 0\n' && return 0; fi
  awk '{ of[$1] = $2 } END { print of["rchar:"], of["wchar:"], of["write_bytes:"] }' "/proc/$1/io"
}

# update_bytes: of three lines (the daemon before, the daemon after, the command) the sums, in MB.
update_bytes() {
  awk 'BEGIN { OFS = "\t" } NR == 1 { for (i = 1; i <= 3; i++) sum[i] -= $i } NR > 1 { for (i = 1; i <= 3; i++) sum[i] += $i }
    END { for (i = 1; i <= 3; i++) $i = sprintf("%.0f", sum[i] / 1e6); NF = 3; print }'
}

# update_unread: seconds in which no page could be read: from the last good answer before a bad one to the next good one.
update_unread() {
  awk -F '\t' '{ good = $2 == 0 && $3 == 200
      if (good && bad) { sum += $1 - last; bad = 0 }
      if (good) last = $1; else bad = 1 }
    END { printf "%.1f", sum }'
}

# update_unwritten: the same for what was to be saved; that a saving takes its time does not count, waiting does.
update_unwritten() {
  awk -F '\t' '{ good = $4 == "saved"
      if (good && bad) { sum += $1 - $2 - last; bad = 0 }
      if (good && $2 > 2) sum += $2
      if (good) last = $1; else bad = 1 }
    END { printf "%.1f", sum }'
}

# update_end: nothing of the section runs on, however it ended.
update_end() {
  local directory=$WORK/update
  [[ -d $directory ]] || return 0
  touch "$directory"/visitors-{old,switch,in-place}/{,writer/}stop 2>/dev/null || true
  web_stop "$directory/web"
  sitefs_stop "$directory/daemon"
}

update_table() {
  local files bytes
  files=$(find "$1/original-site" -type f | wc -l)
  bytes=$(du -sb --exclude=database "$1/original-site" | cut -f 1)
  say "A wiki of $files files, $(megabytes "$bytes") MB, and a SQLite database of" \
    "$(megabytes "$(stat -c %s "$1/original-site/database/wiki.sqlite")") MB; one visitor reads, one writes."
  say
  awk -F '\t' 'BEGIN {
      printf "%-22s %9s %14s %14s %10s %10s %12s\n", "procedure", "takes s", "not readable s", "not writable s",
        "read MB", "written MB", "of it disk MB"
      name["old"] = "dump, tar.gz, import"; name["switch"] = "sitefs switch"; name["in-place"] = "sitefs in-place" }
    { printf "%-22s %9.1f %14.1f %14.1f %10d %10d %12d\n", name[$1], $2, $3, $4, $5, $6, $7 }' "$1/rows.tsv"
}
