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

/// Where it is, and whether it has been made.
struct Template {
    directory: PathBuf,
    made: OnceLock<()>,
}

/// The directory of all templates; the keeper removes it when this process ends, however it ends.
struct Templates {
    directory: PathBuf,
    made: Mutex<HashMap<Kind, Arc<Template>>>,
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
    let directory = templates.directory.join(made.len().to_string());
    let template =
        made.entry(kind).or_insert_with(|| Arc::new(Template { directory, made: OnceLock::new() }));
    let template = Arc::clone(template);
    drop(made);
    template.made.get_or_init(|| make(&template.directory));
    done(Command::new("cp").args(["--archive", "--no-target-directory"]).arg(&template.directory).arg(to));
}
