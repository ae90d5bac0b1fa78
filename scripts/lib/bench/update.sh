# shellcheck shell=bash
# The whole update of a wiki as Aegir 3 does it and as sitefs does it, with visitors on it. Needs common.sh, web.sh,
# mediawiki.sh, client.sh, sitefs.sh, servers.sh and WORK; UPDATE_ENGINES says on which databases, and UPDATE_FILES_MB and
# UPDATE_DATABASE_MB what the site has beside its pages.
#
# The old procedure: the site is closed; its database is dumped, dump and directory are packed with tar and gzip, unpacked
# on the new platform, the dump loaded into a new database, the application's update run, the web server pointed to the new
# platform, the site opened again.

UPDATE_PAGES=48
UPDATE_PROCEDURES=(old switch in-place)

# bench_update: for each kind of database prepares the site once, then all procedures; a table.
bench_update() {
  local engine
  # shellcheck disable=SC2153 # set by scripts/bench
  : >"$WORK/rows.tsv"
  # shellcheck disable=SC2153
  for engine in ${UPDATE_ENGINES//,/ }; do
    step "A wiki on $engine" >&2
    update_engine "$engine" "$WORK/$engine"
  done
  update_table
}

# update_engine ENGINE DIRECTORY
update_engine() {
  local engine=$1 directory=$2
  UPDATE_ENGINE=$engine
  mkdir -p "$directory"
  # A run that was interrupted may have left the site closed.
  rm -f "$directory/web/closed"
  UPDATE_LIVE=$directory/live
  if [[ $engine != sqlite ]]; then server_start "$directory/server" "$engine"; fi
  web_start "$directory/web" "$UPDATE_LIVE" wiki
  update_fixture "$directory"
  update_size "$directory" >"$directory/size"
  update_old "$directory"
  update_sitefs "$directory" switch
  update_sitefs "$directory" in-place
  web_stop "$directory/web"
  server_stop "$directory/server"
}

# update_fixture DIRECTORY: the platforms and the site, larger where that is asked for. Its address changes with the port.
update_fixture() {
  local directory=$1 dsn=sqlite:$1/original-site/database/wiki.sqlite options=()
  if [[ $UPDATE_ENGINE != sqlite ]]; then
    [[ -e $directory/fixture-is-complete ]] || server_new wiki
    update_settings wiki >"$directory/settings"
    options=(--dbserver "$(server_host)" --dbname wiki --dbuser "$SERVER_USER" --dbpass "$SERVER_PASSWORD")
    case $UPDATE_ENGINE in
      mariadb) options+=(--dbtype mysql) && dsn="mysql:unix_socket=$SERVER_DIRECTORY/socket;dbname=wiki" ;;
      postgresql)
        options+=(--dbtype postgres --installdbuser "$SERVER_USER" --installdbpass "$SERVER_PASSWORD")
        dsn="pgsql:host=$SERVER_DIRECTORY;dbname=wiki"
        ;;
    esac
  fi
  mediawiki_fixture "$directory" "$REPOSITORY/target/debian" "$WEB_URL" "$UPDATE_PAGES" 36 "${options[@]}"
  sed -i "s|^\$wgServer = .*|\$wgServer = '$WEB_URL';|" "$directory/original-site/LocalSettings.php"
  [[ ! -e $directory/is-large ]] || return 0
  if ((UPDATE_FILES_MB + UPDATE_DATABASE_MB > 0)); then
    say "making $UPDATE_FILES_MB MB of uploads and $UPDATE_DATABASE_MB MB of database" >&2
    BENCH_USER=$SERVER_USER BENCH_PASSWORD=${SERVER_PASSWORD:-} \
      "php$(php_version)" "$BENCH_LIBRARY/make-site.php" "$directory/original-site" "$UPDATE_FILES_MB" "$UPDATE_DATABASE_MB" "$dsn"
    chown -R "$WEB_USER": "$directory/original-site"
  fi
  touch "$directory/is-large"
}

# update_settings DATABASE: what LocalSettings.php says of a database on the server.
update_settings() {
  local type=mysql
  if [[ $UPDATE_ENGINE == postgresql ]]; then type=postgres; fi
  # shellcheck disable=SC2016 # PHP variables
  printf '$wg%s = '"'%s';\n" DBtype "$type" DBserver "$(server_host)" DBname "$1" DBuser "$SERVER_USER" \
    DBpassword "$SERVER_PASSWORD"
  # What the installer gives its schema for a name; others have none.
  # shellcheck disable=SC2016 # a PHP variable
  if [[ $UPDATE_ENGINE == postgresql ]]; then printf '$wgDBmwschema = '"'mediawiki';\n"; fi
}

