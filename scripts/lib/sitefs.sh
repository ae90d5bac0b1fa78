# shellcheck shell=bash
# A sitefs daemon of our own in one directory: store, namespace, log, pid. Needs common.sh, and SITEFS: the program.

# sitefs_run COMMAND...: talks to our daemon.
sitefs_run() { "$SITEFS" --store "$SITEFS_DIRECTORY/store" "$@"; }

# sitefs_start DIRECTORY: a new store, served at DIRECTORY/sitefs.
sitefs_start() {
  SITEFS_DIRECTORY=$1
  mkdir -p "$1"/{log,run,sitefs}
  [[ -e $1/store ]] || sitefs_run --quiet init
  sitefs_serve
}

# sitefs_serve: starts the daemon, in a session of its own so that it outlives the terminal, and waits for its answer.
# SITEFS_SERVE_OPTIONS may have more options.
sitefs_serve() {
  local pid
  TMPDIR=${WEB_TEMP:-/tmp} setsid nohup "$SITEFS" --store "$SITEFS_DIRECTORY/store" \
    serve --root "$SITEFS_DIRECTORY/sitefs" --foreground \
    ${SITEFS_SERVE_OPTIONS[@]+"${SITEFS_SERVE_OPTIONS[@]}"} >>"$SITEFS_DIRECTORY/log/sitefs.log" 2>&1 </dev/null &
  pid=$!
  printf '%d\n' "$pid" >"$SITEFS_DIRECTORY/run/sitefs.pid"
  if ! wait_until 20 sitefs_answers "$pid"; then
    tail -n 15 "$SITEFS_DIRECTORY/log/sitefs.log" >&2
    fail "the sitefs daemon does not answer" "its log: $SITEFS_DIRECTORY/log/sitefs.log"
  fi
}

sitefs_answers() {
  # A daemon that ended will never answer: say yes, so that the next command shows the error at once.
  process_gone "$1" || sitefs_run status
}

sitefs_stop() {
  local pidfile=$1/run/sitefs.pid
  if [[ -s $pidfile ]] && ! process_gone "$(<"$pidfile")"; then
    "$SITEFS" --store "$1/store" stop >/dev/null 2>&1 || true
    wait_until 10 process_gone "$(<"$pidfile")" || true
  fi
  stop_process "$pidfile" "$1/store" TERM 10
}

# json_find FILE KEY: the first value of KEY at any depth of a JSON document, empty if there is none.
json_find() {
  # shellcheck disable=SC2016 # a PHP program
  "php$(php_version)" -r '
    function find($node, $key) {
      if (!is_array($node)) return null;
      if (array_key_exists($key, $node) && !is_array($node[$key])) return $node[$key];
      foreach ($node as $child) if (($found = find($child, $key)) !== null) return $found;
      return null;
    }
    echo find(json_decode(file_get_contents($argv[1]), true), $argv[2]);' "$1" "$2"
}
