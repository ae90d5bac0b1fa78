//! The configuration of a web server for one site.

use std::path::{Path, PathBuf};

use super::Address;
use crate::base::files::{self, FileError};
use crate::base::{RelativePath, SiteName};

/// A web server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// nginx.
    Nginx,
    /// Apache's httpd.
    Apache,
}

impl Program {
    /// The name of its template in the administrator's directory.
    pub fn template_name(self) -> &'static str {
        match self {
            Program::Nginx => "nginx.conf",
            Program::Apache => "apache.conf",
        }
    }

    fn template(self) -> &'static str {
        match self {
            Program::Nginx => include_str!("templates/nginx.conf"),
            Program::Apache => include_str!("templates/apache.conf"),
        }
    }

    /// How its configuration names a server that speaks HTTP; a path may follow.
    fn address(self, address: &Address) -> String {
        match (self, address) {
            (_, Address::Loopback(address)) => format!("http://{address}"),
            (Program::Nginx, Address::Unix(path)) => format!("http://unix:{}:", path.display()),
            (Program::Apache, Address::Unix(path)) => format!("unix:{}|http://sitefs", path.display()),
        }
    }

    /// What has it read its whole configuration, changing nothing.
    pub(super) fn check(self, configuration: Option<&Path>) -> (&'static str, Vec<String>) {
        let (name, check, option) = match self {
            Program::Nginx => ("nginx", "-t", "-c"),
            Program::Apache => ("apachectl", "configtest", "-f"),
        };
        match (self, configuration) {
            (_, None) => (name, vec![check.to_owned()]),
            (Program::Nginx, Some(file)) => {
                (name, vec![check.to_owned(), option.to_owned(), file.display().to_string()])
            }
            // apachectl takes no other options beside its own words; -t is what configtest calls.
            (Program::Apache, Some(file)) => {
                (name, vec!["-t".to_owned(), option.to_owned(), file.display().to_string()])
            }
        }
    }
}

