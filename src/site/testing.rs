//! What tests of this layer and of those above share.

use super::Platform;
use crate::base::Timestamp;
use crate::objects::{Kind, ObjectId};

/// The platform `name` in the directory `/platforms/NAME`, with its sites in `web/sites`.
pub(crate) fn platform(name: &str) -> Platform {
    let sites = "web/sites".parse().unwrap();
    Platform {
        name: name.parse().unwrap(),
        directory: format!("/platforms/{name}"),
        docroot: Platform::docroot_of(&sites),
        sites,
        code: ObjectId::of(Kind::TreePage, b""),
        files: 1,
        size_bytes: 1,
        added: Timestamp::default(),
        application: None,
        version: None,
    }
}
