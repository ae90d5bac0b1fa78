# shellcheck shell=bash
# nginx and PHP-FPM of our own on the loopback address: configuration, logs, sockets and pids all below one directory,
# masters as root, workers as www-data, opcache on with Debian's defaults.

WEB_USER=www-data

# php_version: the newest PHP that has both FPM and the command line.
php_version() {
  local fpm version best=
  for fpm in /usr/sbin/php-fpm[0-9]*; do
    version=${fpm##*/php-fpm}
    if [[ -x /usr/bin/php$version ]]; then best=$(printf '%s\n' "$best" "$version" | sort -V | tail -n 1); fi
  done
  [[ -n $best ]] || fail "PHP-FPM is not installed" "apt-get install php-fpm php-cli"
  printf '%s' "$best"
}

# Where PHP puts temporary files, once web_start has run.
WEB_TEMP=/tmp

# as_web COMMAND...: runs it as the web server's user with a small environment.
as_web() {
  setpriv --reuid "$WEB_USER" --regid "$WEB_USER" --init-groups --inh-caps=-all \
    env -i PATH=/usr/bin:/bin HOME=/nonexistent LC_ALL=C.UTF-8 "TMPDIR=$WEB_TEMP" "$@"
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# web_start DIRECTORY LIVE SITE: serves SITE, whose docroot is the link LIVE. Sets WEB_PORT and WEB_URL. The port is
# taken now, LIVE may come later. WEB_VALIDATE (1) and WEB_REVALIDATE (2 seconds) say whether and how often opcache looks
# at files again.
web_start() {
  local directory=$1 live=$2 site=$3 version try
  version=$(php_version)
  mkdir -p "$directory"/{log,run,nginx-temp,php-temp}
  chown "$WEB_USER": "$directory"/{nginx-temp,php-temp}
  WEB_TEMP=$directory/php-temp
  web_fpm_configuration "$directory" >"$directory/fpm.conf"
  "/usr/sbin/php-fpm$version" -d opcache.enable=1 -d "opcache.validate_timestamps=${WEB_VALIDATE:-1}" \
    -d "opcache.revalidate_freq=${WEB_REVALIDATE:-2}" --fpm-config "$directory/fpm.conf" --daemonize ||
    fail "PHP-FPM did not start" "see $directory/log/fpm.log"
  for try in {1..20}; do
    WEB_PORT=$((20000 + RANDOM % 20000))
    port_is_free "$WEB_PORT" || continue
    web_nginx_configuration "$directory" "$live" "$site" "$WEB_PORT" >"$directory/nginx.conf"
    if nginx -c "$directory/nginx.conf" -e "$directory/log/nginx-error.log" 2>"$directory/log/nginx-start.log"; then
      # shellcheck disable=SC2034 # for the caller
      WEB_URL=http://127.0.0.1:$WEB_PORT
      return 0
    fi
    grep -q 'Address already in use' "$directory/log/nginx-start.log" || break
  done
  cat "$directory/log/nginx-start.log" >&2
  fail "nginx did not start (try $try)"
}

web_stop() {
  stop_process "$1/run/nginx.pid" "$1/nginx.conf" QUIT
  stop_process "$1/run/fpm.pid" "$1/fpm.conf" QUIT
}

web_fpm_configuration() {
  local directory=$1
  cat <<END
[global]
pid = $directory/run/fpm.pid
error_log = $directory/log/fpm.log
[sites]
user = $WEB_USER
group = $WEB_USER
listen = $directory/run/fpm.sock
listen.owner = $WEB_USER
listen.mode = 0600
pm = static
pm.max_children = 4
catch_workers_output = yes
; What PHP remembers of paths must not outlive a release: docs/decisions/php-path-caches.md
php_admin_flag[opcache.revalidate_path] = on
php_admin_value[realpath_cache_ttl] = 2
php_admin_flag[log_errors] = on
php_admin_flag[display_errors] = off
php_admin_value[error_log] = $directory/php-temp/error.log
php_admin_value[sys_temp_dir] = $directory/php-temp
php_admin_value[upload_tmp_dir] = $directory/php-temp
END
}

# The real path of the docroot goes to PHP. It is looked up once a request, so one request has one release.
web_nginx_configuration() {
  local directory=$1 live=$2 site=$3 port=$4
  cat <<END
user $WEB_USER;
worker_processes 2;
pid $directory/run/nginx.pid;
error_log $directory/log/nginx-error.log;
events { worker_connections 256; }
http {
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  access_log $directory/log/nginx-access.log;
  client_body_temp_path $directory/nginx-temp/body;
  proxy_temp_path $directory/nginx-temp/proxy;
  fastcgi_temp_path $directory/nginx-temp/fastcgi;
  uwsgi_temp_path $directory/nginx-temp/uwsgi;
  scgi_temp_path $directory/nginx-temp/scgi;
  sendfile on;
  keepalive_requests 10000;
  client_max_body_size 64m;
  server {
    listen 127.0.0.1:$port;
    root $live;

    # For procedures that close a site: nobody gets more than this while the file is there.
    if (-f $directory/closed) { return 503; }

    # Uploads: plain files of the site, never run. Nothing else below sites/ is for visitors.
    location ^~ /images/ {
      root $live/sites/$site;
      add_header X-Content-Type-Options nosniff;
    }
    location ^~ /sites/ { return 404; }
    location ~ ^/(includes|languages|maintenance|mw-config|vendor|tests)/ { return 404; }
    location ~ /\\. { return 404; }

    location = / { return 302 /wiki/Main_Page; }
    location /wiki/ {
      include /etc/nginx/fastcgi_params;
      fastcgi_param SCRIPT_FILENAME \$realpath_root/index.php;
      fastcgi_param SCRIPT_NAME /index.php;
      fastcgi_param DOCUMENT_ROOT \$realpath_root;
      fastcgi_param SITEFS_SITE $site;
      fastcgi_pass unix:$directory/run/fpm.sock;
    }
    location ~ ^/(index|load|api|thumb|opensearch_desc)\\.php\$ {
      include /etc/nginx/fastcgi_params;
      fastcgi_param SCRIPT_FILENAME \$realpath_root\$fastcgi_script_name;
      fastcgi_param DOCUMENT_ROOT \$realpath_root;
      fastcgi_param SITEFS_SITE $site;
      fastcgi_pass unix:$directory/run/fpm.sock;
    }
    location ~ \\.php { return 404; }
  }
}
END
}
