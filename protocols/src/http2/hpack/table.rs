//! The tables that header fields are referred to by (RFC 7541, section 2.3 and appendix A).

use std::collections::VecDeque;

use super::OVERHEAD;

/// The size that a dynamic table has until it is told otherwise (RFC 9113, section 6.5.2).
const INITIAL_SIZE: usize = 4096;

/// Most that is kept of a dynamic table, however large the two sides let it grow; what is older is unknown.
const LARGEST_KEPT: usize = 64 * 1024;

/// A field as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known<'a> {
    pub(super) name: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
}

/// What an index refers to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup<'a> {
    /// An entry.
    Entry(Known<'a>),
    /// An entry that was added before it could be seen.
    Unknown,
    /// Nothing.
    Invalid,
}

#[derive(Debug)]
struct Entry {
    /// `None`: its name was given by reference to an unknown entry.
    name: Option<Box<[u8]>>,
    value: Box<[u8]>,
}

impl Entry {
    /// What the entry counts; at least that, if its name is not known.
    fn size(&self) -> usize {
        OVERHEAD + self.name.as_ref().map_or(0, |name| name.len()) + self.value.len()
    }
}

/// A dynamic table whose older part may be unknown.
///
/// An index counts from the newest entry, so an entry that was seen being added stays certain however many unknown
/// ones lie below it: those are older, and evicted first. Nor can a wrong idea of the table's size make an index
/// wrong: eviction only takes from the old end, and no encoder refers to what it evicted. So what is kept too long
/// is never asked for, and what is evicted too early is reported as unknown.
///
/// For the same reason SETTINGS_HEADER_TABLE_SIZE and the time of its acknowledgement are of no concern here: it
/// bounds what the encoder may choose, and the choice itself is made within the header blocks.
#[derive(Debug)]
pub(super) struct Table {
    /// Newest first.
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
    /// Whether older entries may exist that are not in `entries`.
    open: bool,
}

impl Table {
    /// The table of a connection seen from its start, or else one of which nothing is known.
    pub(super) fn new(open: bool) -> Self {
        Self { entries: VecDeque::new(), size: 0, limit: INITIAL_SIZE, open }
    }

    /// There are no older entries than those seen.
    pub(super) fn know(&mut self) {
        self.open = false;
    }

    /// An unknown number of entries was added unseen.
    pub(super) fn forget(&mut self) {
        self.entries.clear();
        self.size = 0;
        self.open = true;
    }

    /// The entry at `index`, as header blocks count.
    pub(super) fn get(&self, index: usize) -> Lookup<'_> {
        let Some(index) = index.checked_sub(1) else { return Lookup::Invalid };
        if let Some((name, value)) = STATIC.get(index) {
            return Lookup::Entry(Known { name: Some(name), value: Some(value) });
        }
        match self.entries.get(index - STATIC.len()) {
            Some(entry) => Lookup::Entry(Known { name: entry.name.as_deref(), value: Some(&entry.value) }),
            None if self.open => Lookup::Unknown,
            None => Lookup::Invalid,
        }
    }

    /// Adds the newest entry.
    pub(super) fn insert(&mut self, name: Option<Vec<u8>>, value: Vec<u8>) {
        let entry = Entry { name: name.map(Vec::into_boxed_slice), value: value.into_boxed_slice() };
        let size = entry.size();
        self.evict(self.kept().saturating_sub(size));
        if size <= self.kept() {
            self.size += size;
            self.entries.push_front(entry);
        } else if size <= self.limit {
            self.open = true;
        }
    }

    /// The encoder changes the size of its table.
    pub(super) fn resize(&mut self, limit: usize) {
        self.limit = limit;
        self.evict(self.kept());
        if limit.saturating_sub(self.size) < OVERHEAD {
            self.open = false;
        }
    }

    fn kept(&self) -> usize {
        self.limit.min(LARGEST_KEPT)
    }

    fn evict(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_back() else { break };
            self.size -= entry.size();
            self.open |= self.limit > LARGEST_KEPT;
        }
    }
}

/// The static table, from index 1.
pub(super) static STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn field(table: &Table, index: usize) -> Option<(String, String)> {
        match table.get(index) {
            Lookup::Entry(Known { name, value }) => {
                let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or(b"?").to_vec()).unwrap();
                Some((text(name), text(value)))
            }
            Lookup::Unknown | Lookup::Invalid => None,
        }
    }

    fn insert(table: &mut Table, name: &str, value: &str) {
        table.insert(Some(name.into()), value.into());
    }

    #[test]
    fn static_entries_are_where_the_rfc_has_them() {
        let table = Table::new(false);
        for (index, name, value) in [
            (1, ":authority", ""),
            (8, ":status", "200"),
            (16, "accept-encoding", "gzip, deflate"),
            (61, "www-authenticate", ""),
        ] {
            assert_eq!(field(&table, index), Some((name.into(), value.into())));
        }
        assert_eq!(table.get(0), Lookup::Invalid);
        assert_eq!(table.get(62), Lookup::Invalid);
        assert_eq!(table.get(usize::MAX), Lookup::Invalid);
    }

    #[test]
    fn entries_seen_are_known_above_unknown_ones() {
        let mut table = Table::new(true);
        assert_eq!(table.get(62), Lookup::Unknown);
        insert(&mut table, "a", "1");
        insert(&mut table, "b", "2");
        assert_eq!(field(&table, 62), Some(("b".into(), "2".into())));
        assert_eq!(field(&table, 63), Some(("a".into(), "1".into())));
        assert_eq!(table.get(64), Lookup::Unknown);
        table.forget();
        assert_eq!(table.get(62), Lookup::Unknown);
    }

    #[test]
    fn a_table_resized_to_nothing_is_known() {
        let mut table = Table::new(true);
        table.resize(0);
        assert_eq!(table.get(62), Lookup::Invalid);
        table.resize(4096);
        insert(&mut table, "a", "1");
        assert_eq!(field(&table, 62), Some(("a".into(), "1".into())));
        assert_eq!(table.get(63), Lookup::Invalid);
    }

    #[test]
    fn entries_are_evicted_by_size() {
        let mut table = Table::new(false);
        table.resize(70);
        insert(&mut table, "a", "1");
        insert(&mut table, "b", "2");
        assert_eq!(field(&table, 63), Some(("a".into(), "1".into())));
        insert(&mut table, "cc", "3456");
        assert_eq!(field(&table, 62), Some(("cc".into(), "3456".into())));
        assert_eq!(table.get(63), Lookup::Invalid);
        insert(&mut table, "too", &"l".repeat(64));
        assert_eq!(table.get(62), Lookup::Invalid);
    }

    #[test]
    fn what_is_kept_of_a_huge_table_is_bounded() {
        let mut table = Table::new(false);
        table.resize(usize::MAX);
        for _ in 0..100 {
            insert(&mut table, "a", &"x".repeat(1024));
        }
        assert!(table.size <= LARGEST_KEPT);
        assert_eq!(table.get(62 + 99), Lookup::Unknown);
        insert(&mut table, "b", &"x".repeat(LARGEST_KEPT));
        assert_eq!(table.get(62), Lookup::Unknown);
    }
}
