//! The configuration file.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::base::{Span, files};
use crate::control::Failure;
use crate::control::request::Keep;
use crate::daemon::Schedule;

/// Where the file is looked for when `--config` does not say.
pub(super) const DEFAULT_CONFIG: &str = "/etc/sitefs/config.toml";

/// What the file may say. Everything has a default; options of the command line win.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The store's directory.
    pub(super) store: Option<PathBuf>,
    /// Where the daemon mounts the namespace.
    pub(super) root: Option<PathBuf>,
    /// The directory with recipes of one's own.
    pub(super) recipes: Option<PathBuf>,
    /// The directory with hooks.
    pub(super) hooks: Option<PathBuf>,
    /// How long each hook may take, in seconds.
    pub(super) hook_seconds: Option<u32>,
    /// How many updates run at once.
    pub(super) updates: Option<NonZeroUsize>,
    /// Where web servers and load balancers are answered.
    pub(super) web: Option<String>,
    /// The directory with templates of one's own for web servers.
    pub(super) templates: Option<PathBuf>,
    /// The PHP program that recipes' commands run.
    pub(super) php: Option<PathBuf>,
    /// Whether processors with nothing to do stay awake while files are used in quick succession.
    pub(super) wakeful: Option<bool>,
    /// How long the longest request takes, in seconds.
    pub(super) drain_seconds: Option<u32>,
    /// What the daemon does without anybody asking.
    #[serde(default)]
    pub(super) schedule: ScheduleConfig,
    /// For how many hours, days, weeks and months the newest snapshot of each is kept.
    #[serde(default)]
    pub(super) retention: Keep,
}

/// The section `[schedule]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleConfig {
    /// How old a site's newest snapshot may become before one is taken.
    pub(super) snapshots: Option<Span>,
    /// How often space is reclaimed.
    pub(super) gc: Option<Span>,
}

impl Config {
    /// Reads the file at `path`, or the one at the default place, where it may be missing.
    pub(super) fn load(path: Option<&Path>) -> Result<Config, Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::usage("cannot read the configuration").because(error)
        };
        let file = path.unwrap_or(Path::new(DEFAULT_CONFIG));
        if path.is_none() && files::metadata(file).map_err(|error| failed(&error))?.is_none() {
            return Ok(Config::default());
        }
        let text = files::read_to_string(file).map_err(|error| failed(&error))?;
        let config = Config::parse(&text).map_err(|reason| {
            Failure::usage(format!("the configuration {} is not valid", file.display())).because_of(reason)
        })?;
        Ok(config)
    }

    /// What the daemon does without anybody asking.
    pub(super) fn schedule(&self) -> Schedule {
        let ScheduleConfig { snapshots, gc } = self.schedule;
        Schedule { snapshots, keep: self.retention, collect: gc }
    }

    fn parse(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        for (key, path) in [
            ("store", &config.store),
            ("root", &config.root),
            ("recipes", &config.recipes),
            ("hooks", &config.hooks),
            ("templates", &config.templates),
        ] {
            if let Some(path) = path.as_ref().filter(|path| !path.is_absolute()) {
                return Err(format!("{key} = {:?} must be an absolute path", path.display().to_string()));
            }
            if path.as_ref().is_some_and(|path| path.to_string_lossy().contains('\0')) {
                return Err(format!("{key} has a zero byte in it"));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_says_nothing_and_every_key_is_read() {
        assert_eq!(Config::parse(""), Ok(Config::default()));
        let text = "store = '/s'\nroot = '/r'\nrecipes = '/c'\nphp = 'php8.4'\ndrain_seconds = 5\nweb = '/w'\n\
                    updates = 3\n                    templates = '/t'\n";
        let config = Config::parse(text).unwrap();
        assert_eq!(config.store, Some("/s".into()));
        assert_eq!(config.root, Some("/r".into()));
        assert_eq!(config.recipes, Some("/c".into()));
        assert_eq!(config.php, Some("php8.4".into()));
        assert_eq!(config.drain_seconds, Some(5));
        assert_eq!(config.updates, NonZeroUsize::new(3));
        assert!(Config::parse("updates = 0\n").unwrap_err().contains("nonzero"));
        assert_eq!((config.web, config.templates), (Some("/w".into()), Some("/t".into())));
    }

    #[test]
    fn the_sample_is_valid_and_shows_every_key() {
        let sample = include_str!("../../packaging/config.toml");
        assert_eq!(Config::parse(sample), Ok(Config::default()));
        let used = sample
            .replace("\n#", "\n")
            .lines()
            .filter(|line| line.contains(" = ") || line.starts_with('['))
            .fold(String::new(), |text, line| text + line + "\n");
        let config = Config::parse(&used).unwrap();
        assert!(config.store.is_some() && config.root.is_some());
        assert!(config.hooks.is_some() && config.hook_seconds.is_some());
        assert!(config.recipes.is_some() && config.php.is_some() && config.drain_seconds.is_some());
        assert!(config.schedule.snapshots.is_some() && config.schedule.gc.is_some());
        let Keep { hourly, daily, weekly, monthly } = config.retention;
        assert!([hourly, daily, weekly, monthly].iter().all(|count| *count > 0));
        assert!(config.web.is_some() && config.templates.is_some());
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        let error = Config::parse("root = '/r'\nroots = '/x'\n").unwrap_err();
        assert!(error.contains("line 2") && error.contains("roots") && error.contains("recipes"), "{error}");
        let error = Config::parse("root = 'sitefs'").unwrap_err();
        assert_eq!(error, "root = \"sitefs\" must be an absolute path");
        assert_eq!(Config::parse("root = \"/a\\u0000b\"").unwrap_err(), "root has a zero byte in it");
    }

    #[test]
    fn only_a_file_that_was_named_must_exist() {
        let error = Config::load(Some(Path::new("/nonexistent/config.toml"))).unwrap_err();
        assert!(error.causes[0].contains("/nonexistent/config.toml"));
    }
}
