//! The `sitefs` program.

use sitefs::base::process::{ExitCode, containment};
use sitefs::{cli, database, fuse};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        // Children of the daemon, not for people: they have no options, no help and no messages for people.
        Some(verb) if verb == database::worker::VERB => database::worker::main(arguments),
        Some(verb) if verb == fuse::mounts::worker::VERB => fuse::mounts::worker::main(arguments),
        Some(verb) if verb == containment::VERB => containment::main(arguments),
        _ => cli::main(),
    }
}
