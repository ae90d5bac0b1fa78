//! A site behind the configuration of nginx or Apache that `sitefs vhost` makes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::client::{Address, Answer, ask_with};
use crate::place::{Place, Site};
use crate::servers::{self, Server};

/// Says which release it is, and takes a note when it is posted.
const PAGE: &str = r#"<?php
$site = __DIR__ . '/sites/' . $_SERVER['SITEFS_SITE'];
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
  $database = new PDO("sqlite:$site/database/site.sqlite");
  $database->prepare('insert into note values (?)')->execute([$_GET['note']]);
}
echo include "$site/release.php";
"#;

/// The servers that visitors of `site` talk to.
pub(crate) struct Served<'a> {
    pub(crate) site: Site<'a>,
    pub(crate) visitor: Visitor,
    _php: Server,
    _server: Server,
}

/// Somebody who looks at the site and saves notes.
pub(crate) struct Visitor {
    pub(crate) address: Address,
}

impl Served<'_> {
    /// The site behind nginx, as release `first`, imported from a directory of the web server's user.
    pub(crate) fn new(place: &Place) -> Served<'_> {
        Served::behind(place, "nginx")
    }

    /// As [`Served::new`], behind nginx or Apache.
    pub(crate) fn behind<'a>(place: &'a Place, program: &str) -> Served<'a> {
        for name in ["one", "two"] {
            fs::write(place.path("platforms").join(name).join("web/index.php"), PAGE).unwrap();
        }
        // Imported again below under the name that counts: what is there first is only how a place makes one.
        drop(place.import("template"));
        let original = place.path("originals/template");
        release(&original, "first");
        place.done(&["site", "import", "site", original.to_str().unwrap(), "--platform", "one"]);
        place.done(&["site", "remove", "template", "--force"]);
        place.done(&["site", "set", "site", "php-socket", &text(place.path("php.sock"))]);
        let php = servers::php(&place.path(""), &["opcache.validate_timestamps=0"]);
        let vhost = |listen: &str| {
            place.done(&["site", "set", "site", "listen", listen]);
            place.done(&["vhost", "site", "--server", program])["text"].as_str().unwrap().to_owned()
        };
        let (server, address) = if program == "apache" {
            servers::apache(&place.path(""), |port| vhost(&port.to_string()))
        } else {
            let socket = place.path("site.sock");
            let vhost = vhost(&format!("unix:{}", socket.display()));
            (servers::nginx(&place.path(""), "nginx", &vhost, &socket), Address::Socket(socket))
        };
        let site = Site { place, name: "site".to_owned() };
        Served { site, visitor: Visitor { address }, _php: php, _server: server }
    }

    /// Makes a release of the site live.
    pub(crate) fn deploy(&self, name: &str) {
        let directory = self.site.place.path("releases").join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("settings.php"), "<?php").unwrap();
        release(&directory, name);
        self.site.place.done(&["deploy", "site", directory.to_str().unwrap()]);
    }
}

impl Visitor {
    pub(crate) fn request(&self, method: &str, path: &str, headers: &str) -> Answer {
        let request = format!("{method} {path} HTTP/1.0\r\nHost: site\r\nContent-Length: 0\r\n{headers}\r\n");
        ask_with(&self.address, &request).unwrap()
    }

    /// What a visitor gets who looks at `path`.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let answer = self.request("GET", path, "");
        (answer.status, answer.body)
    }

    /// What a visitor gets who saves a note.
    pub(crate) fn post(&self, note: &str) -> (u16, String) {
        let answer = self.request("POST", &format!("/?note={note}"), "");
        (answer.status, answer.body)
    }
}

/// Files that say which release it is, owned by the web server's user.
fn release(directory: &std::path::Path, name: &str) {
    fs::write(directory.join("release.php"), format!("<?php return '{name}';")).unwrap();
    fs::write(directory.join(format!("{name}.css")), name).unwrap();
    let owned = Command::new("chown").args(["-R", "www-data:www-data"]).arg(directory).status();
    assert!(owned.unwrap().success());
}

pub(crate) fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}
