# shellcheck shell=bash
# MediaWiki from Debian's package: platforms, and a wiki with content on SQLite. Needs common.sh and web.sh.

MEDIAWIKI_LIBRARY=${BASH_SOURCE[0]%/*}/mediawiki
# Platform two has it and platform one has not: it brings tables of its own.
MEDIAWIKI_ADDED_EXTENSION=AbuseFilter

# mediawiki_version PACKAGE: what apt would install, empty if it knows none.
mediawiki_version() { apt-cache policy "$1" | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'; }

# mediawiki_fetch CACHE: the packages' files; CACHE keeps them for the next time. Lists of apt that are missing or old
# are fetched.
mediawiki_fetch() {
  local cache=$1 package version
  mkdir -p "$cache"
  for package in mediawiki mediawiki-classes; do
    version=$(mediawiki_version "$package")
    if [[ -n $version && -s $cache/${package}_${version//:/%3a}_all.deb ]]; then continue; fi
    rm -f "$cache/${package}_"*.deb
    mediawiki_download "$cache" "$package" ||
      { apt-get update -q >/dev/null && mediawiki_download "$cache" "$package"; } ||
      fail "apt cannot download the package $package" "see the sources of apt: apt-cache policy $package"
  done
}

mediawiki_download() {
  [[ -n $(mediawiki_version "$2") ]] || return 1
  (cd "$1" && apt-get download -q -o APT::Sandbox::User=root "$2") >/dev/null
}

# mediawiki_unpack CACHE DIRECTORY: MediaWiki as its authors lay it out. Debian spreads it over /usr/share, /var/lib and
# /etc with absolute links, which lead nowhere while the package is not installed: here they go, and extensions/ is
# what the link stood for.
mediawiki_unpack() {
  local cache=$1 directory=$2 package
  for package in "$cache"/mediawiki*.deb; do dpkg-deb -x "$package" "$directory.package"; done
  mv "$directory.package/usr/share/mediawiki" "$directory"
  rm -rf "$directory.package"
  find "$directory" -maxdepth 1 -type l -delete
  mv "$directory/extensions-core" "$directory/extensions"
  mkdir "$directory/sites"
  [[ -z $(find "$directory" -xtype l -print -quit) ]] ||
    fail "Debian's MediaWiki has links that lead nowhere: $directory"
}

# mediawiki_platform UNPACKED DIRECTORY NAME [EXTENSION...]: a platform that knows its name and loads the extensions.
mediawiki_platform() {
  local unpacked=$1 directory=$2 name=$3 extension list=
  shift 3
  mkdir -p "${directory%/*}"
  cp -a --reflink=auto "$unpacked" "$directory"
  for extension in "$@"; do list+="'$extension', "; done
  if [[ " $* " != *" $MEDIAWIKI_ADDED_EXTENSION "* ]]; then
    rm -rf "$directory/extensions/$MEDIAWIKI_ADDED_EXTENSION"
  fi
  printf '%s\n' "$name" >"$directory/RELEASE"
  printf "<?php\nreturn [ 'name' => '%s', 'extensions' => [ %s] ];\n" "$name" "$list" >"$directory/platform.php"
  cp "$MEDIAWIKI_LIBRARY/farm.php" "$directory/LocalSettings.php"
}

# mediawiki_run PLATFORM SITE_DIRECTORY SCRIPT [ARGUMENT...]: a maintenance script, for the site in that directory.
mediawiki_run() {
  local platform=$1 site=$2 script=$3
  shift 3
  (cd "$platform" && as_web "SITEFS_SITE_DIR=$site" "php$(php_version)" "maintenance/$script.php" "$@")
}

# mediawiki_install UNPACKED DIRECTORY SERVER LOG [OPTION...]: an empty wiki, on SQLite unless the installer's options say
# something else. UNPACKED must have no LocalSettings.php: the installer wants none. The administrator is Admin, with the
# password in DIRECTORY.password.
mediawiki_install() {
  local unpacked=$1 directory=$2 server=$3 log=$4 made database=("${@:5}")
  mkdir -p "$directory"/{database,images,cache}
  made=$(mktemp -d "$directory.XXXXXX")
  (umask 077 && head -c 12 /dev/urandom | base64 | tr '+/' '-_' >"$directory.password")
  chown -R "$WEB_USER": "$directory" "$directory.password" "$made"
  ((${#database[@]} > 0)) || database=(--dbtype sqlite --dbpath "$directory/database" --dbname wiki)
  (cd "$unpacked" && as_web "php$(php_version)" maintenance/install.php "${database[@]}" --confpath "$made" --server "$server" --scriptpath '' --lang en --skins Vector \
    --passfile "$directory.password" 'Quick Start Wiki' Admin) >"$log" 2>&1 ||
    { tail -n 15 "$log" >&2 && fail "MediaWiki's installer failed" "the whole log: $log"; }
  # The installer's own settings name absolute paths: keep only its secrets.
  {
    sed "s|@SERVER@|$server|" "$MEDIAWIKI_LIBRARY/site.php"
    printf '\n'
    # shellcheck disable=SC2016 # a PHP variable
    grep -E '^\$wg(SecretKey|UpgradeKey|AuthenticationTokenVersion) = ' "$made/LocalSettings.php"
  } >"$directory/LocalSettings.php"
  rm -rf "$made"
  # Files that only the installer's settings would use: caches and the job queue stay in the main database.
  rm -f "$directory"/database/{wikicache,wiki_l10n_cache,wiki_jobqueue}.sqlite*
  chown "$WEB_USER": "$directory/LocalSettings.php"
  chmod 640 "$directory/LocalSettings.php"
}

# mediawiki_fill PLATFORM SITE_DIRECTORY WORK PAGES FILES LOG: content, by MediaWiki's own scripts.
mediawiki_fill() {
  local platform=$1 site=$2 work=$3 pages=$4 files=$5 log=$6
  "php$(php_version)" "$MEDIAWIKI_LIBRARY/content.php" "$work" "$pages" "$files"
  {
    mediawiki_run "$platform" "$site" importImages --extensions png --comment 'A picture' "$work/files" &&
      mediawiki_run "$platform" "$site" importTextFiles --summary 'A chapter' "$work"/pages/*.txt &&
      printf 'Welcome. Begin with [[Chapter 1]].\n' |
      mediawiki_run "$platform" "$site" edit --user Admin --summary 'A welcome' 'Main Page' &&
      mediawiki_run "$platform" "$site" runJobs &&
      mediawiki_run "$platform" "$site" initSiteStats --update
  } >"$log" 2>&1 || { tail -n 15 "$log" >&2 && fail "the wiki could not be filled" "the whole log: $log"; }
}

# mediawiki_fixture DIRECTORY CACHE SERVER [PAGES FILES [OPTION...]]: DIRECTORY/platforms/mediawiki-1 and -2, and
# DIRECTORY/original-site, which lives on mediawiki-1, installed with these options. What DIRECTORY/settings has is put at
# the end of its settings. Does nothing if it has done so before.
mediawiki_fixture() {
  local directory=$1 cache=$2 server=$3 pages=${4:-48} files=${5:-36} unpacked=$1/unpacked
  [[ ! -e $directory/fixture-is-complete ]] || return 0
  mkdir -p "$directory/log"
  mediawiki_fetch "$cache"
  # What an interrupted one has left is not complete.
  rm -rf "$unpacked" "$unpacked.package"
  mediawiki_unpack "$cache" "$unpacked"
  rm -rf "$directory/original-site" "$directory/platforms" "$directory/content"
  mediawiki_install "$unpacked" "$directory/original-site" "$server" "$directory/log/install.log" "${@:6}"
  if [[ -e $directory/settings ]]; then cat "$directory/settings" >>"$directory/original-site/LocalSettings.php"; fi
  mediawiki_platform "$unpacked" "$directory/platforms/mediawiki-1" mediawiki-1
  mediawiki_platform "$unpacked" "$directory/platforms/mediawiki-2" mediawiki-2 "$MEDIAWIKI_ADDED_EXTENSION"
  rm -rf "$unpacked"
  mediawiki_fill "$directory/platforms/mediawiki-1" "$directory/original-site" "$directory/content" "$pages" "$files" \
    "$directory/log/fill.log"
  touch "$directory/fixture-is-complete"
}

# mediawiki_urls URL DIRECTORY: what a visitor asks for: pages, special pages, a script, a style sheet, an upload.
mediawiki_urls() {
  local url=$1 upload
  upload=$(find "$2/images" -mindepth 3 -name 'Picture_*.png' -not -path '*/archive/*' | sort | head -n 1)
  printf "$url/%s\n" wiki/Main_Page wiki/Chapter_1 wiki/Chapter_7 'wiki/File:Picture_1.png' wiki/Chapter_20 \
    wiki/Category:Chapters 'load.php?lang=en&modules=startup&only=scripts&raw=1&skin=vector' wiki/Special:AllPages \
    'load.php?lang=en&modules=skins.vector.styles.legacy&only=styles&skin=vector' "images${upload#"$2/images"}"
}
