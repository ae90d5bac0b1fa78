//! Putting a web server's configuration in place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Program;
use crate::base::files::{self, FileError};
use crate::base::process::{Command, ProcessError};

/// How long a web server may take to read its configuration.
const CHECK_TIME_MAX: Duration = Duration::from_secs(60);

/// What can go wrong when a configuration is put in place.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The web server does not accept it; what was there before is there again.
    #[error("{program} does not accept the configuration {}; what was there before is in place", path.display())]
    Refused {
        /// The server's program.
        program: String,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: ProcessError,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Writes `text` to `path`, has the server read its whole configuration, and puts back what was there if it does not
/// accept it. A crash in between leaves a file that has not been looked at; the running server does not read it until
/// it is told to, and installing again looks at it. `configuration`: the server's main file, if not its default.
pub fn install(
    program: Program,
    path: &Path,
    text: &str,
    configuration: Option<&Path>,
) -> Result<(), InstallError> {
    let before = match files::metadata(path)? {
        Some(_) => Some(files::read(path)?),
        None => None,
    };
    files::write_atomically(path, text.as_bytes())?;
    let (name, arguments) = program.check(configuration);
    let checked = Command::new(name).arguments(arguments).time_limit(CHECK_TIME_MAX).run();
    match checked.and_then(crate::base::process::Outcome::success) {
        Ok(_) => Ok(()),
        Err(source) => {
            match before {
                Some(before) => files::write_atomically(path, &before)?,
                None => files::remove_file(path)?,
            }
            Err(InstallError::Refused { program: name.to_owned(), path: path.to_owned(), source })
        }
    }
}
