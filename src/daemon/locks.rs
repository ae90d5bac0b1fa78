//! One command at a time changes a site.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::SiteName;
use crate::control::Failure;

/// Which sites are being changed, and by what.
#[derive(Clone, Default)]
pub(super) struct Locks(Arc<Mutex<BTreeMap<SiteName, String>>>);

/// The right to change a site, given back when dropped.
pub(super) struct SiteLock {
    locks: Locks,
    site: SiteName,
}

impl Locks {
    /// Takes the right to change `site` for `what` ("snapshot", "update"), or says who has it.
    pub(super) fn take(&self, site: &SiteName, what: &str) -> Result<SiteLock, Failure> {
        let mut held = self.0.lock();
        if let Some(other) = held.get(site) {
            return Err(Failure::refused(format!("site {site} is being changed: {other} is under way"))
                .hint("wait for it; `sitefs status` shows what is running"));
        }
        held.insert(site.clone(), what.to_owned());
        Ok(SiteLock { locks: self.clone(), site: site.clone() })
    }

    /// What is under way, by site.
    pub(super) fn held(&self) -> BTreeMap<SiteName, String> {
        self.0.lock().clone()
    }
}

impl Drop for SiteLock {
    fn drop(&mut self) {
        self.locks.0.lock().remove(&self.site);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_command_is_told_about_the_first() {
        let locks = Locks::default();
        let site: SiteName = "example.com".parse().unwrap();
        let lock = locks.take(&site, "update").unwrap();
        let refusal = locks.take(&site, "snapshot").err().unwrap();
        assert!(refusal.message.contains("update is under way"), "{}", refusal.message);
        assert!(locks.take(&"example.org".parse().unwrap(), "snapshot").is_ok());
        drop(lock);
        assert!(locks.take(&site, "snapshot").is_ok());
    }
}
