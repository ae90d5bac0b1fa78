//! Load balancers that send visitors elsewhere while a site is in maintenance, and back.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::ask;
use crate::fixture::Served;
use crate::place::{Place, wait_until};
use crate::servers::{self, Server};

/// The other server: a read-only copy, which here only says that it is one.
fn copy(place: &Place) -> (Server, std::path::PathBuf) {
    let socket = place.path("copy.sock");
    let server =
        format!("server {{ listen unix:{}; location / {{ return 200 copy; }} }}\n", socket.display());
    (servers::nginx(&place.path(""), "copy", &server, &socket), socket)
}

/// Under load all the time: the site's visitors are sent to the copy and back, and no request fails.
fn is_diverted_and_back(place: &Place, front: &Path) {
    let answer = || ask(front, "GET", "site", "/").unwrap();
    wait_until("the site is answered", || answer().body == "first");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let visitors: Vec<_> = (0..4)
            .map(|_| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut wrong = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        match ask(front, "GET", "site", "/") {
                            Ok(answer)
                                if answer.status == 200 && ["first", "copy"].contains(&&*answer.body) => {}
                            other => wrong.push(format!("{other:?}")),
                        }
                    }
                    wrong
                })
            })
            .collect();
        for _ in 0..3 {
            place.done(&["readonly", "site", "on", "--divert"]);
            wait_until("visitors are sent to the copy", || answer().body == "copy");
            place.done(&["readonly", "site", "off"]);
            wait_until("visitors are sent back", || answer().body == "first");
        }
        stop.store(true, Ordering::Relaxed);
        for visitor in visitors {
            let wrong = visitor.join().unwrap();
            assert!(wrong.is_empty(), "{} requests failed, the first: {}", wrong.len(), wrong[0]);
        }
    });
}

#[test]
fn the_daemon_says_how_a_site_is() {
    let place = Place::new();
    place.import("site");
    let health = |query: &str| {
        let answer = ask(&place.path("daemon.sock"), "GET", "any", &format!("/health/{query}")).unwrap();
        (answer.status, answer.body.trim_end().to_owned())
    };
    let is = |status, text: &str| (status, text.to_owned());
    assert_eq!(health("site"), is(200, "up"));
    assert_eq!(health("other"), is(404, "no such site"));
    place.done(&["readonly", "site", "on"]);
    assert_eq!((health("site"), health("site?write")), (is(200, "read-only"), is(503, "read-only")));
    place.done(&["readonly", "site", "on", "--divert"]);
    assert_eq!(health("site"), is(503, "maintenance"));
    place.done(&["readonly", "site", "off"]);
    assert_eq!(health("site?write"), is(200, "up"));
    place.stop();
    assert!(ask(&place.path("daemon.sock"), "GET", "any", "/health/site").is_err());
}

fn haproxy_diverts(program: &str) {
    let place = Place::new();
    let served = Served::behind(&place, program);
    let (_copy, copy) = copy(&place);
    let front = place.path("front.sock");
    let configuration = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         frontend visitors\n  bind unix@{front} mode 666\n  default_backend site\n\
         backend site\n  option httpchk GET /.sitefs/health\n  http-check expect status 200\n\
         \x20 server live {live} check inter 50ms fall 1 rise 1\n\
         \x20 server copy unix@{copy} backup\n",
        front = front.display(),
        live = served.visitor.address.named("unix@"),
        copy = copy.display(),
    );
    let file = place.path("haproxy.cfg");
    fs::write(&file, configuration).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    let haproxy = Server::start(&mut command, &place.path("haproxy.log"), &front);
    is_diverted_and_back(&place, &front);
    drop((haproxy, served));
    place.stop();
}

fn an_nginx_upstream_diverts(program: &str) {
    let place = Place::new();
    let served = Served::behind(&place, program);
    let (_copy, copy) = copy(&place);
    let front = place.path("front.sock");
    let configuration = format!(
        "upstream site {{\n server {live} max_fails=0;\n server unix:{copy} backup;\n}}\n\
         server {{\n listen unix:{front};\n location / {{\n proxy_pass http://site;\n\
         proxy_set_header Sitefs-Elsewhere yes;\n proxy_next_upstream error timeout http_503;\n }}\n}}\n",
        live = served.visitor.address.named("unix:"),
        copy = copy.display(),
        front = front.display(),
    );
    let balancer = servers::nginx(&place.path(""), "front", &configuration, &front);
    is_diverted_and_back(&place, &front);
    drop((balancer, served));
    place.stop();
}

#[test]
fn haproxy_sends_visitors_elsewhere_and_back() {
    haproxy_diverts("nginx");
}

#[test]
fn haproxy_sends_visitors_of_apache_elsewhere_and_back() {
    haproxy_diverts("apache");
}

#[test]
fn an_nginx_upstream_sends_visitors_elsewhere_and_back() {
    an_nginx_upstream_diverts("nginx");
}

#[test]
fn an_nginx_upstream_sends_visitors_of_apache_elsewhere_and_back() {
    an_nginx_upstream_diverts("apache");
}
