//! What visitors get while the daemon is dead, and whether that ends.

use std::fs;

use crate::fixture::Served;
use crate::place::Place;

fn visitors_are_asked_for_patience(program: &str) {
    let place = Place::new();
    let served = Served::behind(&place, program);
    let visitor = &served.visitor;
    // As an application's installer, which is no page of the site and asks nothing of it.
    fs::write(place.path("platforms/one/web/install.php"), "<?php echo 'installer';").unwrap();
    let is_shown = || {
        assert_eq!(visitor.get("/"), (200, "first".to_owned()));
        assert_eq!(visitor.get("/install.php"), (200, "installer".to_owned()));
    };
    let is_away = || {
        for (method, path) in [("GET", "/"), ("GET", "/some/page"), ("POST", "/"), ("GET", "/install.php")] {
            let answer = visitor.request(method, path, "");
            assert_eq!(answer.status, 503, "{method} {path}: {answer:?}");
            assert!(answer.head.contains("\r\nRetry-After: 30"), "{}", answer.head);
        }
    };
    is_shown();
    // What the kernel has been told in a listing, it is not to remember either.
    let sites = place.path("platforms/one/web/sites");
    assert!(fs::read_dir(&sites).unwrap().any(|entry| entry.unwrap().file_name() == ".sitefs"));
    is_shown();
    place.kill();
    is_away();
    place.serve();
    is_shown();
    place.stop();
    is_away();
    place.serve();
    is_shown();
    drop(served);
    place.stop();
}

#[test]
fn visitors_are_asked_for_patience_while_the_daemon_is_dead() {
    visitors_are_asked_for_patience("nginx");
}

#[test]
fn visitors_of_apache_are_asked_for_patience_while_the_daemon_is_dead() {
    visitors_are_asked_for_patience("apache");
}
