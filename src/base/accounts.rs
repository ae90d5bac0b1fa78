//! Users and groups of this machine.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd;

/// What can go wrong when an account is looked up.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No such user or group.
    #[error("there is no {kind} {name} on this machine")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// The name or number asked for.
        name: String,
    },
    /// This process may not run as the user.
    #[error("cannot go on as user {name}: {source}")]
    Refused {
        /// The user.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system's database of accounts could not be asked.
    #[error("cannot look up the {kind} {name}: {source}")]
    Lookup {
        /// `user` or `group`.
        kind: &'static str,
        /// The name or number asked for.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name; the number in digits for a user id that has no account.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The primary group's id.
    pub gid: u32,
    /// The home directory; `/` for a user id that has no account.
    pub home: PathBuf,
    /// Whether the account exists. Without one there are no supplementary groups.
    pub has_account: bool,
}

impl User {
    /// The user of this name.
    pub fn by_name(name: &str) -> Result<User, AccountError> {
        match unistd::User::from_name(name) {
            Ok(Some(user)) => Ok(User::from(user)),
            Ok(None) => Err(AccountError::Unknown { kind: "user", name: name.to_owned() }),
            Err(source) => {
                Err(AccountError::Lookup { kind: "user", name: name.to_owned(), source: source.into() })
            }
        }
    }

    /// The user with this id. Files may belong to an id without an account: it gets the group `gid_otherwise`.
    pub fn by_id(uid: u32, gid_otherwise: u32) -> Result<User, AccountError> {
        match unistd::User::from_uid(uid.into()) {
            Ok(Some(user)) => Ok(User::from(user)),
            Ok(None) => Ok(User {
                name: uid.to_string(),
                uid,
                gid: gid_otherwise,
                home: PathBuf::from("/"),
                has_account: false,
            }),
            Err(source) => {
                Err(AccountError::Lookup { kind: "user", name: uid.to_string(), source: source.into() })
            }
        }
    }

    /// The user this program runs as.
    pub fn current() -> Result<User, AccountError> {
        User::by_id(unistd::geteuid().as_raw(), unistd::getegid().as_raw())
    }
}

impl User {
    /// Makes this whole process run as the user, with the groups of the account, for good. For a process that has
    /// just been started for one piece of work; it takes root unless it runs as the user already.
    pub fn take_on(&self) -> Result<(), AccountError> {
        if unistd::geteuid().as_raw() == self.uid {
            return Ok(());
        }
        let (uid, gid) = (unistd::Uid::from_raw(self.uid), unistd::Gid::from_raw(self.gid));
        // The right to change groups goes with the user id, so that comes last.
        let groups = match CString::new(self.name.as_str()) {
            Ok(name) if self.has_account => unistd::initgroups(&name, gid),
            _ => unistd::setgroups(&[]),
        };
        groups
            .and_then(|()| unistd::setgid(gid))
            .and_then(|()| unistd::setuid(uid))
            .map_err(|source| AccountError::Refused { name: self.name.clone(), source: source.into() })
    }
}

impl From<unistd::User> for User {
    fn from(user: unistd::User) -> User {
        User {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir,
            has_account: true,
        }
    }
}

/// The id of the group of this name.
pub fn group_id(name: &str) -> Result<u32, AccountError> {
    match unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(AccountError::Unknown { kind: "group", name: name.to_owned() }),
        Err(source) => {
            Err(AccountError::Lookup { kind: "group", name: name.to_owned(), source: source.into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_id() {
        let root = User::by_name("root").unwrap();
        assert_eq!((root.uid, root.has_account), (0, true));
        assert_eq!(User::by_id(0, 7).unwrap(), root);
        assert_eq!(group_id("root").unwrap(), 0);
    }

    #[test]
    fn what_is_unknown_is_named() {
        let error = User::by_name("no-such-user").unwrap_err();
        assert_eq!(error.to_string(), "there is no user no-such-user on this machine");
        assert!(group_id("no-such-group").is_err());
        let nobody = User::by_id(4_000_000_001, 7).unwrap();
        assert_eq!((nobody.name.as_str(), nobody.gid, nobody.has_account), ("4000000001", 7, false));
    }
}