/// What can go wrong with a template.
#[derive(Debug, thiserror::Error)]
pub enum VhostError {
    /// It names something that there is not.
    #[error("the template {} has {{{{{name}}}}}, which is none of {known}", path.display())]
    Unknown {
        /// The template.
        path: PathBuf,
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A value would end the directive that it is put into.
    #[error(
        "{name} is {value:?}, which has a character that means something in a web server's configuration"
    )]
    Unsafe {
        /// What it is.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// The template cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What templates may refer to.
#[derive(Clone, Debug)]
pub struct Vhost {
    /// The site.
    pub site: SiteName,
    /// The host name of its address.
    pub host: String,
    /// The port of its address, if that names one.
    pub port: Option<String>,
    /// What the server listens on: `80`, `127.0.0.1:8080`, for nginx also `unix:/run/site.sock`.
    pub listen: String,
    /// Where the namespace is mounted.
    pub root: PathBuf,
    /// The socket of PHP-FPM.
    pub php: String,
    /// Where the daemon answers HTTP.
    pub web: Address,
    /// What a client whose write is refused is told to wait, in seconds.
    pub retry_seconds: u64,
    /// Where the sites are below the document root: `sites`.
    pub sites: RelativePath,
    /// Directories of a site that visitors ask for as if they were in the document root.
    pub directories: Vec<RelativePath>,
    /// What is in a site's directory that no visitor may ask for, with all that is below.
    pub hidden: Vec<RelativePath>,
    /// A site's data directories: files of these are shown and never run.
    pub data: Vec<RelativePath>,
}

/// What may be put into a web server's configuration as it is.
fn is_safe(value: &str) -> bool {
    value.chars().all(|character| character.is_ascii_alphanumeric() || "./:_-@[]+~".contains(character))
}

/// A regular expression for any of the paths; none at all: one that nothing matches.
fn any_of(name: &'static str, paths: &[RelativePath]) -> Result<String, VhostError> {
    if let Some(path) = paths.iter().find(|path| !is_safe(path.as_str())) {
        return Err(VhostError::Unsafe { name, value: path.to_string() });
    }
    let escaped = |path: &RelativePath| {
        let mut expression = String::new();
        for character in path.as_str().chars() {
            if ".[]+".contains(character) {
                expression.push('\\');
            }
            expression.push(character);
        }
        expression
    };
    match paths.is_empty() {
        true => Ok("(?!)".to_owned()),
        false => Ok(paths.iter().map(escaped).collect::<Vec<_>>().join("|")),
    }
}

impl Vhost {
    /// The configuration of `program`: from the administrator's template if the directory has one, else from the one
    /// that sitefs brings. In a template `{{name}}` stands for a value.
    pub fn render(&self, program: Program, templates: Option<&Path>) -> Result<String, VhostError> {
        let path = templates.unwrap_or(Path::new("(built in)")).join(program.template_name());
        let text = match templates {
            Some(_) if files::metadata(&path)?.is_some() => files::read_to_string(&path)?,
            _ => program.template().to_owned(),
        };
        let web = match &self.web {
            Address::Unix(path) => path.display().to_string(),
            Address::Loopback(address) => address.to_string(),
        };
        let values = [
            ("site", self.site.to_string()),
            ("host", self.host.clone()),
            ("port", self.port.as_ref().map_or_else(String::new, |port| format!(":{port}"))),
            ("listen", self.listen.clone()),
            ("root", self.root.display().to_string()),
            ("php", self.php.clone()),
            ("web", web),
            ("retry", self.retry_seconds.to_string()),
            ("sites", self.sites.to_string()),
        ];
        if let Some((name, value)) = values.iter().find(|(_, value)| !is_safe(value)) {
            return Err(VhostError::Unsafe { name, value: value.clone() });
        }
        let expressions = [
            ("directories", any_of("directories", &self.directories)?),
            ("hidden", any_of("hidden", &self.hidden)?),
            ("data", any_of("data", &self.data)?),
        ];
        let mut values: Vec<_> = values.into_iter().chain(expressions).collect();
        if let Some((_, value)) = values.iter_mut().find(|(name, _)| *name == "web") {
            *value = program.address(&self.web);
        }
        let mut rendered = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").unwrap_or((after, ""));
            let value = values.iter().find(|(known, _)| *known == name.trim());
            let (_, value) = value.ok_or_else(|| VhostError::Unknown {
                path: path.clone(),
                name: name.trim().to_owned(),
                known: values.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", "),
            })?;
            rendered = rendered + before + value;
            rest = after;
        }
        Ok(rendered + rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vhost() -> Vhost {
        Vhost {
            site: "shop.example".parse().unwrap(),
            host: "www.shop.example".to_owned(),
            port: Some("8443".to_owned()),
            listen: "80".to_owned(),
            root: "/var/aegir/sitefs".into(),
            php: "/run/php.sock".to_owned(),
            web: Address::Unix("/run/sitefs/web.sock".into()),
            retry_seconds: 30,
            sites: "sites".parse().unwrap(),
            directories: vec!["wp-content".parse().unwrap()],
            hidden: vec!["database".parse().unwrap(), "config.ini".parse().unwrap()],
            data: Vec::new(),
        }
    }

    #[test]
    fn the_templates_that_sitefs_brings_are_filled() {
        assert!(vhost().render(Program::Nginx, None).unwrap().contains("HTTP_HOST $host:8443;"));
        for program in [Program::Nginx, Program::Apache] {
            let text = vhost().render(program, None).unwrap();
            assert!(text.contains("/var/aegir/sitefs/live/shop.example") && !text.contains("{{"), "{text}");
            for part in
                ["^/(wp-content)/", "/(database|config\\.ini)(/|$)", "/((?!))/.*", "/sites/shop.example/$1/"]
            {
                assert!(text.contains(part), "{part} is not in:\n{text}");
            }
        }
    }

    #[test]
    fn no_path_of_a_site_ends_a_directive() {
        let own = Vhost { data: vec!["up loads;".parse().unwrap()], ..vhost() };
        assert!(matches!(own.render(Program::Nginx, None), Err(VhostError::Unsafe { name: "data", .. })));
    }

    #[test]
    fn a_template_of_ones_own_comes_first_and_its_mistakes_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, "a {{ host }} b").unwrap();
        let render = |vhost: Vhost| vhost.render(Program::Nginx, Some(directory.path()));
        assert_eq!(render(vhost()).unwrap(), "a www.shop.example b");
        let own = Vhost { host: "a; root /".to_owned(), ..vhost() };
        assert!(matches!(render(own), Err(VhostError::Unsafe { name: "host", .. })));
        std::fs::write(&file, "a {{hots}} b").unwrap();
        assert!(matches!(render(vhost()), Err(VhostError::Unknown { name, .. }) if name == "hots"));
    }
}
