# shellcheck shell=bash
# WordPress from Debian's package, as a static tree, and the comparison of two trees. Needs common.sh and mediawiki.sh.

# wordpress_unpack CACHE DIRECTORY: the package's files as they are, with links that lead nowhere while it is not
# installed. CACHE keeps the package for the next time.
wordpress_unpack() {
  local cache=$1 directory=$2 version package
  version=$(mediawiki_version wordpress)
  package=$cache/wordpress_${version//:/%3a}_all.deb
  mkdir -p "$cache"
  if [[ -z $version || ! -s $package ]]; then
    mediawiki_download "$cache" wordpress ||
      { apt-get update -q >/dev/null && mediawiki_download "$cache" wordpress; } ||
      fail "apt cannot download the package wordpress" "see the sources of apt: apt-cache policy wordpress"
    version=$(mediawiki_version wordpress)
    package=$cache/wordpress_${version//:/%3a}_all.deb
  fi
  dpkg-deb -x "$package" "$directory"
}

# tree_listing DIRECTORY: name, type, mode, owner, group, links, size, time and target of all that is below, sorted. The
# size of a directory is a file system's own matter.
tree_listing() {
  find "$1/" -mindepth 1 \( -type d -printf '%P %y %m %U %G - %T@\n' \) -o -printf '%P %y %m %U %G %n %s %T@ %l\n' | sort
}

# same_trees ONE OTHER WORK: true when both have the same names, contents and metadata; shows the first
# things that differ. Notes are kept in WORK.
same_trees() {
  tree_listing "$1" >"$3/one.list"
  tree_listing "$2" >"$3/other.list"
  { diff "$3/one.list" "$3/other.list" && diff -r --no-dereference "$1/" "$2/"; } >"$3/difference" 2>&1 ||
    { head -n 20 "$3/difference" >&2 && return 1; }
}
