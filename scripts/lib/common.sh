# shellcheck shell=bash
# What every script here needs: messages, waiting, numbers, and stopping a process that we started.

say() { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
fail() {
  printf 'error: %s\n' "$1" >&2
  shift
  for hint in "$@"; do printf 'hint: %s\n' "$hint" >&2; done
  exit 1
}

# now_ms: milliseconds since 1970.
now_ms() {
  local now=${EPOCHREALTIME/[.,]/}
  printf '%s' "${now%???}"
}

# seconds MILLISECONDS: 1234 -> 1.234
seconds() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }

# megabytes BYTES: with one decimal.
megabytes() { awk -v bytes="$1" 'BEGIN { printf "%.1f", bytes / 1000000 }'; }

# wait_until SECONDS COMMAND...: tries the command ten times a second; false when the time is over.
wait_until() {
  local tries=$(($1 * 10))
  shift
  until "$@" >/dev/null 2>&1; do
    ((tries-- > 0)) || return 1
    sleep 0.1
  done
}

# timed NAME COMMAND...: runs it, and keeps how long it took: TIMES[NAME], in milliseconds.
declare -gA TIMES=()
timed() {
  local name=$1 start
  shift
  start=$(now_ms)
  "$@" # no "||" here: inside it bash would go on after errors
  # shellcheck disable=SC2034 # for the caller
  TIMES[$name]=$(($(now_ms) - start))
}

process_gone() { ! kill -0 "$1" 2>/dev/null; }

# stop_process PIDFILE MARK SIGNAL [SECONDS]: stops the process named in PIDFILE if its command line contains MARK, so
# that a process that got the number later is left alone. Waits until it is gone, and kills it when the time is over.
stop_process() {
  local pidfile=$1 mark=$2 signal=$3 patience=${4:-20} pid
  [[ -s $pidfile ]] || return 0
  pid=$(<"$pidfile")
  if { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -qF -- "$mark"; then
    kill "-$signal" "$pid" 2>/dev/null || true
    if ! wait_until "$patience" process_gone "$pid"; then
      warn "process $pid ($mark) did not stop within $patience s: killed"
      # It leads a group of its own, with its workers in it.
      kill -KILL -- "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null || true
      wait_until 5 process_gone "$pid" || true
    fi
  fi
  rm -f "$pidfile"
}

# mounts_under DIRECTORY: mount points at or below it, the deepest first.
mounts_under() {
  local mount
  awk '{ print $5 }' /proc/self/mountinfo | while IFS= read -r mount; do
    printf -v mount '%b' "$mount"
    if [[ $mount == "$1" || $mount == "$1"/* ]]; then printf '%s\n' "$mount"; fi
  done | sort -r
}

# remove_tree DIRECTORY: deletes it, and refuses while anything is mounted below it.
remove_tree() {
  local mount
  [[ -d $1 ]] || return 0
  while IFS= read -r mount; do
    warn "$mount was still mounted: detached"
    umount -l -- "$mount" || true
  done < <(mounts_under "$1")
  if [[ -n $(mounts_under "$1") ]]; then
    warn "$1 is left as it is: something is still mounted below it"
    return 1
  fi
  rm -rf --one-file-system -- "$1"
}
