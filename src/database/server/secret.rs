//! Passwords.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::files::{self, FileError};

/// Random bytes of a password: 160 bits, far beyond guessing.
const PASSWORD_BYTES: usize = 20;

/// A password of an application. Never shown: neither by messages nor by the debug form of whatever contains it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(String);

impl Secret {
    /// A new one: hexadecimal digits, which nothing treats specially.
    pub fn random() -> Result<Secret, FileError> {
        let mut random = [0; PASSWORD_BYTES];
        files::fill_random(&mut random)?;
        Ok(Secret(random.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The password itself, for the server and for the application's settings file.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let (one, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_ne!(one.reveal(), other.reveal());
        assert_eq!(one.reveal().len(), 2 * PASSWORD_BYTES);
        assert!(!format!("{one:?}").contains(one.reveal()));
    }
}