# update_size DIRECTORY: how large the site is, in words.
update_size() {
  local files bytes database
  files=$(find "$1/original-site" -type f -not -path '*/database/*' | wc -l)
  bytes=$(du -sb --exclude=database "$1/original-site" | cut -f 1)
  if [[ $UPDATE_ENGINE == sqlite ]]; then
    database=$(stat -c %s "$1/original-site/database/wiki.sqlite")
  else
    database=$(server_bytes wiki)
  fi
  printf '%s: %d files of %s MB, a database of %s MB' "$UPDATE_ENGINE" "$files" "$(megabytes "$bytes")" "$(megabytes "$database")"
}

# update_old DIRECTORY
update_old() {
  local directory=$1 one=$1/old/mediawiki-1 two=$1/old/mediawiki-2
  remove_tree "$directory/old"
  mkdir -p "$directory/old"
  cp -a --reflink=auto "$directory/platforms/mediawiki-1" "$directory/platforms/mediawiki-2" "$directory/old"
  cp -a --reflink=auto "$directory/original-site" "$one/sites/wiki"
  if [[ $UPDATE_ENGINE != sqlite ]]; then
    server_new wiki_one
    server_new wiki_two
    server_dump wiki | server_sql wiki_one
    update_settings wiki_one >>"$one/sites/wiki/LocalSettings.php"
  fi
  ln -sfn "$one" "$UPDATE_LIVE"
  update_with_visitors "$directory" old update_old_procedure "$directory" "$one" "$two"
  remove_tree "$directory/old"
  if [[ $UPDATE_ENGINE != sqlite ]]; then server_sql '' <<<"DROP DATABASE wiki_two; DROP DATABASE IF EXISTS wiki_one;"; fi
}

# Each step waits for the one before; nothing is taken back, which is the best case for it.
update_old_procedure() {
  local directory=$1 one=$2 two=$3 work=$1/old/work
  mkdir -p "$work"
  touch "$directory/web/closed"
  if [[ $UPDATE_ENGINE == sqlite ]]; then
    # Requests that began before the site was closed may be writing still.
    sqlite3 -cmd '.timeout 60000' "$one/sites/wiki/database/wiki.sqlite" .dump >"$work/database.sql"
  else
    server_dump wiki_one >"$work/database.sql"
  fi
  tail -n 5 "$work/database.sql" | grep -qE '^COMMIT;|^-- Dump completed|^-- PostgreSQL database dump complete'
  tar -czf "$work/backup.tar.gz" -C "$work" database.sql -C "$one/sites" --exclude=wiki/database wiki
  rm "$work/database.sql"
  tar -xzf "$work/backup.tar.gz" -C "$two/sites"
  if [[ $UPDATE_ENGINE == sqlite ]]; then
    mkdir "$two/sites/wiki/database"
    sqlite3 "$two/sites/wiki/database/wiki.sqlite" <"$two/sites/database.sql"
    chown -R "$WEB_USER": "$two/sites/wiki/database"
  else
    server_sql wiki_two <"$two/sites/database.sql"
    update_settings wiki_two >>"$two/sites/wiki/LocalSettings.php"
  fi
  rm "$two/sites/database.sql"
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
  local directory=$1 strategy=$2 daemon=$1/daemon database=()
  remove_tree "$daemon"
  mkdir -p "$daemon/recipes"
  cp -a --reflink=auto "$directory/platforms" "$daemon/platforms"
  cp "$REPOSITORY/recipes/mediawiki.toml" "$daemon/recipes/wiki.toml"
  printf 'recipes = "%s"\n' "$daemon/recipes" >"$daemon/config.toml"
  # shellcheck disable=SC2034 # read by sitefs_serve
  SITEFS_SERVE_OPTIONS=(--config "$daemon/config.toml")
  sitefs_start "$daemon" >/dev/null
  for number in 1 2; do
    sitefs_run --quiet platform add "mediawiki-$number" "$daemon/platforms/mediawiki-$number" --sites sites --docroot . \
      >/dev/null
  done
  if [[ $UPDATE_ENGINE != sqlite ]]; then database=(--database "$(server_url wiki)"); fi
  sitefs_run --quiet site import wiki "$directory/original-site" --platform mediawiki-1 --app wiki "${database[@]}" >/dev/null
  ln -sfn "$daemon/sitefs/live/wiki" "$UPDATE_LIVE"
  update_with_visitors "$directory" "$strategy" sitefs_run --json update wiki --platform mediawiki-2 --strategy "$strategy"
  # Databases on a server would outlive the store.
  sitefs_run --quiet site remove --force wiki >/dev/null
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
  before=$(update_io "$daemon $(update_server)")
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
  after=$(update_io "$daemon $(update_server)")
  sleep 2
  client_stop "$visitors"
  writer_stop "$visitors/writer"
  [[ $(curl --silent --head "$WEB_URL/wiki/Chapter_1" | tr -d '\r' | awk '$1 == "X-Platform:" { print $2 }') == mediawiki-2 ]] ||
    fail "after \"$name\" visitors do not get the new platform"
  printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$UPDATE_ENGINE" "$name" "$(seconds $((end - start)))" "$(update_unread <"$visitors/answers.tsv")" \
    "$(update_unwritten <"$visitors/writer/writes.tsv")" \
    "$(printf '%s\n' "$before" "$after" "$(<"$visitors/io")" | update_bytes)" >>"$WORK/rows.tsv"
}

