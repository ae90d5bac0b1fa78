//! Data directories that servers start from: each is made once and copied for every server, as making one takes much
//! longer than a copy.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use crate::machines::done;

/// The engine, and the statements that filled it.
type Kind = (bool, &'static str);

/// The directory of all templates; the keeper removes it when this process ends, however it ends.
struct Templates {
    directory: PathBuf,
    made: Mutex<HashMap<Kind, Arc<OnceLock<PathBuf>>>>,
    _keeper: Child,
}

static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap().keep();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    // Its input ends when nobody has the other end any more.
    let mut keeper = Command::new("sh");
    keeper.args(["-c", "trap '' INT TERM HUP; cat; rm -rf \"$1\"", "sh"]).arg(&directory);
    let keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    Templates { directory, made: Mutex::default(), _keeper: keeper }
});

/// Copies the template of a kind to `to`; whoever is the first to want one makes it, in the directory it is given.
pub(crate) fn copy(kind: Kind, to: &Path, make: impl FnOnce(&Path)) {
    let templates = &*TEMPLATES;
    let mut made = templates.made.lock().unwrap();
    let number = made.len();
    let slot = made.entry(kind).or_default().clone();
    drop(made);
    let template = slot.get_or_init(|| {
        let directory = templates.directory.join(number.to_string());
        make(&directory);
        directory
    });
    done(Command::new("cp").args(["--archive", "--no-target-directory"]).arg(template).arg(to));
}
