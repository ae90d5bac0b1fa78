//! Programs of the administrator's own that are run before and after the steps of an update.
//!
//! ```text
//! HOOKS/before-switch/10-tell       for every site
//! HOOKS/sites/SITE/after-release/x  for one
//! ```
//!
//! They run as the daemon does. So whoever can write such a file could become that user, and a file that others than its
//! owner or root may write to is refused, not run. What one leaves running ends with it, and with the daemon.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Daemon;
use crate::base::accounts::User;
use crate::base::files;
use crate::base::process::{Command, Ending};
use crate::control::Failure;
use crate::update::HookRequest;

/// Ends of names that editors and packages leave: `20-mail~`, `20-mail.dpkg-old`.
const LEFT_BY_TOOLS: [&str; 7] = ["~", ".bak", ".swp", ".dpkg-old", ".dpkg-dist", ".dpkg-new", ".rpmsave"];

impl Daemon {
    /// Runs the hooks of a step: those for every site, then those for this one, each in the order of their names.
    pub(super) fn run_hooks(
        &self,
        request: &HookRequest,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), Failure> {
        let name = format!("{}-{}", request.moment, request.step);
        let of_site = self.options.hooks.join("sites").join(request.site.as_str());
        for directory in [self.options.hooks.join(&name), of_site.join(&name)] {
            for program in programs_in(&directory, output)? {
                self.run_hook(&program, request, output)?;
            }
        }
        Ok(())
    }

    fn run_hook(
        &self,
        program: &Path,
        request: &HookRequest,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), Failure> {
        output(&format!("$ {}", program.display()));
        let limit = self.options.hook_limit;
        let mut command = Command::new(program)
            .contained()
            .clear_env()
            .directory("/")
            .env("SITEFS_STORE", self.store.directory())
            .time_limit(limit);
        for (name, value) in &request.environment {
            command = command.env(name, value);
        }
        let mut last = String::new();
        let outcome = command.run_with(&mut |_, line| {
            output(line);
            line.clone_into(&mut last);
        })?;
        let why = match outcome.ending {
            Ending::Exited(0) => return Ok(()),
            Ending::Exited(status) => format!("ended with status {status}"),
            Ending::Signalled(signal) => format!("was ended by signal {signal}"),
            Ending::TimedOut(_) => format!("took longer than {} s and was killed", limit.as_secs()),
        };
        let failure = Failure::failed(format!("the hook {} {why}", program.display()));
        Err(if last.is_empty() { failure } else { failure.because_of(last) })
    }
}

/// The programs in a directory, in the order of their names; none where there is no directory.
fn programs_in(directory: &Path, output: &mut dyn FnMut(&str)) -> Result<Vec<PathBuf>, Failure> {
    if files::metadata(directory)?.is_none() {
        return Ok(Vec::new());
    }
    let own = User::current()?.uid;
    let mut found = Vec::new();
    for entry in files::list(directory)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || LEFT_BY_TOOLS.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let path = files::canonical(&entry.path())?;
        let Some(metadata) = files::metadata(&path)?.filter(std::fs::Metadata::is_file) else { continue };
        if metadata.permissions().mode() & 0o111 == 0 {
            output(&format!("{} is not executable: left out", entry.path().display()));
            continue;
        }
        let is_own = metadata.uid() == 0 || metadata.uid() == own;
        if !is_own || metadata.permissions().mode() & 0o022 != 0 {
            return Err(Failure::refused(format!("the hook {} could be changed by others", path.display()))
                .hint("make root its owner, and nobody else able to write to it: chown root, chmod go-w"));
        }
        found.push(entry.path());
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_those_that_can_be_run_and_that_nobody_else_can_change() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, mode: u32| {
            let path = directory.path().join(name);
            std::fs::write(&path, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let (second, first) = (put("20-b.sh", 0o755), put("10-a", 0o700));
        for name in ["20-b.sh~", ".hidden", "30.dpkg-old"] {
            put(name, 0o755);
        }
        put("README", 0o644);
        let mut told = Vec::new();
        let found = programs_in(directory.path(), &mut |line| told.push(line.to_owned())).unwrap();
        assert_eq!(found, [first, second]);
        assert!(told.len() == 1 && told[0].contains("README is not executable"), "{told:?}");
        put("40-open", 0o777);
        let refused = programs_in(directory.path(), &mut |_| ()).unwrap_err();
        assert!(refused.message.contains("could be changed by others"), "{}", refused.message);
        assert!(programs_in(&directory.path().join("none"), &mut |_| ()).unwrap().is_empty());
    }
}
