//! POSIX access control lists: what a list makes of a mode, a mode of a list, and a directory's default of what is made
//! in it.
//!
//! The kernel checks rights by them, and asks for them as extended attributes. Here is what it leaves to the program. A
//! list and the mode say the same of the owner, of the others, and of the group class: the mode's group bits are the
//! list's mask. A list that says no more than a mode is not kept.
//!
//! The layout is Linux's (`include/uapi/linux/posix_acl_xattr.h`): a version, then entries of tag, rights and id. The
//! rules are POSIX.1e's, as acl(5) has them.

use std::collections::BTreeMap;

/// The attribute with the list that governs access.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute with the list of what is made in a directory.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: [u8; 4] = 2_u32.to_le_bytes();
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

#[derive(Clone, Copy)]
struct Entry {
    tag: u16,
    rights: u32,
    id: [u8; 4],
}

/// A list of which the owner, the group class and the others have one entry each at least.
struct AccessList {
    entries: Vec<Entry>,
}

impl AccessList {
    fn parse(value: &[u8]) -> Option<AccessList> {
        let (&VERSION, entries) = value.split_first_chunk()? else { return None };
        let (entries, []) = entries.as_chunks::<8>() else { return None };
        let entries: Vec<Entry> = entries
            .iter()
            .map(|&[tag, tag_high, rights, rights_high, a, b, c, d]| Entry {
                tag: u16::from_le_bytes([tag, tag_high]),
                rights: u32::from(u16::from_le_bytes([rights, rights_high])),
                id: [a, b, c, d],
            })
            .collect();
        let count = |tag| entries.iter().filter(|entry| entry.tag == tag).count();
        let named = count(USER) + count(GROUP);
        let is_whole = [OWNER, OWNING_GROUP, OTHERS].into_iter().all(|tag| count(tag) == 1)
            && count(MASK) <= 1
            && (named == 0 || count(MASK) == 1)
            && entries.len() == 3 + count(MASK) + named
            && entries.iter().all(|entry| entry.rights <= 0o7);
        is_whole.then_some(AccessList { entries })
    }

    fn encode(&self) -> Box<[u8]> {
        let entries = self.entries.iter().flat_map(|entry| {
            let [rights, ..] = entry.rights.to_le_bytes();
            let [tag, tag_high] = entry.tag.to_le_bytes();
            let [a, b, c, d] = entry.id;
            [tag, tag_high, rights, 0, a, b, c, d]
        });
        VERSION.into_iter().chain(entries).collect()
    }

    /// The entries that a mode has, each with how far left its bits are there.
    fn classes(&mut self) -> impl Iterator<Item = (&mut Entry, u32)> {
        let group = if self.entries.iter().any(|entry| entry.tag == MASK) { MASK } else { OWNING_GROUP };
        self.entries.iter_mut().filter_map(move |entry| match entry.tag {
            OWNER => Some((entry, 6)),
            OTHERS => Some((entry, 0)),
            tag if tag == group => Some((entry, 3)),
            _ => None,
        })
    }

    fn mode(&mut self) -> u32 {
        self.classes().fold(0, |mode, (entry, shift)| mode | entry.rights << shift)
    }

    fn says_more_than_a_mode(&self) -> bool {
        self.entries.len() > 3
    }
}

/// The mode of a node with the list `value` set, and the list to keep. `None`: that is no list.
pub(super) fn set(mode: u32, value: &[u8]) -> Option<(u32, Option<Box<[u8]>>)> {
    let mut list = AccessList::parse(value)?;
    let mode = mode & !0o777 | list.mode();
    Some((mode, list.says_more_than_a_mode().then(|| list.encode())))
}

/// Whether a directory may have the list `value` as the one of what is made in it.
pub(super) fn is_list(value: &[u8]) -> bool {
    AccessList::parse(value).is_some()
}

/// Puts right the list of a node whose mode was set.
pub(super) fn follow_mode(xattrs: &mut Xattrs, mode: u32) {
    let Some(value) = xattrs.get_mut(ACCESS) else { return };
    let Some(mut list) = AccessList::parse(value) else {
        // Nobody knows what it allows; from now on the mode says everything.
        xattrs.remove(ACCESS);
        return;
    };
    for (entry, shift) in list.classes() {
        entry.rights = mode >> shift & 0o7;
    }
    *value = list.encode();
}

