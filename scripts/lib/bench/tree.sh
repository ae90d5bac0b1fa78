# shellcheck shell=bash
# A real tree, MediaWiki, unpacked, walked, read, changed and removed. Needs WORK, ROUNDS, FILESYSTEMS.

# tree_unpack CACHE: the tree as a directory and as a tar in WORK. Sets TREE_FILES, TREE_BYTES.
tree_unpack() {
  mediawiki_fetch "$1"
  # shellcheck disable=SC2153 # set by the program
  mediawiki_unpack "$1" "$WORK/original"
  tar -cf "$WORK/original.tar" -C "$WORK/original" .
  # shellcheck disable=SC2034 # for the report
  TREE_FILES=$(find "$WORK/original" -type f | wc -l)
  # shellcheck disable=SC2034 # for the report
  TREE_BYTES=$(find "$WORK/original" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')
}

bench_tree() {
  local round name
  tree_import
  for ((round = 1; round <= ROUNDS; round++)); do
    for name in "${FILESYSTEMS[@]}"; do tree_untar "$name" "$round"; done
    sitefs_run --quiet clone tree "tree-$round" >/dev/null
    local -a readers=("${FILESYSTEMS[@]}" sitefs-new sitefs-snapshot)
    sync
    for name in "${readers[@]}"; do tree_cold find-cold tree_find "$name" "$round"; done
    for name in "${readers[@]}"; do tree_cold read-cold tree_read "$name" "$round"; done
    # Every one is read once more, since the colds of others have dropped its pages.
    for name in "${readers[@]}"; do tree_warm "$name" "$round"; done
    for name in "${FILESYSTEMS[@]}" sitefs-new; do tree_change "$name" "$round"; done
    say "round $round of $ROUNDS" >&2
  done
  # All at the end: ext4 gives no inode away again for minutes after its file was removed, and searches past each of
  # them for every file it makes, so that what is unpacked after a removal takes several times as long.
  for ((round = 1; round <= ROUNDS; round++)); do
    for name in "${FILESYSTEMS[@]}" sitefs-new; do tree_remove "$name" "$round"; done
    sitefs_run --quiet site remove "tree-$round" --force >/dev/null
  done
}

# tree_import: the tree as the site "tree", once.
tree_import() {
  [[ ! -e $WORK/daemon/sitefs/sites/tree ]] || return 0
  sitefs_run --quiet site import tree "$WORK/original" --platform one --app generic >/dev/null
}

# tree_of NAME ROUND: where the tree is that NAME reads.
tree_of() {
  case $1 in
    sitefs) printf '%s' "$WORK/daemon/sitefs/generations/tree-$2/1" ;;
    sitefs-new) printf '%s' "$(root_of sitefs)/tree-$2" ;;
    sitefs-snapshot) find "$WORK/daemon/sitefs/snapshots/tree/" -mindepth 1 -maxdepth 1 -print -quit ;;
    *) printf '%s' "$(root_of "$1")/tree-$2" ;;
  esac
}

tree_untar() {
  local directory
  directory=$(root_of "$1")/tree-$2
  mkdir "$directory"
  cat "$WORK/original.tar" >/dev/null
  sync
  measure untar "$1" tar -xf "$WORK/original.tar" -C "$directory"
}

tree_find() { find "$1" -printf '%s\n'; }
tree_read() { find "$1" -type f -print0 | xargs -0 cat; }
tree_grep() { grep -r -F 'no line has these words' "$1" || true; }
tree_chmod() { chmod -R g+w "$1"; }

tree_cold() {
  local row=$1 work=$2 name=$3 round=$4
  cold "$name"
  measure "$row" "$name" "$work" "$(tree_of "$name" "$round")"
}

tree_warm() {
  local tree try
  tree=$(tree_of "$1" "$2")
  tree_read "$tree" >/dev/null
  tree_find "$tree" >/dev/null
  for try in 1 2 3; do
    measure find-warm "$1" tree_find "$tree"
    measure read-warm "$1" tree_read "$tree"
    measure grep-warm "$1" tree_grep "$tree"
  done
  : "$try"
}

tree_change() {
  sync
  measure chmod "$1" tree_chmod "$(tree_of "$1" "$2")"
}

tree_remove() {
  local tree
  tree=$(tree_of "$1" "$2")
  sync
  measure rm "$1" find "$tree" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
  [[ $1 == sitefs ]] || rmdir "$tree"
}
