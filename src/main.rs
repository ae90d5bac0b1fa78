//! The `sitefs` program.

use sitefs::base::process::ExitCode;
use sitefs::database::worker;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|verb| verb == worker::VERB) {
        return worker::main(arguments);
    }
    ExitCode::SUCCESS
}