/// The mode and the lists of what is made with the mode `mode` in a directory with the default list of `above`; `None`
/// without one, where the umask counts.
pub(super) fn inherit(above: &Xattrs, mode: u32, is_directory: bool) -> Option<(u32, Xattrs)> {
    let default = above.get(DEFAULT)?;
    let mut list = AccessList::parse(default)?;
    for (entry, shift) in list.classes() {
        entry.rights &= mode >> shift;
    }
    let mut xattrs = Xattrs::new();
    if list.says_more_than_a_mode() {
        xattrs.insert(ACCESS.into(), list.encode());
    }
    if is_directory {
        xattrs.insert(DEFAULT.into(), default.clone());
    }
    Some((mode & !0o777 | list.mode(), xattrs))
}

/// The mode of a node of a tree, with these attributes: what is no list, though it is called one, is taken to allow
/// nothing to anybody but the owner.
pub(super) fn stored_mode(mode: u32, xattrs: &Xattrs) -> u32 {
    match xattrs.get(ACCESS) {
        Some(value) if AccessList::parse(value).is_none() => mode & !0o077,
        _ => mode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u8)]) -> Box<[u8]> {
        let entries =
            entries.iter().flat_map(|(tag, rights)| [*tag as u8, 0, *rights, 0, 0xe9, 0x03, 0x00, 0x00]);
        VERSION.into_iter().chain(entries).collect()
    }

    #[test]
    fn a_list_gives_a_mode_and_goes_where_the_mode_says_it_all() {
        let named = list(&[(OWNER, 6), (USER, 6), (OWNING_GROUP, 4), (MASK, 6), (OTHERS, 0)]);
        assert_eq!(set(0o4777, &named), Some((0o4660, Some(named.clone()))));
        let plain = list(&[(OWNER, 6), (OWNING_GROUP, 4), (OTHERS, 1)]);
        assert_eq!(set(0o100, &plain), Some((0o641, None)));
        for wrong in [
            &b""[..],
            b"damaged",
            &VERSION,
            &plain[..plain.len() - 1],
            &list(&[(OWNER, 6), (OWNING_GROUP, 4)]),
            &list(&[(OWNER, 6), (USER, 6), (OWNING_GROUP, 4), (OTHERS, 0)]),
            &list(&[(OWNER, 6), (OWNING_GROUP, 4), (OTHERS, 9)]),
            &list(&[(OWNER, 6), (OWNER, 6), (OWNING_GROUP, 4), (OTHERS, 0)]),
            &list(&[(OWNER, 6), (OWNING_GROUP, 4), (OTHERS, 0), (0x40, 0)]),
        ] {
            assert_eq!(set(0o777, wrong), None, "{wrong:?}");
            let xattrs = Xattrs::from([(ACCESS.into(), wrong.into())]);
            assert_eq!(stored_mode(0o4755, &xattrs), 0o4700);
        }
        assert_eq!(stored_mode(0o660, &Xattrs::from([(ACCESS.into(), named)])), 0o660);
    }

    #[test]
    fn a_mode_changes_the_mask_of_a_list_and_the_group_where_there_is_none() {
        let mut xattrs = Xattrs::from([(
            ACCESS.into(),
            list(&[(OWNER, 6), (USER, 6), (OWNING_GROUP, 4), (MASK, 6), (OTHERS, 0)]),
        )]);
        follow_mode(&mut xattrs, 0o4715);
        let expected = list(&[(OWNER, 7), (USER, 6), (OWNING_GROUP, 4), (MASK, 1), (OTHERS, 5)]);
        assert_eq!(xattrs[ACCESS], expected);
        xattrs.insert(ACCESS.into(), (*b"damaged").into());
        follow_mode(&mut xattrs, 0o777);
        assert!(xattrs.is_empty());
    }

    #[test]
    fn what_is_made_begins_with_the_default_of_its_directory() {
        let default = list(&[(OWNER, 7), (USER, 7), (OWNING_GROUP, 5), (MASK, 7), (OTHERS, 5)]);
        let above = Xattrs::from([(DEFAULT.into(), default.clone())]);
        let (mode, xattrs) = inherit(&above, 0o666, false).unwrap();
        assert_eq!(mode, 0o664);
        let expected = list(&[(OWNER, 6), (USER, 7), (OWNING_GROUP, 5), (MASK, 6), (OTHERS, 4)]);
        assert_eq!(xattrs, Xattrs::from([(ACCESS.into(), expected)]));
        let (mode, xattrs) = inherit(&above, 0o1777, true).unwrap();
        assert_eq!((mode, &xattrs[DEFAULT], &xattrs[ACCESS]), (0o1775, &default, &default));
        // A default that says no more than a mode.
        let plain = list(&[(OWNER, 7), (OWNING_GROUP, 5), (OTHERS, 0)]);
        let above = Xattrs::from([(DEFAULT.into(), plain)]);
        assert_eq!(inherit(&above, 0o666, false), Some((0o640, Xattrs::new())));
        assert_eq!(inherit(&Xattrs::new(), 0o666, false), None);
    }
}
