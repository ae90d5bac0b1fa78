# shellcheck shell=bash
# MariaDB and PostgreSQL of Debian's packages: a server of our own in one directory, reached through a socket there and by
# no network. Its administrator is who runs this: root for MariaDB, the system's user postgres for PostgreSQL. Applications
# have the account SERVER_USER, with a password. Needs common.sh.

SERVER_USER=bench

# server_start DIRECTORY ENGINE: mariadb or postgresql, with what it held before. Sets SERVER_DIRECTORY, SERVER_ENGINE,
# SERVER_PASSWORD and SERVER_PID.
server_start() {
  SERVER_DIRECTORY=$1 SERVER_ENGINE=$2
  mkdir -p "$1"
  "server_make_$2" "$1"
  if [[ ! -s $1/password ]]; then (umask 077 && head -c 12 /dev/urandom | base64 | tr '+/' 'ab' >"$1/password"); fi
  SERVER_PASSWORD=$(<"$1/password")
  "server_serve_$2" "$1" >>"$1/log" 2>&1 </dev/null &
  # shellcheck disable=SC2034 # for the caller
  SERVER_PID=$!
  printf '%d\n' "$!" >"$1/pid"
  wait_until 60 server_sql '' <<<'SELECT 1;' ||
    { tail -n 15 "$1/log" >&2 && fail "the server does not start" "its log: $1/log"; }
}

# server_stop DIRECTORY: in an orderly way, so that the next start has nothing to repair.
server_stop() {
  local signal=TERM
  # PostgreSQL: end sessions, do not wait for them.
  if [[ -d $1/data/base ]]; then signal=INT; fi
  stop_process "$1/pid" "$1/data" "$signal" 60
}

server_make_mariadb() {
  [[ ! -d $1/data ]] || return 0
  mkdir "$1/data" "$1/tables"
  chown mysql: "$1" "$1/data" "$1/tables"
  mariadb-install-db --no-defaults --user=mysql --skip-test-db --auth-root-authentication-method=socket \
    --datadir="$1/data" --tmpdir="$1/tables" >"$1/log" 2>&1 || { tail -n 15 "$1/log" >&2 && fail "no data directory for MariaDB"; }
}

server_serve_mariadb() {
  exec mariadbd --no-defaults --user=mysql --skip-networking --datadir="$1/data" --tmpdir="$1/tables" \
    --socket="$1/socket" --pid-file="$1/server.pid"
}

# server_postgresql PROGRAM [ARGUMENT...]: one of PostgreSQL's own programs, as its administrator.
server_postgresql() {
  local programs
  programs=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
  (cd / && exec setpriv --reuid=postgres --regid=postgres --init-groups "$programs/$1" "${@:2}")
}

server_make_postgresql() {
  [[ ! -d $1/data ]] || return 0
  chown postgres: "$1"
  server_postgresql initdb --auth=peer -E UTF8 --locale=C.UTF-8 -D "$1/data" >"$1/log" 2>&1 ||
    { tail -n 15 "$1/log" >&2 && fail "no data directory for PostgreSQL"; }
  printf '%s\n' 'local all postgres peer' 'local all all scram-sha-256' >"$1/data/pg_hba.conf"
}

server_serve_postgresql() {
  local programs
  programs=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
  cd /
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$programs/postgres" -D "$1/data" -k "$1" -c listen_addresses=
}

# server_sql DATABASE: does the statements of its input as the administrator; without a database, those for the server.
server_sql() {
  case $SERVER_ENGINE in
    mariadb) mariadb --no-defaults --batch --skip-column-names --socket="$SERVER_DIRECTORY/socket" ${1:+"$1"} ;;
    postgresql) server_postgresql psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$SERVER_DIRECTORY" -d "${1:-postgres}" -f - >/dev/null ;;
  esac
}

# server_query DATABASE STATEMENT: what it answers.
server_query() {
  case $SERVER_ENGINE in
    mariadb) server_sql "$1" <<<"$2" ;;
    postgresql) server_postgresql psql -X -q -A -t -h "$SERVER_DIRECTORY" -d "$1" -c "$2" ;;
  esac
}

# server_dump DATABASE: as administrators dump it for a backup.
server_dump() {
  case $SERVER_ENGINE in
    mariadb) mariadb-dump --no-defaults --socket="$SERVER_DIRECTORY/socket" --single-transaction "$1" ;;
    postgresql) server_postgresql pg_dump -h "$SERVER_DIRECTORY" "$1" ;;
  esac
}

# server_new DATABASE: an empty database of the application's account; what had the name before is gone.
server_new() {
  case $SERVER_ENGINE in
    mariadb)
      server_sql '' <<END
DROP DATABASE IF EXISTS $1;
CREATE DATABASE $1;
CREATE USER IF NOT EXISTS $SERVER_USER@localhost IDENTIFIED BY '$SERVER_PASSWORD';
GRANT ALL ON $1.* TO $SERVER_USER@localhost;
END
      ;;
    postgresql)
      [[ $(server_query postgres "SELECT count(*) FROM pg_roles WHERE rolname = '$SERVER_USER'") == 1 ]] ||
        server_sql '' <<<"CREATE ROLE $SERVER_USER LOGIN PASSWORD '$SERVER_PASSWORD';"
      server_sql '' <<<"DROP DATABASE IF EXISTS $1 WITH (FORCE);"
      server_sql '' <<<"CREATE DATABASE $1 OWNER $SERVER_USER;"
      ;;
  esac
}

# server_bytes DATABASE: what it takes on the disk, its indexes too.
server_bytes() {
  case $SERVER_ENGINE in
    mariadb) server_query "" "SELECT sum(data_length + index_length) FROM information_schema.tables WHERE table_schema = '$1'" ;;
    postgresql) server_query "$1" "SELECT pg_database_size('$1')" ;;
  esac
}

# server_host: what an application takes for the host.
server_host() {
  case $SERVER_ENGINE in
    mariadb) printf 'localhost:%s/socket' "$SERVER_DIRECTORY" ;;
    postgresql) printf '%s' "$SERVER_DIRECTORY" ;;
  esac
}

# server_url DATABASE: its address for sitefs.
server_url() {
  case $SERVER_ENGINE in
    mariadb) printf 'mariadb:///%s?socket=%s/socket' "$1" "$SERVER_DIRECTORY" ;;
    postgresql) printf 'postgresql:///%s?socket=%s' "$1" "$SERVER_DIRECTORY" ;;
  esac
}

# server_processes: those of the server, which do the reading and writing.
server_processes() {
  printf '%s\n' "$SERVER_PID"
  cat "/proc/$SERVER_PID/task/$SERVER_PID/children" 2>/dev/null || true
}
