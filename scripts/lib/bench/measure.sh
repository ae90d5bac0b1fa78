# shellcheck shell=bash
# Values on their way into the report. Needs WORK, ROUNDS.

# measure_start DIRECTORY: no values yet.
measure_start() {
  VALUES=$1/values.tsv
  : >"$VALUES"
}

# record ROW WHO VALUE: rows are those of rows.tsv; the report takes the median of all values of a row and a file system.
record() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$VALUES"; }

# now_us: microseconds since 1970.
now_us() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }

# measure ROW WHO COMMAND...: how long it takes, in seconds. Its output is dropped.
measure() {
  local row=$1 who=$2 start end
  shift 2
  start=$(now_us)
  "$@" >/dev/null
  end=$(now_us)
  record "$row" "$who" "$(awk -v us=$((end - start)) 'BEGIN { printf "%.6f", us / 1e6 }')"
}

# measure_report JSON: the table on stdout, and the document in the file JSON if that is not empty.
measure_report() {
  local json=$1
  "php$(php_command)" "$BENCH_LIBRARY/report.php" "$BENCH_LIBRARY/rows.tsv" "$VALUES" "$WORK/report.json" \
    "rounds=$ROUNDS" "files=$TREE_FILES" "bytes=$TREE_BYTES" "kernel=$(uname -r)" "processors=$(nproc)" \
    "revision=$(git -C "$REPOSITORY" rev-parse --short HEAD 2>/dev/null || true)"
  if [[ -n $json ]]; then cp "$WORK/report.json" "$json"; fi
}

# php_command: what follows "php" in the name of the newest PHP of the command line.
php_command() {
  local found
  found=$(printf '%s\n' /usr/bin/php[0-9]* | sort -V | tail -n 1)
  printf '%s' "${found#/usr/bin/php}"
}