# update_server: the processes of the database server, if there is one.
update_server() { [[ $UPDATE_ENGINE == sqlite ]] || server_processes; }

# update_io PIDS: bytes that processes and their children that have ended have read and written, by calls and for the
# disk. Zeros without a process.
update_io() {
  local pid
  for pid in $1; do cat "/proc/$pid/io" 2>/dev/null || true; done |
    awk '{ of[$1] += $2 } END { print of["rchar:"] + 0, of["wchar:"] + 0, of["write_bytes:"] + 0 }'
}

# update_bytes: of three lines (the daemon before, the daemon after, the command) the sums, in MB.
update_bytes() {
  awk 'BEGIN { OFS = "\t" } NR == 1 { for (i = 1; i <= 3; i++) sum[i] -= $i } NR > 1 { for (i = 1; i <= 3; i++) sum[i] += $i }
    END { for (i = 1; i <= 3; i++) $i = sprintf("%.0f", sum[i] / 1e6); NF = 3; print }'
}

# update_unread: seconds in which no page could be read: from the last good answer before a bad one to the next good one.
update_unread() {
  awk -F '\t' 'NR == 1 { last = $1 - $4 }
    { good = $2 == 0 && $3 == 200
      if (good && bad) { sum += $1 - last; bad = 0 }
      if (good) last = $1; else bad = 1 }
    END { printf "%.1f", sum }'
}

# update_unwritten: the same for what was to be saved; that a saving takes its time does not count, waiting does.
update_unwritten() {
  awk -F '\t' 'NR == 1 { last = $1 - $2 }
    { good = $4 == "saved"
      if (good && bad) { sum += $1 - $2 - last; bad = 0 }
      if (good && $2 > 2) sum += $2
      if (good) last = $1; else bad = 1 }
    END { printf "%.1f", sum }'
}

# update_end: nothing of the section runs on, however it ended.
update_end() {
  local engine directory
  for engine in sqlite mariadb postgresql; do
    directory=$WORK/$engine
    [[ -d $directory/web ]] || continue
    for procedure in "${UPDATE_PROCEDURES[@]}"; do
      touch "$directory/visitors-$procedure"/{,writer/}stop 2>/dev/null || true
    done
    web_stop "$directory/web"
    sitefs_stop "$directory/daemon"
    server_stop "$directory/server"
  done
}

update_table() {
  local engine
  say "A wiki with one visitor who reads and one who writes."
  for engine in ${UPDATE_ENGINES//,/ }; do
    say
    say "$(<"$WORK/$engine/size")"
    awk -F '\t' -v engine="$engine" 'BEGIN {
        printf "%-22s %9s %14s %14s %10s %10s %12s\n", "procedure", "takes s", "not readable s", "not writable s",
          "read MB", "written MB", "of it disk MB"
        name["old"] = "dump, tar.gz, import"; name["switch"] = "sitefs switch"; name["in-place"] = "sitefs in-place" }
      $1 == engine { printf "%-22s %9.1f %14.1f %14.1f %10d %10d %12d\n", name[$2], $3, $4, $5, $6, $7, $8 }' "$WORK/rows.tsv"
    if [[ -s $WORK/$engine/visitors-switch/output ]]; then update_steps "$WORK/$engine"; fi
  done
}

# update_steps DIRECTORY: how long each step of the two strategies took, as sitefs reports it.
update_steps() {
  # shellcheck disable=SC2016 # a PHP program
  "php$(php_version)" -r '
    foreach (["switch", "in-place"] as $strategy) {
      $run = json_decode(file_get_contents("$argv[1]/visitors-$strategy/output"), true);
      $steps = array_map(fn($step) => sprintf("%s %.2f", $step["name"], $step["seconds"]), $run["steps"]);
      printf("%s: writes held %.2f s (predicted %.2f): %s\n", $strategy, $run["held_seconds"],
        $run["predicted_hold_seconds"], implode(", ", $steps));
    }' "$1"
}
