# shellcheck shell=bash
# Debian packages: installs what is missing, says why, and neither starts nor enables a service of the system.

# Package and reason. MediaWiki itself is unpacked and not installed: installing it would bring a web server's set-up.
PACKAGES=(
  'build-essential:a C compiler for the SQLite and zstd that sitefs carries'
  'nginx:the web server'
  'php-fpm:runs PHP behind nginx'
  'php-cli:runs maintenance scripts of MediaWiki'
  'php-sqlite3:the database of the wiki'
  'php-mbstring:MediaWiki needs it'
  'php-xml:MediaWiki needs it'
  'php-intl:MediaWiki needs it'
  'php-apcu:else MediaWiki keeps compiled styles in the database, so visitors would write to it'
  'curl:the client that requests pages'
  'util-linux:setpriv, to act as the web server'\''s user'
)

require_debian_root() {
  ((EUID == 0)) || fail "this needs root: it mounts file systems and installs Debian packages" "run: sudo $0"
  command -v apt-get >/dev/null || fail "this needs Debian 12 or 13: there is no apt-get here"
  [[ -c /dev/fuse ]] || modprobe fuse 2>/dev/null || true
  [[ -c /dev/fuse ]] || fail "there is no /dev/fuse" "load the kernel module: modprobe fuse" \
    "in a container, pass the device: --device /dev/fuse --cap-add SYS_ADMIN"
}

installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

# Links that make init or systemd start something at boot.
boot_links() {
  local link
  for link in /etc/systemd/system/*.wants/* /etc/rc[2-5].d/S*; do
    if [[ -L $link ]]; then printf '%s\n' "$link"; fi
  done
}

# disable_new_services BEFORE AFTER: takes away the links that the installation of servers added, and stops what
# they name. A package's next version leaves a service disabled that was.
disable_new_services() {
  local link name
  while IFS= read -r link; do
    name=${link##*/}
    case $name in
      S[0-9][0-9]nginx | S[0-9][0-9]php*-fpm | S[0-9][0-9]mariadb | S[0-9][0-9]postgresql | S[0-9][0-9]apache2 | S[0-9][0-9]haproxy)
        update-rc.d "${name#S[0-9][0-9]}" disable >/dev/null 2>&1 || true
        ;;
      nginx.service | php* | mariadb.service | postgresql.service | apache2.service | apache-htcacheclean.service | haproxy.service)
        if [[ -d /run/systemd/system ]]; then systemctl disable --now "$name" >/dev/null 2>&1 || true; fi
        rm -f "$link"
        ;;
    esac
  done < <(comm -13 <(sort "$1") <(sort "$2"))
}

# install_packages LOG: one apt-get for all that is missing.
install_packages() {
  local log=$1 entry missing=() before after policy=/usr/sbin/policy-rc.d policy_is_ours=false status=0
  for entry in "${PACKAGES[@]}"; do
    if installed "${entry%%:*}"; then continue; fi
    missing+=("${entry%%:*}")
    printf '  %-16s %s\n' "${entry%%:*}" "${entry#*:}"
  done
  if ((${#missing[@]} == 0)); then
    say "  all ${#PACKAGES[@]} Debian packages are here"
    return 0
  fi
  before=$(mktemp) after=$(mktemp)
  boot_links >"$before"
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\n# temporary: sitefs quickstart starts its own servers\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    policy_is_ours=true
  fi
  {
    apt-get update -q &&
      RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
  } >"$log" 2>&1 </dev/null || status=$?
  if $policy_is_ours; then rm -f "$policy"; fi
  boot_links >"$after"
  disable_new_services "$before" "$after"
  rm -f "$before" "$after"
  if ((status != 0)); then
    tail -n 15 "$log" >&2
    fail "apt-get could not install: ${missing[*]}" "the whole log: $log"
  fi
}

# build_sitefs REPOSITORY: cargo build, as the user who called sudo if that is who has cargo. Sets SITEFS.
build_sitefs() {
  local repository=$1 home cargo
  cargo=$(command -v cargo || true)
  if [[ -z $cargo && -x $HOME/.cargo/bin/cargo ]]; then cargo=$HOME/.cargo/bin/cargo; fi
  if [[ -n $cargo ]]; then
    (cd "$repository" && "$cargo" build --release --locked)
  else
    home=$(getent passwd "${SUDO_USER:-}" | cut -d: -f6 || true)
    [[ -n $home && -x $home/.cargo/bin/cargo ]] ||
      fail "there is no cargo, the build tool of Rust" \
        "install Rust as https://rustup.rs says (Debian's own Rust is too old), then run this again" \
        "or give a built program: $0 --sitefs PATH"
    (cd "$repository" && runuser -u "$SUDO_USER" -- env "HOME=$home" "PATH=$home/.cargo/bin:$PATH" \
      cargo build --release --locked)
  fi
  SITEFS=${CARGO_TARGET_DIR:-$repository/target}/release/sitefs
  [[ -x $SITEFS ]] || fail "cargo built no $SITEFS"
}
