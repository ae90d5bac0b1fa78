//! POSIX access control lists that came with an import.
//!
//! The mount has none: they are kept for the way back to a disk, and refused where somebody would set one. The mode of
//! a file that has one says more than the list allows (its group bits are the list's mask), and a list may deny what
//! everybody else may do. So what is shown is the mode without any right that the list denies somebody.

/// The attribute with the list that governs access.
pub(super) const NAME: &[u8] = b"system.posix_acl_access";

/// The layout is Linux's (`include/uapi/linux/posix_acl_xattr.h`): a version, then entries of tag, rights and id.
const VERSION: [u8; 4] = 2_u32.to_le_bytes();
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;

/// The rights of a file with the mode `mode` and the list `list`, without a list.
pub(super) fn mode_without_list(mode: u32, list: &[u8]) -> u32 {
    let entries = match list.split_first_chunk() {
        Some((&VERSION, entries)) if entries.len() % 8 == 0 => entries,
        // Nobody knows what it allows, so only the owner and the administrator have rights.
        _ => return mode & !0o077,
    };
    let (mut group, mut others) = (0o7, 0o7);
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let rights = u32::from(u16::from_le_bytes([entry[2], entry[3]]));
        match tag {
            // Who is named may be in the group.
            USER => (group, others) = (group & rights, others & rights),
            OWNING_GROUP => group &= rights,
            GROUP => others &= rights,
            _ => {}
        }
    }
    mode & (!0o077 | (group << 3) | others)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16)]) -> Vec<u8> {
        let entries = entries.iter().flat_map(|(tag, rights)| {
            [tag.to_le_bytes().as_slice(), &rights.to_le_bytes(), &u32::MAX.to_le_bytes()].concat()
        });
        VERSION.into_iter().chain(entries).collect()
    }

    #[test]
    fn nobody_may_do_what_the_list_denies() {
        // Owner rw, group nothing, a named user may read: the mask makes the mode 0640.
        assert_eq!(
            mode_without_list(0o640, &list(&[(1, 6), (USER, 4), (4, 0), (0x10, 4), (0x20, 0)])),
            0o600
        );
        // Everybody may read but a named user, who may be in the group.
        assert_eq!(
            mode_without_list(0o644, &list(&[(1, 6), (USER, 0), (4, 4), (0x10, 4), (0x20, 4)])),
            0o600
        );
        // Everybody but a named group.
        assert_eq!(
            mode_without_list(0o4755, &list(&[(1, 7), (4, 5), (GROUP, 0), (0x10, 5), (0x20, 5)])),
            0o4750
        );
        // A list that allows what the mode does.
        assert_eq!(
            mode_without_list(0o664, &list(&[(1, 6), (4, 6), (GROUP, 7), (0x10, 6), (0x20, 4)])),
            0o664
        );
        assert_eq!(mode_without_list(0o777, b"damaged"), 0o700);
        assert_eq!(mode_without_list(0o777, b""), 0o700);
    }
}
