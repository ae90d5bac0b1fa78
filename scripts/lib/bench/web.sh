# shellcheck shell=bash
# nginx and PHP-FPM with opcache, the wiki's code and its site all in the file system measured. Needs WORK, ROUNDS,
# FILESYSTEMS, web.sh, mediawiki.sh, ab.

bench_web() {
  local round name checked
  command -v ab >/dev/null || fail "there is no ab" "apt-get install apache2-utils"
  mediawiki_fixture "$WORK/wiki" "$REPOSITORY/target/debian" http://127.0.0.1 24 4
  for name in "${FILESYSTEMS[@]}"; do
    cp -a "$WORK/wiki/platforms/mediawiki-1" "$(root_of "$name")/wiki"
    mkdir -p "$(root_of "$name")/wiki/sites"
    cp -a "$WORK/wiki/original-site" "$(root_of "$name")/wiki/sites/bench"
  done
  for ((round = 1; round <= ROUNDS; round++)); do
    for name in "${FILESYSTEMS[@]}"; do
      for checked in 1 0; do web_one "$name" "$checked"; done
    done
    say "round $round of $ROUNDS" >&2
  done
  for name in "${FILESYSTEMS[@]}"; do rm -rf "$(root_of "$name")/wiki"; done
}

# web_one NAME CHECKED: whether opcache looks at files again.
web_one() {
  local row=php page static=resources/assets/wiki.png
  if (($2 == 0)); then row=php-unchecked; fi
  WEB_VALIDATE=$2 WEB_REVALIDATE=0 web_start "$WORK/web" "$(root_of "$1")/wiki" bench
  page=$WEB_URL/wiki/Main_Page
  requests 20 2 "$page" >/dev/null
  record "$row-1" "$1" "$(requests 100 1 "$page")"
  record "$row-2" "$1" "$(requests 150 2 "$page")"
  if (($2 == 1)); then
    requests 5000 2 "$WEB_URL/$static" >/dev/null
    record static "$1" "$(requests 30000 2 "$WEB_URL/$static")"
  fi
  web_stop "$WORK/web"
}

# requests COUNT CLIENTS URL: answered in a second.
requests() {
  ab -q -k -n "$1" -c "$2" "$3" >"$WORK/ab.log" 2>&1 || { cat "$WORK/ab.log" >&2 && fail "ab $3"; }
  if grep -q '^Non-2xx' "$WORK/ab.log"; then cat "$WORK/ab.log" >&2 && fail "not all answers are good: $3"; fi
  awk '/^Requests per second/ { print $4 }' "$WORK/ab.log"
}
