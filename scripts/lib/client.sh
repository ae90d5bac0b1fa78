# shellcheck shell=bash
# A visitor who never stops: loops of curl, one line per answer, and what the lines say. Needs common.sh.
#
# A line: end (seconds since 1970), curl's exit code, status, seconds, bytes, X-Platform, X-Generation, X-Release,
# X-Schema, path. The last three headers are sent by pages only (see mediawiki/farm.php), all by PHP only.

CLIENT_FORMAT='%{stderr}%{exitcode}\t%{http_code}\t%{time_total}\t%{size_download}\t%header{x-platform}\t'
CLIENT_FORMAT+='%header{x-generation}\t%header{x-release}\t%header{x-schema}\t%{url}\n'

# client_start DIRECTORY LOOPS URL...: requests the URLs again and again, each loop one at a time.
client_start() {
  local directory=$1 loops=$2 url number
  shift 2
  mkdir -p "$directory"
  rm -f "$directory"/{stop,marks.tsv,*.lines}
  for url in "$@"; do printf 'url = "%s"\noutput = "/dev/null"\n' "$url"; done >"$directory/urls"
  CLIENT_PIDS=()
  for ((number = 1; number <= loops; number++)); do
    client_loop "$directory" >>"$directory/$number.lines" &
    CLIENT_PIDS+=("$!")
  done
}

client_loop() {
  local directory=$1 line
  while [[ ! -e $directory/stop ]]; do
    # stderr, because curl does not hold it back.
    curl --silent --globoff --max-time 60 --config "$directory/urls" --write-out "$CLIENT_FORMAT" \
      2>&1 >/dev/null || true
  done | while IFS= read -r line; do printf '%s\t%s\n' "$EPOCHREALTIME" "$line"; done
}

# client_mark DIRECTORY PHASE: from now on answers belong to PHASE.
client_mark() { printf '%s\t%s\n' "$EPOCHREALTIME" "$2" >>"$1/marks.tsv"; }

# client_stop DIRECTORY: lets the requests under way end, then puts all lines in DIRECTORY/answers.tsv.
client_stop() {
  [[ -d $1 ]] || return 0
  touch "$1/stop"
  if ((${#CLIENT_PIDS[@]} > 0)); then wait "${CLIENT_PIDS[@]}" || true; fi
  CLIENT_PIDS=()
  sort -n "$1"/*.lines >"$1/answers.tsv"
}
CLIENT_PIDS=()

# writer_start DIRECTORY URL: somebody who appends a line to the page "Visitors" again and again, through MediaWiki's
# interface for programs. A line of writes.tsv: end, seconds, number, then saved, refused (read-only) or failed.
writer_start() {
  local directory=$1
  mkdir -p "$directory"
  rm -f "$directory/stop"
  writer_loop "$directory" "$2" >>"$directory/writes.tsv" &
  WRITER_PID=$!
}
WRITER_PID=

writer_loop() {
  local directory=$1 url=$2 number=0 answer start
  while [[ ! -e $directory/stop ]]; do
    number=$((number + 1))
    start=$(now_ms)
    # A visitor without an account has the token +\.
    # shellcheck disable=SC1003 # no quote is meant
    answer=$(curl --silent --max-time 120 --data-urlencode 'token=+\' --data-urlencode "appendtext=
* line $number." --data 'action=edit&title=Visitors&format=json' "$url/api.php" || true)
    case $answer in
      *'"result":"Success"'*) answer=saved ;;
      *'"code":"readonly"'*) answer=refused ;;
      *) printf '%s\t%s\n' "$EPOCHREALTIME" "${answer:0:600}" >>"$directory/errors" && answer=failed ;;
    esac
    printf '%s\t%s\t%d\t%s\n' "$EPOCHREALTIME" "$(seconds $(($(now_ms) - start)))" "$number" "$answer"
    sleep 0.2
  done
}

# writer_stop DIRECTORY
writer_stop() {
  [[ -n $WRITER_PID ]] || return 0
  touch "$1/stop"
  wait "$WRITER_PID" || true
  WRITER_PID=
}

# writer_summary DIRECTORY URL: how the writes went; false if one failed, or is not in the page though it was answered
# "saved".
writer_summary() {
  local directory=$1 text number lost=0
  text=$(curl --silent --fail "$2/index.php?title=Visitors&action=raw" || true)
  while IFS= read -r number; do
    grep -qxF "* line $number." <<<"$text" || lost=$((lost + 1))
  done < <(awk -F '\t' '$4 == "saved" { print $3 }' "$directory/writes.tsv")
  awk -F '\t' -v lost="$lost" '
    { count[$4]++; if ($2 > slowest) slowest = $2 }
    $4 == "saved" { if (last && $1 - last > gap) gap = $1 - last; last = $1 }
    END {
      printf "  %d saved, %d told that the wiki is read-only, %d failed; saved and then lost: %d\n",
        count["saved"], count["refused"], count["failed"], lost
      printf "  longest time between two saved: %.1f s; slowest answer: %.1f s\n", gap, slowest
      exit (count["failed"] > 0)
    }' "$directory/writes.tsv" && ((lost == 0))
}

# client_summary DIRECTORY OLD NEW: a table, one row per phase; false if an answer failed or mixed OLD and NEW. The new
# platform must come with the new schema. Prints the failed and mixed answers too, ten at most.
client_summary() {
  awk -F '\t' -v old="$2" -v new="$3" '
    NR == FNR { mark_time[++marks] = $1; mark_name[marks] = $2; next }
    {
      while (at < marks && $1 >= mark_time[at + 1]) at++
      if (at == 0) next
      phase = at
      count[phase]++
      wrong = ""
      if ($2 != 0 || $3 != 200 || $5 == 0) { wrong = "failed"; failed[phase]++; failures++ }
      else if ($6 == "") files[phase]++
      else {
        if ($6 == old) from_old[phase]++
        else if ($6 == new) from_new[phase]++
        if ($6 != old && $6 != new) wrong = "mixed"
        if ($8 != "" && ($8 != $6 || $9 != ($6 == new ? "new" : "old"))) wrong = "mixed"
        if ($7 in platform_of && platform_of[$7] != $6) wrong = "mixed"
        platform_of[$7] = $6
        if (wrong == "mixed") { mixed[phase]++; mixtures++ }
      }
      if (wrong != "" && shown++ < 10) bad = bad sprintf("  %s: %s\n", wrong, $0)
      if ($6 != "") times[phase, ++timed[phase]] = $4 * 1000
    }
    END {
      printf "  %-22s %8s %7s %6s %12s %12s %8s %8s %8s\n",
        "answers during", "all", "failed", "mixed", old, new, "files", "p50 ms", "max ms"
      for (phase = 1; phase <= marks; phase++) {
        n = timed[phase]
        for (i = 2; i <= n; i++) {
          value = times[phase, i]
          for (j = i - 1; j >= 1 && times[phase, j] > value; j--) times[phase, j + 1] = times[phase, j]
          times[phase, j + 1] = value
        }
        printf "  %-22s %8d %7d %6d %12d %12d %8d %8.0f %8.0f\n",
          mark_name[phase], count[phase], failed[phase], mixed[phase], from_old[phase], from_new[phase], files[phase],
          n ? times[phase, int((n + 1) / 2)] : 0, n ? times[phase, n] : 0
      }
      printf "%s", bad
      exit (failures + mixtures > 0)
    }' "$1/marks.tsv" "$1/answers.tsv"
}
