//! The `sitefs` program.

use sitefs::base::process::ExitCode;
use sitefs::{cli, database::worker};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|verb| verb == worker::VERB) {
        // A child of the daemon, not a person: it has no options, no help and no messages for people.
        return worker::main(arguments);
    }
    cli::main()
}
