//! What applications may be like.

/// An application with a read-only mode.
pub(super) const POLITE: &str = r#"
title = "Polite"
programs = ["php"]
readonly = { on = "read-only on", off = "read-only off" }
update = { commands = ["update"], rebuild = ["rebuild"] }
check = [{ run = "check" }, { page = "/", contains = ["two says"], lacks = ["Warning"] }]
"#;

/// An application without one: its writers wait.
pub(super) const PLAIN: &str = r#"
title = "Plain"
update = { commands = ["update"], rebuild = ["rebuild"] }
check = [{ run = "check" }]
"#;

/// An application that writes for every page.
pub(super) const BUSY: &str = r#"
title = "Busy"
update = { commands = ["update"], rebuild = ["rebuild"], hold_after_switch = false }
check = [{ run = "check" }]
"#;

/// An application with a maintenance mode only.
pub(super) const CLOSED: &str = r#"
title = "Closed"
maintenance = { on = "close", off = "open" }
update = { commands = ["update"], rebuild = ["rebuild"] }
check = [{ run = "check" }]
"#;

/// An application that writes for every page, also in its read-only mode.
pub(super) const CHATTY: &str = r#"
title = "Chatty"
readonly = { on = "read-only on", off = "read-only off", lock_database = false }
update = { commands = ["update"], rebuild = ["rebuild"], hold_after_switch = false }
check = [{ run = "check" }]
"#;

/// The same, closed until the live site is checked.
pub(super) const COURTEOUS: &str = r#"
title = "Courteous"
readonly = { on = "read-only on", off = "read-only off", lock_database = false }
update = { commands = ["update"], rebuild = ["rebuild"] }
check = [{ run = "check" }]
"#;

/// All of them.
pub(super) const RECIPES: [&str; 6] = [POLITE, PLAIN, BUSY, CLOSED, CHATTY, COURTEOUS];
