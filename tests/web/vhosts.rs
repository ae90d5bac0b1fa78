//! Configurations of web servers, and what becomes of bad ones.

use std::fs;
use std::process::Command;

use crate::place::Place;
use crate::servers::apache_modules;

/// A main configuration that includes `site.conf`.
fn main_configuration(place: &Place, server: &str) -> String {
    let site = place.path("site.conf").display().to_string();
    let home = place.path("").display().to_string();
    match server {
        "nginx" => format!("events {{}}\npid {home}/pid;\nhttp {{ include {site}; }}\n"),
        _ => {
            let loaded = apache_modules();
            format!(
                "ServerName test\nPidFile {home}/pid\nErrorLog {home}/apache.log\nTypesConfig /etc/mime.types\n{loaded}\
                 Include {site}\n"
            )
        }
    }
}

fn bad_configurations_are_not_kept(server: &str, bad: &str) {
    let place = Place::new();
    place.import("shop.example");
    place.done(&["site", "set", "shop.example", "uri", "https://www.shop.example"]);
    place.done(&["site", "set", "shop.example", "listen", "8099"]);
    let (main, file) = (place.path("main.conf"), place.path("site.conf"));
    fs::write(&main, main_configuration(&place, server)).unwrap();
    let (main, path) = (main.to_str().unwrap(), file.to_str().unwrap());
    let install = ["vhost", "shop.example", "--server", server, "--install", path, "--server-config", main];
    place.done(&install);
    let good = fs::read_to_string(&file).unwrap();
    assert!(good.contains("www.shop.example") && good.contains("8099"), "{good}");

    // A template of one's own, first one that the server refuses, then one that it accepts.
    let name = format!("{server}.conf");
    let templates = place.path("templates");
    fs::create_dir(&templates).unwrap();
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    fs::write(place.path("config.toml"), format!("{config}templates = {templates:?}\n")).unwrap();
    place.stop();
    place.serve();
    fs::write(templates.join(&name), bad).unwrap();
    let refused = place.sitefs(&install);
    assert_eq!(refused.exit, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("site.conf"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), good);
    fs::remove_file(&file).unwrap();
    assert_eq!(place.sitefs(&install).exit, 3);
    assert!(!file.exists(), "a refused configuration is left where none was");
    fs::write(templates.join(&name), "# {{host}}\n").unwrap();
    place.done(&install);
    assert_eq!(fs::read_to_string(&file).unwrap(), "# www.shop.example\n");
    place.stop();
}

#[test]
fn nginx_looks_at_a_configuration_before_it_stays() {
    bad_configurations_are_not_kept("nginx", "server { rooot {{root}}; }\n");
}

#[test]
fn apache_looks_at_a_configuration_before_it_stays() {
    assert!(Command::new("apachectl").arg("-v").output().is_ok(), "apache2 is installed: see scripts/test");
    bad_configurations_are_not_kept("apache", "<VirtualHost *:80>\nDocumentRooot {{root}}\n</VirtualHost>\n");
}
